"""The IMAP side of the relay, between scripted mail servers and clients; what reached the mail server is looked at."""

from __future__ import annotations

import ssl
from base64 import b64encode
from typing import Any

import pytest
from line_client import MAILBOX, PASSWORD, TOKEN, USER, LineClient
from receiving_relay import CHALLENGE, PLAIN, NobodyPlainly, Receive, clear, encoded
from scripted_mail_server import Peer, imap_to_auth

from adapters.mail.sasl_client import Mechanism, client_responses
from adapters.relay.imap_server import goodbye, offered_after_sign_in
from adapters.relay.tunnel import Moment
from domain.catalogue import Protocol
from domain.errors import Refused, Unreachable
from domain.secret import Secret

LOGIN = f'LOGIN {USER} "{PASSWORD}"'
AFTER = "IMAP4rev1 IDLE LITERAL+ AUTH=XOAUTH2 SASL-IR UNAUTHENTICATE NAMESPACE"
SIGNED_IN = "OK [CAPABILITY IMAP4rev1 IDLE LITERAL+ NAMESPACE] Signed in"


def signed_in(peer: Peer, capabilities: str = "AUTH=XOAUTH2 SASL-IR") -> None:
    """A mail server that takes the token."""
    imap_to_auth(peer, capabilities)
    tag = peer.hear_tagged("AUTHENTICATE XOAUTH2 ")
    peer.say(f"{tag} OK [CAPABILITY {AFTER}] Logged in")


def mailbox(peer: Peer) -> None:
    """A mail server with one session of a few commands."""
    signed_in(peer)
    assert peer.hear() == "b1 SELECT INBOX"
    peer.say("* 2 EXISTS", "b1 OK [READ-WRITE] done")
    assert peer.hear() == "b2 LOGOUT"
    peer.say("* BYE see you", "b2 OK bye")


def rejecting(peer: Peer) -> None:
    """A mail server that rejects the token."""
    imap_to_auth(peer)
    tag = peer.hear_tagged("AUTHENTICATE XOAUTH2 ")
    peer.say(f"+ {CHALLENGE}")
    assert peer.hear() == ""
    peer.say(f"{tag} NO [AUTHENTICATIONFAILED] Authentication failed.")
    peer.hear_out()


def sign_in(client: LineClient) -> None:
    client.hear("* OK [CAPABILITY IMAP4rev1 ")
    client.ask(f"a1 {LOGIN}", "a1 OK")


def fetch(client: LineClient) -> None:
    """A session behind the sign-in, as `mailbox` has it."""
    client.ask("b1 SELECT INBOX", "* 2 EXISTS")
    client.hear("b1 OK [READ-WRITE] done")
    client.ask("b2 LOGOUT", "* BYE see you")
    client.hear("b2 OK bye")
    assert client.hear_out() == b""


@pytest.mark.parametrize(
    "lines",
    [
        [f"a1 {LOGIN}"],
        [f'a1  login  {USER}   "{PASSWORD}" '],
        [f'a1 login "{USER}" "{PASSWORD}"'],
        [f"a1 LOGIN {{{len(USER)}}}", f"{USER} {{{len(PASSWORD)}}}", PASSWORD],
        [f"a1 LOGIN {{{len(USER)}+}}\r\n{USER} {{{len(PASSWORD)}+}}\r\n{PASSWORD}"],
        [f"a1 LOGIN {USER} {{{len(PASSWORD)}}}", PASSWORD],
        [f'a1 LOGIN "{USER}" {{{len(PASSWORD)}+}}\r\n{PASSWORD}'],
        [f"a1 AUTHENTICATE PLAIN {PLAIN}"],
        ["a1 authenticate plain", PLAIN],
        ["a1 AUTHENTICATE LOGIN", encoded(USER), encoded(PASSWORD)],
        ["a1  authenticate  login ", f"{encoded(USER)} ", f"{encoded(PASSWORD)}\t"],
        [f"a1 AUTHENTICATE LOGIN {encoded(USER)}", encoded(PASSWORD)],
    ],
)
def test_each_way_to_sign_in_with_a_password_becomes_a_sign_in_with_the_token(
    receive: Receive, lines: list[str]
) -> None:
    relay, admission_client, server = receive(Protocol.IMAP, mailbox)
    with LineClient(relay.ports["imap"]) as client:
        client.hear("* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID STARTTLS AUTH=PLAIN AUTH=LOGIN] Mailtoken relay")
        for line in lines[:-1]:
            client.ask(line, "+ ")
        assert client.ask(lines[-1]) == f"a1 {SIGNED_IN}"
        fetch(client)
    assert admission_client.asked == [(Protocol.IMAP, "127.0.0.1", USER)]
    response = client_responses(MAILBOX, "localhost", server.port, Secret(TOKEN))[Mechanism.XOAUTH2]
    assert server.heard == b"m3 CAPABILITY\r\nm4 AUTHENTICATE XOAUTH2 %b\r\nb1 SELECT INBOX\r\nb2 LOGOUT\r\n" % (
        b64encode(response)
    )
    assert TOKEN.encode() not in server.heard_in_clear


