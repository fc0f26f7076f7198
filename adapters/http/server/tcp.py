"""The TCP listener: TLS with the operator's certificate, read for each connection, and limits on heads and connections.

Without TLS it listens on a loopback address; the configuration has checked this. A head that is too large or too slow
ends its connection, so a slow client costs little. One address has only a share of the connections, and a look at the
service's health is answered also when all are taken.
"""

from __future__ import annotations

import socket
import ssl
from asyncio import TimerHandle, Transport
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adapters.error_kinds import RETRY_AFTER_SECONDS
from adapters.http.middleware.forwarded import ForwardedHeaders
from adapters.http.public_url import public_url
from adapters.tls_certificate import TLSCertificate
from domain.errors import InvalidValue
from infrastructure.access.login_throttle import source_of
from infrastructure.config.tables import Config

log = structlog.get_logger("mailtoken")

_HEAD_SECONDS = 20.0
_HEAD_OCTETS = 32 * 1024
_KEEP_ALIVE_SECONDS = 75
_CONNECTIONS = 2000
_SPARE_CONNECTIONS = 64
_SPARE_CONNECTIONS_OF_AN_ADDRESS = 8
_SPARE_HEAD_SECONDS = 2.0
"""Connections beyond a limit: so many may say, in so short a time, that they only want to know the service's health."""
_HEALTH = (b"/healthz", b"/readyz")
_BACKLOG = 1024


@dataclass
class ConnectionCounts:
    """The connections of a listener by source, and their limits: in all, and for each source.

    The connections of an exempt address, a proxy's, count only in all. uvicorn's own limit refuses every request alike,
    those about the service's health too.
    """

    in_all: int
    per_source: int
    is_exempt: Callable[[str], bool] = lambda _: False
    by_source: Counter[str] = field(default_factory=Counter)


class HeadLimits(HttpToolsProtocol):
    """HTTP/1.1 with limits on the size of a head, on the time until it is complete, and on connections."""

    counts: ClassVar[ConnectionCounts]
    _deadline: TimerHandle | None = None
    _head_octets = 0
    _source: str | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Count the connection, and start the time limit of its first head."""
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        if not self.counts.is_exempt(address):
            self._source = source_of(address)
            self.counts.by_source[self._source] += 1
        if self._beyond_all() > _SPARE_CONNECTIONS or self._beyond_own() > _SPARE_CONNECTIONS_OF_AN_ADDRESS:
            self._refuse()
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Count the octets of a head that is not complete."""
        if self._deadline is None and self._is_between_requests():
            self._await_head()
        super().data_received(data)
        if self._deadline is None:
            return
        self._head_octets += len(data)
        if self._head_octets > _HEAD_OCTETS:
            self._end(b"431 Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        """Refuse a too large head that arrived in one piece, and a request while there are too many connections."""
        if (self._beyond_all() >= 0 or self._beyond_own() > 0) and self.url not in _HEALTH:
            self._refuse()
            return
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > _HEAD_OCTETS:
            self._end(b"431 Request Header Fields Too Large")
            return
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit of a head, and count the connection no more."""
        self._stop_waiting()
        if self._source is not None:
            self.counts.by_source[self._source] -= 1
            if not self.counts.by_source[self._source]:
                del self.counts.by_source[self._source]
        super().connection_lost(exc)

    def _is_between_requests(self) -> bool:
        cycle: Any = self.cycle
        return cycle is None or bool(cycle.response_complete)

    def _beyond_all(self) -> int:
        return len(self.connections) - self.counts.in_all

    def _beyond_own(self) -> int:
        return 0 if self._source is None else self.counts.by_source[self._source] - self.counts.per_source

    def _await_head(self) -> None:
        self._head_octets = 0
        is_spare = self._beyond_all() >= 0 or self._beyond_own() > 0
        seconds = _SPARE_HEAD_SECONDS if is_spare else _HEAD_SECONDS
        self._deadline = self.loop.call_later(seconds, self._end, b"408 Request Timeout")

    def _refuse(self) -> None:
        self._end(b"503 Service Unavailable\r\nRetry-After: %d" % RETRY_AFTER_SECONDS)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self, status: bytes) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()


def head_limits(limits: ConnectionCounts) -> type[HeadLimits]:
    """The protocol of one listener, which counts with `limits`."""

    class LimitsOfAListener(HeadLimits):
        counts = limits

    return LimitsOfAListener


class ServerWithoutSignals(uvicorn.Server):
    """A second server in a process whose first one handles the signals for both."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signals."""
        yield


def listen(config: Config, app: ASGIApp) -> tuple[ServerWithoutSignals, socket.socket] | None:
    """The server and its listening socket; None if the configuration has no `listen`.

    Raises:
        InvalidValue: the certificate can't be used, or the address is taken.
    """
    table = config.server
    if table.listen is None:
        return None
    certificate = _certificate(config)
    counts = ConnectionCounts(
        _CONNECTIONS, table.connections_per_address, ForwardedHeaders(table.trusted_proxies).is_trusted
    )
    settings = uvicorn.Config(
        app,
        http=head_limits(counts),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=10,
        ssl_context_factory=(lambda *_: renewed_context(certificate)) if certificate else None,
    )
    listener = _bind(table.listen, *table.address)
    log.info("listening", listen=public_url(config))
    return ServerWithoutSignals(settings), listener


def _bind(name: str, host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise InvalidValue("[server] listen", "cannot_listen", address=name, reason=error.strerror) from None
    return listener


def _certificate(config: Config) -> TLSCertificate | None:
    table = config.server
    if not table.certificate_file or not table.key_file:
        return None
    return TLSCertificate(config.path(table.certificate_file), config.path(table.key_file), "[server]")


def renewed_context(certificate: TLSCertificate) -> ssl.SSLContext:
    """A context that reads the certificate anew for every handshake."""
    context = certificate.context()

    def choose(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        connection.context = certificate.context()

    context.sni_callback = choose
    return context
