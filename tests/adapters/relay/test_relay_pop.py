"""The POP3 side of the relay, between scripted mail servers and clients; what reached the mail server is looked at."""

from __future__ import annotations

import socket
import ssl
from base64 import b64encode
from typing import Any

import pytest
from line_client import MAILBOX, PASSWORD, TOKEN, USER, LineClient
from receiving_relay import CHALLENGE, PLAIN, NobodyPlainly, Receive, clear, encoded
from scripted_mail_server import Peer, pop_to_auth

from adapters.mail.sasl_client import Mechanism, client_responses
from domain.catalogue import Protocol
from domain.errors import Refused, Unreachable
from domain.secret import Secret


def signed_in(peer: Peer, sasl: str = "SASL XOAUTH2") -> None:
    """A mail server that takes the token."""
    pop_to_auth(peer, sasl)
    peer.hear("AUTH ")
    peer.say("+OK Logged in.")


def mailbox(peer: Peer) -> None:
    """A mail server with one session of a few commands."""
    signed_in(peer)
    assert peer.hear() == "STAT"
    peer.say("+OK 2 640")
    assert peer.hear() == "QUIT"
    peer.say("+OK bye")


def rejecting(peer: Peer) -> None:
    """A mail server that rejects the token."""
    pop_to_auth(peer)
    peer.hear("AUTH XOAUTH2 ")
    peer.say(f"+ {CHALLENGE}")
    assert peer.hear() == ""
    peer.say("-ERR [AUTH] Authentication failed.")
    peer.hear_out()


def sign_in(client: LineClient) -> None:
    client.hear("+OK Mailtoken relay")
    client.ask(f"USER {USER}", "+OK")
    client.ask(f"PASS {PASSWORD}", "+OK")


def fetch(client: LineClient) -> None:
    """A session behind the sign-in, as `mailbox` has it."""
    assert client.ask("STAT") == "+OK 2 640"
    assert client.ask("QUIT") == "+OK bye"
    assert client.hear_out() == b""


@pytest.mark.parametrize(
    "commands",
    [
        [f"USER {USER}", f"PASS {PASSWORD}"],
        [f"user {USER}", f"pass {PASSWORD}"],
        [f"AUTH PLAIN {PLAIN}"],
        ["AUTH PLAIN", PLAIN],
        ["AUTH LOGIN", encoded(USER), encoded(PASSWORD)],
        [f"AUTH LOGIN {encoded(USER)}", encoded(PASSWORD)],
        [f" USER  {USER} ", f"PASS {PASSWORD}"],
        [f"user\t{USER}\t", f"pass\t{PASSWORD}"],
        [f"AUTH  plain\t{PLAIN} "],
        ["AUTH login ", f"{encoded(USER)} ", f" {encoded(PASSWORD)}\t"],
    ],
)
def test_each_way_to_sign_in_with_a_password_becomes_a_sign_in_with_the_token(
    receive: Receive, commands: list[str]
) -> None:
    relay, admission_client, server = receive(Protocol.POP, mailbox)
    with LineClient(relay.ports["pop3"]) as client:
        client.hear("+OK")
        for command in commands[:-1]:
            client.ask(command, "+")
        assert client.ask(commands[-1]) == "+OK Signed in"
        fetch(client)
    assert admission_client.asked == [(Protocol.POP, "127.0.0.1", USER)]
    response = client_responses(MAILBOX, "localhost", server.port, Secret(TOKEN))[Mechanism.XOAUTH2]
    assert server.heard == b"CAPA\r\nAUTH XOAUTH2 %b\r\nSTAT\r\nQUIT\r\n" % b64encode(response)
    assert server.heard_in_clear.startswith(b"CAPA\r\nSTLS\r\n")
    assert TOKEN.encode() not in server.heard_in_clear


@pytest.mark.parametrize("octets", [50, 1000, 2500])
@pytest.mark.parametrize("mechanism", Mechanism)
def test_a_token_of_any_length_arrives_whole(receive: Receive, mechanism: Mechanism, octets: int) -> None:
    token = Secret("t" * octets)

    def script(peer: Peer) -> None:
        pop_to_auth(peer, f"SASL {mechanism}")
        line = peer.hear(f"AUTH {mechanism}")
        assert len(line) <= 253
        if octets > 50:
            peer.say("+ ")
            line = peer.hear()
        port = peer.sock.getsockname()[1]
        assert line.split()[-1].encode() == b64encode(client_responses(MAILBOX, "localhost", port, token)[mechanism])
        peer.say("+OK")
        peer.hear_out()

    relay, _, _ = receive(Protocol.POP, script, access_token=token)
    with LineClient(relay.ports["pop3"]) as client:
        sign_in(client)


def test_what_a_client_pipelines_behind_its_sign_in_goes_over_in_order(receive: Receive) -> None:
    relay, _, _ = receive(Protocol.POP, mailbox)
    with LineClient(relay.ports["pop3"]) as client:
        client.send(f"USER {USER}\r\nPASS {PASSWORD}\r\nSTAT\r\nQUIT\r\n".encode())
        lines = client.hear_out().decode().split("\r\n")
    assert lines == ["+OK Mailtoken relay", "+OK Send PASS", "+OK Signed in", "+OK 2 640", "+OK bye", ""]


