"""`test` and `send`, against the practice mail server."""

import itertools
import json
import socket

import pytest
from mailtoken_house import SCAN, House

_numbers = itertools.count(1)
MESSAGE = "To: {to}\nBcc: {hidden}\nSubject: Scan\n\nPage one\n.\nPage two\n"


@pytest.fixture
def mailbox() -> str:
    """An address that gets no other test's mail."""
    return f"reader-{next(_numbers)}@contoso.com"


@pytest.fixture
def sending(house: House, smtp: str, machine: str) -> str:
    """An SMTP setting with a token."""
    house.get_token(smtp)
    return smtp


def test_a_connection_is_tested_step_by_step_with_a_verdict(house: House, sending: str) -> None:
    lines = house.done("test", sending).splitlines()
    assert [line.split()[1] for line in lines[:-1]][:4] == ["resolve", "connect", "greeting", "tls"]
    assert all(line.startswith("✓ ") for line in lines[:-1])
    assert lines[-1] == f"The server accepted the token for {SCAN}."
    report = json.loads(house.done("test", sending, "--json"))
    assert (report["profile"], report["ok"], report["fault"]) == (sending, True, "none")


def test_a_test_message_is_delivered(house: House, sending: str, mailbox: str) -> None:
    house.done("test", sending, "--to", mailbox)
    (message,) = house.mail.wait_for_messages(mailbox)
    assert b"connection test" in message


def test_a_test_that_fails_shows_where_and_says_whose_move_it_is(house: House, sending: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    house.done("profile", "set", sending, f"port={port}")
    done = house.run("test", sending)
    assert done.returncode == 6
    assert "✗ connect" in done.stdout
    assert done.stderr.startswith(f"mailtoken: {sending}: ")
    assert "accepts no connection" in done.stderr


def test_without_a_token_there_is_nothing_to_test_with(house: House, smtp: str) -> None:
    done = house.run("test", smtp)
    assert (done.returncode, done.stdout) == (5, "")


def test_a_message_goes_to_those_it_names_and_bcc_stays_here(house: House, sending: str, mailbox: str) -> None:
    hidden = f"hidden-{mailbox}"
    done = house.run(
        "send", "--profile", sending, "-t", "-oi", "-oem", message=MESSAGE.format(to=mailbox, hidden=hidden)
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (seen,), (unseen,) = house.mail.wait_for_messages(mailbox), house.mail.wait_for_messages(hidden)
    assert seen == unseen
    assert hidden.encode() not in seen
    assert b"\r\nPage one\r\n.\r\nPage two\r\n" in seen
    for field in (b"Date: ", b"Message-ID: <", f"From: {SCAN}".encode()):
        assert field in seen


def test_a_setting_is_found_by_who_sends(house: House, sending: str, machine: str, mailbox: str) -> None:
    house.done("profile", "set", sending, f"sender_address={machine}@contoso.com")
    done = house.run("send", f"-f{machine}@contoso.com", mailbox, message="Subject: x\n\nhello\n")
    assert done.returncode == 1
    assert done.stderr.startswith(f"mailtoken: {sending}: ")


def test_a_message_without_a_header_is_a_message(house: House, sending: str, mailbox: str) -> None:
    house.done("profile", "set", sending, "sender_name=Büro")
    done = house.run("send", "--profile", sending, mailbox, message="toner is low\n")
    assert (done.returncode, done.stderr) == (0, "")
    (message,) = house.mail.wait_for_messages(mailbox)
    assert message.endswith(b"\r\n\r\ntoner is low\r\n")
    assert f"From: =?utf-8?b?QsO8cm8=?= <{SCAN}>".encode() in message


@pytest.mark.parametrize(
    ("line", "message", "exit_code", "said"),
    [
        ("send", "Subject: x\n\n", 2, "there are no recipients"),
        ("send -t", "Subject: x\n\n", 2, "there are no recipients"),
        ("send a@x.org", "Subject: x\n\n", 2, "use -f FROM"),
        ("send -f nobody@x.org a@x.org", "Subject: x\n\n", 4, "nobody@x.org"),
        ("send --profile nobody/smtp -f nobody@x.org a@x.org", "Subject: x\n\n", 4, "no profile is called"),
        ("send --profile nobody -f nobody@x.org a@x.org", "Subject: x\n\n", 4, "no profile is called"),
    ],
)
def test_a_message_that_cannot_go_out_says_why(
    house: House, line: str, message: str, exit_code: int, said: str
) -> None:
    done = house.run(*line.split(), message=message)
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_several_settings_that_send_for_one_address_want_a_choice(house: House, sending: str, machine: str) -> None:
    other = house.add_printer(f"{machine}-b")
    for name in (sending, other):
        house.done("profile", "set", name, f"sender_address={machine}@contoso.com")
    done = house.run("send", "-f", f"{machine}@contoso.com", "a@x.org", message="Subject: x\n\n")
    assert done.returncode == 5
    assert "--profile" in done.stderr
    assert other in done.stderr
