"""Every error of the HTTP surface as a problem document (RFC 9457).

`detail` is the sentence for a person, `code` and `fields` are the same for a program. An answer that asks to wait, 429
or 503, has the header Retry-After (RFC 9110 section 10.2.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from eventsourcing.persistence import PersistenceError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from adapters.error_kinds import retry_after_seconds, status_of
from adapters.texts.errors import error_text, sentence
from adapters.texts.wording import Surface
from domain.errors import Failed, InvalidValue, MailtokenError, Unreachable, facts

log = structlog.get_logger("mailtoken")

MEDIA_TYPE = "application/problem+json"


class HTTPError(HTTPException):
    """A refusal that belongs to HTTP itself, such as a body that is too large. It has a status of its own.

    It derives from the framework's exception: any other exception from reading a body would be answered with 400.
    """

    def __init__(
        self, status: HTTPStatus, code: str, *, headers: Mapping[str, str] | None = None, **fields: Any
    ) -> None:
        super().__init__(status, sentence(code, fields, Surface.API), dict(headers or {}))
        self.code = code
        self.fields = fields


def problem(error: Exception) -> JSONResponse:
    """The problem document of an error of the domain, the framework or the store. It holds no traceback."""
    match error:
        case MailtokenError():
            return _document(status_of(error), error.code, error_text(error, Surface.API), facts(error), waiting(error))
        case HTTPError():
            return _document(error.status_code, error.code, error.detail, error.fields, error.headers)
        case HTTPException():
            code = HTTPStatus(error.status_code).name.lower()
            return _document(error.status_code, code, error.detail, {}, error.headers)
        case RequestValidationError():
            return problem(_invalid_value(error))
        case PersistenceError():
            return problem(storage_error(error))
    log.error("request_failed", exc_info=error)
    return problem(Failed("unexpected_error", type=type(error).__name__))


def storage_error(error: PersistenceError) -> Unreachable:
    """The store's failure as an error of the domain; the log has the details."""
    log.error("storage_failed", error=str(error))
    return Unreachable("storage_failing", reason=str(error).partition("\n")[0])


def waiting(error: MailtokenError) -> dict[str, str]:
    """The header Retry-After; no header where waiting does not help."""
    seconds = retry_after_seconds(error)
    return {} if seconds is None else {"Retry-After": str(seconds)}


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""
    for kind in (MailtokenError, PersistenceError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _handle)


def _handle(_: Request, error: Exception) -> JSONResponse:
    return problem(error)


def _document(
    status: int, code: str, detail: str, fields: Mapping[str, Any], headers: Mapping[str, str] | None
) -> JSONResponse:
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _encodable(detail),
        "code": code,
        "fields": {name: _encodable(value) for name, value in fields.items()},
    }
    return JSONResponse(body, status, headers, MEDIA_TYPE)


def _encodable(value: Any) -> Any:
    """The value without halves of surrogate pairs, which a request may hold and UTF-8 can't."""
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _invalid_value(error: RequestValidationError) -> InvalidValue:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:]) or "body"
    if first["type"] == "extra_forbidden":
        return InvalidValue(field, "unknown_field")
    return InvalidValue(field, "not_acceptable", reason=str(first["msg"]).removeprefix("Value error, "))
