"""Whole stories in frozen time: what runs out does so to the second, and a clock that jumps breaks nothing."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from effort import amount
from fakes import FAX, SCANNER, FakeProvider, Services
from freezegun import configure, freeze_time
from freezegun.api import FrozenDateTimeFactory
from practice_faults.provider import FaultyProvider

from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA
from adapters.providers import ProviderSettings, build_provider
from domain.errors import Failed, InvalidValue, Refused, Unreachable
from domain.lifecycle import TokenStatus
from domain.ports import Provider
from infrastructure.clock import SystemClock, read_instant
from infrastructure.encryption.envelope import Sealer
from infrastructure.queries.setting_status import SettingStatus
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.store.store import Store
from infrastructure.tokens.claims import ClaimResult

# It measures how long tests take.
configure(extend_ignore_list=["_pytest.timing"])

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
SMTP, ALERT, POP = "office-mfp/smtp-service", "office-mfp/smtp-alert", "office-mfp/pop-internet-fax"
NOT_RETRIEVED, WAITING, RETRIEVED, INVALID = TokenStatus
SECOND, HOUR, YEAR = timedelta(seconds=1), timedelta(hours=1), timedelta(days=365)


@pytest.fixture
def now(store: Store) -> Iterator[FrozenDateTimeFactory]:
    """The instant it is for everybody: stands still until it is moved."""
    with freeze_time(START) as frozen:
        assert isinstance(frozen, FrozenDateTimeFactory)
        yield frozen


@pytest.fixture
def service(
    store: Store, store_id: str, sealer: Sealer, tmp_path: Path, provider: FakeProvider, now: FrozenDateTimeFactory
) -> Services:
    """The services on the machine's own clock, with a printer."""
    service = Services(store, sealer, store_id, tmp_path, SystemClock(), {provider.name: provider})
    service.add_machine()
    return service


def token_id(service: Services, name: str = SMTP) -> Any:
    return service.tokens.status(name).profile.token_id


def shown(service: Services, name: str = SMTP) -> tuple[str, datetime, str | None]:
    token = service.tokens.status(name).token
    return token.status, token.since, token.reason and token.reason.value


def events(service: Services, name: str = SMTP) -> list[str]:
    return [one.name for one in service.history.records(name) if one.aggregate == "Token"]


# Expiry


def test_a_token_that_can_be_renewed_is_served_to_its_last_second_and_stays_retrieved(
    service: Services, provider: FakeProvider, now: FrozenDateTimeFactory
) -> None:
    first = service.get_token(SMTP).until
    assert first == START + HOUR
    provider.reachable = False
    now.move_to(first - SECOND)
    assert service.access_token(ALERT).credential.expires_at == first
    for instant in (first, first + SECOND, first + YEAR):
        now.move_to(instant)
        assert shown(service) == (RETRIEVED, START, None)
        with pytest.raises(Unreachable, match="access_token_expired"):
            service.access_token(ALERT)
    provider.reachable = True
    # A provider that has just failed is left alone for seconds.
    now.tick(5)
    assert service.access_token(ALERT).credential.expires_at == first + YEAR + 5 * SECOND + HOUR
    assert shown(service) == (RETRIEVED, START, None)
    assert service.audit.verify().findings == ()


def test_a_token_that_cant_be_renewed_is_invalid_from_the_second_it_expires(
    service: Services, provider: FakeProvider, now: FrozenDateTimeFactory
) -> None:
    provider.renewable = False
    expiry = START + HOUR
    service.get_token(SMTP)
    now.move_to(expiry - SECOND)
    assert shown(service) == (RETRIEVED, START, None)
    assert service.access_token(ALERT).credential.expires_at == expiry
    for instant in (expiry, expiry + SECOND, expiry + YEAR):
        now.move_to(instant)
        assert shown(service, ALERT) == (INVALID, expiry, "expired")
        with pytest.raises(Refused, match="token_invalid"):
            service.access_token(ALERT)
        with pytest.raises(Refused, match="no_refresh_token"):
            service.tokens.renew(SMTP, "administrator")
    # Nobody has recorded it yet; a command judges by what a reader sees, and records it.
    assert events(service) == ["Created", "AuthorizationRequested", "Retrieved"]
    service.get_token(ALERT)
    assert events(service)[3:] == ["GrantFoundDead", "AuthorizationRequested", "Retrieved"]
    assert [s.token.status for s in service.audit.statuses_as_of(expiry - SECOND) if s.group] == [RETRIEVED] * 4
    assert [s.token.since for s in service.audit.statuses_as_of(expiry) if s.group] == [expiry] * 4
    assert service.audit.verify().findings == ()


