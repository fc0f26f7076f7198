"""The API over TCP on loopback, asked as whoever the test says: the listener puts them where the real ones do."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI
from listeners import in_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.http.app import create_app
from adapters.http.principal import ROLES, Principal
from adapters.http.server.unix_socket import _Server
from domain.scope import Scope as MachineScope
from infrastructure.service import Service

ROOT = Principal("root", frozenset(ROLES))


def principal_with(*roles: str, profiles: frozenset[str] | None = None, machines: str | None = None) -> Principal:
    """Somebody with these roles; `profiles` limits a client, and `machines`, a pattern, everybody else."""
    scopes = {role: MachineScope((machines,)) for role in roles} if machines else {}
    return Principal("somebody", frozenset(roles), profiles, scopes=scopes)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text) if self.text else None


class Api:
    """Asks as `principal`, until it is somebody else."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.principal = ROOT
        self.address = ("127.0.0.1", 0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        scope["state"]["principal"] = self.principal
        await self.app(scope, receive, send)

    def ask(
        self, method: str, target: str, body: object = None, principal: Principal | None = None, **headers: str
    ) -> Answer:
        """Ask one thing."""
        self.principal = principal or ROOT
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        given = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, target, given, {"Content-Type": "application/json", **sent})
        answer = connection.getresponse()
        # Of an answer that goes on for ever, nothing.
        text = "" if answer.headers.get("content-type", "").startswith("text/event-stream") else answer.read().decode()
        read = Answer(answer.status, dict(answer.getheaders()), text)
        connection.close()
        return read

    def get(self, target: str, **headers: str) -> Any:
        """The body of what has to be there."""
        answer = self.ask("GET", target, None, None, **headers)
        assert answer.status == 200, answer
        return answer.body


@contextmanager
def serve_api(service: Service, wrap: Callable[[FastAPI], ASGIApp] | None = None) -> Iterator[Api]:
    """The service's API, listening; behind what it is wrapped into, that says who asks in place of the test."""
    api = Api(create_app(service))
    config = uvicorn.Config(
        wrap(api.app) if wrap else api,
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server, listener = _Server(api.app.state.followers, config), socket.create_server(api.address)
    api.address = listener.getsockname()
    with in_thread(server, listener):
        yield api
