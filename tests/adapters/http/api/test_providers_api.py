"""Providers in the store over HTTP: added, changed if as it was seen, removed, and never answered with a secret."""

from __future__ import annotations

from typing import Any

import pytest
from served_api import Api

TARGET = "/api/v1/providers"
FIELDS = {"tenant": "fabrikam.com", "client_id": "6f1c0d5e"}
SECRET = "a-client-secret-in-clear"


def new(**changes: Any) -> dict[str, Any]:
    return {"name": "fabrikam", "kind": "microsoft", "fields": FIELDS, **changes}


def test_a_provider_is_added_listed_changed_and_removed(http: Api) -> None:
    added = http.ask("POST", TARGET, new(secrets={"client_secret": SECRET}))
    assert added.status == 201
    assert added.body == {
        "name": "fabrikam",
        "kind": "microsoft",
        "fields": FIELDS,
        "secrets": [{"name": "client_secret", "uploaded": True}],
        "in_use": True,
    }
    listed = {one["name"]: one for one in http.get(TARGET)}
    assert (listed["contoso"]["stored"], listed["fabrikam"]["stored"]) == (False, True)
    assert listed["fabrikam"]["flows"] == ["device", "browser", "app"]
    changed = http.ask("PATCH", f"{TARGET}/fabrikam", {"fields": {"timeout": "9"}, "secrets": {"client_secret": None}})
    assert changed.body["fields"] == {**FIELDS, "timeout": "9"}
    assert changed.body["secrets"] == []
    assert http.ask("DELETE", f"{TARGET}/fabrikam").status == 204
    assert [one["name"] for one in http.get(TARGET)] == ["contoso"]


def test_a_setting_gets_the_server_of_its_stored_provider_and_says_that_it_is_stored(http: Api) -> None:
    http.ask("POST", TARGET, new())
    assert http.ask("POST", "/api/v1/machines", {"name": "new", "catalogue": "generic"}).status == 201
    made = http.ask("PATCH", "/api/v1/profiles/new/imap", {"provider": "fabrikam"}).body
    assert (made["server"], made["port"], made["tls"]) == ("outlook.office365.com", 993, "implicit")
    statuses = {one["profile"]: one["provider_stored"] for one in http.get("/api/v1/status")}
    assert (statuses["new/imap"], statuses["new/smtp"]) == (True, False)


def test_no_answer_and_no_record_has_a_secret(http: Api) -> None:
    answers = [http.ask("POST", TARGET, new(secrets={"client_secret": SECRET}))]
    answers += [http.ask("GET", f"{TARGET}/fabrikam"), http.ask("GET", TARGET)]
    answers += [http.ask("GET", "/api/v1/audit/log?about=fabrikam"), http.ask("GET", "/api/v1/export")]
    for wrong in ({"client_secret": [SECRET]}, {"client_secret": f"{SECRET}\t"}, {"service_account": SECRET}):
        answers.append(http.ask("POST", TARGET, new(name="two", secrets=wrong)))
        assert answers[-1].status == 422
    assert not any(SECRET in answer.text for answer in answers)


def test_a_change_of_an_older_state_is_refused(http: Api) -> None:
    seen = http.ask("POST", TARGET, new()).headers["etag"]
    target = f"{TARGET}/fabrikam"
    changed = http.ask("PATCH", target, {"fields": {"timeout": "9"}}, if_match=seen)
    assert changed.headers["etag"] == http.ask("GET", target).headers["etag"] != seen
    late = http.ask("PATCH", target, {"fields": {"timeout": "8"}}, if_match=seen)
    assert (late.status, late.body["code"]) == (412, "provider_outdated")
    assert http.ask("DELETE", target, if_match=seen).status == 412
    assert http.ask("DELETE", target, if_match=changed.headers["etag"]).status == 204


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (new(name="contoso"), 409, "provider_in_file"),
        (new(kind="yahoo"), 422, "not_a_choice"),
        (new(fields={}), 422, "provider_field_missing"),
        (new(kind="oidc", fields={"client_id": "a", "issuer": "https://localhost:8443"}), 422, "private_issuer"),
        (new(kind="oidc", fields={"client_id": "a", "issuer": "https://169.254.169.254"}), 422, "private_issuer"),
        (new(fields={**FIELDS, "proxy": "http://proxy:3128"}), 422, "not_a_provider_field"),
    ],
)
def test_what_is_not_acceptable_says_why(shared_http: Api, body: dict[str, Any], status: int, code: str) -> None:
    refused = shared_http.ask("POST", TARGET, body)
    assert (refused.status, refused.body["code"]) == (status, code)


def test_a_provider_of_the_file_is_not_changed_here(shared_http: Api) -> None:
    for method, body in (("GET", None), ("PATCH", {"fields": {"timeout": "9"}}), ("DELETE", None)):
        refused = shared_http.ask(method, f"{TARGET}/contoso", body)
        assert (refused.status, refused.body["code"]) == (404, "stored_provider_not_found")


