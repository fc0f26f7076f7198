"""What the rigs of both sides of the relay share: an admission, and a client that speaks in lines."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from typing import Self

from adapters.mail.server_address import MailboxLogin, MailServerAddress
from adapters.relay.admission import Admission
from domain.catalogue import Protocol
from domain.secret import Secret

MAILBOX = "scan@contoso.com"
USER, PASSWORD = "mfp-3", "correct horse"
TOKEN = "EwBgA8l6BAAU-practice-access-token.0123456789"
PATIENCE_SECONDS = 60


def admission(
    protocol: Protocol,
    port: int,
    *,
    user: str = USER,
    profile: str | None = None,
    server: str = "localhost",
    tls: str = "starttls",
    mailbox: str = MAILBOX,
    access_token: Secret = Secret(TOKEN),  # noqa: B008 - immutable
    timeout_seconds: float = 15,
    expires_at: datetime | None = None,
    generation: int = 1,
    sender: str | None = None,
    normalizes: bool = False,
) -> Admission:
    """An admission to a mailbox of a server on this machine."""
    login = MailboxLogin(MailServerAddress(server, port, tls, protocol), mailbox, access_token, timeout_seconds)
    until = expires_at or datetime.now(UTC) + timedelta(hours=1)
    return Admission(
        user, profile or f"office-mfp/{protocol}", login, until, generation, sender=sender, normalizes=normalizes
    )


class LineClient:
    """A program that knows only a password, as a test plays it; `address` is where it comes from."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS, source_address=(address, 0))
        self._unread = b""
        if tls:
            self.start_tls(tls)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def start_tls(self, tls: ssl.SSLContext) -> None:
        assert not self._unread
        self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")

    def send(self, octets: bytes) -> None:
        self.sock.sendall(octets)

    def hear(self, beginning: str = "") -> str:
        """Read one line, which has to begin so; it is without CRLF."""
        while b"\n" not in self._unread:
            data = self.sock.recv(65536)
            assert data, f"closed where {beginning!r} was expected, after {self._unread!r}"
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\r\n")
        text = line.decode()
        assert text.startswith(beginning), f"{text!r} instead of {beginning!r}"
        return text

    def ask(self, line: str, beginning: str = "") -> str:
        """Send a line and hear the answer, which has to begin so."""
        self.send(line.encode() + b"\r\n")
        return self.hear(beginning)

    def hear_out(self) -> bytes:
        """All that comes until the relay hangs up."""
        try:
            while data := self.sock.recv(65536):
                self._unread += data
        except ConnectionError:
            pass
        left, self._unread = self._unread, b""
        return left
