"""`test` and `send`, against the practice mail server."""

import itertools
import json
import socket
import subprocess

import pytest
from mailtoken_house import MAILTOKEN, SCAN, House, environment

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
        ("send -bs", "Subject: x\n\n", 2, "-bs is not for this"),
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


@pytest.fixture
def small_house(own_house: House) -> House:
    """A house with one setting, where root's mail goes to somebody, and a sendmail that is ours."""
    with (own_house.directory / "mailtoken.toml").open("a") as config:
        config.write('\n[send]\nlocal_mail_to = ["admin@contoso.com"]\n')
    (own_house.directory / "sendmail").symlink_to(MAILTOKEN)
    own_house.start()
    own_house.get_token(own_house.add_printer())
    return own_house


def test_cron_and_scripts_send_through_our_sendmail(small_house: House) -> None:
    cron = b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@mfp> backup\n\ndisk is full\n"
    _sendmail(small_house, "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root", message=cron)
    (message,) = small_house.mail.wait_for_messages("admin@contoso.com")
    assert f"From: CronDaemon <{SCAN}>\r\n".encode() in message
    assert b"root (Cron Daemon)" not in message
    script = b"From: me@localhost\nTo: reader@contoso.com\n\nhello\n"
    for arguments in (
        ["-t", "-i"],
        ["-t", "-oi", "-f", "root"],
        ["-bm", "-oi", "-fwww-data", "--", "reader@contoso.com"],
    ):
        _sendmail(small_house, *arguments, message=script)
    assert len(small_house.mail.wait_for_messages("reader@contoso.com", 3)) == 3


def _sendmail(house: House, *arguments: str, message: bytes) -> None:
    done = subprocess.run(
        [house.directory / "sendmail", *arguments],
        cwd=house.directory,
        input=message,
        capture_output=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_mail_to_a_user_of_this_machine_wants_to_be_told_where_to_go(house: House, sending: str) -> None:
    done = house.run("send", "--profile", sending, "root", message="Subject: x\n\n")
    assert done.returncode == 2
    assert "root is a user of this machine, not an e-mail address: set local_mail_to under [send]" in done.stderr


def test_several_settings_that_send_for_one_address_want_a_choice(house: House, sending: str, machine: str) -> None:
    other = house.add_printer(f"{machine}-b")
    for name in (sending, other):
        house.done("profile", "set", name, f"sender_address={machine}@contoso.com")
    done = house.run("send", "-f", f"{machine}@contoso.com", "a@x.org", message="Subject: x\n\n")
    assert done.returncode == 5
    assert "--profile" in done.stderr
    assert other in done.stderr
