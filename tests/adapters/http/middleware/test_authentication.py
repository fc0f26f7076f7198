"""Who comes by TCP, what they may, and the attacks that must not work: each as a browser or a program would try it."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest
from eventsourcing.persistence import OperationalError
from fakes import FakeClock, FakeProvider
from listeners import serve_tcp
from ports import free_port
from served import ADMIN, POP, SMTP, all_that_lasts
from served_tcp import COOKIE, Browser, HttpClient, open_tcp_service
from structlog.testing import capture_logs
from waiting import wait_until

from adapters.http.middleware.body_limits import ORDINARY_BODY
from adapters.http.server import limited_connection, tcp
from domain.secret import Secret
from infrastructure.service import Service

PASSWORD = "a-password-in-clear"
_JSON = {"Content-Type": "application/json"}
TOKEN = f"/api/v1/profiles/{SMTP}/access-token"


@contextmanager
def annas_service(directory: Path, clock: FakeClock, provider: FakeProvider) -> Iterator[Service]:
    with open_tcp_service(directory, clock, provider) as service:
        service.administrators.add("anna", ["administrator", "auditor"], Secret(PASSWORD), ADMIN)
        yield service


@pytest.fixture
def service(tmp_path: Path, clock: FakeClock, provider: FakeProvider) -> Iterator[Service]:
    with annas_service(tmp_path, clock, provider) as service:
        yield service


@pytest.fixture(scope="module")
def shared_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a service that the tests share which change nothing but sessions."""
    with (
        annas_service(tmp_path_factory.mktemp("shared"), FakeClock(), FakeProvider()) as service,
        serve_tcp(service) as port,
    ):
        yield port


@pytest.fixture
def shared_browser(shared_port: int) -> Browser:
    """A browser in which nobody is signed in, at the shared service."""
    return Browser(shared_port)


@pytest.fixture
def port(service: Service) -> Iterator[int]:
    with serve_tcp(service) as port:
        yield port


@pytest.fixture
def browser(port: int) -> Browser:
    """A browser in which nobody is signed in."""
    return Browser(port)


@pytest.fixture
def anna(browser: Browser) -> Browser:
    """A browser in which Anna is signed in."""
    assert browser.sign_in("anna", PASSWORD).status == 303
    return browser


