"""Signing in at the organisation's OpenID provider: a real one, over TLS, and what must not get anybody in."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from fakes import FakeProvider
from listeners import serve_tcp
from practice_faults.provider import FaultyProvider
from served import all_that_lasts
from served_tcp import COOKIE, Browser, open_tcp_service

from adapters.http.web import organisation_sign_in
from adapters.http.web.organisation_sign_in import OrganisationSignIn, groups_in, roles_of
from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA
from domain.errors import InvalidValue
from infrastructure.clock import SystemClock
from infrastructure.config.tables import SignInTable
from infrastructure.service import Service

ADMIN, BEGUN = "admin@contoso.com", "__Host-mailtoken-sign-in"
GROUPS = {"mail-admins": ["administrator", "auditor"], "help-desk": ["operator"]}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PracticeCA:
    return PracticeCA.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def running(ca: PracticeCA) -> Iterator[FaultyProvider]:
    with FaultyProvider(ca) as provider:
        yield provider


@pytest.fixture
def organisation(running: FaultyProvider) -> Iterator[FaultyProvider]:
    """The organisation's provider; it says that everybody is a mail admin."""
    running.inject_fault("id_token", times=None, claims={"groups": ["staff", "mail-admins"]})
    yield running
    running.clear_faults()


def table(organisation: FaultyProvider, **more: object) -> dict[str, object]:
    registered = {"issuer": organisation.issuer, "client_id": organisation.client_id}
    return {**registered, "ca_file": str(organisation.ca_file), "groups": GROUPS, **more}


@pytest.fixture
def service(tmp_path: Path, organisation: FaultyProvider) -> Iterator[Service]:
    with open_tcp_service(tmp_path, SystemClock(), FakeProvider(), sign_in=table(organisation)) as service:
        yield service


@pytest.fixture
def browser(service: Service) -> Iterator[Browser]:
    with serve_tcp(service) as port:
        yield Browser(port)


@pytest.fixture(scope="module")
def shared_port(tmp_path_factory: pytest.TempPathFactory, running: FaultyProvider) -> Iterator[int]:
    """The port of a service that the tests share in which nobody gets in."""
    directory, sign_in = tmp_path_factory.mktemp("shared"), table(running)
    with (
        open_tcp_service(directory, SystemClock(), FakeProvider(), sign_in=sign_in) as service,
        serve_tcp(service) as port,
    ):
        yield port


def begin(browser: Browser, came_for: str = "/") -> str:
    """Go to the provider; the address of its page."""
    begun = browser("GET", f"/sign-in/oidc?{urlencode({'next': came_for})}")
    assert begun.status == 303
    return begun.header("location") or ""


def approve(organisation: FaultyProvider, page: str) -> str:
    """Sign in there; the path and query that the browser is sent back to."""
    back = urlsplit(browser_user.sign_in(page, ADMIN, organisation.ca_file))
    return f"{back.path}?{back.query}"


def stored(service: Service) -> str:
    with service.events.store.reading() as query:
        rows = [tuple(row) for table in ("one_time", "session") for row in query.rows(f"SELECT * FROM {table}")]
    return repr((all_that_lasts(service), rows))


def come_back(browser: Browser, target: str) -> int:
    """As a browser does that another site has sent."""
    return browser("GET", target, headers={"Sec-Fetch-Site": "cross-site"}).status


def test_who_is_in_a_group_signs_in_with_its_roles(
    service: Service, browser: Browser, organisation: FaultyProvider
) -> None:
    target = approve(organisation, begin(browser, "/history"))
    done = browser("GET", target, headers={"Sec-Fetch-Site": "cross-site"})
    assert (done.status, done.header("location")) == (303, "/history")
    assert BEGUN not in browser.cookies
    assert browser("GET", "/api/v1/administrators").status == 200
    headers = {"X-CSRF-Token": browser.csrf(), "Content-Type": "application/json"}
    assert browser("POST", "/api/v1/machines", '{"name": "lobby"}', headers).status == 201
    assert service.history.records()[-1].by == f"administrator:{ADMIN}"
    assert browser("POST", "/api/v1/profiles/press/smtp/token/renew", "", headers).status == 403


