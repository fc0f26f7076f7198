"""Events of one token in a year, by how it is used: simulated time, the real service, policy and worker.

Beside them the fewest that could serve the same reads and keep the grant: a renewal whenever a read finds too little
life left, and not before; or one on the last day of the grant's inactivity limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fakes import START, Answer, FakeClock, FakeProvider, Services, error

from bench.rounds import Figure, Size, figure
from domain.outcomes import Credential
from domain.renewal import SERVING_MARGIN_SECONDS, GrantLimits
from infrastructure.encryption.envelope import Sealer
from infrastructure.store.open import create_store
from infrastructure.store.sqlite import SqliteStore
from infrastructure.tokens.renewal_worker import RenewalWorker

_INACTIVITY = {"Microsoft-like": timedelta(days=90), "Google-like": timedelta(days=180)}
_LIFE = timedelta(hours=1)
_MARGIN = timedelta(seconds=SERVING_MARGIN_SECONDS)
_DAY, _YEAR = timedelta(days=1), timedelta(days=365.25)
_OFFICE = [timedelta(hours=9, minutes=minutes) for minutes in range(0, 8 * 60, 5)]
_NIGHT = [timedelta(hours=2)]
_IDLE_WEEKS = 4 * 52
_LOOK, _SELDOM = timedelta(minutes=1), timedelta(hours=6)
"""How far apart the worker looks: while a token may be in use, and while none is."""
_TOKENS = 2
"""Of each kind of provider: jitter differs from token to token."""
_BY = "administrator:root"


@dataclass(frozen=True)
class _Use:
    """How a token is used for some weeks, the first of which begins on the Monday of `START`."""

    name: str
    reads: Sequence[datetime]
    weeks: int
    limited_by: str

    @property
    def span(self) -> timedelta:
        return timedelta(weeks=self.weeks)

    def fewest(self, inactivity: timedelta) -> float:
        """Renewals that could do."""
        issued_at, renewals = START, 0
        for read_at in self.reads:
            if issued_at + _LIFE - read_at < _MARGIN:
                issued_at, renewals = read_at, renewals + 1
        return max(renewals, self.span / inactivity)


def log_growth(directory: Path, size: Size) -> Iterator[Figure]:
    """For each use, under the limits of either kind of provider."""
    for number, use in enumerate(_uses(size.busy_weeks)):
        with _simulation(directory / str(number)) as simulation:
            events = simulation.run(use)
        in_a_year = _YEAR / use.span
        for kind, inactivity in _INACTIVITY.items():
            fewest = use.fewest(inactivity) * in_a_year
            yield figure(
                f"token {use.name}, {kind}",
                [(counted * in_a_year, fewest) for counted in events[kind]],
                peer_name=f"the fewest that could serve the same reads and keep the grant, from {use.weeks} weeks",
                unit="events/year",
                more_is_better=False,
                target=None,
                limited_by=use.limited_by,
            )


def _uses(weeks: int) -> Iterator[_Use]:
    midnight = START.replace(hour=0)
    days = [midnight + number * _DAY for number in range(weeks * 7)]
    yield _Use(
        "in office hours",
        [day + at for day in days if day.weekday() < 5 for at in _OFFICE],
        weeks,
        "the policy: read every five minutes, it is renewed after 40 to 45, so that no reader waits for the provider",
    )
    yield _Use(
        "read once a night",
        [day + _DAY + at for day in days for at in _NIGHT if day + _DAY + at < START + timedelta(weeks=weeks)],
        weeks,
        "the policy: the read renews it, and it is kept warm once for a next one",
    )
    yield _Use(
        "never read",
        [],
        _IDLE_WEEKS,
        "the policy: it is renewed when 60 to 70 % of the grant's inactivity limit are over",
    )


class _ForgetfulProvider(FakeProvider):
    """Forgets a grant that was not used for so long."""

    def __init__(self, name: str, inactivity: timedelta, clock: FakeClock) -> None:
        super().__init__(name)
        self._inactivity = inactivity
        self._clock = clock

    def _refresh(self, credential: Credential) -> dict[str, Any] | Answer:
        if self._clock.now() - credential.issued_at >= self._inactivity:
            return error("invalid_grant")
        return super()._refresh(credential)


class _Simulation:
    """The service with some tokens of each kind of provider, and its worker, stepped."""

    def __init__(self, services: Services, clock: FakeClock, worker: RenewalWorker) -> None:
        self._services = services
        self._clock = clock
        self._worker = worker
        self._names = {kind: [self._get_token(kind, number) for number in range(_TOKENS)] for kind in _INACTIVITY}

    def run(self, use: _Use) -> Mapping[str, list[int]]:
        """Let the weeks pass: how many events each token costs, by kind of provider.

        Raises:
            RuntimeError: a grant has died, which the policy is there to prevent.
        """
        before, read_at = self._versions(), START
        for at in use.reads:
            self._look_until(at, read_at)
            read_at = at
            for name in self._all():
                self._services.access_token(name)
        self._look_until(START + use.span, read_at)
        if any(self._services.label(name) != "Retrieved" for name in self._all()):
            raise RuntimeError(f"a token {use.name} was not kept alive")
        after = self._versions()
        return {kind: [after[name] - before[name] for name in names] for kind, names in self._names.items()}

    def _look_until(self, instant: datetime, read_at: datetime) -> None:
        while (now := self._clock.now()) < instant:
            in_use = now - read_at < 2 * _LIFE
            step = min(_LOOK if in_use else _SELDOM, instant - now)
            self._clock.step(seconds=step.total_seconds())
            for begun in self._worker.renew_what_is_due():
                begun.result()

    def _get_token(self, kind: str, number: int) -> str:
        settings, account = self._services.settings, f"scan-{number}@contoso.com"
        [*_, name] = settings.add_machine(f"{kind.lower()}-{number}", "generic", _BY)
        settings.set_profile(name, {"provider": kind, "account": account}, _BY)
        self._services.get_token(name, account)
        return name

    def _all(self) -> list[str]:
        return [name for names in self._names.values() for name in names]

    def _versions(self) -> dict[str, int]:
        statuses = {name: self._services.tokens.status(name) for name in self._all()}
        return {name: self._services.events.token(one.profile.token_id).version for name, one in statuses.items()}


@contextmanager
def _simulation(directory: Path) -> Iterator[_Simulation]:
    directory.mkdir(parents=True)
    sealer, clock = Sealer(os.urandom(32)), FakeClock()
    providers = {kind: _ForgetfulProvider(kind, inactivity, clock) for kind, inactivity in _INACTIVITY.items()}
    limits = {kind: GrantLimits(inactivity) for kind, inactivity in _INACTIVITY.items()}
    with closing(SqliteStore(directory / "mailtoken.db")) as store:
        services = Services(store, sealer, create_store(store, sealer), directory, clock, providers)
        worker = RenewalWorker(services.events, services.tokens, clock, limits)
        try:
            yield _Simulation(services, clock, worker)
        finally:
            worker.stop()
