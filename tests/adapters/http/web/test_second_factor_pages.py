"""The pages and the API with a second factor: set up on one's own page, asked for at the sign-in, and required."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from fakes import FakeClock, FakeProvider
from listeners import serve_tcp
from served import ADMIN
from served_tcp import Answer, Browser, open_tcp_service
from structlog.testing import capture_logs

from domain.secret import Secret
from infrastructure.config.tables import SignInTable
from infrastructure.service import Service

PASSWORD = "a-password-in-clear"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["optional"])
def service(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Service]:
    sign_in = SignInTable(issuer="https://login.contoso.com", client_id="mailtoken", groups={})
    server = {"second_factor": request.param, "sign_in": sign_in}
    with open_tcp_service(tmp_path, clock, FakeProvider(), **server) as service:
        for name, roles in (("anna", ["administrator", "auditor"]), ("zoe", ["administrator"])):
            service.administrators.add(name, roles, Secret(PASSWORD), ADMIN)
        yield service


@pytest.fixture
def port(service: Service) -> Iterator[int]:
    with serve_tcp(service) as port:
        yield port


def shown(page: Answer, pattern: str) -> str:
    found = re.search(pattern, page.text)
    assert found, page.text
    return html.unescape(found[1])


def field(page: Answer, name: str) -> str:
    return shown(page, f'name="{name}" value="([^"]*)"')


def key_in(page: Answer) -> pyotp.TOTP:
    return pyotp.TOTP(shown(page, r'id="key">([^<]+)<').replace(" ", ""))


def enrol(browser: Browser, clock: FakeClock) -> tuple[pyotp.TOTP, list[str]]:
    """Set up a second factor on the pages; the app, and the recovery codes."""
    page = browser("GET", "/account/second-factor")
    app = key_in(page)
    form = {"csrf": field(page, "csrf"), "state": field(page, "state")}
    done = browser.post("/account/second-factor", None, **form, code=app.at(clock.now()))
    assert done.status == 200, done.text
    clock.step(minutes=1)
    return app, re.findall(r"\b[A-Z2-7]{4}(?:-[A-Z2-7]{4}){3}\b", done.text)


def with_code(browser: Browser, code: str, next_path: str = "/history") -> Answer:
    page = browser.sign_in("anna", PASSWORD, next=next_path)
    assert page.status == 200
    assert browser.cookies == {}
    return browser.post("/sign-in/code", None, state=field(page, "state"), next=field(page, "next"), code=code)


def test_who_has_a_second_factor_signs_in_with_a_code_and_goes_on_where_they_wanted(
    port: int, clock: FakeClock
) -> None:
    browser = Browser(port)
    browser.sign_in("anna", PASSWORD)
    app, codes = enrol(browser, clock)
    assert len(set(codes)) == 10
    assert "and a code of your authenticator app" in browser("GET", "/account").text
    for code in (app.at(clock.now()), codes[0]):
        other = Browser(port)
        wrong = with_code(other, "000000x")
        assert (wrong.status, "this code is not right" in wrong.text, other.cookies) == (403, True, {})
        again = other.post("/sign-in/code", None, state=field(wrong, "state"), next=field(wrong, "next"), code=code)
        assert (again.status, again.header("location")) == (303, "/history")
        assert other("GET", "/history").status == 200
    for state in ("", "made-up"):
        over = Browser(port).post("/sign-in/code", None, state=state, code=app.at(clock.now()), next="//evil.example")
        assert (over.status, "begin again here" in over.text, 'name="password"' in over.text) == (403, True, True)


def test_a_wrong_code_shows_the_same_key_again_and_an_old_page_a_new_one(port: int, clock: FakeClock) -> None:
    browser = Browser(port)
    browser.sign_in("anna", PASSWORD)
    page = browser("GET", "/account/second-factor")
    form = {"csrf": field(page, "csrf"), "state": field(page, "state")}
    wrong = browser.post("/account/second-factor", None, **form, code="000000x")
    assert (wrong.status, key_in(wrong).secret) == (422, key_in(page).secret)
    clock.step(minutes=15)
    old = browser.post("/account/second-factor", None, **form, code=key_in(page).at(clock.now()))
    assert (old.status, key_in(old).secret != key_in(page).secret) == (422, True)


def test_the_key_and_the_codes_are_in_no_address_header_or_log(port: int, clock: FakeClock) -> None:
    browser = Browser(port)
    with capture_logs() as logs:
        browser.sign_in("anna", PASSWORD)
        page = browser("GET", "/account/second-factor")
        assert page.header("cache-control") == "no-store"
        app, codes = enrol(browser, clock)
        used = app.at(clock.now())
        answer = with_code(Browser(port), used)
    seen = repr((logs, page.headers, answer.headers))
    assert not [secret for secret in (key_in(page).secret, app.secret, *codes, used) if secret in seen]


def test_ones_own_is_removed_with_a_code_and_reset_by_another(service: Service, port: int, clock: FakeClock) -> None:
    anna, zoe = Browser(port), Browser(port)
    anna.sign_in("anna", PASSWORD)
    zoe.sign_in("zoe", PASSWORD)
    _, codes = enrol(anna, clock)
    wrong = anna.post("/account/second-factor/remove", None, csrf=anna.csrf(), code="000000x")
    assert (wrong.status, "this code is not right" in wrong.text) == (422, True)
    for refused in (
        anna.post("/administrators/anna/second-factor", None, csrf=anna.csrf()),
        anna("DELETE", "/api/v1/administrators/anna/second-factor", None, {"X-CSRF-Token": anna.csrf()}),
    ):
        assert (refused.status, "it is your own second factor" in refused.text) == (409, True)
    removed = anna.post("/account/second-factor/remove", None, csrf=anna.csrf(), code=codes[0])
    assert removed.status == 303
    enrol(anna, clock)
    listed = {one["name"]: one["second_factor"] for one in zoe("GET", "/api/v1/administrators").body}
    assert listed == {"anna": True, "zoe": False}
    assert "With a second factor." in zoe("GET", "/administrators").text
    reset = zoe.post("/administrators/anna/second-factor", None, csrf=zoe.csrf())
    assert (reset.status, service.administrators.administrator("anna").has_second_factor) == (303, False)
    assert anna("GET", "/account").status == 303


@pytest.mark.parametrize("service", ["required"], indirect=True)
def test_where_it_is_required_nothing_else_comes_first(service: Service, port: int, clock: FakeClock) -> None:
    browser = Browser(port)
    signed_in = browser.sign_in("anna", PASSWORD, next="/history")
    assert signed_in.status == 303
    page = browser("GET", "/account/second-factor")
    token = field(page, "csrf")
    for path in ("/settings", "/history", "/administrators", "/attention"):
        led = browser("GET", path)
        assert (led.status, led.header("location")) == (303, "/account/second-factor")
    for path in ("status", "machines", "administrators", "audit/log", "events", "store"):
        refused = browser("GET", f"/api/v1/{path}")
        assert (refused.status, refused.body["code"]) == (403, "enrolling_without_role")
    acted = browser("POST", "/api/v1/machines", '{"name": "lobby"}', {"X-CSRF-Token": token, **JSON})
    assert (acted.status, acted.body["code"]) == (403, "enrolling_without_role")
    assert browser.post("/machines", None, csrf=token, name="lobby").status == 303
    assert [one["name"] for one in service.settings.machines()] == ["press"]
    assert "/history" not in page.text
    assert "/administrators" not in page.text
    enrol(browser, clock)
    assert browser("GET", "/history").status == 200
    assert browser("GET", "/api/v1/status").status == 200


@pytest.mark.parametrize("service", ["required"], indirect=True)
def test_members_and_clients_need_none(service: Service, port: int) -> None:
    member = Browser(port)
    member.cookies["__Host-mailtoken"] = service.sessions.begin_for_member("eve@contoso.com", ("auditor",)).reveal()
    assert member("GET", "/api/v1/status").status == 200
    assert "Your organisation" in member("GET", "/account").text
    assert member("GET", "/account/second-factor").status == 403
    key = service.clients.add("backup", ["press/smtp"], None, ADMIN)
    program = Browser(port)
    program.headers["Authorization"] = f"Bearer {key.reveal()}"
    assert program("GET", "/api/v1/profiles/press/smtp/access-token").status == 200
