"""The Unix socket: made with mode 0660, and every connection asked of the kernel whose it is."""

from __future__ import annotations

import grp
import logging
import os
import signal
import socket
import struct
import sys
from asyncio import Transport
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adapters.bootstrap import Service
from adapters.http.app import create_app
from adapters.http.callers import caller_of
from domain.errors import InvalidValue, StoreRefused
from infrastructure.config import SocketTable
from infrastructure.locate import socket_name

log = structlog.get_logger("mailtoken")

_BACKLOG = 1024
_UCRED = struct.Struct("3i")


def run(service: Service) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished."""
    path = service.config.path(service.config.server.socket)
    table = service.config.socket
    # uvicorn raises the signal again once it has shut down: then it must end the process in order, not at once.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    # Our own handler has logged an unexpected error already, without the framework's second telling.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    listener = _listen(path, table)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(service),
            http=_protocol(table),
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=10,
        )
    )
    log.info("serving", socket=str(path))
    try:
        server.run(sockets=[listener])
    finally:
        path.unlink(missing_ok=True)


def _protocol(table: SocketTable) -> type[HttpToolsProtocol]:
    class PeerProtocol(HttpToolsProtocol):
        """Puts who calls into every request of a connection."""

        def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            peer = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            _, uid, _ = _UCRED.unpack(peer)
            self.app_state: dict[str, Any] = {**self.app_state, "caller": caller_of(uid, table)}

    return PeerProtocol


def _listen(path: Path, table: SocketTable) -> socket.socket:
    if _answers(path):
        raise StoreRefused(f"a service is running at {path} already")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        with socket_name(path) as name:
            listener.bind(name)
    finally:
        os.umask(before)
    if table.group:
        _give_to_group(path, table.group)
    listener.listen(_BACKLOG)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, socket_name(path) as name:
        try:
            probe.connect(name)
        except OSError:
            return False
        return True


def _give_to_group(path: Path, group: str) -> None:
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except KeyError:
        raise InvalidValue("[socket] group", f"this machine has no group {group!r}") from None
    except PermissionError:
        raise InvalidValue("[socket] group", f"the service may not give its socket to the group {group!r}") from None
