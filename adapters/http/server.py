"""The Unix socket: made with mode 0660, and every connection asked of the kernel whose it is."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import signal
import socket
import struct
import sys
from asyncio import Transport
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adapters.bootstrap import Service
from adapters.http.app import create_app
from adapters.http.callers import caller_of
from adapters.http.events import Follower
from adapters.http.guard import Guard
from adapters.http.listener import BesideServer, listen, setup_url
from adapters.http.warm import WarmHandOuts
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
    api = create_app(service)
    app = WarmHandOuts(api, service.hand_outs)
    server = _Server(
        api.state.followers,
        uvicorn.Config(
            app,
            http=_protocol(table),
            lifespan="off",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=10,
        ),
    )
    try:
        beside = listen(service.config, Guard(app, service))
        log.info("serving", socket=str(path))
        _invite(service)
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(_serve(server, listener, beside))
    finally:
        path.unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """Lets those go who listen to changes before it waits for the answers under way."""

    def __init__(self, followers: Sequence[Follower], config: uvicorn.Config) -> None:
        super().__init__(config)
        self._followers = followers

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Go."""
        for follower in self._followers:
            follower.close()
        await super().shutdown(sockets)


async def _serve(
    server: uvicorn.Server, listener: socket.socket, beside: tuple[BesideServer, socket.socket] | None
) -> None:
    """Serve at both; when the first has heard a signal, the other one ends too."""
    if beside is None:
        await server.serve([listener])
        return
    other, other_listener = beside
    serving = asyncio.create_task(other.serve([other_listener]))
    try:
        await server.serve([listener])
    finally:
        other.should_exit = True
        await serving


def _invite(service: Service) -> None:
    """Say how the first administrator gets in, where browsers can come and there is none yet.

    The one secret that is ever logged: it is good for an hour, once, and for nothing when there is an administrator.
    """
    link = service.administrators.first_link() if service.config.server.listen else None
    if link:
        log.warning("no_administrator_yet", link=setup_url(service.config, link), why="open this link within the hour")


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
