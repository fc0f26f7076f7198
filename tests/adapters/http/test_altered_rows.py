"""A row that somebody altered without the key: what a program, a browser and a person hear of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from fakes import FakeClock, FakeProvider
from listeners import serve_tcp
from served import ADMIN, SMTP
from served_tcp import Browser, HttpClient, open_tcp_service
from store_examples import change, everything

from domain.secret import Secret
from infrastructure.access.bearer_tokens import token_hash
from infrastructure.service import Service

PASSWORD, TOKEN = "a-password-in-clear", f"/api/v1/profiles/{SMTP}/access-token"


@pytest.fixture
def service(tmp_path: Path, clock: FakeClock, provider: FakeProvider) -> Iterator[Service]:
    with open_tcp_service(tmp_path, clock, provider) as service:
        service.administrators.add("anna", ["administrator", "auditor"], Secret(PASSWORD), ADMIN)
        service.administrators.add("bob", ["auditor"], Secret(PASSWORD), ADMIN)
        yield service


@pytest.fixture
def port(service: Service) -> Iterator[int]:
    with serve_tcp(service) as port:
        yield port


def test_a_client_whose_grants_were_altered_is_refused_and_the_others_are_served(service: Service, port: int) -> None:
    keys = [service.clients.add(name, [SMTP], None, ADMIN).reveal() for name in ("backup", "monitor")]
    change(service.events.store, "UPDATE client SET profiles = '' WHERE name = 'backup'")
    answers = [HttpClient.with_key(port, key)("GET", TOKEN) for key in keys]
    assert [answer.status for answer in answers] == [409, answers[1].status]
    assert answers[1].status != 409
    assert answers[0].header("content-type") == "application/problem+json"
    assert "client backup: its row was altered" in answers[0].text


def test_a_session_that_somebody_inserts_or_makes_mightier_is_none(service: Service, port: int) -> None:
    bob, mallory = Browser(port), Browser(port)
    assert bob.sign_in("bob", PASSWORD).status == 303
    rows = everything(service.events.store)
    [anna] = [row for row in rows["administrator"] if row["name"] == "anna"]
    [session] = rows["session"]
    forged = {**session, "hash": token_hash(Secret("chosen")), "administrator_id": anna["id"], "name": "anna"}
    columns, marks = ", ".join(forged), ", ".join("?" * len(forged))
    change(service.events.store, f"INSERT INTO session ({columns}) VALUES ({marks})", *forged.values())
    mallory.cookies["__Host-mailtoken"] = "chosen"
    assert mallory("GET", "/api/v1/administrators").status == 401
    assert bob("GET", "/api/v1/administrators").status == 200
    change(service.events.store, "UPDATE session SET administrator_id = ? WHERE name = 'bob'", anna["id"])
    assert bob("GET", "/api/v1/administrators").status == 401
    assert {UUID(row.id) for row in service.events.store.row_checks.altered if row.table == "session"}


def test_who_knows_the_password_of_an_altered_row_hears_it_and_nobody_else(service: Service, port: int) -> None:
    change(service.events.store, "UPDATE administrator SET roles = 'administrator auditor' WHERE name = 'bob'")
    right, wrong = (Browser(port).sign_in("bob", password) for password in (PASSWORD, "wrong-in-clear"))
    assert (right.status, "its row was altered" in right.text) == (409, True)
    assert (wrong.status, "altered" in wrong.text) == (403, False)


def test_an_altered_row_is_attention_on_the_pages_and_in_the_api_until_it_is_made_again(
    service: Service, port: int
) -> None:
    anna = Browser(port)
    anna.sign_in("anna", PASSWORD)
    [profile] = [row for row in everything(service.events.store)["profile"] if row["name"] == SMTP]
    statement = "UPDATE profile SET settings = replace(settings, 'starttls', 'implicit') WHERE name = ?"
    change(service.events.store, statement, SMTP)
    service.row_watch.look()
    state = anna("GET", "/api/v1/store").body
    assert state["attention"] == ["row_altered"]
    assert state["altered_rows"] == [{"table": "profile", "id": profile["id"], "name": SMTP}]
    assert "Something else than this program altered rows of the store" in anna("GET", "/settings").text
    needing = anna("GET", "/api/v1/status?attention=true").body
    assert [(one["profile"], one["attention"]) for one in needing] == [(SMTP, "row_altered")]
    service.audit.rebuild(by="worker", now=service.clock.now())
    assert anna("GET", "/api/v1/store").body["attention"] == []
    change(service.events.store, "UPDATE profile SET settings = replace(settings, 'null', '7') WHERE name = ?", SMTP)
    shown = anna("GET", "/api/v1/status")
    assert (shown.status, SMTP in shown.text) == (200, False)
