"""Refused clients: each reads its refusal, the log names it, and its record has what it said but no secret."""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from line_client import MAILBOX, PASSWORD, USER, LineClient
from sending_relay import MESSAGE, Sender, SendingRelay, StartRelay
from smtp_peer import Peer, say
from waiting import wait_until

from adapters.practice.ca import PracticeCA
from adapters.relay_documents import RelayRefusal


@pytest.fixture
def files(ca: PracticeCA, tmp_path: Path) -> dict[str, Path]:
    issued = ca.issue()
    shutil.copy(issued.cert_file, tmp_path / "relay.crt")
    shutil.copy(issued.key_file, tmp_path / "relay.key")
    return {"certificate_file": tmp_path / "relay.crt", "key_file": tmp_path / "relay.key"}


def recorded(relay: SendingRelay) -> list[RelayRefusal]:
    records: list[RelayRefusal] = []
    relay.relay._listener.report_to(records.append)
    return records


def refused(logged: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of the log about refused clients, as soon as there are some."""
    lines: list[dict[str, Any]] = []

    def is_logged() -> bool:
        lines[:] = [line for line in logged if line["event"] == "client_refused"]
        return bool(lines)

    wait_until(is_logged, "a refusal is logged")
    return lines


# Messages


def test_a_refusal_is_read_by_a_client_that_sends_twelve_megabytes_first(
    send: StartRelay, peer: Peer, logged: list[dict[str, Any]]
) -> None:
    relay = send()
    records = recorded(relay)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.begin()
        client.send(b"Subject: Scan\r\n\r\na bare\nline\r\n" + b"x" * 70 + b"\r\n")
        for _ in range(12):
            client.send((b"y" * 1022 + b"\r\n") * 1024)
        client.send(b".\r\n")
        client.hear("521 5.5.2")
    assert peer.messages == []
    [line] = [line for line in logged if line["event"] == "client_refused"]
    assert (line["address"], line["user"]) == ("127.0.0.1", USER)
    assert "bare" in line["why"]
    [record] = records
    assert (record.cause, record.user, record.profile) == ("bare_line_end", USER, "office-mfp/smtp")
    assert record.commands == [
        "EHLO printer",
        "AUTH PLAIN",
        f"MAIL FROM:<{MAILBOX}>",
        "RCPT TO:<you@contoso.com>",
        "DATA",
    ]


def test_no_record_and_no_line_of_the_log_has_a_password_or_content(
    send: StartRelay, logged: list[dict[str, Any]]
) -> None:
    relay = send()
    records = recorded(relay)
    secret = b64encode(b"correct horse wrong").decode()
    with Sender(relay.port).greet() as client:
        client.ask("AUTH LOGIN", "334")
        client.ask(b64encode(USER.encode()).decode(), "334")
        client.ask(secret, "535")
        client.ask(secret, "500")
        client.ask(f"AUTH PLAIN {secret}", "501")
        client.ask("Subject: what is no command", "500")
    wait_until(lambda: len(records) == 4, "four refusals are recorded")
    assert [record.cause for record in records] == ["wrong_password", "command", "command", "command"]
    for text in (repr(records), repr(logged)):
        assert secret not in text
        assert "correct horse" not in text
        assert "what is no command" not in text


@pytest.mark.parametrize(
    ("point", "reply", "cause"),
    [
        ("MAIL", "550 5.7.60 SMTP; Client does not have permissions to send as this sender", "sender"),
        ("MAIL", "552 5.3.4 too big", "too_big"),
        ("RCPT", "550 5.1.1 no such user", "recipient"),
        ("END", "554 5.7.1 spam", "message"),
        ("END", "432 4.3.2 sender thread limit exceeded", "mail_server_busy"),
    ],
)
def test_the_mail_servers_refusal_is_recorded_with_its_cause(
    send: StartRelay, peer: Peer, point: str, reply: str, cause: str
) -> None:
    relay = send()
    records = recorded(relay)
    peer.do(point, say(reply))
    with Sender(relay.port).greet() as client:
        client.sign_in()
        for line in (f"MAIL FROM:<{MAILBOX}>", "RCPT TO:<you@b.c>", "DATA"):
            if not client.ask(line).startswith(("250", "354")):
                break
        else:
            client.send(MESSAGE)
            client.hear()
    assert (records[0].cause, records[0].why) == (cause, reply)


def test_a_refused_sender_is_told_the_address_that_the_mailbox_may_use(send: StartRelay, peer: Peer) -> None:
    peer.do("MAIL", say("550 5.7.60 not you"))
    with Sender(send().port).greet() as client:
        client.sign_in()
        assert client.ask("MAIL FROM:<printer@local>") == (
            f"550-5.7.60 not you\n550 5.7.60 the mailbox may send as {MAILBOX}"
        )


# TLS

URLS = ("smtp://127.0.0.1:0", "smtps://127.0.0.1:0", "pop3://127.0.0.1:0", "imap://127.0.0.1:0")


def hello(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2, ciphers: str = "ALL:@SECLEVEL=0") -> bytes:
    """The first flight of a client with this version and these ciphers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    context.set_ciphers(ciphers)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("is_implicit", [True, False], ids=["implicit", "starttls"])
@pytest.mark.parametrize(
    ("first", "alert", "cause"),
    [
        (lambda: hello(ciphers="AES128-SHA:@SECLEVEL=0"), 40, "no_shared_cipher"),
        (lambda: hello(ssl.TLSVersion.TLSv1), 70, "tls_too_old"),
    ],
    ids=["cipher", "version"],
)
def test_a_client_whose_tls_is_too_old_gets_an_alert_and_the_log_says_why(
    send: StartRelay,
    files: dict[str, Path],
    logged: list[dict[str, Any]],
    is_implicit: bool,
    first: Callable[[], bytes],
    alert: int,
    cause: str,
) -> None:
    relay = send(*URLS, **files)
    records = recorded(relay)
    with Sender(relay.ports[is_implicit]) as client:
        if not is_implicit:
            client.greet().ask("STARTTLS", "220")
        client.send(first())
        commands = client.hear_out()
    assert (commands[0], commands[-2:]) == (0x15, bytes([2, alert]))
    assert [record.cause for record in records] == [cause]
    [line] = [line for line in logged if line["event"] == "client_refused"]
    assert ("cipher" in line["why"]) is (cause == "no_shared_cipher")


@pytest.mark.parametrize("listener", [0, 2, 3], ids=["smtp", "pop", "imap"])
def test_a_client_that_begins_tls_at_a_plain_port_leaves_a_line_with_the_port_to_use(
    send: StartRelay, files: dict[str, Path], logged: list[dict[str, Any]], listener: int
) -> None:
    relay = send(*URLS, **files)
    with LineClient(relay.ports[listener]) as client:
        client.hear()
        client.send(hello())
        assert client.hear_out() == b""
    [line] = refused(logged)
    assert line["address"] == "127.0.0.1"
    assert "STARTTLS" in line["why"]
    assert (f"port {relay.ports[1]}" in line["why"]) is (listener == 0)


def test_a_client_that_speaks_in_clear_at_a_tls_port_leaves_a_line_with_the_port_to_use(
    send: StartRelay, files: dict[str, Path], logged: list[dict[str, Any]]
) -> None:
    relay = send(*URLS, **files)
    with LineClient(relay.ports[1]) as client:
        client.send(b"EHLO printer\r\n")
        client.hear_out()
    [line] = refused(logged)
    assert f"port {relay.ports[0]}" in line["why"]


def test_a_client_that_waits_for_a_greeting_at_a_tls_port_leaves_a_line(
    send: StartRelay, files: dict[str, Path], logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.relay.listener._WAITED_SECONDS", 0)
    relay = send(*URLS, **files)
    with LineClient(relay.ports[1]) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    [line] = refused(logged)
    assert "begins with TLS" in line["why"]


def test_a_wrong_password_by_pop_and_imap_is_recorded(send: StartRelay, files: dict[str, Path]) -> None:
    relay = send(*URLS, **files)
    records = recorded(relay)
    with LineClient(relay.ports[2]) as pop, LineClient(relay.ports[3]) as imap:
        pop.hear("+OK")
        pop.ask(f"USER {USER}", "+OK")
        pop.ask(f"PASS {PASSWORD}!", "-ERR [AUTH]")
        imap.hear("* OK")
        imap.ask(f'a LOGIN {USER} "{PASSWORD}!"', "a NO [AUTHENTICATIONFAILED]")
    assert [(record.protocol, record.cause, record.commands) for record in records] == [
        ("pop", "wrong_password", [f"USER {USER}", "PASS", f"sign-in as {USER}"]),
        ("imap", "wrong_password", ["LOGIN", f"sign-in as {USER}"]),
    ]


POP, IMAP = 2, 4
SECRET = b64encode(b"\0mfp-3\0correct horse").decode()


@pytest.mark.parametrize(
    ("listener", "lines", "reply", "cause", "why"),
    [
        (POP, ["APOP mfp-3 c4c9334bac560ecc979e58001b3e22fb"], "-ERR Sign in", "command", "APOP: Sign in first"),
        (POP, ["AUTH CRAM-MD5"], "-ERR Only", "command", "AUTH CRAM-MD5: Only PLAIN"),
        (POP, ["PASS correct horse"], "-ERR Send USER", "command", "PASS: Send USER first"),
        (POP, ["STLS now", "STLS"], "-ERR TLS", "command", "STLS: TLS is not offered"),
        (POP, [f"AUTH PLAIN {SECRET[:-3]}"], "-ERR This is not", "command", "AUTH PLAIN: This is not"),
        (POP, [SECRET], "-ERR Sign in", "command", "Sign in first"),
        (POP, ["USER mfp-3\n"], "-ERR a line", "bare_line_end", "a line with a bare CR or LF"),
        (POP, ["x" * 20_000], "-ERR a line", "line_too_long", "a line of more than"),
        (IMAP, ["a AUTHENTICATE CRAM-MD5"], "a NO Only", "command", "AUTHENTICATE: Only PLAIN"),
        (IMAP, ["a SELECT INBOX"], "a BAD Sign in", "command", "SELECT: Sign in first"),
        (IMAP, [f"a {SECRET}"], "* BAD", "command", "This is not a command"),
        (IMAP, [f"a LOGIN mfp-3 {SECRET} more"], "a BAD This", "command", "LOGIN: This is not"),
        (IMAP, ["hello"], "* BAD", "command", "This is not a command"),
        (IMAP, ["a LOGIN {99999999}"], "a BAD The literal", "command", "The literal is too large"),
        (IMAP, ["a LOGIN x\n"], "* BYE", "bare_line_end", "a line with a bare CR or LF"),
    ],
)
def test_every_refused_command_of_pop_and_imap_is_logged_and_recorded_without_a_secret(
    send: StartRelay,
    logged: list[dict[str, Any]],
    listener: int,
    lines: list[str],
    reply: str,
    cause: str,
    why: str,
) -> None:
    relay = send("pop3://127.0.0.1:0", "imap://127.0.0.1:0")
    records = recorded(relay)
    with LineClient(relay.ports[listener == IMAP]) as client:
        client.hear()
        for line in lines:
            client.ask(line, reply)
    assert {record.cause for record in records} == {cause}
    assert all(record.why.startswith(why) for record in records)
    assert [line["why"] for line in logged if line["event"] == "client_refused"] == [record.why for record in records]
    assert SECRET[:-3] not in repr((records, logged))
    assert "correct horse" not in repr((records, logged))
    assert "c4c9334" not in repr((records, logged))


def test_a_password_that_would_go_in_clear_text_by_pop_and_imap_is_recorded(
    send: StartRelay, files: dict[str, Path], logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.relay.listener.is_loopback", lambda address: False)
    relay = send("pop3://127.0.0.1:0", "imap://127.0.0.1:0", **files)
    records = recorded(relay)
    with LineClient(relay.ports[0]) as pop, LineClient(relay.ports[1]) as imap:
        pop.hear("+OK")
        pop.ask(f"USER {USER}", "-ERR Begin TLS first")
        imap.hear("* OK")
        imap.ask(f'a LOGIN {USER} "{PASSWORD}"', "a NO [PRIVACYREQUIRED] Begin TLS first")
        imap.ask("b LOGIN {5}", "b NO [PRIVACYREQUIRED] Begin TLS first")
    assert [record.cause for record in records] == ["not_encrypted"] * 3
    assert len(refused(logged)) == 3


def test_a_command_that_is_none_is_not_said_to_be_the_one_before_it(
    send: StartRelay, logged: list[dict[str, Any]]
) -> None:
    with Sender(send().port) as client:
        client.hear("220")
        client.ask("GET / HTTP/1.1", "500")
        client.ask("EHLO printer", "250")
        client.ask("EXPN all", "500")
        client.ask("NOOP \x01", "500")
    whys = [line["why"] for line in refused(logged)]
    assert whys == ["there is no such command", "there is no such command", "a control character in a command"]


@pytest.mark.parametrize("listener", [0, 2, 3], ids=["smtp", "pop", "imap"])
def test_clear_text_after_starttls_is_not_said_to_be_at_the_wrong_port(
    send: StartRelay, files: dict[str, Path], logged: list[dict[str, Any]], listener: int
) -> None:
    relay = send(*URLS, **files)
    with LineClient(relay.ports[listener]) as client:
        client.hear()
        client.ask({0: "STARTTLS", 2: "STLS", 3: "a STARTTLS"}[listener])
        client.send(b"EHLO printer\r\n")
        client.hear_out()
    [line] = refused(logged)
    assert line["why"] == "TLS failed: clear text came after STARTTLS"
