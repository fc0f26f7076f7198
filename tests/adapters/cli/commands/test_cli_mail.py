"""`test` and `send`, against the practice mail server."""

import itertools
import json
import socket
from email import message_from_bytes

import pytest
from command_line import MAILTOKEN
from service_process import SCAN, ServiceProcess

_numbers = itertools.count(1)
MESSAGE = "To: {to}\nBcc: {hidden}\nSubject: Scan\n\nPage one\n.\nPage two\n"


@pytest.fixture
def mailbox() -> str:
    """An address that gets no other test's mail."""
    return f"reader-{next(_numbers)}@contoso.com"


@pytest.fixture
def sending(service: ServiceProcess, smtp: str, machine: str) -> str:
    """An SMTP setting with a token."""
    service.get_token(smtp)
    return smtp


def test_a_connection_is_tested_step_by_step_with_a_verdict(service: ServiceProcess, sending: str) -> None:
    lines = service.done("test", sending).splitlines()
    assert [line.split()[1] for line in lines[:-1]][:4] == ["resolve", "connect", "greeting", "tls"]
    assert all(line.startswith("✓ ") for line in lines[:-1])
    assert lines[-1] == f"The server accepted the token for {SCAN}."
    report = json.loads(service.done("test", sending, "--json"))
    assert (report["profile"], report["ok"], report["fault"]) == (sending, True, "none")


def test_a_test_message_is_delivered(service: ServiceProcess, sending: str, mailbox: str) -> None:
    service.done("test", sending, "--to", mailbox)
    (message,) = service.mail.wait_for_messages(mailbox)
    assert b"connection test" in message


