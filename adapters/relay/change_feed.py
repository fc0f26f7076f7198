"""The service's stream of changes to relay users and profiles: the relay ends the admissions that they concern."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import aiohttp
import structlog

from adapters.relay.admission import ALL_ADMISSIONS, Admission, AdmissionChange

log = structlog.get_logger("mailtoken")

_TARGET = "/api/v1/relay/changes"
_RETRY_SECONDS = 1.0
# The service sends a comment every fifteen seconds if it has nothing else to send.
_SILENCE_SECONDS = 45.0
# An event is one line, and a group may have thousands of profiles.
_LINE_OCTETS = 1024 * 1024


class ReceivedChanges:
    """The last change that concerned each user and profile. `count` numbers the changes."""

    def __init__(self) -> None:
        self.count = 0
        self._all_admissions = 0
        self._users: dict[str, int] = {}
        self._profiles: dict[str, int] = {}

    def add(self, change: AdmissionChange) -> None:
        """Number a change as the next one."""
        self.count += 1
        if change.users is None or change.profiles is None:
            self._all_admissions = self.count
            self._users, self._profiles = {}, {}
            return
        self._users |= dict.fromkeys(change.users, self.count)
        self._profiles |= dict.fromkeys(change.profiles, self.count)

    def concern_since(self, count: int, admission: Admission) -> bool:
        """Whether a change after the one of this number concerns the admission."""
        last = max(self._users.get(admission.user, 0), self._profiles.get(admission.profile, 0), self._all_admissions)
        return last > count


@dataclass(frozen=True)
class ServerSentEvent:
    """An event of a `text/event-stream`; a missing field is ""."""

    id: str
    event: str
    data: str


async def follow_changes(http: aiohttp.ClientSession, on_change: Callable[[AdmissionChange], None]) -> None:
    """Call `on_change` for each change until cancelled; with `ALL_ADMISSIONS` when changes may have been missed."""
    last_id = ""
    while True:
        try:
            async for event in _events(http, last_id):
                last_id = event.id
                on_change(_change(event))
        except (aiohttp.ClientError, OSError):
            # Cached admissions end within a minute; until then, requests report what is wrong with the service.
            pass
        except Exception as error:
            # The event is malformed, and a second request would return it malformed again.
            log.warning("change_not_read", why=repr(error))
            last_id = ""
        await asyncio.sleep(_RETRY_SECONDS)


async def _events(http: aiohttp.ClientSession, last_id: str) -> AsyncIterator[ServerSentEvent]:
    """The events after `last_id`, until the service ends its reply after some minutes."""
    timeout = aiohttp.ClientTimeout(total=None, sock_read=_SILENCE_SECONDS)
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with http.get(_TARGET, headers=headers, timeout=timeout, read_bufsize=_LINE_OCTETS) as response:
        response.raise_for_status()
        async for event in parse_events(response.content):
            yield event


async def parse_events(lines: AsyncIterable[bytes]) -> AsyncIterator[ServerSentEvent]:
    """The events of a stream (WHATWG HTML section 9.2.6). Comments, and events without data, are left out.

    Raises:
        ValueError: the stream is not UTF-8.
    """
    fields: dict[str, str] = {}
    async for octets in lines:
        line = octets.decode().rstrip("\r\n")
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value
            continue
        if "data" in fields:
            yield ServerSentEvent(fields.get("id", ""), fields.get("event", ""), fields["data"])
        fields = {}


def _change(event: ServerSentEvent) -> AdmissionChange:
    """The change in an event's data.

    Raises:
        ValueError, TypeError: the data is malformed.
    """
    if event.event != "changed":
        return ALL_ADMISSIONS
    data: Mapping[str, list[str]] = json.loads(event.data)
    return AdmissionChange(**data, position=int(event.id))
