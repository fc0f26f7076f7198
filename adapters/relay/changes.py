"""What the service tells the relay while it runs: whose admission is over. So nobody stays by what is no longer so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from adapters.relay.door import Admission

_TARGET = "/api/v1/relay/changes"
_AGAIN_SECONDS = 1.0
# The service breaks a silence every fifteen.
_SILENCE_SECONDS = 45.0


@dataclass(frozen=True)
class Change:
    """Relay users and profiles that are not what they were."""

    users: Collection[str]
    profiles: Collection[str]

    def concerns(self, admission: Admission) -> bool:
        """Whether this admission is over by it."""
        return admission.user in self.users or admission.profile in self.profiles


class Told:
    """The changes told so far. `count` numbers them."""

    def __init__(self) -> None:
        self.count = 0
        self._everybody = 0
        self._users: dict[str, int] = {}
        self._profiles: dict[str, int] = {}

    def take(self, change: Change | None) -> None:
        """The next one; None for everything that may have been missed."""
        self.count += 1
        if change is None:
            self._everybody = self.count
            self._users, self._profiles = {}, {}
            return
        self._users |= dict.fromkeys(change.users, self.count)
        self._profiles |= dict.fromkeys(change.profiles, self.count)

    def concerns_since(self, count: int, admission: Admission) -> bool:
        """Whether one behind that number concerns this admission."""
        last = max(self._users.get(admission.user, 0), self._profiles.get(admission.profile, 0), self._everybody)
        return last > count


async def follow(http: aiohttp.ClientSession, tell: Callable[[Change | None], None]) -> None:
    """Tell each change, for as long as it is not cancelled; None where some may have been missed before."""
    while True:
        try:
            async for change in _changes(http):
                tell(change)
        except (aiohttp.ClientError, OSError, ValueError, KeyError):
            # What is remembered is forgotten in a minute anyway; whoever asks meanwhile is told what is wrong.
            pass
        await asyncio.sleep(_AGAIN_SECONDS)


async def _changes(http: aiohttp.ClientSession) -> AsyncIterator[Change | None]:
    """The events of one answer (WHATWG HTML section 9.2), which ends after some minutes."""
    patience = aiohttp.ClientTimeout(total=None, sock_read=_SILENCE_SECONDS)
    async with http.get(_TARGET, timeout=patience) as answer:
        answer.raise_for_status()
        kind = ""
        async for line in answer.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield Change(**json.loads(value)) if kind == "changed" else None
