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
# An event is one line, and a group may have thousands of profiles.
_LINE_OCTETS = 1024 * 1024


@dataclass(frozen=True)
class Change:
    """Relay users and profiles that are not what they were; None is all of them."""

    users: Collection[str] | None
    profiles: Collection[str] | None

    def concerns(self, admission: Admission) -> bool:
        """Whether this admission is over by it."""
        if self.users is None or self.profiles is None:
            return True
        return admission.user in self.users or admission.profile in self.profiles


EVERYTHING = Change(None, None)


class Told:
    """The changes told so far. `count` numbers them."""

    def __init__(self) -> None:
        self.count = 0
        self._everything = 0
        self._users: dict[str, int] = {}
        self._profiles: dict[str, int] = {}

    def take(self, change: Change) -> None:
        """The next one."""
        self.count += 1
        if change.users is None or change.profiles is None:
            self._everything = self.count
            self._users, self._profiles = {}, {}
            return
        self._users |= dict.fromkeys(change.users, self.count)
        self._profiles |= dict.fromkeys(change.profiles, self.count)

    def concerns_since(self, count: int, admission: Admission) -> bool:
        """Whether one behind that number concerns this admission."""
        last = max(self._users.get(admission.user, 0), self._profiles.get(admission.profile, 0), self._everything)
        return last > count


async def follow(http: aiohttp.ClientSession, tell: Callable[[Change], None]) -> None:
    """Tell each change, for as long as it is not cancelled: `EVERYTHING` where some may have been missed."""
    last_id = ""
    while True:
        try:
            async for id, change in _changes(http, last_id):
                last_id = id
                tell(change)
        except (aiohttp.ClientError, OSError):
            # What is remembered is forgotten in a minute anyway; whoever asks meanwhile is told what is wrong.
            pass
        except (ValueError, KeyError):
            # Asked for again it would come again.
            last_id = ""
        await asyncio.sleep(_AGAIN_SECONDS)


async def _changes(http: aiohttp.ClientSession, last_id: str) -> AsyncIterator[tuple[str, Change]]:
    """The events behind this one (WHATWG HTML section 9.2), until the answer ends, as it does after some minutes."""
    patience = aiohttp.ClientTimeout(total=None, sock_read=_SILENCE_SECONDS)
    behind = {"Last-Event-ID": last_id} if last_id else {}
    async with http.get(_TARGET, headers=behind, timeout=patience, read_bufsize=_LINE_OCTETS) as answer:
        answer.raise_for_status()
        event: dict[str, str] = {}
        async for line in answer.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            event[name] = value
            if name == "data":
                change = Change(**json.loads(value)) if event["event"] == "changed" else EVERYTHING
                yield event["id"], change
