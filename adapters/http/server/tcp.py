"""The TCP listener: TLS with the operator's certificate, read for each connection, and limits on connections.

Without TLS it listens on a loopback address; the configuration has checked this.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from starlette.types import ASGIApp

from adapters.http.middleware.forwarded import ForwardedHeaders
from adapters.http.public_url import public_url
from adapters.http.server.limited_connection import ConnectionCounts, with_limits
from adapters.tls_certificate import TLSCertificate
from domain.errors import InvalidValue
from infrastructure.config.tables import Config

log = structlog.get_logger("mailtoken")

_KEEP_ALIVE_SECONDS = 75
CONNECTIONS = 2000
_BACKLOG = 1024


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
        CONNECTIONS, table.connections_per_address, ForwardedHeaders(table.trusted_proxies).is_trusted
    )
    settings = uvicorn.Config(
        app,
        http=with_limits(counts, certificate),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=10,
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
