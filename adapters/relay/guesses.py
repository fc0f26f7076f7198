"""Guessing is made slow: a source with several wrong passwords waits before its next one is looked at, ever longer.

Only that source waits. An attempt waits before anything is asked, so that leaving early teaches nobody anything. It
waits within its connection, for seconds. A person with a browser is told to wait (`infrastructure.lockout`); most
clients here are programs, which would take that for a wrong password and give up, or ask for another one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from domain.errors import Unreachable
from infrastructure.lockout import source_of

Wait = Callable[[float], Awaitable[object]]

_FREE = 5
"""So many wrong ones are mistakes."""
_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 8.0
"""Printers and programs break off an attempt after ten seconds or more."""
_WAITING = 4
_FORGOTTEN_AFTER_SECONDS = 600.0
_SOURCES = 10_000


@dataclass
class _Source:
    wrong: int = 0
    last_at: float = 0.0
    waiting_until: list[float] = field(default_factory=list)

    def seconds(self) -> float:
        """How long the next attempt waits."""
        doublings = self.wrong - _FREE
        return min(_FIRST_SECONDS * 2.0 ** min(doublings, 16), _LONGEST_SECONDS) if doublings >= 0 else 0.0


class Guesses:
    """Counts wrong passwords by source address. `monotonic` is in seconds, `sleep` waits for so many."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, sleep: Wait = asyncio.sleep) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._sources: dict[str, _Source] = {}

    def check(self, address: str) -> None:
        """See whether another attempt from there may wait.

        Raises:
            Unreachable: as many as may wait are waiting.
        """
        source = self._known(address)
        if source and source.seconds():
            now = self._monotonic()
            source.waiting_until = [until for until in source.waiting_until if until > now]
            if len(source.waiting_until) >= _WAITING:
                raise Unreachable(f"too many wrong passwords came from {address}: wait a little")

    async def wait(self, address: str) -> None:
        """Wait for as long as the wrong passwords from there ask for.

        Raises:
            Unreachable: as many as may wait are waiting.
        """
        self.check(address)
        source = self._known(address)
        if source and (seconds := source.seconds()):
            # Taken for the whole time, also if the client leaves: it would come again at once.
            source.waiting_until.append(self._monotonic() + seconds)
            await self._sleep(seconds)

    def count_wrong(self, address: str) -> None:
        """A password from there was wrong."""
        key = source_of(address)
        source = self._known(address) or _Source()
        source.wrong, source.last_at = source.wrong + 1, self._monotonic()
        # The one that guessed last is at the end; the one that has been quiet for longest makes room.
        self._sources.pop(key, None)
        self._sources[key] = source
        if len(self._sources) > _SOURCES:
            del self._sources[next(iter(self._sources))]

    def _known(self, address: str) -> _Source | None:
        key = source_of(address)
        source = self._sources.get(key)
        if source and self._monotonic() - source.last_at > _FORGOTTEN_AFTER_SECONDS:
            del self._sources[key]
            return None
        return source
