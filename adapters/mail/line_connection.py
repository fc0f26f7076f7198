"""One connection in an event loop: lines and octets in, octets out, with limits of size and time.

A line ends in CRLF only. A bare CR, a bare LF or a NUL is an error and never part of a line, so the two sides can't
disagree on where a command ends. The buffers of both directions are bounded: the sender waits while a buffer is full.
"""

from __future__ import annotations

import asyncio
import math
import os
import ssl
from contextlib import suppress
from functools import partial
from typing import cast

from adapters.implicit_tls import begin_implicit_tls, feed
from domain.profile_fields import is_loopback

# The size of the buffer in each direction; the sender waits while it is full.
_BUFFER_OCTETS = 64 * 1024
# libuv's clock counts milliseconds, so a timer may fire this much too early.
_TICK_SECONDS = 0.002
_FAREWELL_SECONDS = 3.0
_FAREWELL_OCTETS = 1024 * 1024
# The content type and the first octet of the version of a handshake record (RFC 8446 section 5.1).
_TLS_HANDSHAKE = b"\x16\x03"


class ProtocolError(Exception):
    """The other side sent a line that is too long, or that the protocol does not allow at this point."""


class PlaintextInjection(Exception):
    """Clear text came after the go-ahead for TLS (CVE-2024-34083): an attacker may have inserted it."""


class DeadlinePassed(TimeoutError):
    """The conversation as a whole took too long."""


class TooLong(ProtocolError):
    """A line is longer than the limit."""


class BareControl(ProtocolError):
    """A line contains a bare CR, a bare LF or a NUL."""


class UnexpectedTLS(ProtocolError):
    """The other side began a TLS handshake where a line in clear text was due."""


