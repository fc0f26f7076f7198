"""Errors as RFC 9457 problem details: `detail` is the one line for the person who asked."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import structlog
from eventsourcing.persistence import PersistenceError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from domain.errors import (
    Conflict,
    Failed,
    InvalidValue,
    MailtokenError,
    NotFound,
    NotPermitted,
    Outdated,
    Refused,
    Unreachable,
)

log = structlog.get_logger("mailtoken")

MEDIA_TYPE = "application/problem+json"

_STATUS = {
    InvalidValue: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotPermitted: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Refused: HTTPStatus.CONFLICT,
    Outdated: HTTPStatus.PRECONDITION_FAILED,
    Conflict: HTTPStatus.CONFLICT,
    Unreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    Failed: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status_of(error: MailtokenError) -> HTTPStatus:
    """The status that says what a caller must do about an error."""
    found = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), None)
    return found or HTTPStatus.INTERNAL_SERVER_ERROR


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A problem document."""
    # A detail may repeat what was asked, also half of a surrogate pair, which UTF-8 has no octets for.
    shown = detail.encode(errors="backslashreplace").decode()
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": shown}
    return JSONResponse(body, status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of ours, and those of the framework, as a problem; no traceback leaves."""
    app.add_exception_handler(MailtokenError, _ours)
    app.add_exception_handler(PersistenceError, _store)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(Exception, _unexpected)


def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MailtokenError)
    return problem(status_of(error), str(error))


def _store(_: Request, error: Exception) -> JSONResponse:
    log.error("storage_failing", error=str(error))
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, f"storage failing: {str(error).splitlines()[0]}")


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "body"
    why = "nothing is called so here" if first["type"] == "extra_forbidden" else str(first["msg"])
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {why.removeprefix('Value error, ')}")


def _framework(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), error.headers)


def _unexpected(_: Request, error: Exception) -> JSONResponse:
    log.error("unexpected", exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, f"unexpected {type(error).__name__}: the service's log says more")
