"""The surfaces on which a person reads about a token: the command line, the pages and the API, of one service."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from listeners import serve_unix_socket
from served_api import ROOT, Answer, Api, serve_api
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.cli.app import run
from adapters.cli.service_socket import CommandError, error_of_problem
from adapters.http.session_cookie import BrowserSession
from infrastructure.service import Service


class _SignedIn:
    """Every request is of a person with every role."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] |= {"principal": ROOT, "session": BrowserSession(ROOT, "token")}
        await self._app(scope, receive, send)


def _signed_in(app: FastAPI) -> ASGIApp:
    return _SignedIn(app)


@dataclass
class Surfaces:
    """Reads from the surfaces of a service that runs in this process."""

    api: Api
    config: Path

    def command(self, *arguments: str) -> tuple[int, str]:
        """The exit code of a command, and all that it printed, in one line."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run(["--config", str(self.config), *arguments])
        return code, " ".join(f"{out.getvalue()} {err.getvalue()}".split())

    def status(self, name: str) -> dict[str, Any]:
        """The status of a setting, from the API."""
        status: dict[str, Any] = self.api.get(f"/api/v1/profiles/{name}/status")
        return status

    def ask(self, method: str, target: str, body: object = None) -> tuple[Answer, CommandError | None]:
        """The API's answer, and the error that a command would make of it."""
        answer = self.api.ask(method, f"/api/v1{target}", body)
        error = error_of_problem(answer.status, answer.text.encode()) if answer.status >= 400 else None
        return answer, error

    def page(self, target: str) -> str:
        """The text of a page, in one line."""
        answer = self.api.ask("GET", target)
        assert answer.status == 200, answer
        main = answer.text.partition("<main")[2]
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", main)).split())


@contextmanager
def surfaces_of(service: Service, config: Path) -> Iterator[Surfaces]:
    """The surfaces of this service, until the context ends."""
    with serve_unix_socket(service), serve_api(service, _signed_in) as api:
        yield Surfaces(api, config)


def detail_of(answer: Answer) -> str:
    """The sentence of a problem document."""
    return str(json.loads(answer.text)["detail"])
