"""The TCP listener: TLS with the operator's certificate, read for each connection, and limits on every request's head.

Without TLS it listens on a loopback address; the configuration has checked this. A head that is too large or too slow
ends its connection, so a slow client costs little.
"""

from __future__ import annotations

import socket
import ssl
from asyncio import TimerHandle, Transport
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adapters.error_kinds import RETRY_AFTER_SECONDS
from adapters.http.public_url import public_url
from adapters.tls_certificate import TLSCertificate
from domain.errors import InvalidValue
from infrastructure.config.tables import Config

log = structlog.get_logger("mailtoken")

_HEAD_SECONDS = 20.0
_HEAD_OCTETS = 32 * 1024
_KEEP_ALIVE_SECONDS = 75
_CONNECTIONS = 2000
_BACKLOG = 1024


class HeadLimits(HttpToolsProtocol):
    """HTTP/1.1 with a limit on the size of a head and on the time until it is complete."""

    _deadline: TimerHandle | None = None
    _head_octets = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start the time limit of the first head."""
        super().connection_made(transport)
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
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._end(b"503 Service Unavailable\r\nRetry-After: %d" % RETRY_AFTER_SECONDS)
            return
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > _HEAD_OCTETS:
            self._end(b"431 Request Header Fields Too Large")
            return
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit of a head."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _is_between_requests(self) -> bool:
        cycle: Any = self.cycle
        return cycle is None or bool(cycle.response_complete)

    def _await_head(self) -> None:
        self._head_octets = 0
        self._deadline = self.loop.call_later(_HEAD_SECONDS, self._end, b"408 Request Timeout")

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self, status: bytes) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()


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
    settings = uvicorn.Config(
        app,
        http=HeadLimits,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
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
