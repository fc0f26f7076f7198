"""How machines and programs write their commands: the relay reads each form, and the mail server gets RFC 5321's."""

from base64 import b64encode

import pytest
from line_client import MAILBOX, PASSWORD, USER
from sending_relay import MESSAGE, Sender, StartRelay, plain
from smtp_peer import Peer


def commands(peer: Peer, verb: bytes) -> list[bytes]:
    return [command for one in peer.conversations for command in one.commands if command.upper().startswith(verb)]


@pytest.mark.parametrize(
    ("line", "passed"),
    [
        ("MAIL FROM:<a@b.c>", "<a@b.c>"),
        ("mail from:<a@b.c>", "<a@b.c>"),
        ("MAIL FROM: <a@b.c>", "<a@b.c>"),
        ("MAIL FROM:  <a@b.c>", "<a@b.c>"),
        ("MAIL FROM:\t<a@b.c>", "<a@b.c>"),
        ("MAIL FROM : <a@b.c>", "<a@b.c>"),
        ("MAIL  FROM:<a@b.c>", "<a@b.c>"),
        ("MAIL\tFROM:<a@b.c>", "<a@b.c>"),
        ("  MAIL FROM:<a@b.c>  ", "<a@b.c>"),
        ("MAIL FROM:<a@b.c>\t", "<a@b.c>"),
        ("MAIL FROM:< a@b.c >", "<a@b.c>"),
        ("MAIL FROM:a@b.c", "<a@b.c>"),
        ("MAIL FROM: a@b.c SIZE=10", "<a@b.c> SIZE=10"),
        ("MAIL FROM:<a@b.c>  SIZE=10\tBODY=8bitmime ", "<a@b.c> SIZE=10 BODY=8BITMIME"),
        ("MAIL FROM:<>", "<>"),
        ("MAIL FROM:< >", "<>"),
        ("MAIL FROM:<@one.example,@[IPv6:::1]:a@b.c>", "<a@b.c>"),
        ('MAIL FROM:<"a b, \\"c\\" <d>"@b.c>', '<"a b, \\"c\\" <d>"@b.c>'),
        ("MAIL FROM:<a@[192.0.2.1]>", "<a@[192.0.2.1]>"),
        ("MAIL FROM:<a@[IPv6:2001:db8::1]>", "<a@[IPv6:2001:db8::1]>"),
    ],
)
def test_every_form_of_a_sender_is_read(send: StartRelay, peer: Peer, line: str, passed: str) -> None:
    with Sender(send().port).greet() as client:
        client.sign_in()
        client.ask(line, "250")
    assert commands(peer, b"MAIL")[-1] == f"MAIL FROM:{passed}".encode()


@pytest.mark.parametrize(
    ("line", "passed"),
    [
        ("RCPT TO: <you@b.c> ", "<you@b.c>"),
        ("rcpt  to:\t< you@b.c >", "<you@b.c>"),
        ("RCPT TO:you@b.c", "<you@b.c>"),
        ("RCPT TO:<Postmaster>", "<Postmaster>"),
        ("RCPT TO:<@relay.example:you@b.c>", "<you@b.c>"),
    ],
)
def test_every_form_of_a_recipient_is_read(send: StartRelay, peer: Peer, line: str, passed: str) -> None:
    with Sender(send().port).greet() as client:
        client.sign_in()
        client.ask(f"MAIL FROM:<{MAILBOX}>", "250")
        client.ask(line, "250")
        client.ask(" DATA ", "354")
        client.send(MESSAGE)
        client.hear("250")
        client.ask("RSET\t", "250")
        client.ask("HELP", "214")
        client.ask("QUIT ", "221")
    assert commands(peer, b"RCPT")[-1] == f"RCPT TO:{passed}".encode()


@pytest.mark.parametrize("line", ['MAIL FROM:<"a\tb"@c.d>', "MAIL FROM:<a\tb@c.d>", "MAIL FROM:<a b@c.d>"])
def test_a_tab_or_a_blank_never_becomes_a_part_of_an_address(send: StartRelay, peer: Peer, line: str) -> None:
    with Sender(send().port).greet() as client:
        client.sign_in()
        client.ask(line, "501")
    assert not commands(peer, b"MAIL")


@pytest.mark.parametrize(
    "lines",
    [
        [f"AUTH  PLAIN  {plain(USER, PASSWORD)} "],
        [f"auth\tplain\t{plain(USER, PASSWORD)}"],
        ["AUTH PLAIN ", f"{plain(USER, PASSWORD)} "],
        ["AUTH LOGIN ", b64encode(USER.encode()).decode() + "\t", b64encode(PASSWORD.encode()).decode() + " "],
        [f"AUTH login  {b64encode(USER.encode()).decode()}", b64encode(PASSWORD.encode()).decode()],
        [f"AUTH PLAIN {plain(USER, PASSWORD, USER.upper())}"],
    ],
)
def test_every_form_of_a_sign_in_is_read(send: StartRelay, lines: list[str]) -> None:
    with Sender(send().port).greet() as client:
        *prompted, last = lines
        for line in prompted:
            client.ask(line, "334")
        client.ask(last, "235")


def test_an_authorization_identity_that_differs_is_a_refused_sign_in(send: StartRelay) -> None:
    with Sender(send().port).greet() as client:
        client.ask(f"AUTH PLAIN {plain(USER, PASSWORD, 'somebody-else')}", "535 5.7.8")
        client.sign_in()


# Delivery status notifications (RFC 3461)

MAIL = f"MAIL FROM:<{MAILBOX}> RET=HDRS ENVID=QQ+2B314159"
RCPT = "RCPT TO:<you@b.c> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;You@B.C"


@pytest.mark.parametrize("is_pipelined", [True, False])
def test_dsn_parameters_go_on_to_a_server_that_offers_dsn(send: StartRelay, peer: Peer, is_pipelined: bool) -> None:
    peer.extensions = ["PIPELINING", "DSN"]
    with Sender(send().port).greet() as client:
        client.sign_in()
        if is_pipelined:
            client.send(f"{MAIL}\r\n{RCPT}\r\n".encode())
            client.hear("250")
            client.hear("250")
        else:
            client.ask(MAIL, "250")
            client.ask(RCPT, "250")
    assert commands(peer, b"MAIL")[-1] == MAIL.encode()
    assert commands(peer, b"RCPT")[-1] == RCPT.encode()


def test_dsn_parameters_are_dropped_where_the_server_offers_no_dsn(send: StartRelay, peer: Peer) -> None:
    with Sender(send().port).greet() as client:
        client.sign_in()
        client.ask(MAIL, "250")
        client.ask(RCPT, "250")
        client.ask("RCPT TO:<you@b.c> WHAT=EVER", "555")
    assert commands(peer, b"MAIL")[-1] == f"MAIL FROM:<{MAILBOX}>".encode()
    assert commands(peer, b"RCPT")[-1] == b"RCPT TO:<you@b.c>"
