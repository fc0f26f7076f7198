"""How long to leave a provider alone: a wait for each token that failed, a circuit for each provider.

In memory: after a restart everything may be tried once.
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
"""So many failures of one provider in a row, of whatever tokens, and it is asked by one request at a time."""
_IN_NEED = timedelta(seconds=5)
"""How long whoever has nothing left to serve waits after a failure, if the provider did not say how long."""
_ABSURD = timedelta(hours=2)
"""Nobody waits so long, and no provider is believed that asks for it: the clock has stepped back."""


@dataclass
class _Wait:
    """Twice as long after each failure, up to a longest, spread by a fourth; at least what the provider asks for."""

    longest_seconds: ClassVar[float]
    failures: int = 0
    until: datetime | None = None
    in_need_until: datetime | None = None

    def fail(self, now: datetime, retry_after_seconds: int | None) -> None:
        """Count a failure and wait."""
        self.count(now, retry_after_seconds)
        self.begin(now, retry_after_seconds or 0)

    def count(self, now: datetime, retry_after_seconds: int | None) -> None:
        """Count a failure. Whoever is in need waits a little, and as long as the provider asks for."""
        self.failures += 1
        until = now + max(_IN_NEED, timedelta(seconds=retry_after_seconds or 0))
        self.in_need_until = until if self.is_over(now, in_need=True) else max(until, self.in_need_until or until)

    def begin(self, now: datetime, least_seconds: float = 0) -> None:
        """Wait for as long as the failures so far ask for; a wait that is under way is never shortened."""
        seconds = min(_FIRST_WAIT_SECONDS * 2 ** min(self.failures - 1, 16), self.longest_seconds)
        seconds *= random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, protects nothing
        until = now + timedelta(seconds=max(seconds, least_seconds))
        self.until = until if self.until is None or self.is_over(now) else max(until, self.until)

    def is_over(self, now: datetime, *, in_need: bool = False) -> bool:
        """Whether to try."""
        until = self.in_need_until if in_need else self.until
        return until is None or now >= until or until - now > _ABSURD


@dataclass
class _TokenWait(_Wait):
    longest_seconds = 900.0
    provider: str | None = None


@dataclass
class _Circuit(_Wait):
    """Open while the provider fails whatever it is asked, or as long as it asks to be left alone."""

    longest_seconds = 300.0
    is_open: bool = False

    def fail(self, now: datetime, retry_after_seconds: int | None) -> None:
        """Count a failure; requests that were under way together may count several."""
        self.count(now, retry_after_seconds)
        if self.failures >= _FAILURES_TO_OPEN or retry_after_seconds:
            self.is_open = True
            self.begin(now, retry_after_seconds or 0)


@dataclass
class Patience:
    """What failed lately. Safe to share between threads."""

    _tokens: dict[UUID, _TokenWait] = field(default_factory=dict)
    _circuits: dict[str, _Circuit] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def may_try(self, token_id: UUID, provider: str, now: datetime, *, in_need: bool = False) -> bool:
        """Whether a renewal of this token has a chance now: ask only if it is then tried.

        Of a provider whose circuit is open, one asker in each wait hears yes. Whoever is `in_need`, with nothing left
        to serve, waits only seconds after a failure, or as long as the provider asked for.
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

    def failed(self, token_id: UUID, provider: str, now: datetime, retry_after_seconds: int | None) -> None:
        """The provider did not renew this token, for a reason that may pass."""
        with self._lock:
            token = self._tokens.setdefault(token_id, _TokenWait())
            token.provider = provider
            token.fail(now, retry_after_seconds)
            self._circuits.setdefault(provider, _Circuit()).fail(now, retry_after_seconds)

    def put_off(self, token_id: UUID, now: datetime) -> None:
        """A renewal of this token did not work, through no fault of its provider; no-op while it waits anyway."""
        with self._lock:
            token = self._tokens.setdefault(token_id, _TokenWait())
            if token.is_over(now):
                token.fail(now, None)

    def answered(self, token_id: UUID, provider: str) -> None:
        """The provider said something definite: it is there. After an outage nobody has to wait for it any more."""
        with self._lock:
            self._tokens.pop(token_id, None)
            circuit = self._circuits.pop(provider, None)
            if circuit and circuit.is_open:
                self._tokens = {id: wait for id, wait in self._tokens.items() if wait.provider != provider}
