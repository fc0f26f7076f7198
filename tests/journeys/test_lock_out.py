"""Who guesses passwords or keys from elsewhere keeps nobody out, also after a restart of the service."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlencode

import pytest
from listeners import listen_at
from ports import free_port
from service_process import SMTP, ServiceProcess

PASSWORD = "correct horse battery staple"
OWNER, STRANGER, ELSEWHERE = "127.0.0.2", "127.0.0.3", "127.0.0.4"
SIGNED_IN, WRONG, WAIT = 303, 403, 429

MakeService = Callable[..., ServiceProcess]


def ask(address: str, port: int, target: str, form: dict[str, str] | None = None, key: str | None = None) -> int:
    """Ask from this address; the status."""
    with closing(HTTPConnection("127.0.0.1", port, source_address=(address, 0))) as connection:
        headers = {"Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/x-www-form-urlencoded"}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        connection.request("POST" if form else "GET", target, urlencode(form) if form else None, headers)
        return connection.getresponse().status


@pytest.fixture
def port(make_service: MakeService) -> int:
    return free_port()


@pytest.fixture
def service(make_service: MakeService, port: int, store_url: str | None) -> ServiceProcess:
    """A service at this port, with the administrator Anna."""
    service = make_service(kind="oidc", url=store_url)
    service.stop()
    listen_at(service.config, port)
    service.start()
    added = service.run("administrator", "add", "anna", "--role", "administrator", message=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr
    return service


def sign_in(address: str, port: int, password: str = PASSWORD) -> int:
    return ask(address, port, "/sign-in", {"name": "anna", "password": password})


def test_a_stranger_who_guesses_keeps_an_administrator_out_nowhere_they_signed_in_before(
    service: ServiceProcess, port: int
) -> None:
    assert sign_in(OWNER, port) == SIGNED_IN
    service.stop()
    service.start()
    for number in range(12):
        assert sign_in(STRANGER, port, f"a guess, the {number}th of them") == WRONG
        service.clock.step(minutes=15 * (number in range(4, 11)))
    assert sign_in(STRANGER, port, "a guess too many") == WAIT
    assert sign_in(ELSEWHERE, port) == WAIT
    assert sign_in(OWNER, port) == SIGNED_IN
    assert sign_in(OWNER, port, "a mistake of the owner's own") == WRONG
    assert sign_in(OWNER, port) == SIGNED_IN


def test_a_stranger_who_guesses_the_key_of_a_client_keeps_it_out_nowhere(service: ServiceProcess, port: int) -> None:
    service.add_printer()
    service.get_token()
    key = service.done("client", "add", "backup", "--profile", SMTP).split()[-1]
    token = f"/api/v1/profiles/{SMTP}/access-token"
    id = key.partition(".")[0]
    for address in (STRANGER, OWNER):
        assert {ask(address, port, token, key=f"{id}.{'x' * length}") for length in range(40)} == {401}
    assert ask(OWNER, port, token, key=key) == ask(STRANGER, port, token, key=key) == 200
