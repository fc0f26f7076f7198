"""People who are limited to machines: every page, their account, and what a change of the limit does at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from fakes import START, FakeClock, FakeProvider
from listeners import serve_tcp
from served import ADMIN
from served_tcp import Browser, open_tcp_service

from domain.errors import InvalidValue
from domain.scope import Scope
from domain.secret import Secret
from infrastructure.config.tables import SignInTable
from infrastructure.service import Service

PASSWORD = "a-password-in-clear"
PAGES = (
    "/home",
    "/api/v1/overview",
    "/jobs",
    "/machines",
    "/settings",
    "/settings?as_of={then}",
    "/api/v1/status?as_of={then}",
    "/attention",
    "/history",
    "/history?kind=machine",
    "/history/export/json",
    "/history/export/csv",
    "/api/v1/audit/export",
    "/api/v1/audit/export?format=csv",
    "/api/v1/audit/log?limit=1000",
    "/providers",
    "/account",
)
FOREIGN = (
    "/settings/press/smtp",
    "/settings/press/smtp/token",
    "/settings/press/smtp/get-token",
    "/machines/press/panel",
    "/settings/press/smtp/delete",
    "/settings/press/smtp/test",
    "/history?profile=press/smtp",
    "/history?profile=press",
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("limited")
    sign_in = SignInTable(issuer="https://login.contoso.com", client_id="mailtoken", groups={})
    clock = FakeClock()
    with open_tcp_service(directory, clock, FakeProvider(), sign_in=sign_in) as service:
        service.settings.add_machine("hamburg-1", "generic", ADMIN)
        password = Secret(PASSWORD)
        service.administrators.add("lena", ["operator", "auditor"], password, ADMIN, ["hamburg-*"])
        service.administrators.add("zoe", ["administrator"], password, ADMIN)
        clock.step(days=1)
        yield service


@pytest.fixture(scope="module")
def lena(service: Service) -> Iterator[Browser]:
    with serve_tcp(service) as port:
        browser = Browser(port)
        browser.sign_in("lena", PASSWORD)
        yield browser


@pytest.mark.parametrize("path", PAGES)
def test_no_page_shows_a_machine_outside(lena: Browser, path: str) -> None:
    page = lena("GET", path.format(then=(START + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%MZ")))
    assert page.status == 200
    assert "press" not in page.text
    if path.startswith(("/machines", "/settings", "/history", "/api/v1/status")):
        assert "hamburg-1" in page.text


@pytest.mark.parametrize("path", FOREIGN)
def test_a_machine_outside_is_not_found(lena: Browser, path: str) -> None:
    assert lena("GET", path).status == 404
    assert lena("GET", path.replace("press", "hamburg-1")).status == 200


def test_an_act_outside_is_not_found_and_changes_nothing(service: Service, lena: Browser) -> None:
    before = len(service.history.records())
    for act in ("get-token", "delete", "renew", "cancel", "test"):
        assert lena.post(f"/settings/press/smtp/{act}", None, csrf=lena.csrf()).status == 404, act
    assert len(service.history.records()) == before


def test_ones_own_account_says_the_limit(lena: Browser) -> None:
    assert "hamburg-*" in lena("GET", "/account").text


def test_a_new_limit_counts_at_once_and_is_in_the_record(service: Service, lena: Browser) -> None:
    service.administrators.limit("lena", ["pre*"], ADMIN)
    try:
        assert lena("GET", "/settings/press/smtp").status == 200
        assert lena("GET", "/settings/hamburg-1/smtp").status == 404
    finally:
        service.administrators.limit("lena", ["hamburg-*"], ADMIN)
    record = service.history.records()[-1]
    assert (record.name, record.facts) == ("MachinesLimited", {"machines": ["hamburg-*"]})
    assert service.audit.verify().findings == ()


def test_who_is_limited_does_not_become_administrator_and_an_administrator_is_not_limited(service: Service) -> None:
    acts: list[Callable[[], None]] = [
        lambda: service.administrators.set_roles("lena", ["administrator"], ADMIN),
        lambda: service.administrators.limit("zoe", ["hamburg-*"], ADMIN),
        lambda: service.administrators.add("new", ["administrator"], None, ADMIN, ["hamburg-*"]),
        lambda: service.administrators.limit("lena", ["not a name"], ADMIN),
    ]
    for act in acts:
        with pytest.raises(InvalidValue, match="machines: "):
            act()


def test_a_member_has_the_machines_of_their_groups(service: Service, lena: Browser) -> None:
    scopes = {"operator": Scope(("hamburg-*",))}
    member = Browser(lena.port)
    session = service.sessions.begin_for_member("eve@contoso.com", ("operator",), None, scopes)
    found = service.sessions.find(session)
    assert found
    assert found.scopes == scopes
    member.cookies["__Host-mailtoken"] = session.reveal()
    assert [one["name"] for one in member("GET", "/api/v1/machines").body] == ["hamburg-1"]