def test_a_user_who_was_named_before_tls_is_forgotten_with_it(receive: Receive, client_tls: ssl.SSLContext) -> None:
    relay, _, _ = receive(Protocol.POP, mailbox)
    with LineClient(relay.ports["pop3"]) as client:
        client.hear("+OK")
        client.ask(f"USER {USER}", "+OK")
        client.ask("STLS", "+OK")
        client.start_tls(client_tls)
        client.ask(f"PASS {PASSWORD}", "-ERR Send USER first")


def test_tls_can_begin_with_stls_or_at_once(receive: Receive, client_tls: ssl.SSLContext) -> None:
    relay, _, _ = receive(Protocol.POP, mailbox, mailbox)
    with LineClient(relay.ports["pop3"]) as client:
        client.hear("+OK")
        assert "STLS" in capabilities(client)
        client.ask("STLS", "+OK")
        client.start_tls(client_tls)
        assert "STLS" not in capabilities(client)
        client.ask("STLS", "-ERR")
        client.ask(f"AUTH PLAIN {PLAIN}", "+OK")
        fetch(client)
    with LineClient(relay.ports["pop3s"], client_tls) as client:
        sign_in(client)
        fetch(client)


def capabilities(client: LineClient) -> list[str]:
    client.ask("CAPA", "+OK")
    return list(iter(client.hear, "."))


@pytest.mark.parametrize(
    "line",
    [
        b"USER mfp\x003",
        b"USER mfp-3\rPASS x",
        b"USER mfp-3\nPASS x",
        b"USER mfp\x013",
        b"USER mfp-3\r\nPASS correct\x01horse",
        b"USER mfp-3\r\nPASS correct\x00horse",
        b"USER mfp-3\r\nPASS correct\nQUIT",
        b"USER \xff\xfe",
        b"USER ",
        b"PASS x",
        b"AUTH PLAIN %b" % b64encode(b"\0mfp-3\rDELE 1\0x"),
        b"AUTH PLAIN %b" % b64encode(b"\0mfp-3\0correct\nhorse"),
        b"AUTH PLAIN %b" % b64encode(b"\0mfp-3\x01\0x"),
        b"AUTH PLAIN %b" % b64encode(b"\0mfp-3\0x\0y"),
        b"AUTH PLAIN %b" % b64encode(b"admin\0mfp-3\0x"),
        b"AUTH PLAIN ====",
        b"AUTH PLAIN *",
        b"AUTH PLAIN\r\n*",
        b"AUTH LOGIN\r\n*",
        b"AUTH LOGIN %b\r\n%b" % (b64encode(b"mfp-3"), b64encode(b"\0")),
        b"AUTH CRAM-MD5",
        b"APOP mfp-3 c4c9334bac560ecc979e58001b3e22fb",
        b"STAT",
        b"",
        b"CAPA " + b"x" * 20_000,
    ],
)
def test_an_injection_is_a_syntax_error_and_reaches_nobody(receive: Receive, line: bytes) -> None:
    relay, admission_client, server = receive(Protocol.POP, mailbox)
    with LineClient(relay.ports["pop3"]) as client:
        client.hear("+OK")
        client.send(line + b"\r\nQUIT\r\n")
        assert b"-ERR" in client.hear_out()
    assert (admission_client.asked, server.peers) == ([], [])


def test_a_password_is_not_asked_for_in_clear_text_from_elsewhere(receive: Receive) -> None:
    relay, admission_client, server = receive(Protocol.POP, mailbox, limits=NobodyPlainly(10, 10))
    with LineClient(relay.ports["pop3"]) as client:
        client.hear("+OK")
        assert not {"USER", "SASL PLAIN LOGIN"} & set(capabilities(client))
        for command in (f"USER {USER}", f"AUTH PLAIN {PLAIN}", "AUTH PLAIN", "AUTH LOGIN"):
            client.ask(command, "-ERR Begin TLS first")
    assert (admission_client.asked, server.peers) == ([], [])


def test_a_wrong_password_is_an_authentication_failure_and_reaches_nobody(receive: Receive) -> None:
    relay, admission_client, server = receive(Protocol.POP, mailbox)
    with LineClient(relay.ports["pop3"]) as client:
        client.hear("+OK")
        for _ in range(5):
            client.ask(f"USER {USER}", "+OK")
            client.ask("PASS wrong", "-ERR [AUTH] ")
        assert client.hear_out() == b""
    assert (len(admission_client.asked), server.peers) == (5, [])


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (
            Refused("code_of_a_newer_service", profile="office-mfp/pop"),
            "-ERR [SYS/PERM] office-mfp/pop: code_of_a_newer_service",
        ),
        (Unreachable("service_not_running"), "-ERR [SYS/TEMP] the token service is not running"),
        (Refused("käthe\r\nDELE 1"), "-ERR [SYS/PERM] k?the  DELE 1"),
    ],
)
def test_an_error_of_the_service_is_told_in_one_line(receive: Receive, error: Exception, answer: str) -> None:
    relay, admission_client, server = receive(Protocol.POP, mailbox)
    admission_client.answers = [error]
    with LineClient(relay.ports["pop3"]) as client:
        client.hear("+OK")
        client.ask(f"AUTH PLAIN {PLAIN}", answer)
        assert server.peers == []
        client.ask(f"AUTH PLAIN {PLAIN}", "+OK Signed in")
        fetch(client)


