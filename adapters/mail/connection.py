"""A connection to a mail server that sends and receives lines, within limits of time and size.

Every operation ends within the time-out of the profile, and all of them together by one deadline, however slowly
a server drips. What came in clear text is never taken for something said under TLS. The standard library's mail
clients do neither: their time-out starts again with each byte, and they drop what was buffered before TLS unseen.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from adapters.mail import tls
from domain.errors import InvalidValue

LINE_LIMIT_OCTETS = 8192
RECEIVED_LIMIT_OCTETS = 256 * 1024
_PIECE_OCTETS = 64 * 1024


class Garbled(Exception):
    """What the server sent makes no sense at this point of the protocol, or is too long."""


class SaidBeforeTLS(Exception):
    """Something came in clear text after the go-ahead for TLS (CVE-2024-34083): somebody may have put it there."""


class DeadlinePassed(TimeoutError):
    """The conversation as a whole took too long."""


class Limits:
    """`timeout_seconds` for one operation, `deadline_seconds` from now for all of them."""

    def __init__(self, timeout_seconds: float, deadline_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._deadline = monotonic() + deadline_seconds

    def end(self, at_most_seconds: float | None = None) -> float:
        """When, on the monotonic clock, an operation that begins now has to be over."""
        return min(monotonic() + (at_most_seconds or self._timeout_seconds), self._deadline)

    def left(self, end: float) -> float:
        """Seconds until `end`.

        Raises:
            DeadlinePassed: the conversation's time is over.
            TimeoutError: this operation's time is over.
        """
        now = monotonic()
        if now >= self._deadline:
            raise DeadlinePassed
        if now >= end:
            raise TimeoutError
        return end - now

    @contextmanager
    def watch(self, sock: socket.socket, end: float) -> Iterator[None]:
        """Give a socket's next operation until `end`; raises as `left` does."""
        sock.settimeout(self.left(end))
        try:
            yield
        except TimeoutError:
            self.left(end)
            raise


def resolve(host: str, port: int, limits: Limits) -> list[str]:
    """The IP addresses of `host`, in the order to try.

    Raises:
        socket.gaierror: there are none.
        TimeoutError: the resolver does not answer. It has no time-out of its own, so a thread waits for it.
    """
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(address[0]) for *_, address in found)))
        except OSError as error:
            answers.put(error)
        except UnicodeError:
            answers.put(socket.gaierror(socket.EAI_NONAME, "not a host name"))

    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=limits.left(limits.end()))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    return answer


class Connection:
    """One socket, whose owner closes it."""

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        self._sock = sock
        self._limits = limits
        self._buffer = bytearray()
        self._received_octets = 0

    @classmethod
    def open(cls, addresses: Sequence[str], port: int, limits: Limits) -> Connection:
        """Connect to the first address that accepts.

        Raises:
            OSError: none does; the last one's error.
        """
        failure: OSError = ConnectionRefusedError()
        for address in addresses:
            try:
                return cls(socket.create_connection((address, port), limits.left(limits.end())), limits)
            except DeadlinePassed:
                raise
            except OSError as error:
                failure = error
        raise failure

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    @property
    def peer(self) -> str:
        """The address and port at the other end."""
        host, port = self._sock.getpeername()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def own_address(self) -> str:
        """Our end as an address literal (RFC 5321 section 4.1.3)."""
        host = self._sock.getsockname()[0].partition("%")[0]
        return f"[IPv6:{host}]" if ":" in host else f"[{host}]"

    @property
    def is_private(self) -> bool:
        """Whether a secret may be sent: under TLS, or to this machine itself."""
        if isinstance(self._sock, ssl.SSLSocket):
            return True
        try:
            return ipaddress.ip_address(self._sock.getpeername()[0]).is_loopback
        except (ValueError, IndexError):
            return False

    def secure(self, context: ssl.SSLContext, host: str) -> str:
        """Begin TLS with `host`; returns a description of it.

        Raises:
            SaidBeforeTLS: there is clear text that has not been read.
            OSError: no TLS; `ssl.SSLCertVerificationError` if the certificate is at fault.
        """
        if self._buffer:
            raise SaidBeforeTLS
        with self._limits.watch(self._sock, self._limits.end()):
            # A certificate has no trailing dot in its names (RFC 6125 section 6.4).
            secured = context.wrap_socket(self._sock, server_hostname=host.rstrip("."))
        self._sock = secured
        return tls.describe(secured)

    def send_line(self, line: bytes) -> None:
        """Send one line; CRLF is added here, and only here.

        Raises:
            InvalidValue: the line would be two.
        """
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise InvalidValue("command", "it has a CR, LF or NUL in it")
        self.send(line + b"\r\n")

    def send(self, data: bytes) -> None:
        """Send it all, in pieces that each have the time-out of an operation."""
        for start in range(0, len(data), _PIECE_OCTETS):
            with self._limits.watch(self._sock, self._limits.end()):
                self._sock.sendall(data[start : start + _PIECE_OCTETS])

    def line(self, at_most_seconds: float | None = None) -> bytes:
        """The next line, without its end. `at_most_seconds` is in place of the time-out of an operation.

        Raises:
            ConnectionAbortedError: the server has closed the connection.
            TimeoutError: there was no whole line in time.
            Garbled: the line, or the conversation, is too long.
        """
        end = self._limits.end(at_most_seconds)
        while (length := self._buffer.find(b"\n")) < 0 and len(self._buffer) <= LINE_LIMIT_OCTETS:
            self._receive(end)
        if not 0 <= length <= LINE_LIMIT_OCTETS:
            raise Garbled(f"a line of more than {LINE_LIMIT_OCTETS} octets")
        line = bytes(self._buffer[:length])
        del self._buffer[: length + 1]
        return line.removesuffix(b"\r")

    def _receive(self, end: float) -> None:
        with self._limits.watch(self._sock, end):
            data = self._sock.recv(4096)
        if not data:
            raise ConnectionAbortedError
        self._received_octets += len(data)
        if self._received_octets > RECEIVED_LIMIT_OCTETS:
            raise Garbled(f"more than {RECEIVED_LIMIT_OCTETS} octets")
        self._buffer += data
