"""An operator's day: a service that stops and clients that hang up in the middle, and a database that is away."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import command_line
import pytest
from ports import answers, free_port
from postgres import NoPostgres, private_server
from postgres_control import ControlledServer
from practice_faults.provider import FaultyProvider
from service_process import LINKED, RETRIEVED, SMTP, ServiceProcess
from waiting import DEADLINE_SECONDS, in_background, wait_until

from adapters.cli.service_socket import connect

MakeService = Callable[..., ServiceProcess]


def on_a_rotating_provider(make_service: MakeService, practice: FaultyProvider, **options: Any) -> ServiceProcess:
    """A service with a token whose refresh token is spent at each renewal; a spent one ends the grant."""
    service = make_service(kind="oidc", **options)
    service.add_printer()
    service.get_token()
    practice.rules.refresh = "rotate"
    return service


def test_a_service_that_is_told_to_stop_ends_the_renewal_under_way_and_loses_no_grant(
    make_service: MakeService, practice: FaultyProvider
) -> None:
    service = on_a_rotating_provider(make_service, practice)
    reply = practice.hold(grant_type="refresh_token")
    renewal = in_background(service.renew)
    reply.wait_until_held(60)
    os.kill(service.pid, signal.SIGTERM)
    reply.release()
    assert renewal.result(60).status == 200
    assert service.stop() == 0
    service.start()
    assert service.renew().status == 200
    assert service.status()["token"] == RETRIEVED


def test_a_renewal_that_outlasts_the_end_of_the_service_is_stored_and_its_client_told_to_try_again(
    make_service: MakeService, practice: FaultyProvider
) -> None:
    service = on_a_rotating_provider(make_service, practice)
    reply = practice.hold(grant_type="refresh_token")
    renewal = in_background(lambda: service.run("token", "renew", SMTP))
    reply.wait_until_held(60)
    os.kill(service.pid, signal.SIGTERM)
    told = renewal.result(DEADLINE_SECONDS)
    assert (told.returncode, told.stderr) == (6, "mailtoken: the service is stopping: try again\n")
    reply.release()
    assert service.stop() == 0
    service.start()
    assert service.events().count("Renewed") == 1
    assert service.renew().status == 200
    assert service.status()["token"] == RETRIEVED


@pytest.mark.parametrize("command", [("serve",), ("serve", "--relay")])
def test_a_terminal_that_is_closed_in_the_middle_of_a_renewal_ends_no_service_and_loses_no_grant(
    make_service: MakeService, practice: FaultyProvider, command: Sequence[str]
) -> None:
    service, port = on_a_rotating_provider(make_service, practice), free_port()
    assert service.stop() == 0
    service.configure(f'[relay]\nlisten = ["smtp://127.0.0.1:{port}"]\n')
    with at_terminal(service, *command) as terminal:
        if "--relay" in command:
            wait_until(lambda: answers(port), "the relay listens")
        reply = practice.hold(grant_type="refresh_token")
        renewal = in_background(service.renew)
        reply.wait_until_held(60)
        terminal.close()
        reply.release()
        assert renewal.result(60).status == 200
        for _ in range(3):
            assert service.renew().status == 200
        if "--relay" in command:
            wait_until(lambda: answers(port), "the relay listens")
        assert service.status()["token"] == RETRIEVED
        assert service.stop() == 0


def test_a_relay_that_the_service_started_ends_with_a_service_that_is_killed(
    make_service: MakeService, practice: FaultyProvider
) -> None:
    service, port = on_a_rotating_provider(make_service, practice), free_port()
    assert service.stop() == 0
    service.configure(f'[relay]\nlisten = ["smtp://127.0.0.1:{port}"]\n')
    for _ in range(2):
        process = command_line.begin("serve", "--relay", cwd=service.config.parent, log=service.log)
        try:
            wait_until(lambda: answers(port), "the relay listens")
        finally:
            process.kill()
            process.wait(DEADLINE_SECONDS)
        wait_until(lambda: not answers(port), "the relay has ended")


class Terminal:
    """A terminal that can be closed, once."""

    def __init__(self) -> None:
        self._main, self.inner = pty.openpty()
        self._is_open = True

    def close(self) -> None:
        """Close it, which hangs up on the programs that it controls."""
        if self._is_open:
            self._is_open = False
            os.close(self._main)


@contextmanager
def at_terminal(service: ServiceProcess, *command: str) -> Iterator[Terminal]:
    """Start the service as a person does who types its command at a terminal."""
    terminal = Terminal()
    try:
        service._process = command_line.begin_at_terminal(terminal.inner, *command, cwd=service.directory, forked=False)
        os.close(terminal.inner)
        wait_until(service._answers, "the service answers")
        yield terminal
    finally:
        service.end()
        terminal.close()


def test_a_client_that_hangs_up_in_the_middle_of_a_renewal_loses_no_grant(
    make_service: MakeService, practice: FaultyProvider
) -> None:
    service = on_a_rotating_provider(make_service, practice)
    reply = practice.hold(grant_type="refresh_token")
    with closing(connect(service.socket, 60)) as client:
        target = f"/api/v1/profiles/{SMTP}/token/renew"
        client.sendall(f"POST {target} HTTP/1.1\r\nHost: mailtoken\r\nContent-Length: 0\r\n\r\n".encode())
        reply.wait_until_held(60)
        client.shutdown(socket.SHUT_RDWR)
    reply.release()
    wait_until(lambda: service.events().count("Renewed") == 1, "the renewal is stored")
    assert service.renew().status == 200
    assert {service.status(name)["token"] for name in LINKED} == {RETRIEVED}


def test_a_key_that_is_a_systemd_credential_is_found_by_every_command_that_needs_it(
    make_service: MakeService, tmp_path: Path
) -> None:
    service = make_service(kind="oidc")
    service.add_printer()
    assert service.stop() == 0
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    (service.directory / "mailtoken.key").rename(credentials / "mailtoken.key")
    backup = str(tmp_path / "a.backup")
    commands = (
        ("audit", "verify"),
        ("status", "--offline"),
        ("config", "check"),
        ("backup", backup),
        ("backup", backup, "--verify"),
        ("upgrade",),
    )
    for command in commands:
        without = service.run(*command)
        assert without.returncode != 0 or "there is no key" in without.stderr, command
        done = service.run(*command, CREDENTIALS_DIRECTORY=str(credentials))
        assert (done.returncode, "there is no key" in done.stderr) == (0, False), (command, done.stderr)
    found = service.run("doctor", "--json", CREDENTIALS_DIRECTORY=str(credentials))
    verdicts = {one["subject"]: one["verdict"] for one in json.loads(found.stdout)}
    assert (verdicts["key"], verdicts["store"], verdicts["configuration"]) == ("good", "good", "good")
    process = service.begin("serve", log=service.log, CREDENTIALS_DIRECTORY=str(credentials))
    try:
        wait_until(lambda: service.run("status").returncode == 0, "the service answers")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0


# A database that is away


@pytest.fixture
def server() -> Iterator[ControlledServer]:
    try:
        with private_server() as private:
            yield ControlledServer.of(private)
    except NoPostgres as none:
        pytest.skip(f"needs PostgreSQL: {none}")


@pytest.mark.thorough
def test_a_service_whose_database_was_away_heals_by_itself_and_says_when_it_is_ready(
    make_service: MakeService, practice: FaultyProvider, server: ControlledServer
) -> None:
    server.run("CREATE DATABASE tokens")
    service = on_a_rotating_provider(make_service, practice, url=server.url("tokens"))

    def is_ready() -> bool:
        return service.call("GET", "/readyz").status == 200

    token = service.access_token().body["access_token"]
    assert is_ready()
    server.stop()
    assert not is_ready()
    assert service.call("GET", "/healthz").status == 200
    assert service.access_token().body["access_token"] == token, "the token in hand is served"
    assert service.renew().status == 503
    server.start()
    wait_until(is_ready, "the service is ready again")
    assert service.renew().status == 200
    assert service.access_token().status == 200
    server.set(default_transaction_read_only="on")
    wait_until(lambda: not is_ready(), "the service is not ready")
    assert service.access_token().status == 200, "the token in hand is served"
    server.run("SET default_transaction_read_only = off", "ALTER SYSTEM RESET default_transaction_read_only")
    server.run("SELECT pg_reload_conf()")
    wait_until(is_ready, "the service is ready again")
    # Each session of the database reads the setting again when it is told, not all at once.
    wait_until(lambda: service.renew().status == 200, "the service renews again")
    assert service.findings() == ()