def test_a_renamed_provider_keeps_its_settings_and_one_in_use_is_not_removed(http: Api) -> None:
    http.ask("POST", TARGET, new())
    assert http.ask("PATCH", "/api/v1/profiles/press/imap", {"provider": "fabrikam"}).status == 200
    refused = http.ask("DELETE", f"{TARGET}/fabrikam")
    assert (refused.status, refused.body["code"]) == (409, "provider_has_settings")
    assert http.ask("POST", f"{TARGET}/fabrikam/rename", {"name": "entra"}).body["profiles"] == ["press/imap"]
    assert http.get("/api/v1/profiles/press/imap")["provider"] == "entra"
    assert http.get(f"{TARGET}/entra")["fields"] == FIELDS


def test_an_awaited_secret_and_a_clash_are_attention_of_the_store(http: Api) -> None:
    fleet = {"providers": {"fabrikam": {"kind": "microsoft", **FIELDS, "secrets": ["client_secret"]}}}
    assert http.ask("POST", "/api/v1/apply", fleet).status == 200
    assert http.get("/api/v1/store")["providers"] == [
        {"name": "fabrikam", "attention": "provider_secret_missing", "secrets": ["client_secret"]}
    ]
    http.ask("PATCH", f"{TARGET}/fabrikam", {"secrets": {"client_secret": SECRET}})
    assert http.get("/api/v1/store")["attention"] == []


def test_an_export_applied_to_an_empty_store_is_identical_but_for_the_secrets(http: Api, shared_http: Api) -> None:
    fields = {**FIELDS, "timeout": "9", "client_secret_expires": "2028-11-30"}
    http.ask("POST", TARGET, new(fields=fields, secrets={"client_secret": SECRET}))
    exported = http.get("/api/v1/export")
    assert exported["providers"] == {"fabrikam": {"kind": "microsoft", **fields, "secrets": ["client_secret"]}}
    wanted = {"providers": exported["providers"]}
    applied = shared_http.ask("POST", "/api/v1/apply", wanted).body
    assert [change["change"] for change in applied["changes"]] == ["add provider"]
    assert shared_http.get("/api/v1/export")["providers"] == exported["providers"]
    assert shared_http.ask("POST", "/api/v1/apply", wanted).body["changes"] == []
    assert shared_http.get(f"{TARGET}/fabrikam")["secrets"] == [{"name": "client_secret", "uploaded": False}]
    shared_http.ask("DELETE", f"{TARGET}/fabrikam")


def test_apply_changes_a_provider_and_tells_every_fault_of_one(http: Api) -> None:
    http.ask("POST", TARGET, new())
    wanted = {"fabrikam": {"kind": "microsoft", "timeout": 9}}
    changes = http.ask("POST", "/api/v1/apply", {"providers": wanted}).body["changes"]
    assert [(one["change"], one["before"], one["after"]) for one in changes] == [
        ("set provider", {"timeout": ""}, {"timeout": "9"})
    ]
    faulty = {
        "fabrikam": {"kind": "oidc"},
        "contoso": {"kind": "microsoft", **FIELDS},
        "two": {"kind": "oidc", "issuer": "http://a.example", "timeout": 0},
        "three": {"kind": "google", "client_id": "a", "secrets": ["certificate"]},
    }
    refusals = http.ask("POST", "/api/v1/apply?dry_run=true", {"providers": faulty}).body["refusals"]
    assert [(".".join(one["place"]), one["code"]) for one in refusals] == [
        ("providers.fabrikam", "other_kind"),
        ("providers.contoso", "provider_in_file"),
        ("providers.two.issuer", "not_an_issuer"),
        ("providers.two.timeout", "duration_not_in_range"),
        ("providers.two.client_id", "provider_field_missing"),
        ("providers.three", "not_a_provider_secret"),
    ]


def test_apply_makes_a_provider_and_the_settings_that_have_it_or_nothing(http: Api) -> None:
    settings = {"press": {"settings": {"imap": {"provider": "fabrikam"}}}}
    private = {"fabrikam": {"kind": "oidc", "client_id": "a", "issuer": "https://10.0.0.1"}}
    refused = http.ask("POST", "/api/v1/apply", {"providers": private, "machines": settings})
    assert (refused.status, refused.body["code"]) == (422, "private_issuer")
    assert [one["name"] for one in http.get(TARGET)] == ["contoso"]
    public = {"fabrikam": {"kind": "microsoft", **FIELDS}}
    assert http.ask("POST", "/api/v1/apply", {"providers": public, "machines": settings}).status == 200
    assert http.get("/api/v1/profiles/press/imap")["provider"] == "fabrikam"
