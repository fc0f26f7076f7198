"""Who may: every route of the API, for every role, about a profile of one's own, another one, and none at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from permissions import PERMITTED_ROLES, PROFILE
from served import ADMIN, IMAP, SMTP
from served_api import Answer, Api, principal_with, serve_api

from adapters.http.principal import ADMINISTRATOR, AUDITOR, CLIENT, OPERATOR, ROLES, Principal
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


@pytest.mark.parametrize("role", [OPERATOR, AUDITOR])
def test_who_is_limited_to_other_machines_sees_and_does_nothing_with_these(http: Api, role: str) -> None:
    """Every route, tried by somebody who is limited: the installation's machine is outside, and then inside."""
    document = http.get("/api/v1/openapi.json")
    outside, inside = (principal_with(role, machines=one) for one in ("hamburg-*", "pre*"))
    for method, path in ROUTES:
        if role not in PERMITTED_ROLES[method, path] or path in ("/healthz", "/readyz"):
            continue
        body: Any = body_of(method, path, document)
        if "{setting}" in path:
            foreign, unknown = (http.ask(method, target_of(path, one), body, outside) for one in (OWN, UNKNOWN))
            assert foreign.status == 404, path
            assert _said(foreign, OWN) == _said(unknown, UNKNOWN)
            assert http.ask(method, target_of(path, OWN), body, inside).status not in (403, 404), path
            continue
        answer = http.ask(method, target_of(path, UNKNOWN), body, outside)
        assert "press" not in answer.text, path
        if path in ("/metrics", "/api/v1/audit/verification"):
            assert (answer.status, answer.body["code"]) == (403, "of_every_machine")


def test_a_token_that_machines_share_needs_all_of_them(http: Api, installation: Service) -> None:
    settings = installation.settings
    settings.add_machine("hamburg-1", "generic", ADMIN)
    settings.add_machine("hamburg-2", "generic", ADMIN)
    for one in ("hamburg-1/smtp", "hamburg-2/smtp"):
        settings.set_profile(one, {"provider": "contoso", "account": "scan@contoso.com"}, ADMIN)
    settings.link("scanners", ["hamburg-1/smtp", "hamburg-2/smtp"], ADMIN)
    first, both = (principal_with(OPERATOR, machines=one) for one in ("hamburg-1", "hamburg-*"))
    for method, end in (("POST", "token"), ("DELETE", "token"), ("POST", "token/renew"), ("POST", "token/cancel")):
        target = f"/api/v1/profiles/hamburg-1/smtp/{end}"
        body: object = {} if end == "token" else None
        refused = http.ask(method, target, body, first)
        assert (refused.status, refused.body["code"]) == (403, "token_shared_outside"), end
        assert "hamburg-2" not in refused.text
        assert http.ask(method, target, body, both).status in (200, 202, 409), end
    seen = http.ask("GET", "/api/v1/profiles/hamburg-1/smtp/status", None, first)
    assert (seen.status, seen.body["profile"]) == (200, "hamburg-1/smtp")
    [group] = http.ask("GET", "/api/v1/groups", None, first).body
    assert group["profiles"] == ["hamburg-1/smtp"]


def test_lists_counts_and_exports_have_the_machines_inside_alone(http: Api, installation: Service) -> None:
    installation.settings.add_machine("hamburg-1", "generic", ADMIN)
    installation.clients.add("backup", [SMTP, "hamburg-1/smtp"], None, ADMIN)
    inside = principal_with(OPERATOR, AUDITOR, machines="hamburg-*")

    def get(path: str) -> Any:
        return http.ask("GET", path, None, inside).body

    assert [one["name"] for one in get("/api/v1/machines")] == ["hamburg-1"]
    for path in ("profiles", "status", "profiles?limit=100", "status?limit=100"):
        assert {one["machine"] for one in get(f"/api/v1/{path}")} == {"hamburg-1"}, path
    assert list(get("/api/v1/export")["machines"]) == ["hamburg-1"]
    assert get("/api/v1/export")["clients"] == {"backup": ["hamburg-1/smtp"]}
    assert [one["profiles"] for one in get("/api/v1/clients")] == [["hamburg-1/smtp"]]
    told = get("/api/v1/audit/log")
    assert {(one["aggregate"], one["event"]) for one in told} >= {("Machine", "Created"), ("Profile", "Created")}
    assert "press" not in json.dumps(told)
    assert get(f"/api/v1/audit/log?profile={SMTP}") == []
    assert get("/api/v1/audit/log?profile=hamburg-1/smtp")
    assert get(f"/api/v1/audit/log?profile={SMTP.partition('/')[0]}") == []
    assert get("/api/v1/audit/log?q=press&limit=100") == []
    assert get("/api/v1/audit/export") == get("/api/v1/audit/log?limit=1000") == told
    of_machine = get("/api/v1/audit/log?profile=hamburg-1")
    assert "Machine" in {one["aggregate"] for one in of_machine}
    assert {one["profile"] for one in of_machine} >= {"hamburg-1/smtp", "hamburg-1/pop", "hamburg-1/imap"}


def test_a_job_has_the_machines_inside_alone_and_is_seen_by_who_may_see_all_of_them(
    http: Api, installation: Service
) -> None:
    settings = installation.settings
    for machine in ("hamburg-1", "hamburg-2"):
        settings.add_machine(machine, "generic", ADMIN)
        settings.set_profile(f"{machine}/smtp", {"provider": "contoso", "account": "scan@contoso.com"}, ADMIN)
    settings.link("scanners", ["hamburg-1/smtp", "hamburg-2/smtp"], ADMIN)
    first, both, other = (principal_with(OPERATOR, machines=one) for one in ("hamburg-1", "hamburg-*", "lobby"))
    for principal, targets in ((first, 1), (other, 0), (principal_with(OPERATOR), 2)):
        select = {} if principal is not other else {"machines": ["press"]}
        begun = http.ask("POST", "/api/v1/jobs", {"action": "get-token", "select": select}, principal)
        assert begun.status == 202, begun
        installation.jobs.job(begun.body["id"]).stopped.set()
        assert installation.jobs.job(begun.body["id"]).ended.wait(60)
        done = http.ask("GET", f"/api/v1/jobs/{begun.body['id']}", None, principal).body
        assert (len(done["results"]) >= targets) if targets else done["results"] == []
        if principal is first:
            assert {one["code"] for one in done["results"]} <= {"token_shared_outside", None}
            assert "hamburg-2" not in json.dumps(done)
    whole = begun.body["id"]
    for principal in (first, both, other):
        assert http.ask("GET", f"/api/v1/jobs/{whole}", None, principal).status == 404
        assert http.ask("DELETE", f"/api/v1/jobs/{whole}", None, principal).status == 404
        assert "press" not in http.ask("GET", "/api/v1/jobs", None, principal).text


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