def said(port: int, *lines: bytes, method: str = "GET", target: str = "/api/v1/status") -> int:
    """The status for a head of exactly these lines."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n".encode()
        connection.sendall(head + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
        with connection.makefile("rb") as answer:
            return int(answer.readline().split()[1])


@pytest.fixture
def key(service: Service) -> str:
    return service.clients.add("backup", [SMTP], None, ADMIN).reveal()


# Keys


@pytest.mark.parametrize(
    "request_line", ["GET /api/v1/status", f"GET {TOKEN}", "POST /api/v1/machines", "DELETE /api/v1/nothing"]
)
def test_nothing_of_the_api_answers_to_nobody(shared_port: int, request_line: str) -> None:
    method, target = request_line.split()
    refused = HttpClient(shared_port)(method, target)
    assert (refused.status, refused.header("www-authenticate")) == (401, 'Bearer realm="mailtoken"')
    assert refused.header("content-type") == "application/problem+json"


def test_whether_the_service_lives_is_for_everybody(shared_port: int) -> None:
    assert [HttpClient(shared_port)("GET", path).status for path in ("/healthz", "/readyz")] == [200, 200]


def test_a_key_reads_what_it_was_granted_and_nothing_else(service: Service, port: int, key: str) -> None:
    program = HttpClient.with_key(port, key)
    served = program("GET", TOKEN)
    assert (served.status, served.header("cache-control")) == (200, "no-store")
    expected = service.tokens.access_token(SMTP, None, "client").credential.access_token.reveal()
    assert served.body["access_token"] == expected
    for method, target in (
        ("GET", f"/api/v1/profiles/{POP}/access-token"),
        ("GET", "/api/v1/profiles/no/such/access-token"),
        ("GET", "/api/v1/status"),
        ("POST", f"/api/v1/profiles/{SMTP}/token/renew"),
        ("GET", "/api/v1/clients"),
        ("GET", "/api/v1/administrators"),
        ("DELETE", "/api/v1/clients/backup"),
    ):
        assert program(method, target).status in (403, 404), target
    assert program("GET", f"/api/v1/profiles/{POP}/access-token").status == 403


def test_the_second_answer_from_memory_is_the_first_one(port: int, key: str) -> None:
    program = HttpClient.with_key(port, key)
    first, second = program("GET", TOKEN), program("GET", TOKEN)
    assert json.loads(first.text) == json.loads(second.text)
    assert (second.status, second.header("content-type")) == (200, "application/json")
    assert program("GET", f"{TOKEN}?min_ttl=600").body == second.body
    assert program("GET", f"{TOKEN}?min_ttl=99999").status == 422
    assert program("GET", f"{TOKEN}?min_ttl=x").status == 422


def test_a_key_that_is_not_good_has_one_answer_whatever_is_wrong_with_it(service: Service, port: int, key: str) -> None:
    id, _, secret = key.partition(".")
    gone = service.clients.add("gone", [SMTP], None, ADMIN).reveal()
    service.clients.remove("gone", ADMIN)
    answers = [
        HttpClient.with_key(port, one)("GET", TOKEN)
        for one in (gone, f"{id}.{secret[:-1]}", f"nobody.{secret}", id, ".", "x" * 5000)
    ]
    assert {(one.status, one.text, one.header("www-authenticate")) for one in answers} == {
        (401, answers[0].text, 'Bearer realm="mailtoken", error="invalid_token"')
    }


def test_a_key_that_is_revoked_is_not_served_from_memory(service: Service, port: int, key: str) -> None:
    program = HttpClient.with_key(port, key)
    assert [program("GET", TOKEN).status for _ in range(3)] == [200] * 3
    service.clients.revoke("backup", [SMTP], ADMIN)
    assert program("GET", TOKEN).status == 403
    service.clients.remove("backup", ADMIN)
    assert program("GET", TOKEN).status == 401


def test_what_a_client_was_handed_and_when_it_came_is_on_record(service: Service, port: int, key: str) -> None:
    program = HttpClient.with_key(port, key)
    for _ in range(4):
        program("GET", TOKEN)
    told = [(one.by, one.facts["generation"]) for one in service.history.records() if one.aggregate == "Reader"]
    assert told == [("client:backup", 1)]
    assert service.clients.clients()[0].used_at == service.clock.now()


# Sessions


def test_signing_in_sets_a_cookie_that_no_script_and_no_other_host_gets(browser: Browser) -> None:
    signed_in = browser.sign_in("anna", PASSWORD, next="/history?profile=press/smtp")
    assert (signed_in.status, signed_in.header("location")) == (303, "/history?profile=press/smtp")
    value = signed_in.set_cookies[COOKIE]
    shown, _, attributes = value.partition("; ")
    assert len(shown) == 43
    assert {one.lower() for one in attributes.split("; ")} == {"httponly", "path=/", "samesite=lax", "secure"}
    assert browser("GET", "/api/v1/status").status == 200


@pytest.mark.parametrize(
    "came_for", ["//evil.example", "/\\evil.example", "https://evil.example", "", "/a\r\nX: y", "x"]
)
def test_signing_in_leads_to_no_other_site(shared_browser: Browser, came_for: str) -> None:
    assert shared_browser.sign_in("anna", PASSWORD, next=came_for).header("location") == "/"


def test_a_session_that_was_planted_before_the_sign_in_is_worth_nothing(service: Service, port: int) -> None:
    attacker, victim = Browser(port), Browser(port)
    attacker.sign_in("anna", PASSWORD)
    victim.cookies[COOKIE] = planted = attacker.cookies[COOKIE]
    assert victim.sign_in("anna", PASSWORD).status == 303
    assert victim.cookies[COOKIE] != planted
    assert attacker("GET", "/api/v1/status").status == 401
    victim.cookies[COOKIE] = "chosen-by-the-attacker"
    victim.sign_in("anna", PASSWORD)
    attacker.cookies[COOKIE] = "chosen-by-the-attacker"
    assert attacker("GET", "/api/v1/status").status == 401


def test_a_stolen_cookie_is_worth_nothing_after_the_log_out(anna: Browser, port: int) -> None:
    thief = Browser(port)
    thief.cookies = dict(anna.cookies)
    assert thief("GET", "/api/v1/status").status == 200
    signed_out = anna.post("/sign-out", csrf=anna.csrf())
    assert (signed_out.status, signed_out.header("location"), anna.cookies) == (303, "/sign-in", {})
    assert thief("GET", "/api/v1/status").status == 401


def test_two_cookies_of_one_name_are_none(anna: Browser) -> None:
    twice = {"Cookie": f"{COOKIE}={anna.cookies[COOKIE]}; {COOKIE}=planted"}
    assert anna("GET", "/api/v1/status", headers=twice).status == 401


@pytest.mark.parametrize("name", [b"\xa0%b", b"\x85%b", b"%b\xa0", b"\xe2\x80\x80%b"])
def test_a_cookie_that_any_neighbour_could_set_is_not_the_sessions(shared_browser: Browser, name: bytes) -> None:
    """Browsers see no prefix where other octets are before it, and so let every host of the domain set it."""
    assert shared_browser.sign_in("anna", PASSWORD).status == 303
    shown = shared_browser.cookies[COOKIE].encode()
    assert said(shared_browser.port, b"Cookie: %b=%b" % (COOKIE.encode(), shown)) == 200
    assert said(shared_browser.port, b"Cookie: %b=%b" % (name % COOKIE.encode(), shown)) == 401


def test_of_a_head_that_shows_two_of_a_kind_neither_counts(anna: Browser, key: str) -> None:
    session = f"Cookie: {COOKIE}={anna.cookies[COOKIE]}".encode()
    for lines in ((session, session), (session, b"Cookie: %b=x" % COOKIE.encode()), (b"Cookie: a=b", session)):
        assert [said(anna.port, *lines), said(anna.port, *reversed(lines))] == [401, 401]
    shown = f"Authorization: Bearer {key}".encode()
    assert [said(anna.port, shown, target=TOKEN), said(anna.port, shown, shown, target=TOKEN)] == [200, 401]
    assert said(anna.port, b"Authorization: Bearer x", shown, target=TOKEN) == 401


def test_who_signs_in_reads_no_tokens(service: Service, browser: Browser) -> None:
    service.administrators.set_roles("anna", ["administrator", "operator", "auditor"], ADMIN)
    browser.sign_in("anna", PASSWORD)
    refused = browser("GET", TOKEN)
    assert (refused.status, "anna is not client" in refused.text) == (403, True)


def test_who_changes_something_is_named_in_the_record(service: Service, anna: Browser) -> None:
    done = anna("POST", "/api/v1/machines", '{"name": "lobby"}', {"X-CSRF-Token": anna.csrf(), **_JSON})
    assert done.status == 201
    assert service.history.records()[-1].by == "administrator:anna"


# Other sites


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"X-CSRF-Token": "guessed"}, 403),
        ({"X-CSRF-Token": "right", "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ({"X-CSRF-Token": "right", "Sec-Fetch-Site": "same-site"}, 403),
        ({"X-CSRF-Token": "right", "Origin": "null", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"X-CSRF-Token": "right", "Origin": "https://evil.example"}, 403),
        ({"X-CSRF-Token": "right", "Origin": "null"}, 201),
        ({"X-CSRF-Token": "right"}, 201),
    ],
)
def test_no_other_site_can_have_a_browser_change_anything(
    service: Service, anna: Browser, headers: dict[str, str], status: int
) -> None:
    token = anna.csrf()
    shown = {name: token if value == "right" else value for name, value in headers.items()}
    before = all_that_lasts(service)
    assert anna("POST", "/api/v1/machines", '{"name": "lobby"}', {**_JSON, **shown}).status == status
    assert (all_that_lasts(service) == before) == (status == 403)


@pytest.mark.parametrize("origin", ["null", "https://evil.example"])
def test_an_old_browser_must_say_that_the_page_is_ours(anna: Browser, origin: str) -> None:
    shown = {"X-CSRF-Token": anna.csrf(), "Cookie": f"{COOKIE}={anna.cookies[COOKIE]}", **_JSON}
    old = HttpClient(anna.port)
    assert old("POST", "/api/v1/machines", '{"name": "lobby"}', {**shown, "Origin": origin}).status == 403
    assert old("POST", "/api/v1/machines", '{"name": "lobby"}', {**shown, "Origin": anna.origin}).status == 201


@pytest.mark.parametrize("csrf", ["", "guessed", "of another session"])
def test_a_form_without_the_sessions_own_token_changes_nothing(anna: Browser, port: int, csrf: str) -> None:
    other = Browser(port)
    other.sign_in("anna", PASSWORD)
    refused = anna.post("/sign-out", csrf=other.csrf() if csrf == "of another session" else csrf)
    assert refused.status == 403
    assert anna("GET", "/api/v1/status").status == 200


def test_a_form_with_the_token_reaches_its_page_whole(anna: Browser) -> None:
    added = anna.post("/machines/add", csrf=anna.csrf(), name="x" * 5000)
    assert added.status != 403
    assert anna.post("/sign-out", csrf=anna.csrf()).status == 303


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8480", "[::1"])
def test_another_sites_name_that_leads_here_is_still_another_site(anna: Browser, host: str) -> None:
    """DNS rebinding: the browser believes that page and service are one."""
    shown = {**_JSON, "X-CSRF-Token": anna.csrf(), "Host": host, "Origin": f"http://{host}"}
    assert anna("POST", "/api/v1/machines", '{"name": "lobby"}', shown).status == 403
    here = f"localhost:{anna.port}"
    assert anna("POST", "/api/v1/machines", '{"name": "lobby"}', {**shown, "Host": here}).status == 403
    shown = {**shown, "Host": here, "Origin": f"http://{here}"}
    assert anna("POST", "/api/v1/machines", '{"name": "lobby"}', shown).status == 201


def test_no_other_site_can_sign_a_browser_in(shared_browser: Browser) -> None:
    form = urlencode({"name": "anna", "password": PASSWORD})
    elsewhere = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Sec-Fetch-Site": "cross-site",
        "Origin": "https://evil.example",
    }
    assert shared_browser("POST", "/sign-in", form, elsewhere).status == 403
    assert shared_browser.cookies == {}


# Forwarding headers


def test_forged_forwarding_headers_make_nobody_another(browser: Browser, service: Service) -> None:
    for number in range(5):
        forged = {"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"}
        assert browser.post("/sign-in", forged, name=f"n{number}", password="wrong").status == 403
    locked = browser.post("/sign-in", {"X-Forwarded-For": "198.51.100.1"}, name="anna", password=PASSWORD)
    assert (locked.status, locked.header("retry-after")) == (429, "2")
    secure = browser("GET", "/sign-in", headers={"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"})
    assert secure.header("strict-transport-security") is None


def test_a_trusted_proxy_is_believed_and_what_clients_said_to_it_is_not(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider
) -> None:
    with (
        open_tcp_service(tmp_path, clock, provider, trusted_proxies=["127.0.0.1", "10.0.0.0/8"]) as service,
        serve_tcp(service) as port,
    ):
        service.administrators.add("anna", ["operator"], Secret(PASSWORD), ADMIN)

        def guess(forwarded: str) -> int:
            browser = Browser(port)
            return browser.post("/sign-in", {"X-Forwarded-For": forwarded}, name=forwarded, password="wrong").status

        guesses = [guess(f"198.51.100.{number}, 203.0.113.7, 10.0.0.5") for number in range(6)]
        assert guesses == [403] * 5 + [429]
        assert guess("203.0.113.8") == 403
        with_ports = [guess(f"203.0.113.9:{port}, [::ffff:10.0.0.5]:443") for port in range(1024, 1030)]
        assert with_ports == [403] * 5 + [429]
        assert [guess(f"[2001:db8::{port}]:{port}") for port in range(1024, 1030)] == [403] * 5 + [429]
        by_lines = [b"X-Forwarded-For: 198.51.100.1", b"X-Forwarded-For: 203.0.113.7", b"X-Forwarded-For: 10.0.0.5"]
        assert said(port, *by_lines, b"Content-Length: 0", method="POST", target="/sign-in") == 429
        secure = Browser(port)("GET", "/sign-in", headers={"X-Forwarded-Proto": "http, https"})
        assert secure.header("strict-transport-security") == "max-age=31536000"
        behind = Browser(port)
        behind.origin = f"https://127.0.0.1:{port}"
        forwarded = {"X-Forwarded-Proto": "https"}
        assert behind.post("/sign-in", forwarded, name="anna", password=PASSWORD).status == 303
        assert Browser(port).post("/sign-in", forwarded, name="anna", password=PASSWORD).status == 403


# Guessing


def test_guessing_locks_the_sign_in_and_no_token_session_or_key(
    service: Service, anna: Browser, port: int, key: str, clock: FakeClock
) -> None:
    before = all_that_lasts(service)
    guesser = Browser(port)
    answers = [guesser.sign_in("anna", f"wrong {number}") for number in range(40)]
    assert [one.status for one in answers] == [403] * 5 + [429] * 35
    assert len({one.text for one in answers[:5]}) == 1
    assert all_that_lasts(service) == before
    assert anna("GET", "/api/v1/status").status == 200
    assert HttpClient.with_key(port, key)("GET", TOKEN).status == 200
    assert Browser(port).sign_in("anna", PASSWORD).status == 429
    clock.step(seconds=2)
    assert Browser(port).sign_in("anna", PASSWORD).status == 303


def test_a_wrong_name_and_a_wrong_password_look_the_same(port: int) -> None:
    ghost, wrong = Browser(port).sign_in("annb", "wrong"), Browser(port).sign_in("anna", "wrong")
    assert ghost.status == wrong.status == 403
    assert ghost.text.replace("annb", "anna") == wrong.text
    assert "wrong name or password" in wrong.text


# The set-up link


def test_a_set_up_link_lets_the_first_administrator_in_once(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider
) -> None:
    with open_tcp_service(tmp_path, clock, provider) as service, serve_tcp(service) as port:
        link = service.administrators.first_link()
        assert link
        code, browser = link.secret.reveal(), Browser(port)
        page = browser("GET", f"/setup?code={code}")
        assert (page.status, code in page.text) == (200, True)
        assert page.header("referrer-policy") == "no-referrer"
        form = {"code": code, "name": "anna", "password": PASSWORD}
        assert browser.post("/setup", None, **form, repeated="something-else").status == 422
        assert browser.post("/setup", None, **{**form, "password": "short"}, repeated="short").status == 422
        done = browser.post("/setup", None, **form, repeated=PASSWORD)
        assert (done.status, done.header("location")) == (303, "/")
        assert browser("GET", "/api/v1/status").status == 200
        again = Browser(port).post("/setup", None, **form, repeated=PASSWORD)
        assert (again.status, code in again.text) == (403, False)
        assert Browser(port)("GET", f"/setup?code={code}").status == 403


def test_of_many_who_open_one_link_at_once_one_gets_in(service: Service, port: int) -> None:
    service.administrators.add("eve", ["auditor"], None, ADMIN)
    code = service.administrators.link("eve", ADMIN).secret.reveal()

    def choose(number: int) -> tuple[int, bool]:
        browser, password = Browser(port), f"a-password-in-clear-{number}"
        status = browser.post("/setup", code=code, password=password, repeated=password).status
        return status, browser("GET", "/api/v1/status").status == 200

    with ThreadPoolExecutor(8) as threads:
        ended = sorted(threads.map(choose, range(8)))
    assert ended == [(303, True)] + [(403, False)] * 7


@pytest.mark.parametrize("code", ["", "guessed", "%00", "%ed%a0%80", "x" * 3000])
def test_a_link_that_was_never_given_leads_nowhere(shared_browser: Browser, code: str) -> None:
    assert shared_browser("GET", f"/setup?code={code}").status == 403


# Headers and limits


@pytest.mark.parametrize("target", ["/sign-in", "/setup", "/api/v1/status", "/nothing", "/healthz", TOKEN])
def test_every_answer_carries_what_keeps_browsers_safe(shared_browser: Browser, target: str) -> None:
    answer = shared_browser("GET", target)
    policy = answer.header("content-security-policy") or ""
    assert policy.startswith("default-src 'self'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("referrer-policy") == "no-referrer"
    assert answer.header("cache-control") == "no-store"
    assert answer.header("strict-transport-security") is None
    assert answer.header("server") is None


def test_a_static_file_may_be_kept(shared_browser: Browser) -> None:
    page = shared_browser("GET", "/sign-in").text
    static = page.partition('href="/static/')[2].partition('"')[0]
    answer = shared_browser("GET", f"/static/{static}")
    assert answer.status == 200
    assert "max-age" in (answer.header("cache-control") or "")
    assert answer.header("x-content-type-options") == "nosniff"


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_not_taken(port: int, announced: bool) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        size = f"Content-Length: {ORDINARY_BODY.octets + 1}" if announced else "Transfer-Encoding: chunked"
        head = f"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n{size}\r\n\r\n"
        connection.sendall(head.encode())
        with suppress(OSError):
            for _ in range(0 if announced else 1 + ORDINARY_BODY.octets // 65536):
                connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 413 ")


def test_who_has_not_signed_in_says_little(shared_browser: Browser) -> None:
    refused = shared_browser.sign_in("anna", PASSWORD, next="x" * 20_000)
    assert (refused.status, "larger than 16 KiB: sign in first" in refused.text) == (413, True)
    assert shared_browser.sign_in("anna", PASSWORD, next="x" * 10_000).status == 303
    assert shared_browser.post("/sign-out", csrf=shared_browser.csrf(), more="x" * 20_000).status == 303


def test_a_body_that_does_not_come_in_time_is_not_waited_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.http.middleware.authentication.ORDINARY_BODY", replace(ORDINARY_BODY, seconds=0.05))
    with serve_tcp(service) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nname=")
        assert connection.recv(64).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_breaks_off_is_no_trouble_of_ours(port: int) -> None:
    with capture_logs() as logged:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nname=")
            connection.shutdown(socket.SHUT_WR)
            connection.recv(64)
        assert said(port, target="/healthz") == 200
    assert [one for one in logged if one["log_level"] == "error"] == []


@pytest.mark.parametrize("at_once", [True, False])
def test_a_head_that_is_too_large_ends_the_connection(shared_port: int, at_once: bool) -> None:
    with socket.create_connection(("127.0.0.1", shared_port)) as connection:
        filling = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 1000) for number in range(40))
        end = b"\r\n" if at_once else b""
        with suppress(OSError):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + filling + end)
        assert connection.recv(64).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("hosts", [b"", b"Host: x\r\nHost: x\r\n", b"Host: x\r\nhost: evil.example\r\n"])
def test_a_request_names_one_host(shared_port: int, hosts: bytes) -> None:
    with socket.create_connection(("127.0.0.1", shared_port)) as connection:
        connection.sendall(b"GET /sign-in HTTP/1.1\r\nConnection: close\r\n" + hosts + b"\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"evil.example" not in answer


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n\r\n"])
def test_a_head_that_does_not_come_in_time_ends_the_connection(
    service: Service, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(limited_connection, "_HEAD_SECONDS", 0.05)
    with serve_tcp(service) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(said)
        assert connection.recv(64).startswith(b"HTTP/1.1 408 ")


def test_a_connection_is_kept_for_the_next_request(shared_port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared_port)
    for _ in range(3):
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b'{"status":"ok"}')
    connection.close()


def test_the_store_failing_is_said_and_lets_nobody_in(
    service: Service, anna: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OperationalError("disk I/O error")

    monkeypatch.setattr(service.events.store, "reading", fail)
    answer = anna("GET", "/api/v1/status")
    assert (answer.status, answer.header("retry-after")) == (503, "5")
    assert answer.body["detail"] == "storage failing: disk I/O error"
    assert (answer.body["code"], answer.body["fields"]) == ("storage_failing", {"reason": "disk I/O error"})


def test_a_connection_too_many_is_told_to_come_back(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "CONNECTIONS", 1)
    with serve_tcp(service) as port, socket.create_connection(("127.0.0.1", port)):
        answer = HttpClient(port)("GET", "/sign-in")
        health = HttpClient(port)("GET", "/healthz")
    assert (answer.status, answer.header("retry-after")) == (503, "5")
    assert health.status == 200


def test_one_address_that_takes_all_it_can_keeps_nobody_else_out(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_connection, "_SPARE_HEAD_SECONDS", 0.1)
    with serve_tcp(service) as port, ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(300)]
        wait_until(lambda: sum(map(_is_ended, idle)) == 300 - 250, "all but its share were ended")
        assert _status(port, "127.0.0.1", "/sign-in") == 503
        assert _status(port, "127.0.0.1", "/healthz") == 200
        for address in ("127.0.0.2", "127.0.0.3"):
            assert _status(port, address, "/sign-in") == 200


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.needs("IPv6")
def test_the_connections_of_a_proxy_are_those_of_all_its_clients(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider, trusted: bool
) -> None:
    table = {"listen": f"[::1]:{free_port()}", "connections_per_address": 1}
    proxies = ["::1"] if trusted else []
    with (
        open_tcp_service(tmp_path, clock, provider, trusted_proxies=proxies, **table) as service,
        serve_tcp(service) as port,
        ExitStack() as stack,
    ):
        for _ in range(3):
            stack.enter_context(socket.create_connection(("::1", port)))
        assert _status(port, "::1", "/sign-in") == (200 if trusted else 503)


def _is_ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1024) is not None
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def _status(port: int, source: str, path: str) -> int:
    host = "::1" if ":" in source else "127.0.0.1"
    connection = http.client.HTTPConnection(host, port, timeout=60, source_address=(source, 0))
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()
