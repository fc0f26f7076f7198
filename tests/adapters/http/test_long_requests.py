"""Whatever a request carries, the work for it grows with its length and not with the square, and so does the answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from effort import amount
from fakes import FakeClock, FakeProvider
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from listeners import serve_tcp
from served import ADMIN, SMTP
from served_tcp import Answer, Browser, open_tcp_service

from adapters.http import web
from adapters.http.app import create_app
from adapters.http.principal import ROLES
from domain.profile_fields import FIELDS
from domain.provider_fields import PROVIDER_FIELDS
from domain.secret import Secret
from infrastructure.queries.machine_filter import MachineFilter

PASSWORD = "a-password-in-clear"
SHORT, LONGER, MOST = 2_800, 10, 30
"""The octets of a short value, how many times as long the long one is, and how many times its work may be."""
ECHO = 4_096
"""The octets that the answer to the long value may have beyond that to the short one."""
IN_BODY, FORM_AGAIN = 6_000, 10
"""The octets of a short value in a body; a form that is shown again has each sign of it, escaped."""
FILLINGS = ("a", "0", " ", "é", "\0", '"', ".", ",", ":", "-", "@", "/", "[", "2026-11-22T", "a@", "a/", 'W/"a", ')
HEADERS = (
    "Authorization",
    "Cookie",
    "Origin",
    "Referer",
    "Accept",
    "Accept-Language",
    "Content-Type",
    "Forwarded",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "Sec-Fetch-Site",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "HX-Request",
    "X-CSRF-Token",
    "User-Agent",
)
STREAMS = ("/api/v1/events", "/api/v1/relay/changes")


@dataclass(frozen=True)
class Office:
    """Anna's browser, who has every role of a person, and the routes and the schema of the service it is at."""

    anna: Browser
    csrf: str
    routes: Sequence[APIRoute]
    schema: Mapping[str, Any]


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_tcp_service(tmp_path_factory.mktemp("office"), FakeClock(), FakeProvider()) as service:
        service.administrators.add("anna", [*ROLES[:3]], Secret(PASSWORD), ADMIN)
        with serve_tcp(service) as port:
            anna = Browser(port)
            assert anna.sign_in("anna", PASSWORD).status == 303
            app = create_app(service)
            yield Office(anna, anna.csrf(), [one for one in app.routes if isinstance(one, APIRoute)], app.openapi())


Ask = Callable[[str], Answer]
"""Asks with this text somewhere in the request."""


def spent(ask: Ask, text: str) -> tuple[float, int]:
    """The CPU seconds of this process for a request, which it serves itself, and the octets of the answer."""
    began = time.process_time()
    answer = ask(text)
    return time.process_time() - began, len(answer.text) + sum(len(value) for _, value in answer.headers)


def faults(ask: Ask, where: str, octets: int = SHORT, echo: int = ECHO) -> Iterator[str]:
    """What is wrong with the answers to short and long values of some of the fillings."""
    chosen = FILLINGS[len(where) % (every := amount(8, of=3)) :: every]
    for filling in chosen:
        yield from faults_of(ask, filling, octets, echo, where)


