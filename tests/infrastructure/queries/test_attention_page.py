"""What wants a person, in the order in which it does, and what will; the same as a read of everything says."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from fakes import START, FakeClock, FakeProvider, Services
from store_examples import change

from domain.attention import Urgency, urgency_of
from domain.expiry_forecast import SOON
from domain.log_hold import LogHold
from domain.renewal import GrantLimits
from infrastructure.queries.attention import OF_PROVIDERS, Attention
from infrastructure.queries.attention_page import ITEMS_PER_PAGE, AttentionQuery

LIMITS = {"contoso": GrantLimits(timedelta(days=90))}


@pytest.fixture
def secrets_end() -> dict[str, datetime | None]:
    return {"contoso": None}


@pytest.fixture
def attention(service: Services, clock: FakeClock, secrets_end: dict[str, datetime | None]) -> Attention:
    return Attention(service.store, service.tokens.alarms, clock, LIMITS, secrets_end)


@pytest.fixture
def query(service: Services, clock: FakeClock, attention: Attention) -> AttentionQuery:
    return AttentionQuery(service.store, clock, attention, service.audit)


def agrees(query: AttentionQuery, attention: Attention, clock: FakeClock) -> None:
    """Every item and all of the outlook is what a read of everything gives."""
    everything = {one.status.profile.name: one for one in attention.statuses()}
    page = query.page(1)
    for item in page.items:
        first = item.first.status.profile.name
        assert item.first == everything[first]
        assert first in item.settings
        assert (item.provider is not None) == (item.first.attention in OF_PROVIDERS)
    listed = Counter(urgency_of(one.attention) for one in everything.values() if one.attention)
    causes = Counter({one.cause: urgency_of(one.attention) for one in everything.values() if one.attention}.values())
    assert query.counts() == page.counts
    assert (page.counts.settings, page.counts.causes) == (
        {urgency: listed[urgency] for urgency in Urgency},
        {urgency: causes[urgency] for urgency in Urgency},
    )
    told = sorted(name for item in page.items for name in item.settings)
    assert told == sorted(name for name, one in everything.items() if one.attention)
    soon = sorted(
        name
        for name, one in everything.items()
        if one.expiry and not one.attention and one.expiry.at - clock.now() < SOON
    )
    assert sorted(name for one in page.upcoming for name in one.settings) == soon


def test_a_page_is_what_a_read_of_everything_gives_at_every_instant(
    service: Services,
    clock: FakeClock,
    provider: FakeProvider,
    query: AttentionQuery,
    attention: Attention,
    secrets_end: dict[str, datetime | None],
) -> None:
    service.add_machine("mfp-1")
    service.add_machine("mfp-2", "generic")
    service.settings.add_machine("mfp-3", "generic", "administrator")
    service.get_token("mfp-1/smtp-service")
    provider.renewable = False
    service.get_token("mfp-1/pop-internet-fax")
    service.tokens.request("mfp-2/smtp", None, "administrator")
    service.tokens.request("mfp-1/pop-internet-fax", None, "administrator")
    agrees(query, attention, clock)
    # The code runs out, then the token that nothing renews; much later the grant ends that nobody uses.
    for hours in (0.24, 0.02, 0.6, 0.2, 24 * 59, 24 * 2, 24 * 9, 24 * 3, 24 * 20):
        clock.step(hours=hours)
        agrees(query, attention, clock)
    for days in (40, 31, 29, 1):
        secrets_end["contoso"] = clock.now() + timedelta(days=days)
        agrees(query, attention, clock)


def test_an_alarm_of_this_run_is_a_need(
    service: Services, clock: FakeClock, query: AttentionQuery, attention: Attention
) -> None:
    service.add_machine("mfp-1")
    service.get_token("mfp-1/smtp-service")
    service.tokens.alarms[service.tokens.status("mfp-1/smtp-service").profile.token_id] = "reply_in_doubt"
    agrees(query, attention, clock)
    assert [len(item.settings) for item in query.page(1).items] == [4]


def test_a_token_of_linked_settings_is_told_once_and_invalid_ones_come_first(
    service: Services, clock: FakeClock, provider: FakeProvider, query: AttentionQuery
) -> None:
    service.add_machine("mfp-1")
    service.get_token("mfp-1/pop-email-print")
    service.get_token("mfp-1/pop-internet-fax")
    service.get_token("mfp-1/smtp-service")
    service.tokens.alarms[service.tokens.status("mfp-1/pop-internet-fax").profile.token_id] = "reply_in_doubt"
    clock.step(days=80)
    provider.kill_grants()
    with pytest.raises(Exception, match="token_update_failed"):
        service.tokens.renew("mfp-1/smtp-service", "operator")
    found = query.page(1).items
    assert [(item.first.status.token.status.value, item.first.attention, len(item.settings)) for item in found] == [
        ("Invalid", "invalid_grant", 4),
        ("Retrieved", "reply_in_doubt", 1),
        ("Retrieved", "grant_ends", 1),
    ]


def test_trouble_with_a_provider_is_one_need_that_names_it(
    service: Services, clock: FakeClock, query: AttentionQuery, secrets_end: dict[str, datetime | None]
) -> None:
    service.add_machine("mfp-1", "generic")
    service.get_token("mfp-1/smtp")
    service.get_token("mfp-1/imap")
    secrets_end["contoso"] = clock.now() + timedelta(days=3)
    (item,) = query.page(1).items
    assert (item.provider, item.settings) == ("contoso", ["mfp-1/imap", "mfp-1/smtp"])
    assert item.first.expiry
    assert item.first.expiry.at == secrets_end["contoso"]
    assert item.urgency is Urgency.SOON


def test_a_hold_is_one_cause_that_affects_each_live_token(
    service: Services, clock: FakeClock, query: AttentionQuery, attention: Attention
) -> None:
    service.add_machine("mfp-1", "generic")
    service.get_token("mfp-1/smtp")
    service.get_token("mfp-1/imap")
    hold = LogHold.after_restore(uuid4(), backup_made_at=START, events=1, by="administrator", now=clock.now())
    service.events.save(hold)
    (item,) = query.page(1).items
    assert (item.first.attention, item.settings) == ("on_hold", ["mfp-1/imap", "mfp-1/smtp"])
    assert query.counts().settings == {Urgency.NOW: 2, Urgency.SOON: 0}
    assert [one.status.profile.name for one in attention.statuses_in_need()] == item.settings


def test_what_ends_within_thirty_days_is_told_by_reason_and_day(
    service: Services, clock: FakeClock, query: AttentionQuery
) -> None:
    service.add_machine("mfp-1", "generic")
    service.get_token("mfp-1/smtp")
    service.get_token("mfp-1/pop")
    clock.step(days=1)
    service.get_token("mfp-1/imap")
    assert query.page(1).upcoming == []
    clock.step(days=61)
    found = query.page(1).upcoming
    assert [one.settings for one in found] == [["mfp-1/pop", "mfp-1/smtp"], ["mfp-1/imap"]]
    assert found[0].expiry.at < found[1].expiry.at
    clock.step(days=20)
    assert query.page(1).upcoming == []
    assert query.page(1).total == 3


def test_what_ends_after_thirty_days_is_not_told_yet(
    service: Services, clock: FakeClock, query: AttentionQuery
) -> None:
    service.add_machine("mfp-1", "generic")
    service.get_token("mfp-1/smtp")
    clock.step(days=59)
    assert query.page(1).upcoming == []
    clock.step(days=2)
    assert [one.settings for one in query.page(1).upcoming] == [["mfp-1/smtp"]]


def test_pages_have_every_need_once_and_a_page_too_far_is_the_last(
    service: Services, clock: FakeClock, query: AttentionQuery
) -> None:
    names = []
    for number in range(ITEMS_PER_PAGE + 1):
        service.add_machine(f"mfp-{number:02}", "generic")
        service.get_token(f"mfp-{number:02}/smtp")
        names.append(f"mfp-{number:02}/smtp")
    clock.step(days=75)
    first, second = query.page(1), query.page(2)
    assert [name for page in (first, second) for item in page.items for name in item.settings] == names
    assert (first.total, first.pages, second.number) == (len(names), 2, 2)
    assert query.page(99) == second


def test_a_page_as_of_an_instant_is_what_was_seen_then(
    service: Services, clock: FakeClock, provider: FakeProvider, query: AttentionQuery
) -> None:
    service.add_machine("mfp-1")
    service.get_token("mfp-1/smtp-service")
    before = clock.now()
    clock.step(minutes=1)
    provider.kill_grants()
    with pytest.raises(Exception, match="token_update_failed"):
        service.tokens.renew("mfp-1/smtp-service", "operator")
    assert query.page_as_of(1, before).items == []
    (item,) = query.page_as_of(1, clock.now()).items
    assert (item.first.attention, len(item.settings)) == ("invalid_grant", 4)
    assert query.page_as_of(1, datetime(2000, 1, 1, tzinfo=UTC)).total == 0


def test_a_row_that_cant_be_read_sets_only_itself_aside(
    service: Services, provider: FakeProvider, query: AttentionQuery
) -> None:
    service.add_machine("a-mfp", "generic")
    service.add_machine("b-mfp", "generic")
    for name in ("a-mfp/smtp", "b-mfp/smtp"):
        service.get_token(name)
    altered = str(service.tokens.status("a-mfp/smtp").profile.token_id)
    change(service.store, "UPDATE token SET status = 'Invalid', dead = 'reply_lost' WHERE status = 'Retrieved'")
    change(service.store, "UPDATE token SET dead = 'no reason' WHERE id = ?", altered)
    shown = [item.first.status.profile.name for item in query.page(1).items]
    assert "a-mfp/smtp" not in shown
    assert "b-mfp/smtp" in shown