def test_an_expired_token_that_cant_be_renewed_can_be_deleted(
    service: Services, provider: FakeProvider, now: FrozenDateTimeFactory
) -> None:
    provider.renewable = False
    service.get_token(SMTP)
    now.move_to(START + HOUR)
    service.tokens.delete(ALERT, "operator")
    assert shown(service) == (NOT_RETRIEVED, START + HOUR, None)
    assert events(service)[3:] == ["GrantFoundDead", "Deleted"]


# The code's deadline


def test_a_code_is_good_to_its_last_second(
    service: Services, provider: FakeProvider, now: FrozenDateTimeFactory
) -> None:
    deadline = service.tokens.request(SMTP, None, "operator").expires_at
    now.move_to(deadline - SECOND)
    assert shown(service) == (WAITING, START, None)
    with pytest.raises(Refused, match="Waiting for authorisation"):
        service.tokens.request(ALERT, None, "operator")
    provider.approve()
    assert service.tokens.poll(token_id(service)) is None
    assert shown(service) == (RETRIEVED, deadline - SECOND, None)


def test_a_code_is_good_for_nothing_from_its_deadline_on(
    service: Services, provider: FakeProvider, now: FrozenDateTimeFactory
) -> None:
    deadline = service.tokens.request(SMTP, None, "operator").expires_at
    provider.approve()
    for instant in (deadline, deadline + SECOND, deadline + YEAR):
        now.move_to(instant)
        assert shown(service, ALERT) == (NOT_RETRIEVED, deadline, "expired_token")
    polls = provider.requests.count("poll")
    assert service.tokens.poll(token_id(service)) is None
    assert provider.requests.count("poll") == polls, "there was nothing to ask any more"
    assert shown(service) == (NOT_RETRIEVED, deadline, "expired_token")
    assert events(service) == ["Created", "AuthorizationRequested", "AuthorizationEnded"]
    assert service.get_token(ALERT).token.status == RETRIEVED
    assert service.audit.verify().findings == ()


def test_get_token_is_possible_from_the_deadline_on_even_if_nobody_has_recorded_it(
    service: Services, now: FrozenDateTimeFactory
) -> None:
    now.move_to(service.tokens.request(SMTP, None, "operator").expires_at)
    service.tokens.request(ALERT, None, "operator")
    assert events(service)[1:] == ["AuthorizationRequested", "AuthorizationEnded", "AuthorizationRequested"]
    assert service.audit.verify().findings == ()


# Summer time begins and ends


@pytest.fixture
def in_zone() -> Iterator[Callable[[str], None]]:
    """Move this machine to a time zone, until the end of the test."""
    before = os.environ.get("TZ")

    def move(zone: str) -> None:
        os.environ["TZ"] = zone
        time.tzset()

    yield move
    os.environ.pop("TZ")
    move(before) if before is not None else time.tzset()


