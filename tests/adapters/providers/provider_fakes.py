"""What the provider tests need besides the practice provider: an exchange, a clock and a proxy."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from domain.outcomes import AcquisitionOutcome, Granted, Pending, ProviderReply, RenewalOutcome
from domain.ports import Reply

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class HeldClock:
    """Stands still until it is set forward."""

    def __init__(self, instant: datetime = NOON) -> None:
        self.instant = instant

    def now(self) -> datetime:
        return self.instant

    def elapsed(self) -> float:
        return (self.instant - NOON).total_seconds()

    def forward(self, **span: float) -> None:
        self.instant += timedelta(**span)


class KeptReply:
    """An exchange in memory; it may have a reply from the start, as after a crash. `kept` are all that came."""

    def __init__(self, reply: Reply | None = None) -> None:
        self.reply = reply
        self.kept: list[Reply] = []

    def keep(self, reply: Reply) -> None:
        self.reply = reply
        self.kept.append(reply)


def said_by(outcome: AcquisitionOutcome | RenewalOutcome) -> ProviderReply:
    """What the provider said with an outcome that gives no token."""
    assert not isinstance(outcome, Granted | Pending)
    assert outcome.reply is not None
    return outcome.reply


class FullDisk:
    """An exchange that can't keep anything."""

    reply = None

    def __init__(self) -> None:
        self.offered: list[Reply] = []

    def keep(self, reply: Reply) -> None:
        self.offered.append(reply)
        raise OSError(28, "No space left on device")


def reply_of(body: bytes | str, status: int = 200, **headers: str) -> Reply:
    """A reply received at noon; `retry_after="5"` is the header Retry-After."""
    named = tuple((name.replace("_", "-").title(), value) for name, value in headers.items())
    return Reply(status, named, body.encode() if isinstance(body, str) else body, NOON)


class ConnectProxy(socketserver.ThreadingTCPServer):
    """A proxy that knows CONNECT alone; `hosts` are the names it resolves by itself, to a loopback port.

    It takes `seconds` to open each tunnel.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, hosts: Mapping[str, int], seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.hosts = hosts
        self.seconds = seconds
        self.over = threading.Event()
        self.asked_for: list[str] = []
        self.authorizations: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Tunnel(socketserver.StreamRequestHandler):
    server: ConnectProxy

    def handle(self) -> None:
        target = self.rfile.readline().split()[1].decode()
        while header := self.rfile.readline().strip():
            name, _, value = header.decode().partition(": ")
            if name.lower() == "proxy-authorization":
                self.server.authorizations.append(value)
        self.server.asked_for.append(target)
        self.server.over.wait(self.server.seconds)
        host, _, port = target.rpartition(":")
        with socket.create_connection(("127.0.0.1", self.server.hosts.get(host, int(port)))) as upstream:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(upstream, self.connection), daemon=True)
            back.start()
            pump(self.connection, upstream)
            back.join(5)


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes until the source has no more."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@contextmanager
def connect_proxy(hosts: Mapping[str, int] | None = None, *, seconds: float = 0) -> Iterator[ConnectProxy]:
    """A proxy that serves while the block runs."""
    with ConnectProxy(hosts or {}, seconds) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.over.set()
            proxy.shutdown()
            thread.join(5)
