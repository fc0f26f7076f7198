"""The tunnel between a client and its mail server: octets pass unchanged, no faster than the other side takes them.

The tunnel parses and keeps nothing, so the cost of a session does not depend on its content. If the mail server has
gone, the client gets a goodbye of its protocol where that can't be mistaken for content.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from adapters.mail.line_connection import LineConnection

# The buffer of each direction, beyond which its sender waits: enough to keep both TLS layers busy.
_BUFFER_OCTETS = 256 * 1024
_TAIL_OCTETS = 512
# The wait for the mail server's answer after a client has stopped sending. The client may have gone or may still read;
# only octets sent to it show which.
_ANSWER_SECONDS = 60.0
_REST_SECONDS = 1.0
_FLUSH_SECONDS = 60.0

CLOSED = "the mail server has closed the connection"
IDLE = "the session was idle for too long"
REVOKED = "the relay ends this session, connect again"


@dataclass(frozen=True)
class Moment:
    """The state of a tunnel at its end: the last octets of the mail server, and whether the server owes a reply."""

    tail: bytes
    is_owing: bool

    @property
    def is_in_a_line(self) -> bool:
        """Whether the mail server was in the middle of a line."""
        return bool(self.tail) and not self.tail.endswith(b"\r\n")


class Goodbye(Protocol):
    """The goodbye of a protocol."""

    def __call__(self, moment: Moment, why: str) -> bytes:
        """The last line to a client, CRLF included; empty where the client would take it for content."""
        ...


async def run_tunnel(client: LineConnection, upstream: LineConnection, idle_seconds: float, goodbye: Goodbye) -> None:
    """Pass octets between a client and its mail server until both have gone, beginning with the octets read already.

    The tunnel ends after `idle_seconds` without octets. If the tunnel is cancelled, the client gets a goodbye.
    """
    tunnel = _Tunnel(idle_seconds, goodbye)
    tunnel.begin(client, upstream)
    try:
        await tunnel.ended
    except asyncio.CancelledError:
        tunnel.take_leave(REVOKED)
        raise


class _Side(asyncio.Protocol):
    """One of the two connections, as a protocol of the event loop; its octets go to `other`."""

    __slots__ = ("_tunnel", "is_lost", "is_over", "other", "transport")

    def __init__(self, tunnel: _Tunnel, connection: LineConnection) -> None:
        self.transport = connection.transport
        self.is_over = False
        self.is_lost = connection.is_lost
        self.other: _Side
        self._tunnel = tunnel

    def data_received(self, data: bytes) -> None:
        """Pass the octets to the other side."""
        if not self.other.is_lost:
            self.other.transport.write(data)
        self._tunnel.moved(self, data)

    def eof_received(self) -> bool:
        """Note that this side sends no more."""
        self.is_over = True
        self._tunnel.over(self)
        return self.transport.get_extra_info("ssl_object") is None

    def pause_writing(self) -> None:
        """Pause reading from the other side, since the buffer of this side is full."""
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading from the other side."""
        self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """Note that this side has gone."""
        self.is_over = self.is_lost = True
        self._tunnel.over(self)


class _Tunnel:
    """The state that both sides share: which side sent last, when it did, and how the tunnel ends."""

    def __init__(self, idle_seconds: float, goodbye: Goodbye) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_seconds = idle_seconds
        self._goodbye = goodbye
        self._client: _Side
        self._upstream: _Side
        self._is_owing = False
        self._tail = b""
        self._moved_at = self._loop.time()
        self._timer: asyncio.TimerHandle
        self._has_left = False
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def begin(self, client: LineConnection, upstream: LineConnection) -> None:
        """Take over both connections."""
        self._client, self._upstream = _Side(self, client), _Side(self, upstream)
        self._client.other, self._upstream.other = self._upstream, self._client
        self._timer = self._loop.call_later(self._idle_seconds, self._look)
        client.flush()
        _take_over(upstream, self._upstream)
        _take_over(client, self._client)

    def moved(self, side: _Side, data: bytes) -> None:
        """Note which side has sent, and when."""
        self._moved_at = self._loop.time()
        self._is_owing = side is self._client
        if not self._is_owing:
            self._tail = data[-_TAIL_OCTETS:]
        if self._client.is_over:
            self._look()

    def over(self, side: _Side) -> None:
        """Handle the end of a side that has stopped sending or has gone; the client may still get the rest."""
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
        """Send the client a goodbye, and end both connections once all octets are sent."""
        if self._has_left:
            return
        self._has_left = True
        if not self._client.is_lost:
            self._client.transport.write(self._goodbye(Moment(self._tail, self._is_owing), why))
        self._close()

    def _hear_the_rest(self) -> None:
        """Pass the client's end of sending on to the mail server, and go on: the client may still read."""
        if not self._upstream.is_lost and self._upstream.transport.can_write_eof():
            self._upstream.transport.write_eof()
        self._look()

    @property
    def _timeout_seconds(self) -> float:
        """The time that the tunnel may be without octets in its present state."""
        if not self._client.is_over:
            return self._idle_seconds
        return _ANSWER_SECONDS if self._is_owing else _REST_SECONDS

    def _look(self) -> None:
        """End the tunnel if it was without octets for too long; else check again later."""
        left = self._moved_at + self._timeout_seconds - self._loop.time()
        if left > 0:
            self._again(left, self._look)
        elif self._client.is_over:
            self._close()
        else:
            self.take_leave(IDLE)

    def _close(self) -> None:
        """End both connections; a side that is slow to take the last octets has up to a minute."""
        self._client.transport.close()
        self._upstream.transport.close()
        self._again(_FLUSH_SECONDS, self._abort)

    def _abort(self) -> None:
        for side in (self._client, self._upstream):
            side.transport.abort()

    def _again(self, seconds: float, then: Callable[[], None]) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, then)


def _take_over(connection: LineConnection, side: _Side) -> None:
    """Make `side` the protocol of a connection, and pass on the octets that were read from it."""
    # uvloop rejects most calls on a closed transport.
    if not connection.is_lost:
        side.transport.set_write_buffer_limits(high=_BUFFER_OCTETS)
        side.transport.set_protocol(side)
    left = connection.take()
    if left:
        side.data_received(left)
    if connection.is_lost:
        side.connection_lost(None)
    elif connection.has_input:
        side.eof_received()
    else:
        side.transport.resume_reading()
