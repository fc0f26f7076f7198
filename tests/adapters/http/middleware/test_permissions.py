"""Who may: every route of the API, for every role, about a profile of one's own, another one, and none at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from permissions import PERMITTED_ROLES, PROFILE
from served import ADMIN, IMAP, SMTP
from served_api import Answer, Api, principal_with, serve_api

from adapters.http.principal import ADMINISTRATOR, CLIENT, OPERATOR, ROLES, Principal
from domain.secret import Secret
from infrastructure.service import Service

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


def principals() -> Iterator[tuple[str, Principal]]:
    for role in ROLES:
        yield role, principal_with(role, profiles=frozenset({OWN}))
    yield CLIENT, principal_with(CLIENT, profiles=frozenset())
    yield "nobody", principal_with()


@pytest.fixture(scope="module")
def examples(shared_http: Api, shared_installation: Service) -> dict[str, Any]:
    """The OpenAPI document, whose examples are the requests; there is a relay user besides."""
    shared_installation.relay_users.add("crm", [OWN], [], Secret("a-password-in-clear"), ADMIN)
    document: dict[str, Any] = shared_http.get("/api/v1/openapi.json")
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
    assert routes == PERMITTED_ROLES.keys()


# The requests that delete are the last: the others find what they name.
def names_last(route: tuple[str, str]) -> tuple[bool, str, str]:
    """The order of the routes: those after which a name means nothing any more, or something else, are asked last."""
    method, path = route
    return method == "DELETE" or path.endswith("/rename"), method, path


ROUTES: list[tuple[str, str]] = sorted(PERMITTED_ROLES, key=names_last)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_only_who_may_gets_through(shared_http: Api, examples: dict[str, Any], method: str, path: str) -> None:
    body, allowed = body_of(method, path, examples), PERMITTED_ROLES[method, path]
    for role, principal in principals():
        answers = {
            one: shared_http.ask(method, target_of(path, one), body, principal) for one in (OWN, FOREIGN, UNKNOWN)
        }
        for profile, answer in answers.items():
            granted = principal.profiles or frozenset()
            may = role in allowed and (profile in granted or not path.endswith(LIMITED))
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
    http: Api, installation: Service, what: str
) -> None:
    path = "/api/v1/send" if what == "/send" else f"{PROFILE}{what}"
    principal = principal_with(CLIENT, profiles=frozenset({OWN}))
    open_store = [http.ask("GET", target_of(path, one), None, principal) for one in (FOREIGN, UNKNOWN)]
    installation.events.store.close()
    closed_store = [http.ask("GET", target_of(path, one), None, principal) for one in (FOREIGN, UNKNOWN)]
    said = {
        (answer.status, _said(answer, profile))
        for answers in (open_store, closed_store)
        for answer, profile in zip(answers, (FOREIGN, UNKNOWN), strict=True)
    }
    assert len(said) == 1
    assert next(iter(said))[0] == 403
    own = http.ask("GET", target_of(path, OWN), None, principal)
    assert own.status >= 500, "whatever is looked up fails now"


def test_a_client_gets_the_tokens_it_was_granted_and_no_list_of_anything(installation: Service) -> None:
    principal = principal_with(CLIENT, profiles=frozenset({OWN}))
    with serve_api(installation) as http:
        handed = http.ask("GET", f"/api/v1/profiles/{OWN}/access-token", None, principal)
        assert (handed.status, handed.headers["cache-control"]) == (200, "no-store")
        assert handed.body["access_token"]
        assert http.ask("GET", f"/api/v1/profiles/{OWN}", None, principal).status == 403


def test_an_administrator_who_is_no_operator_deletes_no_tokens_by_a_file_either(
    http: Api, installation: Service
) -> None:
    fleet = {"machines": {"press": {"settings": {"smtp": {"account": "fax@contoso.com", "delete_token": True}}}}}
    refused = http.ask("POST", "/api/v1/apply", fleet, principal_with(ADMINISTRATOR))
    assert refused.status == 403
    assert installation.tokens.status(SMTP).token.status == "Retrieved"
    assert http.ask("POST", "/api/v1/apply", fleet, principal_with(ADMINISTRATOR, OPERATOR)).status == 200
    assert installation.tokens.status(SMTP).token.status == "Not Retrieved"
