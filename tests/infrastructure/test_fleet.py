"""A page of the fleet says the same as a read of everything, whatever has run out meanwhile."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from fakes import FakeClock, FakeProvider, Services

from domain.errors import NotFound
from domain.lifecycle import TokenStatus
from domain.renewal import GrantLimits
from infrastructure.attention import Attention
from infrastructure.fleet import MACHINES_ON_A_PAGE, NEEDS_ATTENTION, SHOWN, Fleet, FleetPage, Wanted

LIMITS = {"contoso": GrantLimits(timedelta(days=90))}


@pytest.fixture
def secrets_end() -> dict[str, datetime | None]:
    return {"contoso": None}


@pytest.fixture
def attention(service: Services, clock: FakeClock, secrets_end: dict[str, datetime | None]) -> Attention:
    return Attention(service.tokens, clock, LIMITS, secrets_end)


@pytest.fixture
def fleet(service: Services, clock: FakeClock, attention: Attention) -> Fleet:
    return Fleet(service.store, clock, attention, service.audit)


def names(page: FleetPage) -> list[str]:
    return sorted(one.status.profile.name for machine in page.machines for one in machine.settings)


def agrees(fleet: Fleet, attention: Attention) -> None:
    """Every count, and every setting shown, is what a read of everything gives."""
    everything = attention.statuses()
    page = fleet.page(Wanted())
    expected = Counter(one.status.token.status.value for one in everything)
    expected[NEEDS_ATTENTION] = sum(one.attention is not None for one in everything)
    assert {show: page.counts[show] for show in SHOWN} == {show: expected[show] for show in SHOWN}
    assert page.counts[""] == len(everything)
    shown = [one for machine in page.machines for one in machine.settings]
    assert sorted(shown, key=lambda one: one.status.profile.name) == everything
    for show in SHOWN:
        wanted = [
            one.status.profile.name
            for one in everything
            if (one.attention if show == NEEDS_ATTENTION else one.status.token.status == show)
        ]
        assert names(fleet.page(Wanted(show=show))) == sorted(wanted)


def test_counts_and_settings_are_those_of_a_read_of_everything_at_every_instant(
    service: Services, clock: FakeClock, provider: FakeProvider, fleet: Fleet, attention: Attention
) -> None:
    service.add_machine("mfp-1")
    service.add_machine("mfp-2", "generic")
    service.settings.add_machine("mfp-3", "generic", "administrator")
    service.get_token("mfp-1/smtp-service")
    provider.renewable = False
    service.get_token("mfp-1/pop-internet-fax")
    service.tokens.request("mfp-2/smtp", None, "administrator")
    service.tokens.request("mfp-1/pop-internet-fax", None, "administrator")
    agrees(fleet, attention)
    # The code runs out, then the token that nothing renews; much later the grant ends that nobody uses.
    for hours in (0.24, 0.02, 0.6, 0.2, 24 * 70, 24 * 3, 24 * 20):
        clock.step(hours=hours)
        agrees(fleet, attention)


def test_an_alarm_of_this_run_counts(service: Services, fleet: Fleet, attention: Attention) -> None:
    service.add_machine("mfp-1")
    service.get_token("mfp-1/smtp-service")
    service.tokens.alarms[service.tokens.status("mfp-1/smtp-service").profile.token_id] = "reply_in_doubt"
    agrees(fleet, attention)
    assert fleet.page(Wanted()).counts[NEEDS_ATTENTION] == 4


def test_a_client_secret_that_expires_soon_counts_for_every_token_of_its_provider(
    service: Services,
    clock: FakeClock,
    fleet: Fleet,
    attention: Attention,
    secrets_end: dict[str, datetime | None],
) -> None:
    service.add_machine("mfp-1")
    service.get_token("mfp-1/smtp-service")
    for days in (40, 31, 29, 1):
        secrets_end["contoso"] = clock.now() + timedelta(days=days)
        agrees(fleet, attention)


def test_a_search_looks_at_names_groups_and_fields(service: Services, fleet: Fleet) -> None:
    service.add_machine("lobby", "generic")
    service.add_machine("press", "generic", "fax@contoso.com")
    service.settings.set_profile("lobby/pop", {"server": "pop.contoso.com"}, "administrator")
    assert names(fleet.page(Wanted("LOBBY"))) == ["lobby/imap", "lobby/pop", "lobby/smtp"]
    assert names(fleet.page(Wanted("pop.contoso"))) == ["lobby/pop"]
    assert names(fleet.page(Wanted("fax@"))) == ["press/imap", "press/pop", "press/smtp"]
    assert names(fleet.page(Wanted("fax@", TokenStatus.RETRIEVED))) == []
    # The name of a field is no word of a setting.
    assert names(fleet.page(Wanted("sender_address"))) == []


def test_pages_have_every_machine_once_and_a_page_too_far_is_the_last(service: Services, fleet: Fleet) -> None:
    machines = [f"mfp-{number:02}" for number in range(2 * MACHINES_ON_A_PAGE + 1)]
    for machine in machines:
        service.settings.add_machine(machine, "generic", "administrator")
    pages = [fleet.page(Wanted(page=number)) for number in (1, 2, 3)]
    assert [machine.name for page in pages for machine in page.machines] == machines
    assert all(one.counts == other.counts for one, other in pairwise(pages))
    assert fleet.page(Wanted(page=99)) == pages[-1]


def test_a_token_shared_over_machines_says_how_many_settings_use_it(service: Services, fleet: Fleet) -> None:
    for machine in ("mfp-1", "mfp-2"):
        service.add_machine(machine, "generic")
    service.settings.link("scanners", ["mfp-1/smtp", "mfp-2/smtp"], "administrator")
    page = fleet.page(Wanted("mfp-1"))
    shared = page.machines[0].settings[2].status.profile
    assert page.users[shared.token_id] == 2
    assert [one.profile.name for one in fleet.setting("mfp-1/smtp").linked] == ["mfp-2/smtp"]


def test_settings_are_counted_by_the_provider_they_name(service: Services, fleet: Fleet) -> None:
    service.add_machine("lobby", "generic")
    service.add_machine("press", "generic", "fax@contoso.com")
    service.settings.add_machine("empty", "generic", "administrator")
    assert fleet.settings_by_provider() == {"contoso": 6, None: 3}


def test_a_page_as_of_an_instant_is_what_was_seen_then(service: Services, clock: FakeClock, fleet: Fleet) -> None:
    service.add_machine("mfp-1", "generic")
    before = clock.now()
    clock.step(minutes=1)
    service.get_token("mfp-1/smtp")
    assert fleet.page_as_of(Wanted(), before).counts[TokenStatus.RETRIEVED.value] == 0
    assert fleet.page_as_of(Wanted(), clock.now()).counts[TokenStatus.RETRIEVED.value] == 1
    assert fleet.setting_as_of("mfp-1/smtp", before).setting.status.token.status is TokenStatus.NOT_RETRIEVED
    assert fleet.page_as_of(Wanted(), datetime(2000, 1, 1, tzinfo=UTC)).machines == ()


def test_a_setting_that_is_not_there_is_not_found(service: Services, fleet: Fleet) -> None:
    with pytest.raises(NotFound):
        fleet.setting("nowhere/smtp")
