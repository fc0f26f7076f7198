"""One connection in an event loop: lines and octets in, within limits of size and time; octets out, within bounds.

A line ends in CRLF and nothing else. A bare CR, a bare LF or a NUL is an error and never part of a line, so what one
side takes for one command is never two at the other. What is read and not used, and what is written and not sent,
is bounded: then the other side waits.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any, cast

from adapters.mail.connection import Garbled, SaidBeforeTLS
from domain.profile import is_loopback

# So much may lie in each direction before the sender waits.
_BUFFER_OCTETS = 64 * 1024
# libuv's clock has milliseconds, so a timer may ring by so much too early.
_TICK_SECONDS = 0.002
_FAREWELL_SECONDS = 3.0
_FAREWELL_OCTETS = 1024 * 1024


class TooLong(Garbled):
    """A line is longer than the limit."""


class BareControl(Garbled):
    """A line has a CR, LF or NUL in it where none may be."""


class Wire(asyncio.Protocol):
    """A connection that one task at a time reads from and writes to.

    Every wait has its seconds, counted for the whole line and not anew with each octet. What is written is sent,
    all at once, when the task next waits for this wire, or flushes it.
    """

    __slots__ = (
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
        "is_lost",
    )

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
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

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """What comes from now on is kept."""
        self._use(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        """Keep it, and read no more for now if it is much."""
        self._buffer += data
        if len(self._buffer) > _BUFFER_OCTETS and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The other side sends no more; it may still listen, but not under TLS, which has no half-close."""
        self._ended = True
        self._wake()
        return not self.is_secure

    def pause_writing(self) -> None:
        """Much is waiting to be sent."""
        self._full = True

    def resume_writing(self) -> None:
        """There is room again."""
        self._full = False
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """It is over."""
        self.is_lost = self._ended = True
        self._error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    # Who is at the other end

    @property
    def transport(self) -> asyncio.Transport:
        """The transport below, for whoever takes the connection over."""
        return self._transport

    @property
    def address(self) -> str:
        """The IP address at the other end; an IPv4 address is written as one, also on an IPv6 socket."""
        return _plain_address(self._transport.get_extra_info("peername"))

    @property
    def own_address(self) -> str:
        """Our end as an address literal (RFC 5321 section 4.1.3)."""
        own = _plain_address(self._transport.get_extra_info("sockname"))
        return f"[IPv6:{own}]" if ":" in own else f"[{own}]"

    @property
    def is_secure(self) -> bool:
        """Whether this is TLS."""
        return self._transport.get_extra_info("ssl_object") is not None

    @property
    def is_private(self) -> bool:
        """Whether a secret may be sent: under TLS, or to this machine itself."""
        return self.is_secure or is_loopback(self.address)

    # Reading

    @property
    def has_input(self) -> bool:
        """Whether something is there to be read, or never will be."""
        return bool(self._buffer) or self._ended

    async def line(self, limit_octets: int, seconds: float) -> bytes:
        """The next line, without CRLF.

        Raises:
            TooLong: it is longer than `limit_octets`.
            BareControl: there is a bare CR or LF, or a NUL in it.
            TimeoutError: there was no whole line in time.
            ConnectionError: the other side has gone.
        """
        line = self.ready_line(limit_octets)
        if line is None:
            end = self._loop.time() + seconds
            while line is None:
                await self._more(end)
                line = self.ready_line(limit_octets)
        return line

    def ready_line(self, limit_octets: int) -> bytes | None:
        """The next line if all of it has come; raises as `line` does."""
        buffer = self._buffer
        end = buffer.find(b"\n", self._scanned)
        if end > limit_octets + 1 or (end < 0 and len(buffer) > limit_octets + 1):
            raise TooLong(f"a line of more than {limit_octets} octets")
        if end < 0:
            self._scanned = len(buffer)
            return None
        line = bytes(buffer[: end - 1 if end else 0])
        if buffer[end - 1 if end else 0] != 0x0D or b"\r" in line or b"\0" in line:
            raise BareControl("a line with a bare CR or LF, or a NUL in it")
        del buffer[: end + 1]
        self._scanned = 0
        return line

    async def some(self, seconds: float) -> bytes:
        """Whatever has come, at least one octet.

        Raises:
            TimeoutError: nothing came in time.
            ConnectionError: the other side has gone.
        """
        if not self._buffer:
            end = self._loop.time() + seconds
            while not self._buffer:
                await self._more(end)
        return self.take()

    async def octets(self, count: int, seconds: float) -> bytes:
        """Exactly `count` octets; raises as `some` does. The caller limits `count`."""
        end = self._loop.time() + seconds
        while len(self._buffer) < count:
            await self._more(end)
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._scanned = 0
        return taken

    def take(self) -> bytes:
        """All that has come and was not read, maybe nothing."""
        taken = bytes(self._buffer)
        self._buffer.clear()
        self._scanned = 0
        return taken

    def put_back(self, data: bytes) -> None:
        """Have `data` read again, before anything else."""
        self._buffer[:0] = data
        self._scanned = 0

    def interrupt(self, error: Exception) -> None:
        """Whoever waits to read gets `error`; without effect while nobody does."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    # Writing

    def write(self, data: bytes) -> None:
        """Send this with the next flush."""
        self._out.append(data)

    def flush(self) -> None:
        """Send what was written. What is sent to somebody who has gone is lost; reading tells."""
        if self._out:
            data, self._out = b"".join(self._out), []
            if not self.is_lost:
                self._transport.write(data)

    async def drain(self, seconds: float, *, or_input: bool = False) -> None:
        """Flush, and wait until there is room for more; with `or_input` also until there is something to read.

        Raises:
            TimeoutError: the other side takes nothing.
            ConnectionError: the other side has gone.
        """
        self.flush()
        end = self._loop.time() + seconds
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
        """Begin TLS. What comes in clear from now on breaks the handshake.

        With `is_implicit` it was TLS from the first octet, so what has come is a part of the handshake.

        Raises:
            SaidBeforeTLS: something came in clear and was not read.
            OSError: no TLS; `ssl.SSLCertVerificationError` if the certificate is at fault.
            TimeoutError: it took too long.
        """
        early = self.take() if is_implicit else b""
        if self._buffer:
            raise SaidBeforeTLS
        self.flush()
        clear = self._transport
        if self.is_lost or clear.is_closing():
            raise self._gone()
        end = self._loop.time() + seconds
        try:
            secured = await self._handshake(
                early,
                clear,
                self,
                context,
                server_side=server_side,
                server_hostname=server_hostname,
                ssl_handshake_timeout=seconds,
                ssl_shutdown_timeout=_FAREWELL_SECONDS,
            )
        except ConnectionAbortedError:
            # It is also what a handshake ends with that takes too long.
            raise (TimeoutError() if self._loop.time() + _TICK_SECONDS >= end else self._gone()) from None
        except BaseException:
            clear.abort()
            raise
        if secured is None:  # what uvloop returns if the connection was lost meanwhile
            raise self._gone()
        self._paused = False
        self._use(secured)

    def close(self) -> None:
        """Send what was written, and end the connection in order."""
        self.flush()
        self._transport.close()

    async def part(self) -> None:
        """Send what was written, and close once the other side has stopped sending, or soon.

        Closing with octets unread would take back our last words (RFC 1122 section 4.2.2.13).
        """
        end = self._loop.time() + _FAREWELL_SECONDS
        unheard = 0
        self.flush()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        with suppress(OSError):
            while unheard < _FAREWELL_OCTETS:
                unheard += len(self.take())
                await self._more(end)
        self.close()

    def abort(self) -> None:
        """End the connection at once; what was not sent is lost."""
        self._out.clear()
        self._transport.abort()

    # Inside

    async def _handshake(self, early: bytes, *arguments: Any, **options: Any) -> asyncio.Transport | None:
        """The loop's own `start_tls`, with octets that came before it could be called."""
        if not early:
            return await self._loop.start_tls(*arguments, **options)
        starting = self._loop.create_task(self._loop.start_tls(*arguments, **options))
        # Its first step puts its own protocol in our place, and has that one begin before this call comes.
        await asyncio.sleep(0)
        self._loop.call_soon(_feed, cast("asyncio.BufferedProtocol", self._transport.get_protocol()), early)
        return await starting

    def _use(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=_BUFFER_OCTETS)

    async def _more(self, end: float) -> None:
        """Wait until more has come."""
        self.flush()
        if self._ended:
            raise self._gone()
        # A transport that is on its way out has no more to read, and uvloop's would raise if asked to.
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
        """See to it that the timer rings by `end`. One that rings earlier is left alone: most waits end before it."""
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
            self._waiter.set_exception(TimeoutError())

    def _gone(self) -> ConnectionError:
        return ConnectionResetError() if isinstance(self._error, ConnectionResetError) else ConnectionAbortedError()


def _feed(protocol: asyncio.BufferedProtocol, octets: bytes) -> None:
    """Let a protocol receive what the transport does not have any more."""
    while octets:
        room = memoryview(protocol.get_buffer(len(octets)))
        count = min(len(room), len(octets))
        room[:count] = octets[:count]
        protocol.buffer_updated(count)
        octets = octets[count:]


def _plain_address(name: tuple[str, int] | None) -> str:
    """The IP address of a socket's name, without a zone; "" if there is none."""
    if not name:
        return ""
    host = name[0].partition("%")[0]
    return host.removeprefix("::ffff:") if "." in host else host