@pytest.mark.parametrize("octets", [50, 1000, 2500])
@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize("initial", ["SASL-IR", "IDLE"])
def test_a_token_of_any_length_arrives_whole(receive: Receive, mechanism: Mechanism, octets: int, initial: str) -> None:
    token = Secret("t" * octets)

    def script(peer: Peer) -> None:
        imap_to_auth(peer, f"AUTH={mechanism} {initial}")
        line = peer.hear()
        tag = line.partition(" ")[0]
        assert len(line) <= 510
        if len(line.split()) == 3:
            peer.say("+ ")
            line = peer.hear()
        assert (len(line.split()) == 4) == (octets == 50 and initial == "SASL-IR")
        port = peer.sock.getsockname()[1]
        assert line.split()[-1].encode() == b64encode(client_responses(MAILBOX, "localhost", port, token)[mechanism])
        peer.say("* CAPABILITY IMAP4rev1 MOVE", f"{tag} OK done")
        peer.hear_out()

    relay, _, _ = receive(Protocol.IMAP, script, access_token=token)
    with LineClient(relay.ports["imap"]) as client:
        client.hear("* OK")
        assert client.ask(f"a1 {LOGIN}") == "a1 OK [CAPABILITY IMAP4rev1 MOVE] Signed in"


def test_a_server_that_does_not_say_what_it_can_do_is_asked(receive: Receive) -> None:
    def script(peer: Peer) -> None:
        imap_to_auth(peer)
        tag = peer.hear_tagged("AUTHENTICATE")
        peer.say(f"{tag} OK done")
        tag = peer.hear_tagged("CAPABILITY")
        peer.say("* CAPABILITY IMAP4rev1 QUOTA", f"{tag} OK")
        peer.hear_out()

    relay, _, _ = receive(Protocol.IMAP, script)
    with LineClient(relay.ports["imap"]) as client:
        client.hear("* OK")
        assert client.ask(f"a1 {LOGIN}") == "a1 OK [CAPABILITY IMAP4rev1 QUOTA] Signed in"


def test_what_is_over_with_the_sign_in_is_not_offered_any_more() -> None:
    assert offered_after_sign_in(("IMAP4rev1", "starttls", "AUTH=PLAIN", "LOGINDISABLED", "Idle")) == "IMAP4rev1 Idle"


def test_what_a_client_pipelines_behind_its_sign_in_goes_over_in_order(receive: Receive) -> None:
    relay, _, _ = receive(Protocol.IMAP, mailbox)
    with LineClient(relay.ports["imap"]) as client:
        client.hear("* OK")
        client.send(f"a1 {LOGIN}\r\nb1 SELECT INBOX\r\nb2 LOGOUT\r\n".encode())
        lines = client.hear_out().decode().split("\r\n")
    expected = ["* 2 EXISTS", "b1 OK [READ-WRITE] done", "* BYE see you", "b2 OK bye", ""]
    assert lines == [f"a1 {SIGNED_IN}", *expected]


