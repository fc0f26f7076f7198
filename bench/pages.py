"""The pages of a large fleet: what the service takes to make them, beside reading every row they are counted from."""

from __future__ import annotations

import http.client
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from adapters.bootstrap import Service, initialise, open_service
from adapters.http.app import create_app
from adapters.http.guard import Guard
from adapters.http.listener import listen
from adapters.http.sessions import COOKIE
from bench.rounds import Figure, Size, compare
from domain.administrator import ROLES
from infrastructure.config import load_config

_ROWS = """
SELECT profile.name, profile.machine, profile.settings, token.* FROM profile JOIN token ON token.id = profile.token_id
"""
_SETTINGS = 10_000
_MILLISECONDS = 1000


def settings_page(directory: Path, size: Size) -> Iterator[Figure]:
    """The Settings page, first and searched, from the request's first byte to the answer's last."""
    made = initialise(directory)
    text = made.config.read_text()
    address = _free_address()
    made.config.write_text(text.replace("[server]\n", f'[server]\nlisten = "{address}"\n', 1))
    with open_service(load_config(made.config)) as service:
        _fill(service)
        with _served(service) as cookie, closing(sqlite3.connect(directory / "mailtoken.db")) as rows:
            for name, path in (("first page", "/settings"), ("a search", "/settings?q=mfp-00077")):
                yield compare(
                    f"Settings of {_SETTINGS:,} settings, {name}",
                    ours=lambda path=path: _request(address, path, cookie),  # type: ignore[misc]
                    peer=lambda: _read(rows),
                    peer_name="the same rows as JSON",
                    rounds=size.rounds,
                    unit="ms",
                    more_is_better=False,
                    target=None,
                    limited_by="counting every setting each time; 300 ms are promised",
                )


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        host, port = free.getsockname()
        return f"{host}:{port}"


def _fill(service: Service) -> None:
    for number in range(_SETTINGS // 3):
        service.settings.add_machine(f"mfp-{number:05}", "generic", "administrator:root")
    service.administrators.add("root", ROLES, None, "administrator:root")


@contextmanager
def _served(service: Service) -> Iterator[str]:
    listening = listen(service.config, Guard(create_app(service), service))
    assert listening
    server, listener = listening
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"{COOKIE}={service.administrators.sign_in_trusted('root').reveal()}"
    finally:
        server.should_exit = True
        thread.join()


def _request(address: str, path: str, cookie: str) -> float:
    with closing(http.client.HTTPConnection(address)) as connection:
        connection.connect()
        started = time.perf_counter()
        connection.request("GET", path, headers={"Cookie": cookie})
        answer = connection.getresponse()
        document = answer.read()
        assert answer.status == 200, document
        return (time.perf_counter() - started) * _MILLISECONDS


def _read(connection: sqlite3.Connection) -> float:
    started = time.perf_counter()
    json.dumps(connection.execute(_ROWS).fetchall())
    return (time.perf_counter() - started) * _MILLISECONDS
