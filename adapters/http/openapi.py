"""The OpenAPI document: what the routes say of themselves, and what is so for all of them, said once."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from adapters.http.models import Problem
from adapters.http.problems import MEDIA_TYPE

_OPEN = ("/healthz", "/readyz")
_WHY = {
    HTTPStatus.BAD_REQUEST: "The body is not UTF-8, or broke off.",
    HTTPStatus.UNAUTHORIZED: "Nobody says who asks, or the key or session is not good (any more).",
    HTTPStatus.FORBIDDEN: "The caller's role does not allow it; the same whether or not what it is about exists.",
    HTTPStatus.NOT_FOUND: "Nothing has this name.",
    HTTPStatus.REQUEST_TIMEOUT: "The body did not come in time.",
    HTTPStatus.CONFLICT: "Not in this state, or somebody else changed it at the same moment: nothing was changed.",
    HTTPStatus.PRECONDITION_FAILED: "It is not as If-Match says any more: nothing was changed.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A value is not acceptable; says which, and what is accepted.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "It was tried and did not work.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The provider, the mail server or the store can't be reached now: try again.",
}
_SECURITY = {
    "key": {"type": "http", "scheme": "bearer", "description": "A client's key, `id.secret`."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-mailtoken",
        "description": "A session of a browser; what changes something needs X-CSRF-Token besides.",
    },
}


def install(app: FastAPI) -> None:
    """Have the document of `app` say what is so for all its routes."""
    plain = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(plain())
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def operation_id(route: APIRoute) -> str:
    """The name of a route for those who generate a client: its module and its function."""
    return f"{route.endpoint.__module__.rpartition('.')[2]}_{route.endpoint.__name__}"


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    components = document["components"]
    schemas = components["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema()
    components["responses"] = {_name(status): _response(status) for status in _WHY}
    components["securitySchemes"] = _SECURITY
    # On the Unix socket the kernel says who asks.
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
    return {"description": _WHY[status], "content": {MEDIA_TYPE: {"schema": schema}}}


def _refusals(operation: dict[str, Any]) -> Iterator[HTTPStatus]:
    """What an operation may answer when it does not do what was asked."""
    parameters = operation.get("parameters", ())
    yield from (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY)
    yield from (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
    if parameters or "requestBody" in operation:
        yield from (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
    if "requestBody" in operation:
        yield from (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if any(one["name"].lower() == "if-match" for one in parameters):
        yield HTTPStatus.PRECONDITION_FAILED
