"""Who may: every route of the API, for every role, about a profile of one's own, another one, and none at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asking import Answer, Api, asked, holding
from served import ADMIN, IMAP, SMTP
from who_may import PROFILE, WHO_MAY

from adapters.bootstrap import Service
from adapters.http.callers import ADMINISTRATOR, CLIENT, OPERATOR, ROLES, Caller
from domain.secret import Secret

OWN, FOREIGN, UNKNOWN = SMTP, IMAP, "ghost/smtp"
LIMITED = ("/access-token", "/send")
"""What a client may do, but only with the profiles it was granted."""

BODIES = {
    "/api/v1/relay/users": {"name": "crm", "profiles": [OWN], "password": "a-password-in-clear"},
    "/password": {"password": "a-password-in-clear"},
    "/relay/users/{name}/profiles": {"profiles": [OWN]},
    "/networks": {"networks": ["10.0.0.0/24"]},
    "/admissions": {"protocol": "smtp", "address": "192.0.2.7", "user": "crm", "password": "a-password-in-clear"},
    "/renewals": {"user": "crm", "protocol": "smtp", "profile": OWN, "generation": 1},
    "/api/v1/send": b"Subject: a scan\r\n\r\nHere.\r\n",
}
"""Of the routes whose OpenAPI has no example that would do."""


def callers() -> Iterator[tuple[str, Caller]]:
    for role in ROLES:
        yield role, holding(role, profiles=frozenset({OWN}))
    yield "nobody", holding()


@pytest.fixture
def examples(http: Api, office: Service) -> dict[str, Any]:
    """The OpenAPI document, whose examples are what is asked; there is a relay user besides."""
    office.relay_users.add("crm", [OWN], [], Secret("a-password-in-clear"), ADMIN)
    document: dict[str, Any] = http.get("/api/v1/openapi.json")
    return document


def body_of(method: str, path: str, document: dict[str, Any]) -> object:
    for end, body in BODIES.items():
        if path.endswith(end) and method != "GET":
            return body
    said = document["paths"][path][method.lower()].get("requestBody")
    if said is None:
        return None
    schema = said["content"]["application/json"]["schema"]
    name = schema.get("$ref", "").rpartition("/")[2]
    return (document["components"]["schemas"][name] if name else schema)["examples"][0]


def target_of(path: str, profile: str) -> str:
    machine, _, setting = profile.partition("/")
    target = path.format(machine=machine, setting=setting, name=machine)
    return f"{target}?profile={profile}" if path.endswith("/send") else target


def test_the_table_has_every_route(examples: dict[str, Any]) -> None:
    routes = {(method.upper(), path) for path, methods in examples["paths"].items() for method in methods}
    assert routes == WHO_MAY.keys()


@pytest.mark.parametrize(("method", "path"), sorted(WHO_MAY))
def test_only_who_may_gets_through(http: Api, examples: dict[str, Any], method: str, path: str) -> None:
    body, allowed = body_of(method, path, examples), WHO_MAY[method, path]
    for role, caller in callers():
        answers = {one: http.ask(method, target_of(path, one), body, caller) for one in (OWN, FOREIGN, UNKNOWN)}
        for profile, answer in answers.items():
            may = role in allowed and (profile == OWN or not path.endswith(LIMITED))
            assert (answer.status != 403) is may, (role, profile, answer)
            assert (answer.status not in (401, 422) and answer.status < 500) or _asks_elsewhere(path), (role, answer)
        if role not in allowed:
            assert len({_said(answer, profile) for profile, answer in answers.items()}) == 1


def _asks_elsewhere(path: str) -> bool:
    """Whether it asks a provider or a mail server, of which there is none here."""
    return path.endswith(("/check", "/test", "/send", "/redirect"))


def _said(answer: Answer, profile: str) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.text.replace(profile, "PROFILE")


@pytest.mark.parametrize("what", LIMITED)
def test_a_profile_a_client_was_not_granted_looks_like_none_and_nothing_is_looked_up(
    http: Api, office: Service, what: str
) -> None:
    path = "/api/v1/send" if what == "/send" else f"{PROFILE}{what}"
    caller = holding(CLIENT, profiles=frozenset({OWN}))
    open_store = [http.ask("GET", target_of(path, one), None, caller) for one in (FOREIGN, UNKNOWN)]
    office.events.store.close()
    closed_store = [http.ask("GET", target_of(path, one), None, caller) for one in (FOREIGN, UNKNOWN)]
    said = {
        (answer.status, _said(answer, profile))
        for answers in (open_store, closed_store)
        for answer, profile in zip(answers, (FOREIGN, UNKNOWN), strict=True)
    }
    assert len(said) == 1
    assert next(iter(said))[0] == 403
    own = http.ask("GET", target_of(path, OWN), None, caller)
    assert own.status >= 500, "whatever is looked up fails now"


def test_a_client_gets_the_tokens_it_was_granted_and_no_list_of_anything(office: Service) -> None:
    caller = holding(CLIENT, profiles=frozenset({OWN}))
    with asked(office) as http:
        handed = http.ask("GET", f"/api/v1/profiles/{OWN}/access-token", None, caller)
        assert (handed.status, handed.headers["cache-control"]) == (200, "no-store")
        assert handed.body["access_token"]
        assert http.ask("GET", f"/api/v1/profiles/{OWN}", None, caller).status == 403


def test_an_administrator_who_is_no_operator_deletes_no_tokens_by_a_file_either(http: Api, office: Service) -> None:
    fleet = {"machines": {"press": {"settings": {"smtp": {"account": "fax@contoso.com", "delete_token": True}}}}}
    refused = http.ask("POST", "/api/v1/apply", fleet, holding(ADMINISTRATOR))
    assert refused.status == 403
    assert office.tokens.status(SMTP).token.status == "Retrieved"
    assert http.ask("POST", "/api/v1/apply", fleet, holding(ADMINISTRATOR, OPERATOR)).status == 200
    assert office.tokens.status(SMTP).token.status == "Not Retrieved"
