"""Changes as they happen: server-sent events (WHATWG HTML section 9.2), whose ids are positions of the log.

One follower reads the log for all who listen, and only while somebody does. It keeps the last changes; each listener
has nothing but its own position. Who is so slow, or was away for so long, that what comes next is gone is told `reset`:
read the status again. So neither listeners nor events cost memory that grows.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from adapters.http.callers import Reader, Relay
from domain.errors import Unreachable
from infrastructure.changes import Changes

log = structlog.get_logger("mailtoken")

KEPT = 500
_LISTENERS = 500
_HEARTBEAT_SECONDS = 15.0
_LONGEST_SECONDS = 600.0
"""Then an answer ends; who comes back with the last id is asked again who they are, and whether they still may."""
_LOOK_AGAIN_SECONDS = 1.0
"""How soon what another node has written is found; what this one writes is at once."""

LastEventId = Annotated[
    int | None, Header(ge=0, description="Go on behind this event; from now on without it.", examples=[17])
]
_STATUS = {"at": "2026-11-02T08:00:00Z", "event": "Token.Renewed", "statuses": [], "removed": []}
_CHANGED = {"users": ["printers"], "profiles": []}


def _stream_of(kind: str, example: object) -> dict[int | str, dict[str, Any]]:
    """The answer of a route that tells events of this kind, for its description."""
    # Goes into `itemSchema`, a word of OpenAPI 3.2 that a document of 3.1 may have too and older readers pass over.
    one = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "pattern": "^[0-9]+$"},
            "event": {"enum": ["ready", kind, "reset"]},
            "data": {"type": "string", "contentMediaType": "application/json"},
        },
        "required": ["id", "event", "data"],
    }
    text = f"id: 17\nevent: {kind}\ndata: {json.dumps(example)}\n\n"
    return {200: {"content": {"text/event-stream": {"itemSchema": one, "example": text}}}}


class Follower:
    """The one reader of the log, and what it read last."""

    def __init__(
        self,
        changes: Changes,
        heartbeat_seconds: float = _HEARTBEAT_SECONDS,
        longest_seconds: float = _LONGEST_SECONDS,
        kept: int = KEPT,
    ) -> None:
        self._changes = changes
        self._heartbeat_seconds = heartbeat_seconds
        self._longest_seconds = longest_seconds
        self._kept = kept
        self._recent: deque[tuple[int, bytes]] = deque()
        self._begin = self._position = 0
        self._listeners = 0
        self._following: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._news = asyncio.Event()
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        changes.events.listeners.append(self._saved)

    async def listen(self, after: int | None) -> AsyncIterator[bytes]:
        """Everything behind the position `after`, or from now on, until the listener goes or its time is over."""
        clock = asyncio.get_running_loop().time
        end_at = clock() + self._longest_seconds
        async with self._being_one():
            cursor = self._position if after is None else after
            if after is None:
                yield _event("ready", cursor, {})
            while not self._closed and clock() < end_at:
                news, end = self._news, self._position
                if not self._begin <= cursor <= end:
                    cursor = end
                    yield _event("reset", end, {})
                for text in [text for position, text in self._recent if position > cursor]:
                    yield text
                cursor = end
                try:
                    async with asyncio.timeout(self._heartbeat_seconds):
                        await news.wait()
                except TimeoutError:
                    yield b": nothing new\n\n"

    def check_room(self) -> None:
        """See whether one more may listen.

        Raises:
            Unreachable: there are too many.
        """
        if self._listeners >= _LISTENERS:
            raise Unreachable("too many listen to changes already: try again later")

    def close(self) -> None:
        """Let every listener go: the service ends."""
        self._closed = True
        self._news.set()

    @asynccontextmanager
    async def _being_one(self) -> AsyncIterator[None]:
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
                # The store may fail, and an event that was changed may be anything; those who listen stay.
                log.error("status_changes_failing", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                    await self._woken.wait()
            self._woken.clear()

    async def _read(self) -> bool:
        """Read on; False at the end of the log."""
        stretch = await run_in_threadpool(self._changes.behind, self._position)
        for change in stretch.changes:
            self._recent.append((change.position, _event(change.kind, change.position, change.as_json())))
        while len(self._recent) > self._kept:
            self._begin, _ = self._recent.popleft()
        moved = stretch.position > self._position
        self._position = stretch.position
        if moved:
            self._news.set()
            self._news = asyncio.Event()
        return moved

    def _saved(self, _: Any) -> None:
        # In the thread that saves; the loop may have ended meanwhile.
        if self._loop and self._listeners:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._woken.set)


def router(statuses: Follower, admissions: Follower) -> APIRouter:
    """The routes of what each of them follows."""
    router = APIRouter(prefix="/api/v1")

    @router.get("/events", tags=["tokens"], response_class=StreamingResponse, responses=_stream_of("status", _STATUS))
    async def events(_: Reader, last_event_id: LastEventId = None) -> StreamingResponse:
        """Status changes as they happen: `status` with the settings as they are now, `reset` to read them all again.

        The id of each is a position of the log; the answer ends after some minutes, and who comes back with the last id
        misses nothing. What only time brings, such as an access token that expires, is no event.
        """
        return _streamed(statuses, last_event_id)

    @router.get(
        "/relay/changes", tags=["relay"], response_class=StreamingResponse, responses=_stream_of("changed", _CHANGED)
    )
    async def relay_changes(_: Relay, last_event_id: LastEventId = None) -> StreamingResponse:
        """What ends admissions, as it happens: `changed` with relay users and profiles, `reset` for all of them.

        Ids and the end of the answer are as those of status changes. A renewal ends no admission.
        """
        return _streamed(admissions, last_event_id)

    return router


def _streamed(follower: Follower, last_event_id: int | None) -> StreamingResponse:
    follower.check_room()
    return StreamingResponse(
        follower.listen(last_event_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _event(kind: str, position: int, data: object) -> bytes:
    return f"id: {position}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()
