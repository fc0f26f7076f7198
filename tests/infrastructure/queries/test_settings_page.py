"""A page of settings says the same as a read of everything, whatever has run out meanwhile."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from fakes import FakeClock, FakeProvider, Services

from domain.errors import NotFound
from domain.lifecycle import TokenStatus
from domain.renewal import GrantLimits
from domain.scope import EVERY_MACHINE
from infrastructure.queries.attention import Attention
from infrastructure.queries.settings_page import (
    FILTERS,
    MACHINES_PER_PAGE,
    NEEDS_ATTENTION,
    SettingsFilter,
    SettingsPage,
    SettingsPageQuery,
)

LIMITS = {"contoso": GrantLimits(timedelta(days=90))}


@pytest.fixture
def secrets_end() -> dict[str, datetime | None]:
    return {"contoso": None}


@pytest.fixture
def attention(service: Services, clock: FakeClock, secrets_end: dict[str, datetime | None]) -> Attention:
    return Attention(service.store, service.tokens.alarms, clock, LIMITS, secrets_end)


@pytest.fixture
def query(service: Services, clock: FakeClock, attention: Attention) -> SettingsPageQuery:
    return SettingsPageQuery(service.store, clock, attention, service.audit, service.history)


def names(page: SettingsPage) -> list[str]:
    return sorted(one.status.profile.name for machine in page.machines for one in machine.settings)


def agrees(query: SettingsPageQuery, attention: Attention) -> None:
    """Every count, and every setting shown, is what a read of everything gives."""
    everything = attention.statuses()
    page = query.page(SettingsFilter())
    expected = Counter(one.status.token.status.value for one in everything)
    expected[NEEDS_ATTENTION] = sum(one.attention is not None for one in everything)
    assert {show: page.counts[show] for show in FILTERS} == {show: expected[show] for show in FILTERS}
    assert page.counts[""] == len(everything)
    shown = [one for machine in page.machines for one in machine.settings]
    assert sorted(shown, key=lambda one: one.status.profile.name) == everything
    for show in FILTERS:
        wanted = [
            one.status.profile.name
            for one in everything
            if (one.attention if show == NEEDS_ATTENTION else one.status.token.status == show)
        ]
        assert names(query.page(SettingsFilter(state=show))) == sorted(wanted)


def test_counts_and_settings_are_those_of_a_read_of_everything_at_every_instant(
    service: Services, clock: FakeClock, provider: FakeProvider, query: SettingsPageQuery, attention: Attention
) -> None:
    service.add_machine("mfp-1")
    service.add_machine("mfp-2", "generic")
    service.settings.add_machine("mfp-3", "generic", "administrator")
    service.get_token("mfp-1/smtp-service")
    provider.renewable = False
    service.get_token("mfp-1/pop-internet-fax")
    service.tokens.request("mfp-2/smtp", None, "administrator")
    service.tokens.request("mfp-1/pop-internet-fax", None, "administrator")
    agrees(query, attention)
    # The code runs out, then the token that nothing renews; much later the grant ends that nobody uses.
    for hours in (0.24, 0.02, 0.6, 0.2, 24 * 70, 24 * 3, 24 * 20):
        clock.step(hours=hours)
        agrees(query, attention)


def test_an_alarm_of_this_run_counts(service: Services, query: SettingsPageQuery, attention: Attention) -> None:
    service.add_machine("mfp-1")
    service.get_token("mfp-1/smtp-service")
    service.tokens.alarms[service.tokens.status("mfp-1/smtp-service").profile.token_id] = "reply_in_doubt"
    agrees(query, attention)
    assert query.page(SettingsFilter()).counts[NEEDS_ATTENTION] == 4


def test_a_client_secret_that_expires_soon_counts_for_every_token_of_its_provider(
    service: Services,
    clock: FakeClock,
    query: SettingsPageQuery,
    attention: Attention,
    secrets_end: dict[str, datetime | None],
) -> None:
    service.add_machine("mfp-1")
    service.get_token("mfp-1/smtp-service")
    for days in (40, 31, 29, 1):
        secrets_end["contoso"] = clock.now() + timedelta(days=days)
        agrees(query, attention)


def test_a_search_looks_at_names_groups_and_fields(service: Services, query: SettingsPageQuery) -> None:
    service.add_machine("lobby", "generic")
    service.add_machine("press", "generic", "fax@contoso.com")
    service.settings.set_profile("lobby/pop", {"server": "pop.contoso.com"}, "administrator")
    assert names(query.page(SettingsFilter("LOBBY"))) == ["lobby/imap", "lobby/pop", "lobby/smtp"]
    assert names(query.page(SettingsFilter("pop.contoso"))) == ["lobby/pop"]
    assert names(query.page(SettingsFilter("fax@"))) == ["press/imap", "press/pop", "press/smtp"]
    assert names(query.page(SettingsFilter("fax@", TokenStatus.RETRIEVED))) == []
    # The name of a field is no word of a setting.
    assert names(query.page(SettingsFilter("sender_address"))) == []


def test_pages_have_every_machine_once_and_a_page_too_far_is_the_last(
    service: Services, query: SettingsPageQuery
) -> None:
    machines = [f"mfp-{number:02}" for number in range(2 * MACHINES_PER_PAGE + 1)]
    for machine in machines:
        service.settings.add_machine(machine, "generic", "administrator")
    pages = [query.page(SettingsFilter(page=number)) for number in (1, 2, 3)]
    assert [machine.name for page in pages for machine in page.machines] == machines
    assert all(one.counts == other.counts for one, other in pairwise(pages))
    assert query.page(SettingsFilter(page=99)) == pages[-1]


def test_a_token_shared_over_machines_says_how_many_settings_use_it(
    service: Services, query: SettingsPageQuery
) -> None:
    for machine in ("mfp-1", "mfp-2"):
        service.add_machine(machine, "generic")
    service.settings.link("scanners", ["mfp-1/smtp", "mfp-2/smtp"], "administrator")
    page = query.page(SettingsFilter("mfp-1"))
    shared = page.machines[0].settings[2].status.profile
    assert page.uses[shared.token_id] == 2
    assert [one.profile.name for one in query.setting("mfp-1/smtp").linked] == ["mfp-2/smtp"]


def test_settings_are_counted_by_the_provider_they_name(service: Services, query: SettingsPageQuery) -> None:
    service.add_machine("lobby", "generic")
    service.add_machine("press", "generic", "fax@contoso.com")
    service.settings.add_machine("empty", "generic", "administrator")
    assert query.settings_by_provider(EVERY_MACHINE) == {"contoso": 6, None: 3}


def test_a_page_as_of_an_instant_is_what_was_seen_then(
    service: Services, clock: FakeClock, query: SettingsPageQuery
) -> None:
    service.add_machine("mfp-1", "generic")
    before = clock.now()
    clock.step(minutes=1)
    service.get_token("mfp-1/smtp")
    assert query.page_as_of(SettingsFilter(), before).counts[TokenStatus.RETRIEVED.value] == 0
    assert query.page_as_of(SettingsFilter(), clock.now()).counts[TokenStatus.RETRIEVED.value] == 1
    assert query.setting_as_of("mfp-1/smtp", before).setting.status.token.status is TokenStatus.NOT_RETRIEVED
    assert query.page_as_of(SettingsFilter(), datetime(2000, 1, 1, tzinfo=UTC)).machines == ()


def test_a_setting_that_is_not_there_is_not_found(service: Services, query: SettingsPageQuery) -> None:
    with pytest.raises(NotFound):
        query.setting("nowhere/smtp")