def faults_of(ask: Ask, filling: str, octets: int, echo: int = ECHO, where: str = "") -> Iterator[str]:
    """What is wrong with the answers to a short and a long value of this filling."""
    short, long = (filling * (size // len(quote(filling, safe=""))) for size in (octets, octets * LONGER))
    (little, small), (much, large) = spent(ask, short), spent(ask, long)
    if large > small + echo:
        yield f"{where} {filling!r}: {large} octets are answered, and to a tenth of it {small}"
    if much > MOST * little:
        # A collection of garbage, or another thread, may have come in between.
        little, much = (min(spent(ask, text)[0] for _ in range(5)) for text in (short, long))
        if much > MOST * little:
            yield f"{where} {filling!r}: {much:.3f} s, and for a tenth of it {little:.3f} s"


def asks(office: Office, method: str, path: str, body: object = None, **headers: str) -> Answer:
    given = {"X-CSRF-Token": office.csrf, **headers}
    if body is not None:
        given["Content-Type"] = "application/json"
    return office.anna(method, path, None if body is None else json.dumps(body), given)


def flat(dependant: Dependant) -> Iterator[str]:
    """The names of a route's query parameters."""
    yield from (parameter.alias for parameter in dependant.query_params)
    for one in dependant.dependencies:
        yield from flat(one)


def method_of(route: APIRoute) -> str:
    return min(route.methods or ())


def filled(path: str, text: str = "") -> str:
    """The path of a route with real names, or with this text for each."""
    names = {"machine": SMTP.partition("/")[0], "setting": SMTP.partition("/")[2], "name": "office", "kind": "oidc"}
    for part in [part[1:-1] for part in path.split("/") if part.startswith("{")]:
        path = path.replace(f"{{{part}}}", quote(text, safe="") if text else names.get(part, "csv"))
    return path


def test_a_long_query_parameter(office: Office) -> None:
    found = list[str]()
    for route in office.routes:
        if "GET" not in (route.methods or ()) or route.path in STREAMS:
            continue
        names = {*flat(route.dependant)} | (
            {one.name for one in fields(MachineFilter)} if route.path == "/machines" else set()
        )
        for name in sorted(names):

            def ask(text: str, path: str = filled(route.path), name: str = name) -> Answer:
                return asks(office, "GET", f"{path}?{name}={quote(text, safe='')}")

            found += faults(ask, f"{route.path}?{name}")
    assert "\n".join(found) == ""


def test_a_long_name_in_the_path(office: Office) -> None:
    found = list[str]()
    for route in office.routes:
        if "{" in route.path:
            parts = route.path.count("{")

            def ask(text: str, route: APIRoute = route) -> Answer:
                return asks(office, method_of(route), filled(route.path, text))

            # A page may show a name several times, and a head can't hold more of it.
            found += faults(ask, f"{method_of(route)} {route.path}", SHORT // parts, 4 * SHORT * LONGER)
    assert "\n".join(found) == ""


@pytest.mark.parametrize("path", ["/home", f"/api/v1/profiles/{SMTP}", "/sign-in", "/static/mailtoken.css"])
def test_a_long_header(office: Office, path: str) -> None:
    found = list[str]()
    for header in HEADERS:

        def ask(text: str, header: str = header) -> Answer:
            return asks(office, "GET", path, **{header: quote(text) if not text.isascii() or "\0" in text else text})

        found += faults(ask, header)
    assert "\n".join(found) == ""


def members(office: Office, schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The members of a body, each with its own schema, without what a reference names."""
    reference = schema.get("$ref")
    if reference:
        schema = office.schema["components"]["schemas"][reference.rpartition("/")[2]]
    yield from schema.get("properties", {}).items()


def long_member(schema: Mapping[str, Any], text: str) -> Any:
    """A value with this text, of the type that the member has."""
    written = json.dumps(schema)
    if '"array"' in written:
        return [text]
    return {text: text} if '"additionalProperties"' in written and '"string"' not in schema.get("type", "") else text


def test_a_long_member_of_a_json_body(office: Office) -> None:
    found = list[str]()
    for path, methods in office.schema["paths"].items():
        for method, described in methods.items():
            content = described.get("requestBody", {}).get("content", {}).get("application/json")
            if content is None:
                continue
            schema = content["schema"]
            name = schema.get("$ref", "").rpartition("/")[2]
            example = (office.schema["components"]["schemas"].get(name, {}).get("examples") or [{}])[0]
            for member, own in members(office, schema):

                def ask(text: str, method: str = method, path: str = path, member: str = member) -> Answer:
                    body = {**example, member: long_member(own, text)}  # noqa: B023 - asked within the round
                    return asks(office, method.upper(), filled(path), body)

                found += faults(ask, f"{method} {path} {member}", IN_BODY)
    assert "\n".join(found) == ""


@pytest.mark.parametrize("sign", ["[", '{"a":', "1", '"', "\\", "[],"])
def test_a_body_that_is_no_json(office: Office, sign: str) -> None:
    def ask(text: str) -> Answer:
        form = {"Content-Type": "application/json", "X-CSRF-Token": office.csrf}
        return office.anna("POST", "/api/v1/machines", text, form)

    assert [*faults_of(ask, sign, IN_BODY)] == []


NAMES = {
    name
    for path in Path(web.__path__[0]).glob("*.py")
    for name in re.findall(r"""form(?:\.get)?[\[(]"(\w+)\"""", path.read_text())
} | {*FIELDS, *PROVIDER_FIELDS, "password", "name", "code"}


@pytest.mark.thorough
def test_long_fields_of_a_form(office: Office) -> None:
    found = list[str]()
    for route in office.routes:
        if route.include_in_schema or "POST" not in (route.methods or ()) or route.path == "/sign-out":
            continue

        def ask(text: str, path: str = filled(route.path)) -> Answer:
            return office.anna.post(path, None, csrf=office.csrf, **dict.fromkeys(sorted(NAMES), text))

        octets = 1_000
        found += faults(ask, f"POST {route.path}", octets, octets * LONGER * FORM_AGAIN * len(NAMES))
    assert "\n".join(found) == ""