def stls_with_more(peer: Peer) -> None:
    peer.say("+OK ready")
    peer.hear("CAPA")
    peer.say("+OK", "STLS", ".")
    peer.hear("STLS")
    peer.say("+OK go ahead", "+OK", "SASL XOAUTH2", ".")
    peer.hear_out()


def without_stls(peer: Peer) -> None:
    peer.say("+OK ready")
    peer.hear("CAPA")
    peer.say("+OK", "SASL XOAUTH2", ".")
    peer.hear_out()


def accepts_at_once(peer: Peer) -> None:
    pop_to_auth(peer)
    peer.hear("AUTH XOAUTH2")
    peer.say("+OK welcome")
    peer.hear_out()


@pytest.mark.parametrize(
    ("script", "different", "answer"),
    [
        (stls_with_more, {}, "-ERR [SYS/TEMP] Something between localhost:"),
        (without_stls, {}, "-ERR [SYS/TEMP] The server doesn't offer STLS"),
        (lambda peer: clear(peer, "* OK this is IMAP"), {}, "-ERR [SYS/TEMP] localhost:"),
        (lambda peer: clear(peer, "-ERR go away"), {}, "-ERR [SYS/TEMP] "),
        (lambda peer: clear(peer, "+OK bare\nlf"), {}, "-ERR [SYS/TEMP] localhost:"),
        (lambda peer: clear(peer, "+OK " + "x" * 10_000), {}, "-ERR [SYS/TEMP] localhost:"),
        (lambda peer: peer.say("+OK ready"), {}, "-ERR [SYS/TEMP] localhost:"),
        (clear, {"timeout_seconds": 0.2}, "-ERR [SYS/TEMP] localhost:"),
        (accepts_at_once, {"access_token": Secret("t" * 1000)}, "-ERR [SYS/TEMP] The server lets anybody in"),
        (lambda peer: clear(peer, "+OK ready"), {"tls": "implicit"}, "-ERR [SYS/PERM] localhost:"),
        (lambda peer: clear(peer, "+OK ready"), {"server": "127.0.0.2"}, "-ERR [SYS/TEMP] 127.0.0.2:"),
    ],
)
def test_a_mail_server_that_is_not_right_never_gets_the_token(
    receive: Receive, script: Any, different: dict[str, Any], answer: str
) -> None:
    relay, _, server = receive(Protocol.POP, script, **different)
    with LineClient(relay.ports["pop3"]) as client:
        client.hear("+OK")
        client.ask(f"AUTH PLAIN {PLAIN}", answer)
        client.ask("QUIT", "+OK")
    if server.peers:
        assert b"Bearer" not in server.heard_in_clear + server.heard
        assert b64encode(b"user=")[:6] not in server.heard_in_clear + server.heard


def test_a_mail_server_that_dies_owing_an_answer_is_told(receive: Receive) -> None:
    def script(peer: Peer) -> None:
        signed_in(peer)
        peer.hear("STAT")

    relay, _, _ = receive(Protocol.POP, script)
    with LineClient(relay.ports["pop3"]) as client:
        sign_in(client)
        client.ask("STAT", "-ERR [SYS/TEMP] the mail server has closed the connection")
        assert client.hear_out() == b""


def test_nothing_is_added_to_a_message_that_breaks_off(receive: Receive) -> None:
    def script(peer: Peer) -> None:
        signed_in(peer)
        peer.hear("RETR 1")
        peer.say("+OK", "Subject: half a message", "")

    relay, _, _ = receive(Protocol.POP, script)
    with LineClient(relay.ports["pop3"]) as client:
        sign_in(client)
        client.send(b"RETR 1\r\n")
        assert client.hear_out() == b"+OK\r\nSubject: half a message\r\n\r\n"


def test_a_client_that_goes_takes_its_mail_server_session_with_it(receive: Receive) -> None:
    heard: list[bytes] = []

    def script(peer: Peer) -> None:
        signed_in(peer)
        peer.hear_out()
        heard.append(bytes(peer.heard))

    relay, _, server = receive(Protocol.POP, script)
    with LineClient(relay.ports["pop3"]) as client:
        sign_in(client)
    server._finished()
    assert b"QUIT" not in heard[0]


def test_a_client_that_half_closes_hears_the_rest(receive: Receive) -> None:
    relay, _, _ = receive(Protocol.POP, mailbox)
    with LineClient(relay.ports["pop3"]) as client:
        sign_in(client)
        client.send(b"STAT\r\nQUIT\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.hear_out() == b"+OK 2 640\r\n+OK bye\r\n"