def test_the_request_has_pkce_state_and_nonce(browser: Browser, organisation: FaultyProvider) -> None:
    queries = [parse_qs(urlsplit(begin(browser)).query) for _ in range(2)]
    for one in queries:
        assert one["response_type"] == ["code"]
        assert one["code_challenge_method"] == ["S256"]
        assert one["redirect_uri"] == [f"{browser.origin}/sign-in/oidc/callback"]
        assert "openid" in one["scope"][0].split()
    for name in ("code_challenge", "state", "nonce"):
        assert queries[0][name] != queries[1][name]


def test_whoever_begins_has_us_store_nothing(service: Service, browser: Browser, organisation: FaultyProvider) -> None:
    before = stored(service)
    for _ in range(3):
        begin(browser, "/history?profile=press/smtp")
    begin(browser, "/" + "x" * 5000)
    assert stored(service) == before
    assert re.fullmatch("[A-Za-z0-9_-]{,2000}", browser.cookies[BEGUN])
    begin(browser, "/" + 499 * '"')
    assert len(BEGUN) + len(browser.cookies[BEGUN]) < 4000
    come_back(browser, "/sign-in/oidc/callback?code=x&state=y")
    assert stored(service) == before


def test_a_provider_that_hangs_takes_few_of_our_threads(tmp_path: Path, organisation: FaultyProvider) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging, ExitStack() as ended:
        issuer = f"https://localhost:{hanging.getsockname()[1]}"
        sign_in = table(organisation, issuer=issuer)
        installation = open_tcp_service(tmp_path, SystemClock(), FakeProvider(), sign_in=sign_in)
        service = ended.enter_context(installation)
        port = ended.enter_context(serve_tcp(service))
        threads = ended.enter_context(ThreadPoolExecutor(organisation_sign_in._AT_ONCE))
        begun = [threads.submit(Browser(port), "GET", "/sign-in/oidc") for _ in range(organisation_sign_in._AT_ONCE)]
        held = [hanging.accept()[0] for _ in begun]
        crowded = Browser(port)("GET", "/sign-in/oidc")
        assert (crowded.status, "too many sign-ins at once" in crowded.text) == (503, True)
        for connection in held:
            connection.close()
        assert {one.result().status for one in begun} == {503}
        held = []
        again = threads.submit(Browser(port), "GET", "/sign-in/oidc")
        hanging.accept()[0].close()
        assert "can&#39;t be reached" in again.result().text


def test_a_redirect_is_good_once(service: Service, browser: Browser, organisation: FaultyProvider) -> None:
    page = begin(browser)
    begun = browser.cookies[BEGUN]
    target = approve(organisation, page)
    assert come_back(browser, target) == 303
    replaying = Browser(browser.port)
    replaying.cookies[BEGUN] = begun
    assert come_back(replaying, target) == 403
    assert COOKIE not in replaying.cookies


def test_a_sign_in_is_good_once_also_with_another_code_of_the_provider(
    service: Service, browser: Browser, organisation: FaultyProvider
) -> None:
    page = begin(browser)
    begun = browser.cookies[BEGUN]
    first, second = approve(organisation, page), approve(organisation, page)
    assert come_back(browser, first) == 303
    replaying = Browser(browser.port)
    replaying.cookies[BEGUN] = begun
    refused = replaying("GET", second, headers={"Sec-Fetch-Site": "cross-site"})
    assert (refused.status, COOKIE in replaying.cookies) == (403, False)
    assert organisation.grant_counts["authorization_code"] >= 2, "the provider has redeemed both codes"


def test_a_redirect_is_good_for_the_browser_that_began_alone(
    service: Service, browser: Browser, organisation: FaultyProvider
) -> None:
    attacker = Browser(browser.port)
    planted = approve(organisation, begin(attacker))
    assert come_back(browser, planted) == 403
    begin(browser)
    assert come_back(browser, planted) == 422
    assert COOKIE not in browser.cookies


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [("state", "guessed", 422), ("iss", "https://login.evil.example", 422), ("code", "guessed", 403)],
)
def test_a_redirect_that_was_changed_gets_nobody_in(
    service: Service, browser: Browser, organisation: FaultyProvider, name: str, value: str, status: int
) -> None:
    before = all_that_lasts(service)
    path, _, query = approve(organisation, begin(browser)).partition("?")
    changed = {**{key: values[0] for key, values in parse_qs(query).items()}, name: value}
    assert come_back(browser, f"{path}?{urlencode(changed)}") == status
    assert COOKIE not in browser.cookies
    assert all_that_lasts(service) == before


