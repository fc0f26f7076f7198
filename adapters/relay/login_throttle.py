"""The login throttle of the relay: a sign-in from a source with several wrong passwords waits within its connection.

The web pages refuse an attempt instead of delaying it. Most clients of the relay are programs, which would take a
refusal for a wrong password and give up, or ask a person for another password. A sign-in waits before its password is
checked, so a client that leaves early learns nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from cachetools import TTLCache

from domain.errors import Unreachable
from infrastructure.access.login_throttle import ThrottleRule, WrongTries, source_of

Sleep = Callable[[float], Awaitable[object]]

# Printers and programs break off a sign-in after ten seconds or more.
_RULE = ThrottleRule(free_tries=5, first_seconds=0.5, longest_seconds=8.0, forgotten_after_seconds=600.0)
_WAITING_PER_SOURCE = 4
_SOURCES = 10_000


class SourceThrottle:
    """Delays sign-ins from a source with too many wrong passwords; other sources never wait.

    `monotonic` is in seconds, and `sleep` waits for a number of them.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, sleep: Sleep = asyncio.sleep) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._wrong_tries = WrongTries(_RULE, monotonic, _SOURCES)
        self._waiting_until: TTLCache[str, list[float]] = TTLCache(_SOURCES, _RULE.longest_seconds, monotonic)

    def check(self, address: str) -> None:
        """Check that another sign-in from `address` may wait.

        Raises:
            Unreachable: the allowed number of sign-ins from this source already wait.
        """
        self._waiting(source_of(address))

    async def wait(self, address: str) -> None:
        """Wait for as long as the rule says for the wrong passwords from `address`.

        Raises:
            Unreachable: the allowed number of sign-ins from this source already wait.
        """
        source = source_of(address)
        waiting = self._waiting(source)
        if seconds := self._wrong_tries.wait_seconds(source):
            # The wait counts for its whole time even if the client leaves, since the client could come again at once.
            self._waiting_until[source] = [*waiting, self._monotonic() + seconds]
            await self._sleep(seconds)

    def count_wrong(self, address: str) -> None:
        """Count a wrong password from `address`."""
        self._wrong_tries.add(source_of(address))

    def _waiting(self, source: str) -> list[float]:
        """The ends of the waits of this source that are not over yet."""
        now = self._monotonic()
        waiting = [until for until in self._waiting_until.get(source, []) if until > now]
        if len(waiting) >= _WAITING_PER_SOURCE:
            raise Unreachable("too_many_wrong_passwords_from", address=source)
        return waiting