def test_before_the_sign_in_a_client_can_ask_who_this_is_and_leave(receive: Receive) -> None:
    relay, admission_client, server = receive(Protocol.IMAP, mailbox)
    with LineClient(relay.ports["imap"]) as client:
        client.hear("* OK")
        client.ask("1 NOOP", "1 OK")
        client.ask('2 ID ("name" "fetcher" "os" {3}', "+ ")
        client.ask("abc)", '* ID ("name" "Mailtoken")')
        client.hear("2 OK")
        client.ask("3 CAPABILITY", "* CAPABILITY IMAP4rev1 ")
        client.hear("3 OK")
        client.ask("4 SELECT INBOX", "4 BAD Sign in first")
        client.ask("5 LOGOUT", "* BYE")
        client.hear("5 OK")
        assert client.hear_out() == b""
    assert (admission_client.asked, server.peers) == ([], [])


def test_tls_can_begin_with_starttls_or_at_once(receive: Receive, client_tls: ssl.SSLContext) -> None:
    relay, _, _ = receive(Protocol.IMAP, mailbox, mailbox)
    with LineClient(relay.ports["imap"]) as client:
        client.hear("* OK")
        client.ask("s STARTTLS", "s OK")
        client.start_tls(client_tls)
        assert "STARTTLS" not in client.ask("c CAPABILITY", "* CAPABILITY")
        client.hear("c OK")
        client.ask("s STARTTLS", "s BAD")
        client.ask(f"a1 {LOGIN}", "a1 OK")
        fetch(client)
    with LineClient(relay.ports["imaps"], client_tls) as client:
        sign_in(client)
        fetch(client)


@pytest.mark.parametrize(
    "octets",
    [
        b"a1 LOGIN mfp\x003 x",
        b"a1 LOGIN mfp-3 x\ra2 DELETE INBOX",
        b"a1 LOGIN mfp-3 x\na2 DELETE INBOX",
        b"a1 LOGIN mfp\x013 x",
        b'a1 LOGIN "mfp-3\rX" x',
        b'a1 LOGIN "mfp-3',
        b'a1 LOGIN "mfp\\x3" x',
        b"a1 LOGIN mfp-3",
        b"a1 LOGIN mfp-3 x y",
        b"a1 LOGIN (mfp-3) x",
        b"a1 LOGIN {12+}\r\nmfp-3\r\na2 NO x",
        b"a1 LOGIN mfp-3 {4+}\r\nx\r\ny",
        b"a1 LOGIN mfp-3 {3+}\r\nx\0y",
        b"a1 LOGIN mfp-3 {2+}\r\nx\x01",
        b"a1 LOGIN mfp-3 {2+}\r\n\xff\xfe",
        b"a1 LOGIN {99999999999} x",
        b"a1 LOGIN {-1}",
        b"a1 LOGIN {99999999}",
        b"a1 LOGIN x {20000}",
        b"a1 LOGIN x {20000+}\r\n",
        b"a1 LOGIN " + b"{1+}\r\nx" * 20,
        b"a1 AUTHENTICATE PLAIN " + b64encode(b"\0mfp-3\r\na2 DELETE\0x"),
        b"a1 AUTHENTICATE PLAIN " + b64encode(b"\0mfp-3\0\x01x"),
        b"a1 AUTHENTICATE PLAIN " + b64encode(b"admin\0mfp-3\0x"),
        b"a1 AUTHENTICATE PLAIN =",
        b"a1 AUTHENTICATE PLAIN\r\n*",
        b"a1 AUTHENTICATE LOGIN\r\n*",
        b"a1 AUTHENTICATE PLAIN a b",
        b"a1 AUTHENTICATE GSSAPI",
        b"a1 AUTHENTICATE",
        b"a+1 LOGIN mfp-3 x",
        b"a{5} LOGIN mfp-3 x",
        b"* LOGIN mfp-3 x",
        b"a" * 65 + b" LOGIN mfp-3 x",
        b"a1 LOGIN mfp-3 " + b"x" * 20_000,
        b"a1 LOGIN" + b" " * 12_000 + b"(",
        b"a1",
        b"",
        b" LOGIN mfp-3 x",
        b"\xffa LOGIN mfp-3 x",
    ],
)
def test_an_injection_is_a_syntax_error_and_reaches_nobody(receive: Receive, octets: bytes) -> None:
    relay, admission_client, server = receive(Protocol.IMAP, mailbox)
    with LineClient(relay.ports["imap"]) as client:
        client.hear("* OK")
        client.send(octets + b"\r\nz LOGOUT\r\n")
        first = client.hear()
        assert first.split(" ")[1] in ("BAD", "NO", "BYE") or first.startswith("+ "), first
        client.hear_out()
    assert (admission_client.asked, server.peers) == ([], [])


