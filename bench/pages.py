"""The pages of a large fleet: what the service takes to make them, beside reading every setting's rows."""

from __future__ import annotations

import http.client
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from listeners import listen_at, serve_tcp
from ports import free_port

from adapters.bootstrap import open_service
from adapters.http.session_cookie import COOKIE
from adapters.installation import initialise
from bench.material import retrieve_all
from bench.rounds import Figure, Size, compare
from domain.administrator import ROLES
from domain.secret import Secret
from infrastructure.config.load import load_config
from infrastructure.service import Service

_ROWS = """
SELECT profile.name, profile.machine, profile.settings, token.* FROM profile JOIN token ON token.id = profile.token_id
"""
_SETTINGS, _CLIENTS = 10_000, 100
_PAGES = {
    "Settings": "/settings",
    "Settings, searched": "/settings?q=mfp-00077",
    "a setting": "/settings/mfp-00077/smtp",
    "Attention": "/attention",
    "History": "/history",
    "Providers": "/providers",
    "Clients": "/clients",
    "Administrators": "/administrators",
}
_MILLISECONDS = 1000
_BY, _PASSWORD = "administrator:root", Secret("correct horse battery")
_CONFIG = """
[providers.contoso]
kind = "microsoft"
tenant = "contoso.com"
client_id = "0dd7b2a5"
"""


def pages(directory: Path, size: Size) -> Iterator[Figure]:
    """Every page, from the request's first byte to the answer's last; Attention on a very bad day too."""
    made, port = initialise(directory), free_port()
    listen_at(made.config, port)
    with made.config.open("a") as config:
        config.write(_CONFIG)
    with open_service(load_config(made.config)) as service:
        _fill(service)
        with serve_tcp(service), closing(sqlite3.connect(directory / "mailtoken.db")) as rows:
            session = service.administrators.sign_in("root", _PASSWORD, "127.0.0.1")
            assert isinstance(session, Secret)
            cookie = f"{COOKIE}={session.reveal()}"

            def page(name: str, path: str) -> Figure:
                return compare(
                    f"{name}, of {_SETTINGS:,} settings",
                    ours=lambda: _request(port, path, cookie),
                    peer=lambda: _read(rows),
                    peer_name="the rows of every setting as JSON",
                    rounds=size.rounds,
                    unit="ms",
                    more_is_better=False,
                    target=None,
                    limited_by="what is shown or counted; 300 ms are promised",
                )

            for name, path in _PAGES.items():
                yield page(name, path)
            for status in service.tokens.statuses():
                service.tokens.alarms[status.profile.token_id] = "reply_in_doubt"
            yield page("Attention, all wanted", "/attention")


def _fill(service: Service) -> None:
    profiles = list[str]()
    while len(profiles) < _SETTINGS:
        profiles += service.settings.add_machine(f"mfp-{len(profiles) // 3:05}", "generic", _BY)
    retrieve_all(service.events, service.clients._vault, service.clock.now())
    for number in range(_CLIENTS):
        service.clients.add(f"client-{number}", profiles[number::_CLIENTS][:10], None, _BY)
    service.administrators.add("root", ROLES, _PASSWORD, _BY)


def _request(port: int, path: str, cookie: str) -> float:
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.connect()
        started = time.perf_counter()
        connection.request("GET", path, headers={"Cookie": cookie})
        answer = connection.getresponse()
        document = answer.read()
        assert answer.status == 200, document
        return (time.perf_counter() - started) * _MILLISECONDS


def _read(connection: sqlite3.Connection) -> float:
    started = time.perf_counter()
    json.dumps(connection.execute(_ROWS).fetchall(), default=bytes.hex)
    return (time.perf_counter() - started) * _MILLISECONDS
