"""The service as the commands see it: JSON over HTTP on its Unix socket."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from adapters.cli.wire import PATIENCE_SECONDS, CommandError, ExitCode, broken_off, connect, profile_path, refusal

MAIL_PATIENCE_SECONDS = 1200.0
"""A mail server may take ten minutes after the final dot (RFC 5321 section 4.5.3.2.6)."""

Object = dict[str, Any]
"""An object as it came in JSON."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, patience_seconds: float) -> None:
        super().__init__("mailtoken", timeout=patience_seconds)
        self._path = path
        self._patience_seconds = patience_seconds

    def connect(self) -> None:
        self.sock: socket.socket = connect(self._path, self._patience_seconds)


class Client:
    """Asks the service that listens at `path`. A refusal is a `CommandError` with the exit code for it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, target: str, query: Mapping[str, str | None] | None = None) -> Any:
        """Read something."""
        return self._ask("GET", target, query=(query or {}).items())

    def post(self, target: str, body: Object | None = None, *, if_match: str | None = None) -> Any:
        """Have something done; with `if_match` only if what is there still has this entity tag."""
        return self._ask("POST", target, json.dumps(body) if body is not None else None, if_match=if_match)

    def patch(self, target: str, body: Object) -> Any:
        """Have something changed."""
        return self._ask("PATCH", target, json.dumps(body))

    def put(self, target: str, body: Object) -> Any:
        """Have something be as it is given."""
        return self._ask("PUT", target, json.dumps(body))

    def delete(self, target: str) -> Any:
        """Have something removed."""
        return self._ask("DELETE", target)

    def test(self, profile: str, to: str | None) -> Object:
        """Have a connection tested; the report."""
        target = f"{profile_path(profile)}/test"
        report: Object = self._ask("POST", target, json.dumps({"to": to}), patience_seconds=MAIL_PATIENCE_SECONDS)
        return report

    def send(self, message: bytes, profile: str | None, sender: str | None, recipients: Iterable[str]) -> Object:
        """Have a message sent; the report."""
        envelope = [("profile", profile), ("sender", sender), *(("recipient", one) for one in recipients)]
        report: Object = self._ask(
            "POST",
            "/api/v1/send",
            message,
            query=envelope,
            content_type="message/rfc822",
            patience_seconds=MAIL_PATIENCE_SECONDS,
        )
        return report

    def _ask(
        self,
        method: str,
        target: str,
        body: str | bytes | None = None,
        *,
        query: Iterable[tuple[str, str | None]] = (),
        content_type: str = "application/json",
        if_match: str | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> Any:
        given = [(name, value) for name, value in query if value is not None]
        address = f"{target}?{urlencode(given, errors='replace')}" if given else target
        headers = {"Accept": "application/json", "Connection": "close"}
        if body is not None:
            headers["Content-Type"] = content_type
        if if_match is not None:
            headers["If-Match"] = f'"{if_match}"'
        connection = _UnixConnection(self._path, patience_seconds)
        try:
            connection.request(method, address, body, headers)
            answer = connection.getresponse()
            return _read(answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise broken_off(str(error) or type(error).__name__) from None
        finally:
            connection.close()


def _read(status: int, body: bytes) -> Any:
    if status >= 400:
        raise refusal(status, body)
    try:
        return json.loads(body) if body else None
    except ValueError:
        raise CommandError(
            ExitCode.FAILED, f"the service answered {status} with something that is no JSON: is it of this version?"
        ) from None
