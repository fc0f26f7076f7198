"""The Unix socket, with mode 0660: the kernel names the peer of every connection."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import signal
import socket
import stat
import sys
from asyncio import Transport
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from adapters import descriptors
from adapters.http.api.access_token_fast_path import AccessTokenFastPath
from adapters.http.api.server_sent_events import Follower
from adapters.http.app import create_app
from adapters.http.middleware.authentication import AuthenticationMiddleware
from adapters.http.middleware.stopping import StoppingMiddleware
from adapters.http.principal import principal_of_uid
from adapters.http.public_url import FIRST_LINK_FILE, setup_url
from adapters.http.server.limited_connection import ConnectionCounts, LimitedConnection
from adapters.http.server.tcp import CONNECTIONS as TCP_CONNECTIONS
from adapters.http.server.tcp import ServerWithoutSignals, listen
from adapters.service_manager import keep_watchdog_quiet
from domain.errors import InvalidValue, StoreRefused
from infrastructure.config.paths import socket_name
from infrastructure.config.tables import Config, SocketTable
from infrastructure.new_file import replace_file
from infrastructure.service import Service
from infrastructure.unix_peer import peer_uid

log = structlog.get_logger("mailtoken")

_BACKLOG = 1024
_CONNECTIONS, _CONNECTIONS_OF_A_USER = 1000, 250
_SPARE_DESCRIPTORS = 256
_FIRST_REQUEST_SECONDS = 2.0
"""The time that a new connection has for its request when the server stops."""


@contextmanager
def listening_socket(config: Config) -> Iterator[socket.socket]:
    """The listening Unix socket of the service; its path is removed at the end.

    Raises:
        StoreRefused: a service answers there.
        InvalidValue: something else is at its path, or its group can't be used.
    """
    path = config.path(config.server.socket)
    with _listen(path, config.socket) as listener:
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


class SocketServer:
    """The HTTP server of the service at the Unix socket, and at `[server] listen` if the configuration has it."""

    def __init__(self, service: Service, listener: socket.socket) -> None:
        """Listen at `[server] listen`; `listener` is the Unix socket.

        Raises:
            InvalidValue: the certificate can't be used, or the address is taken.
        """
        self._service = service
        self._listener = listener
        api = create_app(service)
        app = AccessTokenFastPath(StoppingMiddleware(api), service.access_token_cache)
        self._server = _Server(
            api.state.followers,
            uvicorn.Config(
                app,
                http=_protocol(service.config.socket),
                lifespan="off",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=10,
            ),
        )
        self._tcp = listen(service.config, AuthenticationMiddleware(app, service))
        self._is_ended = False

    def stop(self) -> None:
        """Have `run` return once the requests under way are finished."""
        self._server.should_exit = True

    def run(self) -> None:
        """Serve until `stop`, SIGTERM or SIGINT; requests under way are finished.

        Raises:
            SystemExit: after a signal.
        """
        config = self._service.config
        # An exception from a signal's handler must not reach the event loop, which could not be closed then. uvicorn
        # has handlers of its own while it serves, and raises the signal again afterwards.
        _handle_signals(self._end)
        # The problem documents' handler has logged an unexpected error already; uvicorn would log it again.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        descriptors.allow(_CONNECTIONS + TCP_CONNECTIONS + _SPARE_DESCRIPTORS)
        log.info("serving", socket=str(config.path(config.server.socket)))
        _invite(self._service)
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            # uvicorn closes the sockets that it is given.
            runner.run(self._serve(self._listener.dup()))
        _handle_signals(lambda *_: sys.exit(0))
        if self._is_ended:
            sys.exit(0)

    def _end(self, *_: object) -> None:
        self._is_ended = True
        self.stop()

    async def _serve(self, listener: socket.socket) -> None:
        tickers = self._service.tickers
        beside = [
            asyncio.create_task(keep_watchdog_quiet(lambda: not any(ticker.is_dead for ticker in tickers))),
            asyncio.create_task(descriptors.keep_logging()),
        ]
        try:
            await _serve(self._server, listener, self._tcp)
        finally:
            for task in beside:
                task.cancel()


def _handle_signals(handler: Callable[..., object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


class _Server(uvicorn.Server):
    """Ends the streams of changes before it waits for the answers under way."""

    def __init__(self, followers: Sequence[Follower], config: uvicorn.Config) -> None:
        super().__init__(config)
        self._followers = followers

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then shut down as uvicorn does."""
        for follower in self._followers:
            follower.close()
        await super().shutdown(sockets)


async def _serve(
    server: uvicorn.Server, listener: socket.socket, tcp: tuple[ServerWithoutSignals, socket.socket] | None
) -> None:
    """Serve both listeners; the TCP listener ends with the Unix socket."""
    if tcp is None:
        await server.serve([listener])
        return
    other, other_listener = tcp
    serving = asyncio.create_task(other.serve([other_listener]))
    try:
        await server.serve([listener])
    finally:
        other.should_exit = True
        await serving


def _invite(service: Service) -> None:
    """Write a link that makes the first administrator into a file, if there is none and the service has pages.

    The log names the file, and has the link itself only on a terminal, as others may read a journal. The link works
    once, within an hour, and is void once there is an administrator; the file goes at the next start.
    """
    path = service.config.path(service.config.store.key_file).with_name(FIRST_LINK_FILE)
    link = service.administrators.first_link() if service.config.server.listen else None
    try:
        if link is None:
            path.unlink(missing_ok=True)
            return
        url = setup_url(service.config, link)
        replace_file(path, f"{url}\n".encode(), 0o600)
    except OSError as error:
        log.warning("first_link_not_written", file=str(path), why=error.strerror)
    else:
        log.warning("first_link_made", file=str(path), **({"link": url} if sys.stderr.isatty() else {}))


def _protocol(table: SocketTable) -> type[LimitedConnection]:
    class PeerProtocol(LimitedConnection):
        """Puts the principal into the state of every request of a connection.

        The connections of a user are limited, but for those of root and of the service's own user: other users can't
        keep them out.
        """

        counts = ConnectionCounts(_CONNECTIONS, _CONNECTIONS_OF_A_USER)

        def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
            self._uid = peer_uid(transport.get_extra_info("socket"))
            self.app_state: dict[str, Any] = {**self.app_state, "principal": principal_of_uid(self._uid, table)}
            super().connection_made(transport)

        def source(self, _: Transport) -> str | None:
            """The user who connects."""
            return None if self._uid in (0, os.geteuid()) else f"uid {self._uid}"

        def shutdown(self) -> None:
            """Close the connection when its answer is sent; one that was just accepted may still send its request."""
            if self.cycle is None:
                self.loop.call_later(_FIRST_REQUEST_SECONDS, super().shutdown)
            else:
                super().shutdown()

    return PeerProtocol


def _listen(path: Path, table: SocketTable) -> socket.socket:
    if _answers(path):
        raise StoreRefused("service_at_socket", path=str(path))
    check_socket_path(path)
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


def check_socket_path(path: Path) -> None:
    """Check that nothing is at the path but a socket, which a killed service left.

    Raises:
        InvalidValue: something else is there.
    """
    if os.path.lexists(path) and not stat.S_ISSOCK(path.lstat().st_mode):
        raise InvalidValue("[server] socket", "path_is_no_socket", path=str(path))


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
        raise InvalidValue("[socket] group", "unix_group_not_found", value=group) from None
    except PermissionError:
        raise InvalidValue("[socket] group", "unix_group_not_allowed", value=group) from None
