"""`mailtoken relay` as a process, between a program that knows a password and the practice mail server."""

from __future__ import annotations

import json
import re
import signal
import smtplib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailtoken_house import DEADLINE_SECONDS, MAILTOKEN, SCAN, House, environment

PASSWORD = "a-relay-password"
CONFIG = """
[server]
socket = "{socket}"
[mail]
ca_file = "{ca_file}"
[relay]
listen = ["smtp://127.0.0.1:0"]
"""


@pytest.fixture
def relay(house: House, tmp_path: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], int]]]:
    """Start the relay with a configuration of its own; its process, and the port where it listens."""
    running: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], int]:
        config = tmp_path / "relay.toml"
        config.write_text(CONFIG.format(socket=house.socket, ca_file=house.ca.ca_file))
        process = subprocess.Popen(
            [MAILTOKEN, "--config", str(config), "relay"],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        running.append(process)
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"smtp://127\.0\.0\.1:(\d+)", line)
        assert found, line
        return process, int(found[1])

    yield start
    for process in running:
        process.kill()
        process.wait(DEADLINE_SECONDS)
        if process.stderr:
            process.stderr.close()


def test_a_program_that_knows_only_a_password_sends_through_the_relay(
    house: House, smtp: str, machine: str, relay: Callable[[], tuple[subprocess.Popen[str], int]]
) -> None:
    house.get_token(smtp)
    added = house.run("relay", "user", "add", machine, smtp, message=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr
    process, port = relay()
    with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE_SECONDS) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError) as wrong:
            client.login(machine, "a-wrong-password")
        assert wrong.value.smtp_code == 535
        client.login(machine, PASSWORD)
        client.sendmail(SCAN, [f"{machine}@contoso.com"], b"Subject: Scan\r\n\r\nPage one\r\n")
    (message,) = house.mail.wait_for_messages(f"{machine}@contoso.com")
    assert b"Page one" in message
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0
    assert process.stderr is not None
    lines = [json.loads(line) for line in process.stderr]
    assert [line["event"] for line in lines][-2:] == ["message sent", "stopping"]
    assert PASSWORD not in json.dumps(lines)


def test_a_token_that_needs_a_person_is_told_to_the_program(
    house: House, smtp: str, machine: str, relay: Callable[[], tuple[subprocess.Popen[str], int]]
) -> None:
    added = house.run("relay", "user", "add", machine, smtp, message=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr
    _, port = relay()
    with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE_SECONDS) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError) as told:
            client.login(machine, PASSWORD)
        assert told.value.smtp_code == 454
        assert b"token" in told.value.smtp_error


def test_without_the_service_the_relay_says_so_and_ends(own_house: House) -> None:
    done = own_house.run("relay")
    assert (done.returncode, done.stdout) == (6, "")
    assert "mailtoken serve" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_value_in_the_configuration_is_one_line(own_house: House) -> None:
    with (own_house.directory / "mailtoken.toml").open("a") as config:
        config.write('\n[relay]\nlisten = ["smtp://nowhere"]\n')
    done = own_house.run("relay")
    assert done.returncode != 0
    assert "smtp://127.0.0.1:2587" in done.stderr
    assert len(done.stderr.splitlines()) == 1