def test_a_password_is_not_asked_for_in_clear_text_from_elsewhere(receive: Receive) -> None:
    relay, admission_client, server = receive(Protocol.IMAP, mailbox, limits=NobodyPlainly(10, 10))
    with LineClient(relay.ports["imap"]) as client:
        assert "LOGINDISABLED" in client.hear("* OK")
        for number, command in enumerate((LOGIN, "LOGIN {5}", "LOGIN mfp-3 {5}", f"AUTHENTICATE PLAIN {PLAIN}")):
            client.ask(f"a{number} {command}", f"a{number} NO [PRIVACYREQUIRED]")
    assert (admission_client.asked, server.peers) == ([], [])


def test_a_wrong_password_is_an_authentication_failure_and_reaches_nobody(receive: Receive) -> None:
    relay, admission_client, server = receive(Protocol.IMAP, mailbox)
    with LineClient(relay.ports["imap"]) as client:
        client.hear("* OK")
        for number in range(5):
            client.ask(f"{number} LOGIN {USER} wrong", f"{number} NO [AUTHENTICATIONFAILED] ")
        client.hear("* BYE")
        assert client.hear_out() == b""
    assert (len(admission_client.asked), server.peers) == (5, [])


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (
            Refused("code_of_a_newer_service", profile="office-mfp/imap"),
            "a1 NO [CONTACTADMIN] office-mfp/imap: code_of_a_newer_service: ask the administrator of the relay",
        ),
        (Unreachable("service_not_running"), "a1 NO [UNAVAILABLE] the token service is not running: try again later"),
        (Refused("käthe\r\na2 OK"), "a1 NO [CONTACTADMIN] k?the  a2 OK: ask the administrator of the relay"),
    ],
)
def test_an_error_of_the_service_is_told_in_one_line(receive: Receive, error: Exception, answer: str) -> None:
    relay, admission_client, server = receive(Protocol.IMAP, mailbox)
    admission_client.answers = [error]
    with LineClient(relay.ports["imap"]) as client:
        client.hear("* OK")
        assert client.ask(f"a1 {LOGIN}") == answer
        assert server.peers == []
        client.ask(f"a1 {LOGIN}", "a1 OK")
        fetch(client)


def starttls_with_more(peer: Peer) -> None:
    peer.say("* OK ready")
    tag = peer.hear_tagged("CAPABILITY")
    peer.say("* CAPABILITY IMAP4rev1 STARTTLS", f"{tag} OK")
    tag = peer.hear_tagged("STARTTLS")
    peer.say(f"{tag} OK go ahead", "* CAPABILITY IMAP4rev1 AUTH=XOAUTH2 SASL-IR")
    peer.hear_out()


def without_starttls(peer: Peer) -> None:
    peer.say("* OK ready")
    tag = peer.hear_tagged("CAPABILITY")
    peer.say("* CAPABILITY IMAP4rev1 AUTH=XOAUTH2 SASL-IR", f"{tag} OK")
    peer.hear_out()


def accepts_at_once(peer: Peer) -> None:
    imap_to_auth(peer)
    tag = peer.hear_tagged("AUTHENTICATE XOAUTH2")
    peer.say(f"{tag} OK welcome")
    peer.hear_out()


def talks_on(peer: Peer) -> None:
    peer.say("* OK ready")
    peer.hear_tagged("CAPABILITY")
    peer.drip("* NOOP\r\n")


