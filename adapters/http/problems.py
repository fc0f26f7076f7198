"""Errors as RFC 9457 problem details: `detail` is the one line for the person who asked."""

from __future__ import annotations

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
    Refused,
    Unreachable,
)

log = structlog.get_logger("mailtoken")

_STATUS = {
    InvalidValue: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotPermitted: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Refused: HTTPStatus.CONFLICT,
    Conflict: HTTPStatus.CONFLICT,
    Unreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    Failed: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def problem(status: int, detail: str) -> JSONResponse:
    """A problem document."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Answer every error of ours, and those of the framework, as a problem; no traceback leaves."""
    app.add_exception_handler(MailtokenError, _ours)
    app.add_exception_handler(PersistenceError, _store)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(Exception, _unexpected)


def _ours(_: Request, error: Exception) -> JSONResponse:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), None)
    return problem(status or HTTPStatus.INTERNAL_SERVER_ERROR, str(error))


def _store(_: Request, error: Exception) -> JSONResponse:
    log.error("storage_failing", error=str(error))
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, f"storage failing: {str(error).splitlines()[0]}")


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "body"
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {first['msg']}")


def _framework(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail))


def _unexpected(_: Request, error: Exception) -> JSONResponse:
    log.error("unexpected", exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, f"unexpected {type(error).__name__}: the service's log says more")
