"""Two hundred simulated days in which nobody asks for a token: it is alive then, and the log has hardly grown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes import Answer, FakeClock, FakeProvider, Services, error

from domain.errors import Refused
from domain.outcomes import Credential
from domain.renewal import GrantLimits
from infrastructure.encryption.envelope import Sealer
from infrastructure.queries.attention import Attention
from infrastructure.store.open import create_store
from infrastructure.store.sqlite import SqliteStore
from infrastructure.tokens.renewal_worker import RenewalWorker

DAY = timedelta(days=1)
NAME = "office-mfp/smtp-service"


class ForgetfulProvider(FakeProvider):
    """Forgets a grant that was not used for so long; it rotates refresh tokens as Microsoft does, or not, as Google."""

    def __init__(self, clock: FakeClock, inactivity: timedelta, *, rotates: bool) -> None:
        super().__init__()
        self.inactivity = inactivity
        self._clock = clock
        self._rotates = rotates
        self._used_at = clock.now()

    def _refresh(self, credential: Credential) -> dict[str, Any] | Answer:
        used_at, self._used_at = self._used_at, self._clock.now()
        if self._used_at - used_at >= self.inactivity:
            return error("invalid_grant")
        grant = super()._refresh(credential)
        if isinstance(grant, dict) and not self._rotates:
            assert credential.refresh_token
            self._live.add(credential.refresh_token.reveal())
            del grant["refresh_token"]
        return grant


def microsoft(clock: FakeClock) -> ForgetfulProvider:
    return ForgetfulProvider(clock, 90 * DAY, rotates=True)


def google(clock: FakeClock) -> ForgetfulProvider:
    return ForgetfulProvider(clock, 180 * DAY, rotates=False)


class Installation:
    """The service with one token, and the worker that is stepped."""

    def __init__(self, services: Services, provider: ForgetfulProvider, clock: FakeClock) -> None:
        self.services = services
        self.clock = clock
        self.limits = {provider.name: GrantLimits(provider.inactivity)}
        self.worker = RenewalWorker(services.events, services.tokens, clock, self.limits)

    def pass_time(self, span: timedelta, step: timedelta, act: Callable[[], object] = lambda: None) -> set[str | None]:
        """Time passes; everything that wanted attention meanwhile."""
        wanted: set[str | None] = set()
        for _ in range(span // step):
            self.clock.instant += step
            for begun in self.worker.renew_what_is_due():
                begun.result(30)
            act()
            wanted |= {one.attention for one in self._attention.statuses()}
        return wanted

    def events(self) -> list[str]:
        """What the log says of the token, without how it was obtained."""
        token_id = self.services.tokens.status(NAME).profile.token_id
        names = [one.name for one in self.services.history.records() if one.id == token_id]
        return names[names.index("Retrieved") + 1 :]

    @property
    def _attention(self) -> Attention:
        return Attention(self.services.store, self.services.tokens.alarms, self.clock, self.limits, {})


Kind = Callable[[FakeClock], ForgetfulProvider]
Furnish = Callable[[ForgetfulProvider], Installation]


@pytest.fixture
def furnish(clock: FakeClock, tmp_path: Path, sealer: Sealer) -> Iterator[Furnish]:
    """Make the house and get its token."""
    store = SqliteStore(tmp_path / "mailtoken.db")
    store_id = create_store(store, sealer)
    houses: list[Installation] = []

    def make(provider: ForgetfulProvider) -> Installation:
        services = Services(store, sealer, store_id, tmp_path, clock, {provider.name: provider})
        services.add_machine()
        services.get_token(NAME)
        houses.append(Installation(services, provider, clock))
        return houses[-1]

    yield make
    for installation in houses:
        installation.worker.stop()
    store.close()


@pytest.mark.parametrize(("kind", "events"), [(microsoft, 3), (google, 1)])
def test_a_token_that_nobody_asks_for_is_alive_after_200_days(
    furnish: Furnish, clock: FakeClock, kind: Kind, events: int
) -> None:
    installation = furnish(kind(clock))
    assert installation.pass_time(200 * DAY, timedelta(hours=6)) == {None}
    assert installation.services.label(NAME) == "Retrieved"
    assert installation.events() == ["Renewed"] * events
    credential = installation.services.access_token(NAME).credential
    assert credential.expires_at == clock.instant + timedelta(hours=1)
    assert installation.services.label(NAME) == "Retrieved"
    assert installation.events() == ["Renewed"] * (events + 1), "the first one who asks gets a new access token"
    assert installation.services.audit.verify().findings == ()


@pytest.mark.parametrize("kind", [microsoft, google])
def test_without_the_worker_it_would_have_died(furnish: Furnish, clock: FakeClock, kind: Kind) -> None:
    installation = furnish(kind(clock))
    clock.instant += 200 * DAY
    with pytest.raises(Refused, match="Invalid"):
        installation.services.access_token(NAME)


def test_the_log_grows_with_use_and_not_with_the_clock(furnish: Furnish, clock: FakeClock) -> None:
    installation = furnish(microsoft(clock))
    installation.pass_time(2 * DAY, timedelta(minutes=5), lambda: installation.services.access_token(NAME))
    in_use = len(installation.events())
    assert 48 * 60 / 45 - 1 <= in_use <= 48 * 60 / 40 + 1
    installation.pass_time(2 * DAY, timedelta(minutes=5))
    assert len(installation.events()) == in_use + 1
    installation.pass_time(50 * DAY, timedelta(hours=6))
    assert len(installation.events()) == in_use + 1


def test_a_scan_a_day_costs_two_renewals_a_day(furnish: Furnish, clock: FakeClock) -> None:
    installation = furnish(microsoft(clock))
    morning = clock.instant

    def scan() -> None:
        if (clock.instant - morning) % DAY == timedelta(0):
            installation.services.access_token(NAME)

    installation.pass_time(10 * DAY, timedelta(minutes=10), scan)
    assert installation.services.label(NAME) == "Retrieved"
    # One for the scan and one that is made while it may be asked for again.
    assert len(installation.events()) <= 20


def test_a_service_that_was_off_for_two_months_renews_at_once_what_it_finds_idle(
    furnish: Furnish, clock: FakeClock
) -> None:
    provider = microsoft(clock)
    installation = furnish(provider)
    clock.instant += 65 * DAY
    again = Installation(installation.services.restart(), provider, clock)
    assert again.pass_time(timedelta(minutes=1), timedelta(minutes=1)) == {None}
    assert again.events() == ["Renewed"]
    again.worker.stop()


def test_a_provider_that_is_away_for_a_week_in_the_middle_of_it_costs_nothing(
    furnish: Furnish, clock: FakeClock
) -> None:
    provider = microsoft(clock)
    installation = furnish(provider)
    installation.pass_time(54 * DAY, timedelta(hours=6))
    provider.reachable = False
    assert installation.pass_time(12 * DAY, timedelta(hours=6)) == {None}, "there is still time"
    assert installation.pass_time(8 * DAY, timedelta(hours=6)) == {None, "grant_ends"}, "now there is little"
    provider.reachable = True
    installation.pass_time(DAY, timedelta(hours=6))
    assert installation.pass_time(DAY, timedelta(hours=6)) == {None}
    assert (installation.services.label(NAME), installation.events()) == ("Retrieved", ["Renewed"])
