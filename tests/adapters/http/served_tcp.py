"""A service that `listeners.serve_tcp` serves, and a browser and a program that come to it."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fakes import FakeProvider
from ports import free_port
from served import a_service

from domain.ports import Clock
from infrastructure.access.administrators import Administrators
from infrastructure.access.password_hashing import PasswordHasher
from infrastructure.access.sessions import Sessions
from infrastructure.config.tables import ServerTable
from infrastructure.service import Service

COOKIE = "__Host-mailtoken"


@contextmanager
def open_tcp_service(directory: Path, clock: Clock, provider: FakeProvider, **server: Any) -> Iterator[Service]:
    """A service that is to listen on loopback."""
    with a_service(directory, clock, provider) as opened:
        table = ServerTable(**{"listen": f"127.0.0.1:{free_port()}", **server})
        vault, hasher = opened.relay_users._accounts._vault, PasswordHasher()
        sessions = Sessions(opened.events, clock, table.members_for)
        yield replace(
            opened,
            config=opened.config.model_copy(update={"server": table}),
            administrators=Administrators(opened.events, vault, clock, hasher, sessions),
            sessions=sessions,
        )


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    text: str

    def header(self, name: str) -> str | None:
        values = [value for one, value in self.headers if one.lower() == name]
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def body(self) -> Any:
        return json.loads(self.text)

    @property
    def set_cookies(self) -> dict[str, str]:
        """What each cookie is set to, its attributes behind it."""
        values = [value for one, value in self.headers if one.lower() == "set-cookie"]
        return {value.partition("=")[0]: value.partition("=")[2] for value in values}


@dataclass
class HttpClient:
    """Asks at a port; over TLS if there is a context."""

    port: int
    tls: ssl.SSLContext | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, method: str, target: str, body: str | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = (
            http.client.HTTPSConnection("localhost", self.port, context=self.tls)
            if self.tls
            else http.client.HTTPConnection("127.0.0.1", self.port)
        )
        connection.request(method, target, body, {**self.headers, **(headers or {})})
        answer = connection.getresponse()
        read = Answer(answer.status, answer.getheaders(), answer.read().decode())
        connection.close()
        return read

    @classmethod
    def with_key(cls, port: int, key: str, tls: ssl.SSLContext | None = None) -> HttpClient:
        return cls(port, tls, {"Authorization": f"Bearer {key}"})


class Browser(HttpClient):
    """Keeps cookies and says where its requests are made, as browsers do."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(port, tls)
        self.cookies: dict[str, str] = {}
        self.origin = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"

    def __call__(
        self, method: str, target: str, body: str | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        mine = {"Sec-Fetch-Site": "same-origin"}
        if method != "GET":
            mine["Origin"] = self.origin
        if self.cookies:
            mine["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = super().__call__(method, target, body, {**mine, **(headers or {})})
        for name, value in answer.set_cookies.items():
            shown, _, attributes = value.partition(";")
            if "Max-Age=0" in attributes:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = shown
        return answer

    def post(self, target: str, headers: Mapping[str, str] | None = None, **fields: str) -> Answer:
        """Post a form."""
        form = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return self("POST", target, urlencode(fields), form)

    def sign_in(self, name: str, password: str, **more: str) -> Answer:
        return self.post("/sign-in", None, name=name, password=password, **more)

    def csrf(self) -> str:
        """The token of this browser's session, as every page shows it."""
        page = self("GET", "/settings")
        found = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert found, page.text
        return found[1]
