"""The listeners of a service within the test, each in a thread: its Unix socket and its TCP address."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from adapters.http.api.access_token_fast_path import AccessTokenFastPath
from adapters.http.app import create_app
from adapters.http.middleware.authentication import AuthenticationMiddleware
from adapters.http.server.tcp import listen
from adapters.http.server.unix_socket import _listen, _protocol, _Server
from infrastructure.service import Service


@contextmanager
def in_thread(server: uvicorn.Server, listener: socket.socket) -> Iterator[None]:
    """Run a server from a thread of this process until the context ends."""
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serve_unix_socket(service: Service) -> Iterator[Path]:
    """The service's API on its socket; gives the path."""
    table, path = service.config.socket, service.config.path(service.config.server.socket)
    app = create_app(service)
    config = uvicorn.Config(app, http=_protocol(table), lifespan="off", access_log=False, log_config=None)
    try:
        with in_thread(_Server(app.state.followers, config), _listen(path, table)):
            yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def serve_tcp(service: Service) -> Iterator[int]:
    """The service's API and pages at the address of its configuration; gives the port."""
    app = AccessTokenFastPath(create_app(service), service.access_token_cache)
    opened = listen(service.config, AuthenticationMiddleware(app, service))
    assert opened
    server, listener = opened
    with in_thread(server, listener):
        yield listener.getsockname()[1]


def listen_at(config: Path, port: int) -> None:
    """Have a configuration file name this port of loopback as its TCP address."""
    text = config.read_text()
    assert "[server]\n" in text
    config.write_text(text.replace("[server]\n", f'[server]\nlisten = "127.0.0.1:{port}"\n', 1))