@pytest.mark.parametrize(
    ("script", "different", "answer"),
    [
        (starttls_with_more, {}, "a1 NO [UNAVAILABLE] Something between localhost:"),
        (without_starttls, {}, "a1 NO [UNAVAILABLE] The server doesn't offer STARTTLS"),
        (lambda peer: clear(peer, "* PREAUTH welcome"), {}, "a1 NO [UNAVAILABLE] The server lets anybody in"),
        (lambda peer: clear(peer, "* BYE too busy"), {}, "a1 NO [UNAVAILABLE] "),
        (lambda peer: clear(peer, "+OK this is POP3"), {}, "a1 NO [UNAVAILABLE] localhost:"),
        (lambda peer: clear(peer, "* OK bare\rcr"), {}, "a1 NO [UNAVAILABLE] localhost:"),
        (lambda peer: clear(peer, "* OK " + "x" * 10_000), {}, "a1 NO [UNAVAILABLE] localhost:"),
        (lambda peer: peer.say("* OK ready"), {}, "a1 NO [UNAVAILABLE] localhost:"),
        (clear, {"timeout_seconds": 0.2}, "a1 NO [UNAVAILABLE] localhost:"),
        (talks_on, {"timeout_seconds": 0.3}, "a1 NO [UNAVAILABLE] localhost:"),
        (accepts_at_once, {"access_token": Secret("t" * 1000)}, "a1 NO [UNAVAILABLE] The server lets anybody in"),
        (lambda peer: clear(peer, "* OK ready"), {"tls": "implicit"}, "a1 NO [CONTACTADMIN] localhost:"),
        (clear, {"server": "192.0.2.1", "tls": "none"}, "a1 NO [CONTACTADMIN] 192.0.2.1:"),
    ],
)
def test_a_mail_server_that_is_not_right_never_gets_the_token(
    receive: Receive, script: Any, different: dict[str, Any], answer: str
) -> None:
    relay, _, server = receive(Protocol.IMAP, script, **different)
    with LineClient(relay.ports["imap"]) as client:
        client.hear("* OK")
        client.ask(f"a1 {LOGIN}", answer)
        client.ask("a2 NOOP", "a2 OK")
    if server.peers:
        assert b64encode(b"user=")[:6] not in server.heard_in_clear + server.heard


def test_a_server_that_echoes_the_token_where_it_should_name_a_scope_gives_nothing_away(receive: Receive) -> None:
    echo = b64encode(b'{"status": "insufficient_scope", "scope": "%b"}' % TOKEN.encode()).decode()

    def script(peer: Peer) -> None:
        imap_to_auth(peer)
        tag = peer.hear_tagged("AUTHENTICATE")
        peer.say(f"+ {echo}")
        peer.hear()
        peer.say(f"{tag} NO no")
        peer.hear_out()

    relay, _, _ = receive(Protocol.IMAP, script)
    with LineClient(relay.ports["imap"]) as client:
        client.hear("* OK")
        assert "lacks the scope ***:" in client.ask(f"a1 {LOGIN}", "a1 NO [CONTACTADMIN] The token lacks")


def test_a_mail_server_that_dies_says_bye(receive: Receive) -> None:
    def script(peer: Peer) -> None:
        signed_in(peer)
        peer.hear("b1 IDLE")
        peer.say("+ idling", "* 3 EXISTS")

    relay, _, _ = receive(Protocol.IMAP, script)
    with LineClient(relay.ports["imap"]) as client:
        sign_in(client)
        client.ask("b1 IDLE", "+ idling")
        client.hear("* 3 EXISTS")
        client.hear("* BYE the mail server has closed the connection")
        assert client.hear_out() == b""


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        (b"", b"* BYE gone\r\n"),
        (b"* 3 EXISTS\r\n", b"* BYE gone\r\n"),
        (b"b2 OK done\r\n* BYE idle for too long\r\n", b""),
        (b"* 1 FETCH (BODY[] {5000}\r\nhalf a mess", b""),
    ],
)
def test_bye_is_said_once_and_between_lines(tail: bytes, said: bytes) -> None:
    assert goodbye(Moment(tail, True), "gone") == said