class LineConnection(asyncio.Protocol):
    """A connection that one task at a time reads from and writes to.

    Every wait has a time-out, which is for the whole line and does not start again with each octet. No wait lasts
    beyond `deadline`, an instant of the event loop's clock. Written octets are sent together when the task next waits
    for this connection, or flushes it.
    """

    __slots__ = (
        "_below",
        "_buffer",
        "_end",
        "_ended",
        "_error",
        "_full",
        "_loop",
        "_out",
        "_paused",
        "_scanned",
        "_timer",
        "_transport",
        "_waiter",
        "deadline",
        "is_lost",
    )

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._below: asyncio.Transport
        """The transport of the socket itself; `_transport` is above it under TLS."""
        self._buffer = bytearray()
        self._scanned = 0
        self._out: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._end = 0.0
        self._paused = False
        self._full = False
        self._ended = False
        self._error: Exception | None = None
        self.is_lost = False
        self.deadline = math.inf

    # Methods that the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the octets that arrive from now on."""
        self._below = cast("asyncio.Transport", transport)
        self._use(self._below)

    def data_received(self, data: bytes) -> None:
        """Keep the octets, and pause reading while the buffer is full."""
        self._buffer += data
        if len(self._buffer) > _BUFFER_OCTETS and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Note that the other side sends no more. It may still read, but not under TLS, which has no half-close."""
        self._ended = True
        self._wake()
        return not self.is_secure

    def pause_writing(self) -> None:
        """Note that the buffer of octets to send is full."""
        self._full = True

    def resume_writing(self) -> None:
        """Note that the buffer of octets to send has room again."""
        self._full = False
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """Note that the connection has ended, and wake the task that waits for it."""
        self.is_lost = self._ended = True
        self._error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    # The two ends

    @property
    def transport(self) -> asyncio.Transport:
        """The transport below, for a protocol that takes the connection over."""
        return self._transport

    @property
    def address(self) -> str:
        """The IP address of the other end; an IPv4 address in dotted form, also on an IPv6 socket."""
        return _plain_address(self._transport.get_extra_info("peername"))

    @property
    def peer(self) -> str:
        """The address and port at the other end."""
        port = self._transport.get_extra_info("peername")[1]
        return f"[{self.address}]:{port}" if ":" in self.address else f"{self.address}:{port}"

    @property
    def own_address(self) -> str:
        """The address of this end as an address literal (RFC 5321 section 4.1.3)."""
        own = _plain_address(self._transport.get_extra_info("sockname"))
        return f"[IPv6:{own}]" if ":" in own else f"[{own}]"

    @property
    def is_secure(self) -> bool:
        """Whether the connection is under TLS."""
        return self._transport.get_extra_info("ssl_object") is not None

    @property
    def is_private(self) -> bool:
        """Whether a secret may be sent: under TLS, or to this machine itself."""
        return self.is_secure or is_loopback(self.address)

    def until(self, seconds: float) -> float:
        """The instant, of the event loop's clock, at which a wait of `seconds` that begins now must end."""
        end = self._loop.time() + seconds
        return end if end < self.deadline else self.deadline

    # Reading

    @property
    def has_input(self) -> bool:
        """Whether a read would return or fail at once: octets have come, or the other side has gone."""
        return bool(self._buffer) or self._ended

    async def line(self, limit_octets: int, seconds: float) -> bytes:
        """The next line, without CRLF.

        Raises:
            TooLong: the line is longer than `limit_octets`.
            BareControl: the line contains a bare CR, a bare LF or a NUL.
            TimeoutError: the line was not complete in time.
            ConnectionError: the other side has gone.
        """
        line = self.ready_line(limit_octets)
        return await self.line_by(limit_octets, self.until(seconds)) if line is None else line

    async def line_by(self, limit_octets: int, end: float) -> bytes:
        """The next line as `line` returns it, complete by `end`, an instant of the event loop's clock."""
        while (line := self.ready_line(limit_octets)) is None:
            await self._more(end)
        return line

    def ready_line(self, limit_octets: int) -> bytes | None:
        """The next line if it is complete, else None; raises as `line` does."""
        buffer = self._buffer
        if not buffer:
            return None
        if buffer[0] == _TLS_HANDSHAKE[0] and buffer.startswith(_TLS_HANDSHAKE):
            raise UnexpectedTLS("a TLS handshake in place of a line")
        end = buffer.find(b"\n", self._scanned)
        if (end if end >= 0 else len(buffer)) > limit_octets + 1:
            raise TooLong(f"a line of more than {limit_octets} octets")
        if end < 0:
            self._scanned = len(buffer)
            return None
        line = bytes(buffer[:end])
        # The only CR is the last octet before the LF.
        if line.find(b"\r") != end - 1 or not line or b"\0" in line:
            raise BareControl("a line with a bare CR or LF, or a NUL in it")
        del buffer[: end + 1]
        self._scanned = 0
        return line[:-1]

    async def some(self, seconds: float) -> bytes:
        """The octets that have come, at least one.

        Raises:
            TimeoutError: no octet came in time.
            ConnectionError: the other side has gone.
        """
        if not self._buffer:
            end = self.until(seconds)
            while not self._buffer:
                await self._more(end)
        return self.take()

    async def octets(self, count: int, seconds: float) -> bytes:
        """Exactly `count` octets; raises as `some` does. The caller limits `count`."""
        end = self.until(seconds)
        while len(self._buffer) < count:
            await self._more(end)
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._scanned = 0
        return taken

    def take(self) -> bytes:
        """Take the octets that have come and were not read; may be empty."""
        taken = bytes(self._buffer)
        self._buffer.clear()
        self._scanned = 0
        return taken

    def put_back(self, data: bytes) -> None:
        """Put `data` back, so that it is read next."""
        self._buffer[:0] = data
        self._scanned = 0

    def interrupt(self, error: Exception) -> None:
        """Raise `error` in the task that waits to read; without effect while no task does."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    # Writing

    def write(self, data: bytes) -> None:
        """Send `data` with the next flush."""
        self._out.append(data)

    def flush(self) -> None:
        """Send the written octets. If the other side has gone they are lost, which only the next read reports."""
        if self._out:
            data, self._out = b"".join(self._out), []
            if not self.is_lost:
                self._transport.write(data)

    async def drain(self, seconds: float, *, or_input: bool = False) -> None:
        """Flush, and wait until the buffer has room.

        With `or_input` the arrival of octets ends the wait too, and what the other side sent before it closed can be
        read after an error.

        Raises:
            TimeoutError: the other side did not read in time.
            ConnectionError: the other side has gone.
        """
        self.flush()
        if or_input:
            # asyncio writes at once, and uvloop at the end of a turn of the loop.
            self._take_in_before_loss()
            await asyncio.sleep(0)
            self._take_in_before_loss()
        end = self.until(seconds) if self._full else math.inf
        while self._full and not (or_input and self.has_input):
            await self._wait(end)
        if self.is_lost:
            raise self._gone()

    # TLS, and the end

    async def start_tls(
        self,
        context: ssl.SSLContext,
        seconds: float,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        is_implicit: bool = False,
    ) -> None:
        """Begin TLS. Clear text that comes from now on breaks the handshake.

        With `is_implicit` TLS begins with the first octet, so the octets that have come belong to the handshake.

        Raises:
            PlaintextInjection: unread clear text came before the handshake.
            OSError: TLS failed; `ssl.SSLCertVerificationError` if the certificate is at fault.
            TimeoutError: the handshake took too long.
        """
        if self._buffer and not is_implicit:
            raise PlaintextInjection
        self.flush()
        clear = self._transport
        if self.is_lost or clear.is_closing():
            raise self._gone()
        end = self.until(seconds)
        seconds = end - self._loop.time()
        if seconds <= 0:
            raise self._timeout()
        start = partial(begin_implicit_tls, clear, self.take) if is_implicit else partial(self._loop.start_tls, clear)
        try:
            secured = await start(
                self,
                context,
                server_side=server_side,
                server_hostname=server_hostname,
                ssl_handshake_timeout=seconds,
                ssl_shutdown_timeout=_FAREWELL_SECONDS,
            )
        except ConnectionAbortedError:
            # A handshake that takes too long ends with the same exception.
            raise (self._timeout() if self._loop.time() + _TICK_SECONDS >= end else self._gone()) from None
        except BaseException:
            clear.abort()
            raise
        if secured is None:  # uvloop returns None if the connection was lost during the handshake
            raise self._gone()
        self._paused = False
        self._use(secured)

    def close(self) -> None:
        """Send the written octets, and close the connection."""
        self.flush()
        self._transport.close()

    async def part(self, octets: int = _FAREWELL_OCTETS, seconds: float = _FAREWELL_SECONDS) -> None:
        """Send the written octets, and close once the other side has stopped sending.

        Closing with unread octets resets the connection, and the last line sent is lost (RFC 1122 section 4.2.2.13).
        Up to `octets` are read on, for `seconds` at most, and no longer than a pause of some seconds.
        """
        end = self._loop.time() + seconds
        unheard = 0
        self.flush()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        with suppress(OSError):
            while unheard < octets:
                unheard += len(self.take())
                await self._more(min(end, self._loop.time() + max(_FAREWELL_SECONDS, seconds / 10)))
        self.close()

    def abort(self) -> None:
        """End the connection at once; unsent octets are lost."""
        self._out.clear()
        self._transport.abort()

    # Internals

    def _take_in_before_loss(self) -> None:
        """Take in what is left at the socket after a write has failed, before the event loop closes the socket."""
        below, opened = self._below, self._transport.get_extra_info("socket")
        # Under TLS the socket is closed, and this name of it None, a turn of the event loop before `is_lost`.
        if self.is_lost or opened is None or not below.is_closing():
            return
        with suppress(OSError):
            while octets := os.read(opened.fileno(), _BUFFER_OCTETS):
                if below is self._transport:
                    self._buffer += octets
                else:
                    feed(below, octets)

    def _use(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=_BUFFER_OCTETS)

    async def _more(self, end: float) -> None:
        """Wait until more octets have come."""
        self.flush()
        if self._ended:
            raise self._gone()
        # A closing transport delivers no more octets, and uvloop's raises if it is told to resume reading.
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()
        await self._wait(end)

    async def _wait(self, end: float) -> None:
        if self.is_lost:
            raise self._gone()
        if self._end != end or self._timer is None:
            self._arm(end)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _arm(self, end: float) -> None:
        """Have the timer fire by `end`. A timer set to fire earlier stays: most waits end before it fires."""
        self._end = end
        if self._timer is not None:
            if self._timer.when() <= end:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(end, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() + _TICK_SECONDS < self._end:
            self._arm(self._end)
        else:
            self._waiter.set_exception(self._timeout())

    def _timeout(self) -> TimeoutError:
        return DeadlinePassed() if self._loop.time() + _TICK_SECONDS >= self.deadline else TimeoutError()

    def _gone(self) -> ConnectionError:
        return ConnectionResetError() if isinstance(self._error, ConnectionResetError) else ConnectionAbortedError()


def _plain_address(name: tuple[str, int] | None) -> str:
    """The IP address of a socket's name, without a zone; "" if the socket has no name."""
    if not name:
        return ""
    host = name[0].partition("%")[0]
    return host.removeprefix("::ffff:") if "." in host else host
