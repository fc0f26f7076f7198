"""The first page has the numbers of every other surface, at every instant."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta

import pytest
from fakes import FakeClock, FakeProvider, Services

from domain.renewal import GrantLimits
from domain.store_attention import CertificateExpiry
from infrastructure.mail_counters import MailCount, MailCounters
from infrastructure.mail_counts import MailCounts
from infrastructure.queries.attention import Attention
from infrastructure.queries.attention_page import AttentionQuery
from infrastructure.queries.home import CERTIFICATE, MAIL_DAYS, HomeQuery
from infrastructure.queries.store_state import StoreStateQuery
from infrastructure.store.node_rows import ALIVE_SECONDS, NodeRow, write_node

LIMITS = {"contoso": GrantLimits(timedelta(days=90))}


@pytest.fixture
def secrets_end() -> dict[str, datetime | None]:
    return {"contoso": None}


@pytest.fixture
def attention(service: Services, clock: FakeClock, secrets_end: dict[str, datetime | None]) -> Attention:
    return Attention(service.store, service.tokens.alarms, clock, LIMITS, secrets_end)


@pytest.fixture
def home(
    service: Services, clock: FakeClock, attention: Attention, secrets_end: dict[str, datetime | None]
) -> HomeQuery:
    causes = AttentionQuery(service.store, clock, attention, service.audit)
    certificates = [CertificateExpiry("[server]", clock.now() + timedelta(days=60))]
    state = StoreStateQuery(service.store, clock, timedelta(days=1), lambda: certificates)
    return HomeQuery(service.store, clock, attention, causes, state, secrets_end)


def test_tokens_are_counted_by_their_state_at_every_instant(
    service: Services, clock: FakeClock, provider: FakeProvider, home: HomeQuery, attention: Attention
) -> None:
    service.add_machine("a")
    service.get_token("a/smtp-service")
    provider.renewable = False
    service.get_token("a/pop-internet-fax")
    service.tokens.request("a/pop-email-print", None, "operator:otto")
    for hours in (0.0, 0.26, 1.0):
        clock.step(hours=hours)
        tokens = {one.status.profile.token_id: one.status.token.status for one in attention.statuses()}
        assert +Counter(home.now().tokens) == Counter(tokens.values())


def test_what_ends_in_ninety_days_is_on_the_time_line(
    service: Services,
    clock: FakeClock,
    provider: FakeProvider,
    home: HomeQuery,
    secrets_end: dict[str, datetime | None],
) -> None:
    now = clock.now()
    secrets_end["contoso"] = now + timedelta(days=50)
    service.add_machine("a", "generic")
    provider.renewable = False
    service.get_token("a/smtp")
    endings = [(one.cause, one.about, one.count) for one in home.now().endings]
    assert endings == [
        ("grant_ends", "contoso", 1),
        ("client_secret_expires", "contoso", 0),
        (CERTIFICATE, "[server]", 0),
    ]
    secrets_end["contoso"] = now + timedelta(days=91)
    assert [one.cause for one in home.now().endings] == ["grant_ends", CERTIFICATE]


def test_mail_is_counted_by_day_and_a_day_without_mail_is_there_too(
    service: Services, clock: FakeClock, home: HomeQuery
) -> None:
    today = clock.now().date()
    counts = MailCounts(service.store, MailCounters(clock))
    counts.put("relay", [MailCount("a/smtp", today, 3, 9, 1), MailCount("b/smtp", today, 2, 9, 0)])
    counts.put("relay", [MailCount("a/smtp", date(2020, 1, 1), 7, 9, 0)])
    mail = home.now().mail
    assert len(mail) == MAIL_DAYS
    assert (mail[-1].day, mail[-1].messages, mail[-1].refusals) == (today, 5, 1)
    assert sum(one.messages for one in mail) == 5


def test_a_node_that_says_nothing_for_minutes_is_down(service: Services, home: HomeQuery) -> None:
    with service.store.writing() as query:
        now = service.store.now_seconds(query)
        write_node(query, NodeRow("here", "k", ("k",), {}, now))
        write_node(query, NodeRow("gone", "k", ("k",), {}, now - ALIVE_SECONDS - 1))
    assert [(one.name, one.is_alive) for one in home.now().nodes] == [("gone", False), ("here", True)]
