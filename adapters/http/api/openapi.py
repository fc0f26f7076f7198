"""The OpenAPI document: the framework's, with the errors and the authentication that all routes share."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from adapters.http.api.models.common import Problem
from adapters.http.problems import MEDIA_TYPE

_OPEN = ("/healthz", "/readyz")
_WHY = {
    HTTPStatus.BAD_REQUEST: "The body is not UTF-8, or broke off.",
    HTTPStatus.UNAUTHORIZED: "The request has no valid key or session.",
    HTTPStatus.FORBIDDEN: "The caller's role does not allow it; the answer does not show whether the thing exists.",
    HTTPStatus.NOT_FOUND: "Nothing has this name.",
    HTTPStatus.REQUEST_TIMEOUT: "The body did not arrive in time.",
    HTTPStatus.CONFLICT: "The state forbids it, or somebody else changed it at the same moment: nothing was changed.",
    HTTPStatus.PRECONDITION_FAILED: "It was changed since the entity tag in If-Match: nothing was changed now.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A value is not acceptable; `fields` names it.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many tries: wait, then try again.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The service tried and failed.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The provider, the mail server or the store can't be reached now: try again.",
}
_ASKS_TO_WAIT = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_RETRY_AFTER = {
    "description": "The seconds to wait before the next try (RFC 9110 section 10.2.3).",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
}
_SECURITY = {
    "key": {"type": "http", "scheme": "bearer", "description": "A client's key, `id.secret`."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-mailtoken",
        "description": "A browser's session; a request that changes something needs X-CSRF-Token too.",
    },
}


def api_router(*, prefix: str = "", tags: list[str | Enum] | None = None) -> APIRouter:
    """A router whose operations have the names that the document shows."""
    return APIRouter(prefix=prefix, tags=tags, generate_unique_id_function=_operation_id)


def install(app: FastAPI) -> None:
    """Add the errors and the authentication that all routes share to the document of `app`."""
    plain = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(plain())
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _operation_id(route: APIRoute) -> str:
    """The name of a route for generated clients: its module and its function."""
    return f"{route.endpoint.__module__.rpartition('.')[2]}_{route.endpoint.__name__}"


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    components = document["components"]
    schemas = components["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema()
    components["responses"] = {_name(status): _response(status) for status in _WHY}
    components["securitySchemes"] = _SECURITY
    # On the Unix socket the kernel names the peer.
    document["security"] = [{}, *({name: list[str]()} for name in _SECURITY)]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            statuses = [HTTPStatus.SERVICE_UNAVAILABLE] if path in _OPEN else _refusals(operation)
            for status in statuses:
                operation["responses"][str(status.value)] = {"$ref": f"#/components/responses/{_name(status)}"}
    return document


def _name(status: HTTPStatus) -> str:
    return status.name.title().replace("_", "")


def _response(status: HTTPStatus) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    response: dict[str, Any] = {"description": _WHY[status], "content": {MEDIA_TYPE: {"schema": schema}}}
    if status in _ASKS_TO_WAIT:
        response["headers"] = {"Retry-After": _RETRY_AFTER}
    return response


def _refusals(operation: dict[str, Any]) -> Iterator[HTTPStatus]:
    """The statuses with which an operation may refuse or fail."""
    parameters = operation.get("parameters", ())
    yield from (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY)
    yield from (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
    if parameters or "requestBody" in operation:
        yield from (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
    if "requestBody" in operation:
        yield from (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if any(one["name"].lower() == "if-match" for one in parameters):
        yield HTTPStatus.PRECONDITION_FAILED