@pytest.mark.parametrize("change", ["2026-10-25T01:00:00", "2026-03-29T01:00:00"], ids=["autumn", "spring"])
def test_nothing_shifts_when_summer_time_begins_or_ends(
    service: Services,
    provider: FakeProvider,
    now: FrozenDateTimeFactory,
    in_zone: Callable[[str], None],
    change: str,
) -> None:
    turn = datetime.fromisoformat(change).replace(tzinfo=UTC)
    told = {}
    for number, zone in enumerate(("UTC", "Europe/Berlin")):
        in_zone(zone)
        service.add_machine(f"m{number}")
        smtp, pop = f"m{number}/smtp-service", f"m{number}/pop-internet-fax"
        # Half an hour before the clocks change to two hours after.
        now.move_to(turn - HOUR / 2)
        provider.renewable = False
        began = SystemClock().now()
        assert (began, service.get_token(pop).until) == (turn - HOUR / 2, turn + HOUR / 2)
        service.tokens.request(smtp, None, "operator")
        seen = []
        for minutes in range(0, 150, 5):
            now.move_to(began + timedelta(minutes=minutes))
            seen.append((minutes, shown(service, pop), shown(service, smtp)))
        told[zone] = seen
        for (minutes, *live), when in zip(seen, (began + timedelta(minutes=m) for m, *_ in seen), strict=True):
            then = {s.profile.name: s for s in service.audit.statuses_as_of(when)}
            as_of = [(then[name].token.status, then[name].token.since) for name in (pop, smtp)]
            assert as_of == [one[:2] for one in live], minutes
    assert told["UTC"] == told["Europe/Berlin"]
    assert [state for _, (state, *_), _ in told["UTC"]] == [RETRIEVED] * 12 + [INVALID] * 18
    assert service.audit.verify().findings == ()


def test_an_hour_that_comes_twice_is_two_hours(
    service: Services, now: FrozenDateTimeFactory, in_zone: Callable[[str], None]
) -> None:
    in_zone("Europe/Berlin")
    now.move_to("2026-10-25T00:45:00")
    service.get_token(SMTP)
    first, second = (read_instant(f"2026-10-25T02:50:00+{offset}:00") for offset in ("02", "01"))
    now.move_to(first + 30 * timedelta(minutes=1))
    service.tokens.delete(SMTP, "operator")
    labels = [{s.token.status for s in service.audit.statuses_as_of(instant) if s.group} for instant in (first, second)]
    assert labels == [{RETRIEVED}, {NOT_RETRIEVED}]


# The clock steps back


@pytest.mark.parametrize("step", [HOUR, YEAR], ids=["an-hour", "a-year"])
def test_a_clock_that_steps_back_breaks_nothing(
    service: Services, provider: FakeProvider, now: FrozenDateTimeFactory, step: timedelta
) -> None:
    service.get_token(SMTP)
    held = service.access_token(SMTP).credential
    service.tokens.request(POP, None, "operator")
    now.move_to(START - step)
    # Nothing is early: neither the attempt nor the token is over.
    assert (shown(service)[0], shown(service, POP)[0]) == (RETRIEVED, WAITING)
    # What is left of a token from the future can't be known, so it is renewed before it is served.
    assert service.access_token(ALERT).credential.expires_at == held.expires_at - step
    provider.approve()
    assert service.tokens.poll(token_id(service, POP)) is None
    assert shown(service, POP)[0] == RETRIEVED
    service.tokens.renew(SMTP, "administrator")
    assert service.access_token(SMTP).credential.expires_at == START - step + HOUR
    service.tokens.delete(POP, "operator")
    # What happened stays in the order in which it happened.
    assert events(service) == ["Created", "AuthorizationRequested", "Retrieved", "Renewed", "Renewed"]
    assert events(service, POP) == ["Created", "AuthorizationRequested", "Retrieved", "Deleted"]
    positions = [record.position for record in service.history.records()]
    assert positions == sorted(positions)
    instants = [record.at for record in service.history.records(POP)]
    assert instants != sorted(instants), "the clock did step back in between"
    assert service.audit.verify().findings == ()
    before = service.tokens.statuses()
    service.audit.rebuild(by="worker", now=START)
    assert service.tokens.statuses() == before