def test_who_declines_is_not_signed_in(browser: Browser, organisation: FaultyProvider) -> None:
    back = urlsplit(browser_user.refuse(begin(browser), ADMIN, organisation.ca_file))
    assert come_back(browser, f"{back.path}?{back.query}") == 403
    assert COOKIE not in browser.cookies


@pytest.mark.parametrize(
    "claims",
    [
        {"groups": ["staff"]},
        {"groups": []},
        {"groups": "mail-admins"},
        {"groups": {"mail-admins": True}},
        {"groups": [["mail-admins"]]},
        {},
        {"groups": ["mail-admins"], "nonce": "another"},
        {"groups": ["mail-admins"], "aud": "another-client"},
        {"groups": ["mail-admins"], "iss": "https://login.evil.example"},
        {"groups": ["mail-admins"], "exp": 1},
        {"groups": ["mail-admins"], "preferred_username": None, "email": None},
    ],
)
def test_a_proof_that_does_not_hold_or_names_no_group_gets_nobody_in(
    shared_port: int, organisation: FaultyProvider, claims: dict[str, object]
) -> None:
    browser = Browser(shared_port)
    organisation.clear_faults()
    organisation.inject_fault("id_token", times=None, claims=claims)
    assert come_back(browser, approve(organisation, begin(browser))) == 403
    assert COOKIE not in browser.cookies


def test_a_forged_proof_gets_nobody_in(browser: Browser, organisation: FaultyProvider) -> None:
    organisation.clear_faults()
    organisation.inject_fault("id_token", times=None, claims={"groups": ["mail-admins"]}, forged=True)
    assert come_back(browser, approve(organisation, begin(browser))) == 403


def test_a_name_without_a_domain_is_never_that_of_an_administrator_here(
    service: Service, browser: Browser, organisation: FaultyProvider
) -> None:
    organisation.clear_faults()
    claims = {"groups": ["mail-admins"], "preferred_username": "anna"}
    organisation.inject_fault("id_token", times=None, claims=claims)
    assert come_back(browser, approve(organisation, begin(browser))) == 303
    headers = {"X-CSRF-Token": browser.csrf(), "Content-Type": "application/json"}
    browser("POST", "/api/v1/machines", '{"name": "lobby"}', headers)
    assert service.history.records()[-1].by == "administrator:anna@localhost"


@pytest.mark.parametrize("mode", ["answer_lost", "server_error"])
def test_the_provider_being_away_is_said(browser: Browser, organisation: FaultyProvider, mode: str) -> None:
    target = approve(organisation, begin(browser))
    organisation.inject_fault(mode, endpoint="token", times=None)
    assert come_back(browser, target) == 503
    assert COOKIE not in browser.cookies


def test_without_an_organisation_there_is_no_such_sign_in(tmp_path: Path) -> None:
    with open_tcp_service(tmp_path, SystemClock(), FakeProvider()) as service, serve_tcp(service) as port:
        browser = Browser(port)
        assert browser("GET", "/sign-in/oidc").status == 403
        assert browser("GET", "/sign-in/oidc/callback?code=x&state=y").status == 403
        assert "/sign-in/oidc" not in browser("GET", "/sign-in").text


def test_a_provider_that_is_not_there_is_named(service: Service) -> None:
    with pytest.raises(
        InvalidValue,
        match=r"\[server.sign_in\] provider: provider_not_configured provider='fabrikam' configured=\['contoso'\]",
    ):
        OrganisationSignIn(service.config, SignInTable(provider="fabrikam", groups={}), SystemClock())


def test_roles_are_those_of_every_group_and_of_no_other() -> None:
    table = {"a": ("operator",), "b": ("auditor", "administrator"), "c": ()}
    assert roles_of(groups_in(["b", "a", "x"]), table) == ("administrator", "operator", "auditor")
    assert roles_of(groups_in(["c", "x", 1, None]), table) == ()
    assert roles_of(groups_in(None), table) == ()
