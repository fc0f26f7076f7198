"""Two connections made one: what either side sends goes to the other as it is, no faster than that one takes it.

Nothing is parsed and nothing is kept, so a session costs the same whatever it carries. When one side is gone the other
is told, in its protocol's words where they can't be mistaken for content.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from adapters.relay.lines import Wire

# What lies in each direction before its sender waits: enough for the two TLS layers to work in step.
_BUFFER_OCTETS = 256 * 1024
_TAIL_OCTETS = 512
# A client that says no more has gone, or listens for the rest; which of them it is shows only when it hears something.
_ANSWER_SECONDS = 60.0
_REST_SECONDS = 1.0
_FLUSH_SECONDS = 60.0

CLOSED = "the mail server has closed the connection"
IDLE = "nothing was said for too long"
DISMISSED = "the relay ends this session, connect again"


@dataclass(frozen=True)
class Moment:
    """Where a session was when it broke off: the last octets of the mail server, and whether it owes an answer."""

    tail: bytes
    is_owing: bool

    @property
    def is_in_a_line(self) -> bool:
        """Whether the mail server was in the middle of one."""
        return bool(self.tail) and not self.tail.endswith(b"\r\n")


class LastWords(Protocol):
    """What a protocol lets a server say without being asked."""

    def __call__(self, moment: Moment, why: str) -> bytes:
        """What the client is told before its connection is closed, CRLF included; nothing where it would mislead."""
        ...


async def splice(client: Wire, upstream: Wire, idle_seconds: float, last_words: LastWords) -> None:
    """Join a client and its mail server until both are gone. What was read and not used goes over first.

    A session in which nothing is said for `idle_seconds` ends. Cancelled, it takes leave of the client.
    """
    joint = _Joint(idle_seconds, last_words)
    joint.begin(client, upstream)
    try:
        await joint.ended
    except asyncio.CancelledError:
        joint.take_leave(DISMISSED)
        raise


class _Side(asyncio.Protocol):
    """One of the two connections, as the event loop sees it: what comes in here goes out at `other`."""

    __slots__ = ("_joint", "is_lost", "is_over", "other", "transport")

    def __init__(self, joint: _Joint, wire: Wire) -> None:
        self.transport = wire.transport
        self.is_over = False
        self.is_lost = wire.is_lost
        self.other: _Side
        self._joint = joint

    def data_received(self, data: bytes) -> None:
        """Hand it on."""
        if not self.other.is_lost:
            self.other.transport.write(data)
        self._joint.moved(self, data)

    def eof_received(self) -> bool:
        """This side says no more."""
        self.is_over = True
        self._joint.over(self)
        return self.transport.get_extra_info("ssl_object") is None

    def pause_writing(self) -> None:
        """This side does not keep up, so the other one waits."""
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """It does again."""
        self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """This side is gone."""
        self.is_over = self.is_lost = True
        self._joint.over(self)


class _Joint:
    """What the two sides share: who spoke last, since when nobody does, and how it ends."""

    def __init__(self, idle_seconds: float, last_words: LastWords) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_seconds = idle_seconds
        self._last_words = last_words
        self._client: _Side
        self._upstream: _Side
        self._is_owing = False
        self._tail = b""
        self._moved_at = self._loop.time()
        self._timer: asyncio.TimerHandle
        self._has_left = False
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def begin(self, client: Wire, upstream: Wire) -> None:
        """Take both connections over."""
        self._client, self._upstream = _Side(self, client), _Side(self, upstream)
        self._client.other, self._upstream.other = self._upstream, self._client
        self._timer = self._loop.call_later(self._idle_seconds, self._look)
        client.flush()
        _take_over(upstream, self._upstream)
        _take_over(client, self._client)

    def moved(self, side: _Side, data: bytes) -> None:
        """Note who spoke."""
        self._moved_at = self._loop.time()
        self._is_owing = side is self._client
        if not self._is_owing:
            self._tail = data[-_TAIL_OCTETS:]
        if self._client.is_over:
            self._look()

    def over(self, side: _Side) -> None:
        """A side says no more, or is gone."""
        if side is self._upstream:
            self.take_leave(CLOSED)
        elif side.is_lost:
            self._close()
        else:
            self._hear_the_rest()
        if self._client.is_lost and self._upstream.is_lost and not self.ended.done():
            self._timer.cancel()
            self.ended.set_result(None)

    def take_leave(self, why: str) -> None:
        """Tell the client, and end both connections once what was said is sent."""
        if self._has_left:
            return
        self._has_left = True
        if not self._client.is_lost:
            self._client.transport.write(self._last_words(Moment(self._tail, self._is_owing), why))
        self._close()

    def _hear_the_rest(self) -> None:
        """The client has said all it wanted to, and perhaps still listens."""
        if not self._upstream.is_lost and self._upstream.transport.can_write_eof():
            self._upstream.transport.write_eof()
        self._look()

    @property
    def _patience_seconds(self) -> float:
        """How long nothing may be said now."""
        if not self._client.is_over:
            return self._idle_seconds
        return _ANSWER_SECONDS if self._is_owing else _REST_SECONDS

    def _look(self) -> None:
        """End the session if nothing moved for too long; else look again when it may be so."""
        left = self._moved_at + self._patience_seconds - self._loop.time()
        if left > 0:
            self._again(left, self._look)
        elif self._client.is_over:
            self._close()
        else:
            self.take_leave(IDLE)

    def _close(self) -> None:
        """End both connections; one that does not take what is left to say is not waited for much longer."""
        self._client.transport.close()
        self._upstream.transport.close()
        self._again(_FLUSH_SECONDS, self._abort)

    def _abort(self) -> None:
        for side in (self._client, self._upstream):
            side.transport.abort()

    def _again(self, seconds: float, then: Callable[[], None]) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, then)


def _take_over(wire: Wire, side: _Side) -> None:
    """Let `side` have a connection, and hand on what was read of it and not used."""
    # uvloop allows almost nothing with a transport that is closed.
    if not wire.is_lost:
        side.transport.set_write_buffer_limits(high=_BUFFER_OCTETS)
        side.transport.set_protocol(side)
    left = wire.take()
    if left:
        side.data_received(left)
    if wire.is_lost:
        side.connection_lost(None)
    elif wire.has_input:
        side.eof_received()
    else:
        side.transport.resume_reading()
