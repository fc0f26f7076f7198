"""Changes as they happen, as server-sent events (WHATWG HTML section 9.2) whose ids are positions of the event log.

One follower reads the log for all listeners, and only while there are any. It keeps the last changes; a listener has
only its own position. A slow listener, or one that was away for long, may find its next change gone. It gets `reset`,
and has to read the status again. So the memory does not grow with time. The framework frames
the events, and sends a comment after fifteen seconds without any.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from adapters.http.api.openapi import api_router
from adapters.http.principal import READERS, RELAY, ReaderScope, require_role
from domain.errors import Unreachable
from domain.scope import EVERY_MACHINE, Scope
from infrastructure.queries.changes import Change, Changes

log = structlog.get_logger("mailtoken")

KEPT = 500
_LISTENERS = 500
_LONGEST_SECONDS = 600.0
"""The longest time of an answer: a listener that comes back with the last id is authenticated again."""
_LOOK_AGAIN_SECONDS = 1.0
"""The interval at which another node's changes are looked for; this node's are found at once."""

LastEventId = Annotated[
    int | None, Header(ge=0, description="The last event received; without it the stream starts now.", examples=[17])
]
_STATUS = {"at": "2026-11-02T08:00:00Z", "event": "Token.Renewed", "statuses": [], "removed": []}
_CHANGED = {"users": ["printers"], "profiles": []}


def _responses(kind: str, example: object) -> dict[int | str, dict[str, Any]]:
    """The answer of a route with events of this kind, for the OpenAPI document."""
    # `itemSchema` is a word of OpenAPI 3.2; a document of 3.1 may have it too, and older tools ignore it.
    event = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "pattern": "^[0-9]+$"},
            "event": {"enum": ["ready", kind, "reset"]},
            "data": {"type": "string", "contentMediaType": "application/json"},
        },
        "required": ["id", "event", "data"],
    }
    text = f"event: {kind}\ndata: {json.dumps(example)}\nid: 17\n\n"
    return {200: {"content": {"text/event-stream": {"itemSchema": event, "example": text}}}}


class Follower:
    """The one reader of the log, and the last changes it read."""

    def __init__(
        self,
        changes: Changes,
        longest_seconds: float = _LONGEST_SECONDS,
        kept: int = KEPT,
    ) -> None:
        self._changes = changes
        self._longest_seconds = longest_seconds
        self._kept = kept
        self._recent: deque[tuple[Change, ServerSentEvent]] = deque()
        self._begin = self._position = 0
        self._listeners = 0
        self._following: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._news = asyncio.Event()
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        changes.events.listeners.append(self._saved)

    async def listen(self, after: int | None, scope: Scope = EVERY_MACHINE) -> AsyncGenerator[ServerSentEvent, None]:
        """The changes after the position `after`, or from now on, until the listener's time is over.

        Of each change a listener gets the part that is about machines of its scope.
        """
        clock = asyncio.get_running_loop().time
        end_at = clock() + self._longest_seconds
        async with self._listener():
            cursor = self._position if after is None else after
            if after is None:
                yield _event("ready", cursor, {})
            while not self._closed and clock() < end_at:
                news, end = self._news, self._position
                if not self._begin <= cursor <= end:
                    cursor = end
                    yield _event("reset", end, {})
                for change, event in [one for one in self._recent if one[0].position > cursor]:
                    if scope.is_all:
                        yield event
                    elif inside := change.within(scope):
                        yield _event(inside.kind, inside.position, inside.as_json())
                cursor = end
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(end_at):
                        await news.wait()

    # Asynchronous, because the framework would run a synchronous dependency in a thread.
    async def check_room(self) -> None:
        """Check that there is room for one more listener.

        Raises:
            Unreachable: there are too many listeners.
        """
        if self._listeners >= _LISTENERS:
            raise Unreachable("too_many_listeners")

    def close(self) -> None:
        """End every answer, because the service ends."""
        self._closed = True
        self._news.set()

    @asynccontextmanager
    async def _listener(self) -> AsyncIterator[None]:
        self._listeners += 1
        try:
            async with self._starting:
                if self._following is None:
                    await self._start()
            yield
        finally:
            self._listeners -= 1
            if not self._listeners and self._following:
                self._following.cancel()
                self._following = None

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        end = await run_in_threadpool(self._changes.position)
        self._recent.clear()
        self._begin = self._position = max(0, end - self._kept)
        while self._position < end:
            await self._read()
        self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                if await self._read():
                    continue
            except Exception as error:
                # The store may fail, and a damaged event may raise anything; the listeners stay.
                log.error("changes_not_read", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                    await self._woken.wait()
            self._woken.clear()

    async def _read(self) -> bool:
        """Read on; False at the end of the log."""
        stretch = await run_in_threadpool(self._changes.behind, self._position)
        for change in stretch.changes:
            self._recent.append((change, _event(change.kind, change.position, change.as_json())))
        while len(self._recent) > self._kept:
            self._begin = self._recent.popleft()[0].position
        moved = stretch.position > self._position
        self._position = stretch.position
        if moved:
            self._news.set()
            self._news = asyncio.Event()
        return moved

    def _saved(self, _: Any) -> None:
        # This runs in the thread that saves; the loop may have ended meanwhile.
        if self._loop and self._listeners:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._woken.set)


def router(statuses: Follower, admissions: Follower) -> APIRouter:
    """The routes of both followers."""
    router = api_router(prefix="/api/v1")

    @router.get(
        "/events",
        tags=["tokens"],
        dependencies=[Depends(require_role(*READERS)), Depends(statuses.check_room)],
        response_class=EventSourceResponse,
        responses=_responses("status", _STATUS),
    )
    async def events(scope: ReaderScope, last_event_id: LastEventId = None) -> AsyncIterator[ServerSentEvent]:
        """Status changes as they happen: `status` with the settings as they are now, `reset` to read them all again.

        The id of each event is a position of the log. The answer ends after some minutes; a listener that comes back
        with the last id misses nothing. A change by time alone, such as an access token that expires, is no event.
        """
        async with aclosing(statuses.listen(last_event_id, scope)) as changes:
            async for change in changes:
                yield change

    @router.get(
        "/relay/changes",
        tags=["relay"],
        dependencies=[Depends(require_role(RELAY)), Depends(admissions.check_room)],
        response_class=EventSourceResponse,
        responses=_responses("changed", _CHANGED),
    )
    async def relay_changes(last_event_id: LastEventId = None) -> AsyncIterator[ServerSentEvent]:
        """Changes that end admissions: `changed` with relay users and profiles, `reset` for all of them.

        Ids and the end of the answer are as those of status changes. A renewal ends no admission.
        """
        async with aclosing(admissions.listen(last_event_id)) as changes:
            async for change in changes:
                yield change

    return router


def _event(kind: str, position: int, data: object) -> ServerSentEvent:
    # Encoded here once, and not by the framework for each listener.
    return ServerSentEvent(event=kind, id=str(position), raw_data=json.dumps(data))
