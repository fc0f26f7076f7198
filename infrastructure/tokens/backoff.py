"""The backoff after failed renewals: a wait for each token, and a circuit breaker for each provider.

The waits are in memory only: after a restart each token may be tried once.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar
from uuid import UUID

_FIRST_WAIT_SECONDS = 15.0
_FAILURES_TO_OPEN = 5
"""The number of failures of a provider in a row, for any tokens, after which its circuit opens."""
_IN_NEED = timedelta(seconds=5)
"""The wait after a failure for a token that can't be served any more, if the provider named no wait."""
_ABSURD = timedelta(hours=2)
"""A wait longer than this is over at once: the clock has stepped back, or the provider named an unreasonable wait."""


@dataclass
class _Wait:
    """A wait that doubles with each failure up to a longest, spread by a fourth; at least the provider's own wait."""

    longest_seconds: ClassVar[float]
    failures: int = 0
    until: datetime | None = None
    in_need_until: datetime | None = None

    def fail(self, now: datetime, retry_after_seconds: int | None) -> None:
        """Count a failure and begin a wait."""
        self.count(now, retry_after_seconds)
        self.begin(now, retry_after_seconds or 0)

    def count(self, now: datetime, retry_after_seconds: int | None) -> None:
        """Count a failure. A caller in need waits a few seconds, or as long as the provider asked for."""
        self.failures += 1
        until = now + max(_IN_NEED, timedelta(seconds=retry_after_seconds or 0))
        self.in_need_until = until if self.is_over(now, in_need=True) else max(until, self.in_need_until or until)

    def begin(self, now: datetime, least_seconds: float = 0) -> None:
        """Begin a wait according to the number of failures; a wait that is under way is never shortened."""
        seconds = min(_FIRST_WAIT_SECONDS * 2 ** min(self.failures - 1, 16), self.longest_seconds)
        seconds *= random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, protects nothing
        until = now + timedelta(seconds=max(seconds, least_seconds))
        self.until = until if self.until is None or self.is_over(now) else max(until, self.until)

    def is_over(self, now: datetime, *, in_need: bool = False) -> bool:
        """Whether a renewal may be tried."""
        until = self.in_need_until if in_need else self.until
        return until is None or now >= until or until - now > _ABSURD


@dataclass
class _TokenWait(_Wait):
    longest_seconds = 900.0
    provider: str | None = None


@dataclass
class _Circuit(_Wait):
    """A circuit breaker: open after repeated failures of a provider, or after the provider asked for a wait."""

    longest_seconds = 300.0
    is_open: bool = False

    def fail(self, now: datetime, retry_after_seconds: int | None) -> None:
        """Count a failure; parallel requests may count several for a single outage."""
        self.count(now, retry_after_seconds)
        if self.failures >= _FAILURES_TO_OPEN or retry_after_seconds:
            self.is_open = True
            self.begin(now, retry_after_seconds or 0)


@dataclass
class Backoff:
    """The recent failures of tokens and providers. Safe to share between threads."""

    _tokens: dict[UUID, _TokenWait] = field(default_factory=dict)
    _circuits: dict[str, _Circuit] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def acquire(self, token_id: UUID, provider: str, now: datetime, *, in_need: bool = False) -> bool:
        """Whether a renewal of this token may be tried now. A caller that gets True must try it.

        While a provider's circuit is open, a single caller in each wait gets True. A caller `in_need`, whose token
        can't be served any more, waits only seconds after a failure, or as long as the provider asked for.
        """
        with self._lock:
            token, circuit = self._tokens.get(token_id), self._circuits.get(provider)
            if in_need:
                return all(wait is None or wait.is_over(now, in_need=True) for wait in (token, circuit))
            if token and not token.is_over(now):
                return False
            if circuit is None or not circuit.is_open:
                return True
            if not circuit.is_over(now):
                return False
            circuit.begin(now)
            return True

    def waiting(self, now: datetime) -> tuple[int, int]:
        """The number of tokens that wait after a failed renewal, and of providers whose circuit is open."""
        with self._lock:
            tokens = sum(not wait.is_over(now) for wait in self._tokens.values())
            return tokens, sum(circuit.is_open for circuit in self._circuits.values())

    def failed(self, token_id: UUID, provider: str, now: datetime, retry_after_seconds: int | None) -> None:
        """Record that the provider did not renew this token, for a reason that may pass."""
        with self._lock:
            token = self._tokens.setdefault(token_id, _TokenWait())
            token.provider = provider
            token.fail(now, retry_after_seconds)
            self._circuits.setdefault(provider, _Circuit()).fail(now, retry_after_seconds)

    def put_off(self, token_id: UUID, now: datetime) -> None:
        """Record that a renewal failed through no fault of the provider; a no-op while the token is waiting."""
        with self._lock:
            token = self._tokens.setdefault(token_id, _TokenWait())
            if token.is_over(now):
                token.fail(now, None)

    def answered(self, token_id: UUID, provider: str) -> None:
        """Record that the provider gave a definite answer, which ends the waits that its outage caused."""
        with self._lock:
            self._tokens.pop(token_id, None)
            circuit = self._circuits.pop(provider, None)
            if circuit and circuit.is_open:
                self._tokens = {id: wait for id, wait in self._tokens.items() if wait.provider != provider}