@pytest.mark.parametrize("step", [-YEAR, -HOUR, HOUR, YEAR], ids=["a-year-back", "an-hour-back", "an-hour", "a-year"])
def test_a_clock_that_jumps_lets_nobody_take_over_what_somebody_is_at(
    service: Services, provider: FakeProvider, now: FrozenDateTimeFactory, step: timedelta
) -> None:
    service.get_token(SMTP)
    [parent] = [one.facts["generation"] for one in service.history.records(SMTP) if one.name == "Retrieved"]
    taken = []

    def meanwhile() -> None:
        now.tick(step)
        other = ClaimKey("renewal", token_id(service), "another-attempt", parent)
        taken.append(service.restart().claims.take(other))
        service.restart().claims.clear_dead()
        taken.append(service.restart().claims.take(other))

    provider.meanwhile(meanwhile)
    service.tokens.renew(SMTP, "administrator")
    assert taken == [ClaimResult.REFUSED] * 2
    assert provider.requests.count("refresh") == 1
    assert events(service)[-1] == "Renewed"
    assert shown(service)[0] == RETRIEVED
    assert service.audit.verify().findings == ()


def test_a_clock_that_was_a_year_ahead_and_is_set_right_again_breaks_nothing(
    service: Services, now: FrozenDateTimeFactory
) -> None:
    now.move_to(START + YEAR)
    service.tokens.request(SMTP, None, "operator")
    now.tick(HOUR)
    service.tokens.poll(token_id(service))
    assert shown(service)[2] == "expired_token"
    service.get_token(SMTP)
    now.move_to(START + HOUR)
    assert shown(service)[0] == RETRIEVED
    service.tokens.renew(SMTP, "administrator")
    assert service.access_token(SMTP).credential.expires_at == START + 2 * HOUR
    service.tokens.delete(SMTP, "operator")
    assert service.get_token(SMTP).token.since == START + HOUR
    assert service.audit.verify().findings == ()


# As of


class Historian:
    """Reads every status live, at instants of all kinds, and compares in the end what `--as-of` says of each."""

    def __init__(self, service: Services, now: FrozenDateTimeFactory) -> None:
        self.service = service
        self.read: dict[datetime, list[SettingStatus]] = {}
        self._now = now

    def note(self) -> None:
        """Read now."""
        self._read(SystemClock().now())

    def note_what_runs_out(self) -> None:
        """Read at the instants at which something runs out within an hour from here."""
        here = SystemClock().now()
        soon = {status.until for status in self.service.tokens.statuses() if status.until}
        for instant in sorted(soon):
            if here < instant <= here + HOUR:
                for moment in (instant - timedelta(microseconds=1), instant, instant + timedelta(microseconds=1)):
                    self._now.move_to(moment)
                    self._read(moment)

    def _read(self, instant: datetime) -> None:
        self.read[instant] = self.service.tokens.statuses()

    def check(self) -> None:
        for instant, live in self.read.items():
            assert self.service.audit.statuses_as_of(instant) == live, instant


@pytest.mark.parametrize("seed", range(amount(1, of=3)))
def test_as_of_says_what_was_read_live_then(
    service: Services, provider: FakeProvider, now: FrozenDateTimeFactory, seed: int
) -> None:
    chance = random.Random(seed)
    historian = Historian(service, now)
    service.settings.add_machine("server", "generic", "administrator")
    names = [SMTP, ALERT, POP, "server/smtp"]

    def attempt(act: Callable[[str], object]) -> None:
        name = chance.choice(names)
        try:
            act(name)
        except (Refused, Unreachable):
            return

    def poll(name: str) -> None:
        service.tokens.poll(token_id(service, name))

    def approve(name: str) -> None:
        provider.approve(chance.choice([SCANNER, SCANNER, FAX]))
        poll(name)

    def sign_in(name: str) -> None:
        service.tokens.request(name, None, "operator")
        now.tick(timedelta(seconds=chance.randrange(1, 1000)))
        provider.approve(service.tokens.status(name).profile.settings.account or "")
        poll(name)

    def give_up(name: str) -> None:
        provider.kill_grants()
        service.tokens.renew(name, "administrator")

    acts: list[Callable[[str], object]] = [
        lambda name: service.tokens.request(name, None, "operator"),
        approve,
        sign_in,
        sign_in,
        poll,
        lambda name: service.tokens.cancel(name, "operator"),
        lambda name: service.tokens.delete(name, "operator"),
        service.access_token,
        lambda name: service.tokens.renew(name, "administrator"),
        give_up,
        lambda name: service.settings.set_profile(
            name, {"provider": provider.name, "account": chance.choice([SCANNER, FAX])}, "administrator"
        ),
        lambda name: service.settings.link("office-mfp", ["server/smtp"], "administrator"),
        lambda name: service.settings.unlink("server/smtp", "administrator"),
        lambda name: setattr(provider, "renewable", chance.random() < 0.6),
    ]
    for _ in range(120):
        # Between two events always, so that an instant is before or after, never in the middle of one.
        now.tick(timedelta(seconds=chance.choice([0.001, 1, 60, 600, 3000]), microseconds=chance.randrange(1, 999)))
        historian.note()
        if chance.random() < 0.2:
            historian.note_what_runs_out()
        now.tick(timedelta(microseconds=1))
        with suppress(Failed, InvalidValue):
            attempt(chance.choice(acts))
        historian.note()
    labels = {status.token.status for statuses in historian.read.values() for status in statuses}
    assert labels == {NOT_RETRIEVED, WAITING, RETRIEVED, INVALID}
    assert len(historian.read) > 200
    historian.check()
    assert service.audit.verify().findings == ()


