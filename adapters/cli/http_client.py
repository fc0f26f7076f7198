"""The service's API for the commands: JSON over HTTP on its Unix socket."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from adapters.cli.service_socket import (
    TIMEOUT_SECONDS,
    CommandError,
    connect,
    connection_lost,
    error_of_problem,
    profile_path,
)
from adapters.error_kinds import ExitCode
from adapters.json_array import objects_of

MAIL_TIMEOUT_SECONDS = 1200.0
"""A mail server may take ten minutes after the final dot (RFC 5321 section 4.5.3.2.6)."""

Object = dict[str, Any]
"""An object of JSON."""


class _UnixConnection(http.client.HTTPConnection):
    # Not requests, which has no Unix sockets and takes longer to import than most commands to run.
    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("mailtoken", timeout=timeout_seconds)
        self._path = path
        self._timeout_seconds = timeout_seconds

    def connect(self) -> None:
        self.sock: socket.socket = connect(self._path, self._timeout_seconds)


class ServiceConnection:
    """A client of the service that listens at `path`. Each error is a `CommandError` with its exit code."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, target: str, query: Mapping[str, str | None] | None = None) -> Any:
        """GET; `query` parameters without a value are left out."""
        return self._ask("GET", target, query=(query or {}).items())

    def objects(self, target: str) -> Iterator[Object]:
        """GET of an array that has an object a line; each is read when it is wanted."""
        connection = _UnixConnection(self._path, TIMEOUT_SECONDS)
        try:
            connection.request("GET", target, headers={"Accept": "application/json", "Connection": "close"})
            answer = connection.getresponse()
            if answer.status >= 400:
                raise error_of_problem(answer.status, answer.read())
            yield from objects_of(answer)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise connection_lost(str(error) or type(error).__name__) from None
        finally:
            connection.close()

    def post(self, target: str, body: Object | None = None, *, if_match: str | None = None) -> Any:
        """POST; with `if_match` only if the resource still has this entity tag (RFC 9110 section 13.1.1)."""
        return self._ask("POST", target, json.dumps(body) if body is not None else None, if_match=if_match)

    def patch(self, target: str, body: Object) -> Any:
        """PATCH."""
        return self._ask("PATCH", target, json.dumps(body))

    def put(self, target: str, body: Object) -> Any:
        """PUT."""
        return self._ask("PUT", target, json.dumps(body))

    def delete(self, target: str) -> Any:
        """DELETE."""
        return self._ask("DELETE", target)

    def test(self, profile: str, to: str | None) -> Object:
        """Run a connection test; returns its report."""
        target = f"{profile_path(profile)}/test"
        report: Object = self._ask("POST", target, json.dumps({"to": to}), timeout_seconds=MAIL_TIMEOUT_SECONDS)
        return report

    def send(self, message: bytes, profile: str | None, sender: str | None, recipients: Iterable[str]) -> Object:
        """Send a message; returns the report."""
        envelope = [("profile", profile), ("sender", sender), *(("recipient", one) for one in recipients)]
        report: Object = self._ask(
            "POST",
            "/api/v1/send",
            message,
            query=envelope,
            content_type="message/rfc822",
            timeout_seconds=MAIL_TIMEOUT_SECONDS,
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
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Any:
        given = [(name, value) for name, value in query if value is not None]
        address = f"{target}?{urlencode(given, errors='replace')}" if given else target
        headers = {"Accept": "application/json", "Connection": "close"}
        if body is not None:
            headers["Content-Type"] = content_type
        if if_match is not None:
            headers["If-Match"] = f'"{if_match}"'
        connection = _UnixConnection(self._path, timeout_seconds)
        try:
            connection.request(method, address, body, headers)
            answer = connection.getresponse()
            return _read(answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise connection_lost(str(error) or type(error).__name__) from None
        finally:
            connection.close()


def _read(status: int, body: bytes) -> Any:
    if status >= 400:
        raise error_of_problem(status, body)
    try:
        return json.loads(body) if body else None
    except ValueError:
        raise CommandError(
            ExitCode.FAILED, f"the service answered {status} with something that is not JSON: is it of this version?"
        ) from None