def test_a_test_that_fails_shows_where_and_says_whose_move_it_is(service: ServiceProcess, sending: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    service.done("profile", "set", sending, f"port={port}")
    done = service.run("test", sending)
    assert done.returncode == 6
    assert "✗ connect" in done.stdout
    assert done.stderr.startswith(f"mailtoken: {sending}: ")
    assert "accepts no connection" in done.stderr


def test_a_refusal_is_shown_with_the_servers_own_words(service: ServiceProcess, sending: str) -> None:
    done = service.run("send", "--profile", sending, "-fother@contoso.com", "a@x.org", message="Subject: x\n\n")
    assert done.returncode == 1
    assert "(At fault: the From address.) The server said: 5" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_token_there_is_nothing_to_test_with(service: ServiceProcess, smtp: str) -> None:
    done = service.run("test", smtp)
    assert (done.returncode, done.stdout) == (5, "")


def test_a_message_goes_to_those_it_names_and_bcc_stays_here(
    service: ServiceProcess, sending: str, mailbox: str
) -> None:
    hidden = f"hidden-{mailbox}"
    done = service.run(
        "send", "--profile", sending, "-t", "-oi", "-oem", message=MESSAGE.format(to=mailbox, hidden=hidden)
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (seen,), (unseen,) = service.mail.wait_for_messages(mailbox), service.mail.wait_for_messages(hidden)
    assert seen == unseen
    assert hidden.encode() not in seen
    assert b"\r\nPage one\r\n.\r\nPage two\r\n" in seen
    for field in (b"Date: ", b"Message-ID: <", f"From: {SCAN}".encode()):
        assert field in seen


@pytest.mark.parametrize(
    "options",
    ["-h 5 -Am -C /etc/mail.cf -X /dev/null -d0", "-oi -oem -odb -bm -v -B8BITMIME -N never -R hdrs -V envid", "-ti"],
)
def test_options_that_other_sendmails_know_lose_no_message(
    service: ServiceProcess, sending: str, mailbox: str, options: str
) -> None:
    to = f"Anna <{mailbox}>; <second-{mailbox}>"
    done = service.run("send", "--profile", sending, *options.split(), to, message="Subject: x\n\nhello\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for address in (mailbox, f"second-{mailbox}"):
        assert len(service.mail.wait_for_messages(address)) == 1


def test_a_recipient_that_is_none_is_the_messages_fault(service: ServiceProcess, sending: str) -> None:
    done = service.run("send", "--profile", sending, "a b@x.org", message="Subject: x\n\nhello\n")
    assert done.returncode == 1
    assert "'a b@x.org' is not an e-mail address" in done.stderr
    assert "(At fault: the message.)" in done.stderr


def test_a_setting_is_found_by_who_sends(service: ServiceProcess, sending: str, machine: str, mailbox: str) -> None:
    service.done("profile", "set", sending, f"sender_address={machine}@contoso.com")
    done = service.run("send", f"-f{machine}@contoso.com", mailbox, message="Subject: x\n\nhello\n")
    assert done.returncode == 1
    assert done.stderr.startswith(f"mailtoken: {sending}: ")


def test_a_message_without_a_header_is_a_message(service: ServiceProcess, sending: str, mailbox: str) -> None:
    service.done("profile", "set", sending, "sender_name=Büro")
    done = service.run("send", "--profile", sending, mailbox, message="toner is low\n")
    assert (done.returncode, done.stderr) == (0, "")
    (message,) = service.mail.wait_for_messages(mailbox)
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
    service: ServiceProcess, line: str, message: str, exit_code: int, said: str
) -> None:
    done = service.run(*line.split(), message=message)
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def small_service(own_service: ServiceProcess) -> ServiceProcess:
    """A service with one setting, where root's mail goes to somebody, and a sendmail that is ours."""
    own_service.configure('\n[send]\nlocal_mail_to = ["admin@contoso.com"]\n')
    (own_service.directory / "sendmail").symlink_to(MAILTOKEN)
    own_service.start()
    own_service.get_token(own_service.add_printer())
    return own_service


def test_cron_and_scripts_send_through_our_sendmail(small_service: ServiceProcess) -> None:
    cron = b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@mfp> backup\n\ndisk is full\n"
    _sendmail(small_service, "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root", message=cron, forked=False)
    (message,) = small_service.mail.wait_for_messages("admin@contoso.com")
    assert f"From: CronDaemon <{SCAN}>\r\n".encode() in message
    assert b"root (Cron Daemon)" not in message
    script = b"From: me@localhost\nTo: reader@contoso.com\n\nhello\n"
    for arguments in (
        ["-t", "-i"],
        ["-t", "-oi", "-f", "root"],
        ["-bm", "-oi", "-fwww-data", "--", "reader@contoso.com"],
    ):
        _sendmail(small_service, *arguments, message=script)
    assert len(small_service.mail.wait_for_messages("reader@contoso.com", 3)) == 3
    progress = b"To: root\nSubject: Cron\n\n10%\r100%\r\nname\0name\xff" + b"x" * 3000
    _sendmail(small_service, "-i", "progress@contoso.com", message=progress)
    (message,) = small_service.mail.wait_for_messages("progress@contoso.com")
    body = message_from_bytes(message).get_payload(decode=True)
    assert isinstance(body, bytes)
    assert body.splitlines() == [b"10% 100%", b"name name\xff" + b"x" * 3000]


def _sendmail(service: ServiceProcess, *arguments: str, message: bytes, forked: bool = True) -> None:
    # Called as sendmail it does not look into the current directory.
    config = {"MAILTOKEN_CONFIG": str(service.config)}
    done = service.run(*arguments, message=message, program=service.directory / "sendmail", forked=forked, **config)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_mail_to_a_user_of_this_machine_wants_to_be_told_where_to_go(service: ServiceProcess, sending: str) -> None:
    done = service.run("send", "--profile", sending, "root", message="Subject: x\n\n")
    assert done.returncode == 2
    assert "root is a user of this machine, not an e-mail address: set local_mail_to under [send]" in done.stderr


def test_several_settings_that_send_for_one_address_want_a_choice(
    service: ServiceProcess, sending: str, machine: str
) -> None:
    other = service.add_printer(f"{machine}-b")
    for name in (sending, other):
        service.done("profile", "set", name, f"sender_address={machine}@contoso.com")
    done = service.run("send", "-f", f"{machine}@contoso.com", "a@x.org", message="Subject: x\n\n")
    assert done.returncode == 5
    assert "--profile" in done.stderr
    assert other in done.stderr