# The same with a real provider beside, through msal and Authlib


@pytest.mark.parametrize("kind", ["microsoft", "oidc"])
@pytest.mark.parametrize("engine", ["sqlite"])
def test_a_year_with_a_real_provider(
    store: Store, store_id: str, sealer: Sealer, tmp_path: Path, ca: PracticeCA, kind: Any
) -> None:
    with freeze_time(START) as now, FaultyProvider(ca, interval=5, now=SystemClock().now) as practice:
        settings = ProviderSettings(
            name="contoso", kind=kind, client_id=practice.client_id, issuer=practice.issuer, ca_file=practice.ca_file
        )
        providers: dict[str, Provider] = {"contoso": build_provider(settings, SystemClock())}
        service = Services(store, sealer, store_id, tmp_path, SystemClock(), providers)
        service.add_machine()
        started = service.tokens.request(SMTP, None, "operator")
        assert started.expires_at == START + timedelta(minutes=15)
        assert service.tokens.poll(token_id(service)) == 5
        now.move_to(started.expires_at - SECOND)
        browser_user.approve(started.verification_uri or "", started.user_code or "", SCANNER, ca.ca_file)
        assert service.tokens.poll(token_id(service)) is None
        assert shown(service) == (RETRIEVED, started.expires_at - SECOND, None)
        first = service.access_token(ALERT).credential
        assert first.expires_at == started.expires_at - SECOND + HOUR

        # Ten minutes before the end it is renewed when somebody asks, and not before.
        now.move_to(first.expires_at - timedelta(minutes=10))
        assert service.access_token(ALERT).credential == first
        now.tick(SECOND)
        second = service.access_token(ALERT).credential
        assert (second.issued_at, second.expires_at) == (SystemClock().now(), SystemClock().now() + HOUR)
        assert practice.grant_counts["refresh_token"] == 1

        # Nobody asks for a year; the clock is an hour behind, and right again.
        now.tick(YEAR)
        third = service.access_token(ALERT).credential
        assert third.expires_at == SystemClock().now() + HOUR
        now.tick(-HOUR)
        assert service.tokens.renew(SMTP, "administrator").token.status == RETRIEVED
        now.tick(2 * HOUR)
        assert service.access_token(ALERT).credential.expires_at == SystemClock().now() + HOUR

        # A code that nobody uses runs out at both ends in the same second.
        service.tokens.delete(ALERT, "operator")
        started = service.tokens.request(SMTP, None, "operator")
        now.move_to(started.expires_at - SECOND)
        assert service.tokens.poll(token_id(service)) is not None
        now.tick(SECOND)
        assert shown(service) == (NOT_RETRIEVED, started.expires_at, "expired_token")
        assert service.tokens.poll(token_id(service)) is None
        assert service.audit.verify().findings == ()
