"""An older copy of the store is put back behind the service's back: no grant dies of it before a person knows."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
from listeners import listen_at
from ports import free_port
from practice_faults.provider import FaultyProvider
from service_process import FAX, INVALID, POP, PRINTER, RETRIEVED, SMTP, ServiceProcess, SocketConnection
from store_examples import OlderCopy

from infrastructure.store.postgres import PostgresStore

MakeService = Callable[..., ServiceProcess]

PASSWORD = "correct horse battery staple"
HOUR, DAYS = 3600, 3 * 24 * 3600


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, make_service: MakeService) -> ServiceProcess:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    return make_service(kind="oidc", url=url)


def copied(service: ServiceProcess, directory: Path) -> Callable[[], None]:
    """Copy the store of a stopped service; puts the copy back."""
    if service.url is None:
        directory.mkdir()
        shutil.copy(service.database, directory)

        def put_file_back() -> None:
            for path in service.directory.glob("mailtoken.db-*"):
                path.unlink()
            shutil.copy(directory / service.database.name, service.database)

        return put_file_back
    with closing(PostgresStore(service.url)) as store:
        older = OlderCopy(store)

    def put_rows_back() -> None:
        assert service.url
        with closing(PostgresStore(service.url)) as store:
            older.put_back(store)

    return put_rows_back


def put_back_an_older_copy(service: ServiceProcess, directory: Path) -> None:
    """Two tokens, a copy, and the first is renewed: in the copy, which is put back, its refresh token is spent."""
    service.add_printer()
    service.get_token()
    service.fill_in(POP, FAX)
    service.get_token(POP, FAX)
    assert service.stop() == 0
    put_back = copied(service, directory)
    service.start()
    assert service.renew(SMTP).status == 200
    assert service.stop() == 0
    put_back()


def test_a_copy_that_is_put_back_is_served_asks_no_provider_and_goes_on_after_resume(
    service: ServiceProcess, practice: FaultyProvider, tmp_path: Path
) -> None:
    put_back_an_older_copy(service, tmp_path / "copy")
    service.start()
    asked = len(practice.requests)
    assert {service.access_token(name).status for name in (SMTP, POP)} == {200}
    assert_says_why(service, "log_behind")
    assert len(practice.requests) == asked
    assert "log_put_on_hold" in service.log.read_text()

    service.done("resume")
    assert service.renew(POP).status == 200
    assert service.renew(SMTP).status != 200  # its refresh token was spent after the copy: the provider ends its family
    assert (service.status(SMTP)["token"], service.status(POP)["token"]) == (INVALID, RETRIEVED)
    assert service.renew(POP).status == 200
    history = [one for one in service.history() if one["aggregate"] == "Log"]
    assert [one["event"] for one in history] == ["FoundOther", "Resumed"]
    assert history[1]["facts"]["given_up_number"] == history[0]["facts"]["known_number"]
    assert service.done("doctor").count("nothing to compare with") == 0
    assert service.findings() == ()


def assert_says_why(service: ServiceProcess, code: str) -> None:
    """Everything that would ask the provider is refused, and every surface says why."""
    asks = [
        service.renew(),
        service.delete(),
        service.access_token(min_ttl=3600),
        service.call("POST", "/api/v1/providers/contoso/check"),
    ]
    assert [(answer.status, answer.body["code"]) for answer in asks] == [(409, code)] * len(asks)
    assert service.status()["attention"] == code
    state = service.ask("GET", "/api/v1/store")
    assert (f"log_{state['hold']['reason']}", state["attention"]) == (code, [code])
    for how in ([], ["--offline"]):
        status = service.run("status", "--check", *how)
        assert (status.returncode, "mailtoken resume" in status.stderr) == (1, True)
    refused = service.run("token", "renew", SMTP)
    assert (refused.returncode, refused.stderr.count("\n"), "mailtoken resume" in refused.stderr) == (5, 1, True)
    doctor = service.run("doctor")
    assert (doctor.returncode, "mailtoken resume" in doctor.stdout) == (1, True)
    assert service.call("GET", "/readyz").status == 200


def ask_over_tcp(port: int, target: str, headers: dict[str, str], form: dict[str, str] | None = None) -> Answered:
    """Ask at the service's TCP port, as a client or a browser does."""
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        origin = {"Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode(form) if form else None
        connection.request("POST" if form else "GET", target, body, {**headers, **(origin if form else {})})
        answer = connection.getresponse()
        return Answered(answer.status, html.unescape(answer.read().decode()), answer.getheader("Set-Cookie") or "")


class Answered(NamedTuple):
    """What came over TCP."""

    status: int
    text: str
    cookie: str = ""


def as_client(port: int, key: str, profile: str) -> Answered:
    """Ask for a token with a client's key."""
    return ask_over_tcp(port, f"/api/v1/profiles/{profile}/access-token", {"Authorization": f"Bearer {key}"})


def metrics(service: ServiceProcess) -> str:
    """What `/metrics` gives."""
    with closing(SocketConnection(service.socket)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


def assert_pages_say_why(port: int) -> None:
    """An administrator signs in, and every page says why, with the button that lifts the hold."""
    form = {"name": "anna", "password": PASSWORD}
    signed_in = ask_over_tcp(port, "/sign-in", {}, form)
    assert signed_in.status == 303, signed_in.text
    cookie = {"Cookie": signed_in.cookie.partition(";")[0]}
    for page in (
        "/home",
        "/machines",
        f"/machines/{PRINTER}/panel",
        f"/settings/{SMTP}",
        "/attention",
        "/providers",
        "/clients",
    ):
        shown = ask_over_tcp(port, page, cookie)
        assert (shown.status, "The log is shorter than this service has seen it" in shown.text) == (200, True), page
        assert re.search(r'action="[^"]*/resume"', shown.text), page


def test_a_day_old_copy_serves_what_is_in_hand_says_why_everywhere_and_loses_no_unspent_token(
    make_service: MakeService, practice: FaultyProvider, tmp_path: Path
) -> None:
    service = make_service(kind="oidc")
    service.stop()
    listen_at(service.config, port := free_port())
    service.start()
    service.run("administrator", "add", "anna", "--role", "administrator", message=f"{PASSWORD}\n")
    service.add_printer()
    service.get_token()
    practice.rules.access_token_seconds = DAYS
    service.fill_in(POP, FAX)
    service.get_token(POP, FAX)
    practice.rules.access_token_seconds = HOUR
    key = service.done("client", "add", "backup", "--profile", SMTP, "--profile", POP).split()[-1]
    assert service.stop() == 0
    put_back = copied(service, tmp_path / "copy")

    service.start()
    service.clock.step(days=1)
    assert service.renew(SMTP).status == 200
    assert as_client(port, key, SMTP).status == 200
    assert service.stop() == 0
    put_back()
    service.start()
    asked = len(practice.requests)
    assert service.access_token(POP).status == as_client(port, key, POP).status == 200
    shown = service.run("token", "show", POP)
    assert (shown.returncode, shown.stdout.count("\n"), shown.stderr) == (0, 1, "")
    expired = service.run("token", "show", SMTP)
    assert (expired.returncode, expired.stdout, "mailtoken resume" in expired.stderr) == (5, "", True)
    refused = as_client(port, key, SMTP)
    assert (refused.status, '"log_behind"' in refused.text) == (409, True)
    assert_says_why(service, "log_behind")
    assert_pages_say_why(port)
    assert "\nmailtoken_on_hold 1" in metrics(service)
    assert [service.call("GET", path).status for path in ("/healthz", "/readyz")] == [200, 200]
    assert len(practice.requests) == asked

    service.done("resume")
    assert service.renew(POP).status == 200
    assert service.renew(SMTP).status != 200  # spent after the copy: the provider ends its family
    assert (service.status(SMTP)["token"], service.status(POP)["token"]) == (INVALID, RETRIEVED)
    assert service.renew(POP).status == 200
    assert "\nmailtoken_on_hold 0" in metrics(service)
    assert service.findings() == ()


def test_a_client_whose_right_ended_after_the_copy_gets_no_token_from_the_copy(
    make_service: MakeService, tmp_path: Path
) -> None:
    service = make_service(kind="oidc")
    service.stop()
    listen_at(service.config, port := free_port())
    service.start()
    service.add_printer()
    service.get_token()
    key = service.done("client", "add", "leaver", "--profile", SMTP).split()[-1]
    assert as_client(port, key, SMTP).status == 200
    assert service.stop() == 0
    put_back = copied(service, tmp_path / "copy")
    with service:
        service.done("client", "revoke", "leaver")
        assert as_client(port, key, SMTP).status == 401
        service.stop()
    put_back()
    with service:
        refused = as_client(port, key, SMTP)
        assert (refused.status, '"clients_not_proven"' in refused.text) == (409, True), refused.text
        assert service.access_token(SMTP).status == 200  # root, whom the kernel proves
        service.done("resume")
        assert as_client(port, key, SMTP).status == 200  # the administrator took the copy as it is


def test_a_copy_that_went_on_elsewhere_is_used_only_for_a_reason(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service(kind="oidc")
    put_back_an_older_copy(service, tmp_path / "copy")
    memory = service.directory / "escrow.log-head"
    known = memory.read_bytes()
    memory.unlink()
    with service:  # this host has no memory, as another one would have none
        assert "log_not_compared" in service.log.read_text()
        assert "nothing to compare with" in service.run("doctor").stdout
        service.done("machine", "add", "lobby-mfp", "--catalogue", "sharp-bp")
        service.stop()
    memory.write_bytes(known)
    with service:
        assert_says_why(service, "log_differs")
        refused = service.run("resume")
        assert (refused.returncode, refused.stderr.count("\n"), "--because" in refused.stderr) == (2, 1, True)
        assert service.call("POST", "/api/v1/store/resume", {"because": None}).status == 422
        service.done("resume", "--because", "the lobby has a printer now")
        assert service.renew(POP).status == 200
    assert service.run("resume").returncode == 6
