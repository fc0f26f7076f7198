from base64 import b64decode, b64encode
from typing import Any

import pytest
from scripted_mail_server import USER, Peer, ScriptedServer, Serve, imap_to_auth, pop_to_auth, profile, says

from adapters.mail.mail_server import MailServerClient
from adapters.mail.sasl_client import Mechanism, client_responses
from domain.catalogue import Protocol
from domain.mail_report import Fault, MailReport, Step
from domain.secret import Secret

TOKEN = Secret("EwBgA8l6BAAU-practice-access-token.0123456789")
CHALLENGE = b64encode(b'{"status":"invalid_token"}').decode()


def check_pop(client: MailServerClient, server: ScriptedServer, token: Secret = TOKEN, **settings: Any) -> MailReport:
    return client.test(profile(Protocol.POP, server.port, **settings), token)


def check_imap(client: MailServerClient, server: ScriptedServer, token: Secret = TOKEN, **settings: Any) -> MailReport:
    return client.test(profile(Protocol.IMAP, server.port, **settings), token)


def last(report: MailReport) -> Step:
    return report.steps[-1]


# POP3


def test_a_pop_test_signs_in_and_asks_for_the_state_of_the_mailbox(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        pop_to_auth(peer, "SASL PLAIN XOAUTH2")
        peer.hear("AUTH XOAUTH2")
        peer.say("+OK User successfully authenticated.")
        assert peer.hear() == "STAT"
        peer.say("+OK 3 1024")
        peer.hear("QUIT")
        peer.say("+OK bye")

    server = serve(script)
    report = check_pop(client, server)
    assert report.ok
    assert [step.name for step in report.steps] == [
        *("resolve", "connect", "greeting", "tls", "capabilities", "auth", "stat", "quit"),
    ]
    assert report.steps[-2].detail == "+OK 3 1024"
    assert server.heard_in_clear.startswith(b"CAPA\r\nSTLS\r\n")


@pytest.mark.parametrize("octets", [50, 1000, 2500, 8000])
@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize("continuation", ["+", "+ "])
def test_a_pop_auth_command_stays_within_255_octets_and_the_token_arrives_whole(
    client: MailServerClient, serve: Serve, mechanism: Mechanism, octets: int, continuation: str
) -> None:
    token = Secret("t" * octets)

    def script(peer: Peer) -> None:
        pop_to_auth(peer, f"SASL {mechanism}")
        line = peer.hear(f"AUTH {mechanism}")
        assert len(line) + 2 <= 255
        if octets > 50:
            peer.say(continuation)
            line = peer.hear()
        host, port = "localhost", peer.sock.getsockname()[1]
        assert b64decode(line.split()[-1]) == client_responses(USER, host, port, token)[mechanism]
        peer.say("-ERR no")

    assert check_pop(client, serve(script), token).fault is Fault.TOKEN


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ("-ERR Logon failure: unknown user name or bad password.", Fault.TOKEN),
        ("-ERR [AUTH] no", Fault.TOKEN),
        ("-ERR [SYS/TEMP] introspection failed", Fault.SERVER),
        ("-ERR [sys/perm] broken", Fault.SERVER),
        ("-ERR [IN-USE] locked", Fault.MAILBOX),
        ("-ERR [LOGIN-DELAY] minimum time between mail checks violation", Fault.CONFIGURATION),
    ],
)
def test_each_refusal_of_pop_auth_says_whose_fault_it_is(
    client: MailServerClient, serve: Serve, reply: str, fault: Fault
) -> None:
    def script(peer: Peer) -> None:
        pop_to_auth(peer)
        peer.hear("AUTH")
        peer.say(reply)

    report = check_pop(client, serve(script))
    assert (report.fault, last(report).name, report.reply) == (fault, "auth", reply)


@pytest.mark.parametrize(("mechanism", "closing"), [(Mechanism.XOAUTH2, ""), (Mechanism.OAUTHBEARER, "AQ==")])
def test_a_pop_error_challenge_gets_the_closing_response(
    client: MailServerClient, serve: Serve, mechanism: Mechanism, closing: str
) -> None:
    def script(peer: Peer) -> None:
        pop_to_auth(peer, f"SASL {mechanism}")
        peer.hear("AUTH")
        peer.say(f"+ {CHALLENGE}")
        assert peer.hear() == closing
        peer.say("-ERR no")

    assert check_pop(client, serve(script), Secret("t" * 40)).fault is Fault.TOKEN


def test_a_token_that_pop_accepts_for_no_mailbox_is_found_by_the_next_command(
    client: MailServerClient, serve: Serve
) -> None:
    def script(peer: Peer) -> None:
        pop_to_auth(peer)
        peer.hear("AUTH")
        peer.say("+OK")
        peer.hear("STAT")
        peer.say("-ERR User is authenticated but not connected.")

    report = check_pop(client, serve(script))
    assert (report.fault, last(report).name) == (Fault.PERMISSION, "stat")


@pytest.mark.parametrize("capabilities", [("+OK", "SASL XOAUTH2", "UIDL", "."), ("-ERR what?",)])
def test_stls_that_is_not_offered_ends_it_before_any_secret(
    client: MailServerClient, serve: Serve, capabilities: tuple[str, ...]
) -> None:
    def script(peer: Peer) -> None:
        peer.say("+OK ready")
        peer.hear("CAPA")
        peer.say(*capabilities)
        peer.hear_out()

    server = serve(script)
    report = check_pop(client, server)
    assert (report.fault, last(report).name) == (Fault.SERVER, "tls")
    assert server.heard_in_clear == b"CAPA\r\n"


def test_what_is_said_in_clear_after_stls_ends_it_before_any_secret(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.say("+OK ready")
        peer.hear("CAPA")
        peer.say("+OK", "STLS", ".")
        peer.hear("STLS")
        peer.say("+OK go ahead", "+OK", "SASL XOAUTH2", ".")
        peer.hear_out()

    server = serve(script)
    report = check_pop(client, server)
    assert (report.fault, last(report).name) == (Fault.NETWORK, "tls")
    assert server.heard_in_clear == b"CAPA\r\nSTLS\r\n"


@pytest.mark.parametrize("greeting", ["* OK this is IMAP", "220 this is SMTP"])
def test_a_server_that_does_not_speak_pop_is_a_report(client: MailServerClient, serve: Serve, greeting: str) -> None:
    report = check_pop(client, serve(says(greeting)))
    assert (report.fault, last(report).name) == (Fault.SERVER, "greeting")


def test_capabilities_without_an_end_are_a_report(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.say("+OK ready")
        peer.hear("CAPA")
        peer.say("+OK", *(f"X{number}" for number in range(1000)))
        peer.hear_out()

    assert check_pop(client, serve(script)).fault is Fault.SERVER


def test_a_pop_server_that_accepts_before_it_has_the_token_has_tested_nothing(
    client: MailServerClient, serve: Serve
) -> None:
    def script(peer: Peer) -> None:
        pop_to_auth(peer)
        peer.hear("AUTH XOAUTH2")
        peer.say("+OK welcome")
        peer.hear_out()

    server = serve(script)
    assert check_pop(client, server, Secret("t" * 1000)).fault is Fault.SERVER
    assert b"STAT" not in server.heard


# IMAP


def test_an_imap_test_signs_in_and_looks_at_inbox_without_changing_it(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        imap_to_auth(peer)
        tag = peer.hear_tagged("AUTHENTICATE XOAUTH2 ")
        peer.say("* CAPABILITY IMAP4rev1 IDLE", f"{tag} OK done")
        tag = peer.hear_tagged("EXAMINE INBOX")
        peer.say("* 3 EXISTS", "* FLAGS (\\Seen)", f"{tag} OK [READ-ONLY] done")
        tag = peer.hear_tagged("LOGOUT")
        peer.say("* BYE", f"{tag} OK")

    report = check_imap(client, serve(script))
    assert report.ok
    assert [step.name for step in report.steps] == [
        *("resolve", "connect", "greeting", "tls", "capabilities", "auth", "examine", "quit"),
    ]
    assert report.steps[-2].detail == "OK [READ-ONLY] done"


@pytest.mark.parametrize("octets", [50, 1000, 2500, 8000])
@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize("initial", ["SASL-IR", "IDLE"])
def test_an_imap_token_goes_with_the_command_only_if_it_is_short_and_that_is_offered(
    client: MailServerClient, serve: Serve, mechanism: Mechanism, octets: int, initial: str
) -> None:
    token = Secret("t" * octets)

    def script(peer: Peer) -> None:
        imap_to_auth(peer, f"AUTH={mechanism} {initial}")
        tag, *words = peer.hear().split()
        assert words[:2] == ["AUTHENTICATE", mechanism]
        at_once = octets == 50 and initial == "SASL-IR"
        assert (len(words) == 3) is at_once
        if not at_once:
            peer.say("+ ")
            words = [peer.hear()]
        host, port = "localhost", peer.sock.getsockname()[1]
        assert b64decode(words[-1]) == client_responses(USER, host, port, token)[mechanism]
        peer.say(f"{tag} NO AUTHENTICATE failed.")

    report = check_imap(client, serve(script), token)
    assert (report.fault, report.reply) == (Fault.TOKEN, "NO AUTHENTICATE failed.")


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ("NO AUTHENTICATE failed.", Fault.TOKEN),
        ("NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)", Fault.TOKEN),
        ("NO [EXPIRED] old", Fault.TOKEN),
        ("NO [AUTHORIZATIONFAILED] not that mailbox", Fault.PERMISSION),
        ("NO [UNAVAILABLE] later", Fault.SERVER),
        ("NO [CONTACTADMIN] disabled", Fault.MAILBOX),
        ("NO [LIMIT] Too many simultaneous connections.", Fault.SERVER),
        ("BAD Command Argument Error. 12", Fault.SERVER),
    ],
)
def test_each_refusal_of_imap_authenticate_says_whose_fault_it_is(
    client: MailServerClient, serve: Serve, reply: str, fault: Fault
) -> None:
    def script(peer: Peer) -> None:
        imap_to_auth(peer)
        tag = peer.hear_tagged("AUTHENTICATE")
        peer.say("* OK still here", f"{tag} {reply}")

    report = check_imap(client, serve(script))
    assert (report.fault, last(report).name, report.reply) == (fault, "auth", reply)


@pytest.mark.parametrize(("mechanism", "closing"), [(Mechanism.XOAUTH2, ""), (Mechanism.OAUTHBEARER, "AQ==")])
def test_an_imap_error_challenge_gets_the_closing_response(
    client: MailServerClient, serve: Serve, mechanism: Mechanism, closing: str
) -> None:
    def script(peer: Peer) -> None:
        imap_to_auth(peer, f"AUTH={mechanism} SASL-IR")
        tag = peer.hear_tagged("AUTHENTICATE")
        peer.say(f"+ {CHALLENGE}")
        assert peer.hear() == closing
        peer.say(f"{tag} NO SASL authentication failed")

    assert check_imap(client, serve(script)).fault is Fault.TOKEN


@pytest.mark.parametrize("reply", ["BAD User is authenticated but not connected.", "NO [NOPERM] Access denied"])
def test_a_token_that_imap_accepts_for_no_mailbox_is_found_by_the_next_command(
    client: MailServerClient, serve: Serve, reply: str
) -> None:
    def script(peer: Peer) -> None:
        imap_to_auth(peer)
        tag = peer.hear_tagged("AUTHENTICATE")
        peer.say(f"{tag} OK [CAPABILITY IMAP4rev1] done")
        tag = peer.hear_tagged("EXAMINE")
        peer.say(f"{tag} {reply}")

    report = check_imap(client, serve(script))
    assert (report.fault, last(report).name) == (Fault.PERMISSION, "examine")


def test_preauth_ends_it_before_any_secret(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.say("* PREAUTH welcome back")
        peer.hear_out()

    server = serve(script)
    report = check_imap(client, server)
    assert (report.fault, last(report).name) == (Fault.SERVER, "greeting")
    assert server.heard_in_clear == b""


def test_imap_starttls_that_is_not_offered_ends_it_before_any_secret(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.say("* OK ready")
        tag = peer.hear_tagged("CAPABILITY")
        peer.say("* CAPABILITY IMAP4rev1 AUTH=XOAUTH2", f"{tag} OK done")
        peer.hear_out()

    server = serve(script)
    assert check_imap(client, server).fault is Fault.SERVER
    assert server.heard_in_clear == b"m1 CAPABILITY\r\n"


def test_what_is_said_in_clear_after_imap_starttls_ends_it_before_any_secret(
    client: MailServerClient, serve: Serve
) -> None:
    def script(peer: Peer) -> None:
        peer.say("* OK ready")
        tag = peer.hear_tagged("CAPABILITY")
        peer.say("* CAPABILITY IMAP4rev1 STARTTLS", f"{tag} OK done")
        tag = peer.hear_tagged("STARTTLS")
        peer.say(f"{tag} OK go ahead", "* CAPABILITY IMAP4rev1 AUTH=XOAUTH2", "m3 OK done")
        peer.hear_out()

    server = serve(script)
    report = check_imap(client, server)
    assert (report.fault, last(report).name) == (Fault.NETWORK, "tls")
    assert server.heard_in_clear == b"m1 CAPABILITY\r\nm2 STARTTLS\r\n"


def test_imap_capabilities_from_before_tls_count_for_nothing_after_it(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.say("* OK ready")
        tag = peer.hear_tagged("CAPABILITY")
        peer.say("* CAPABILITY IMAP4rev1 STARTTLS AUTH=XOAUTH2", f"{tag} OK done")
        tag = peer.hear_tagged("STARTTLS")
        peer.say(f"{tag} OK go ahead")
        peer.begin_tls()
        tag = peer.hear_tagged("CAPABILITY")
        peer.say(f"{tag} OK done")
        peer.hear_out()

    server = serve(script)
    assert last(check_imap(client, server)).name == "capabilities"
    assert b"AUTHENTICATE" not in server.heard


@pytest.mark.parametrize(
    ("greeting", "fault"), [("* BYE [UNAVAILABLE] later", Fault.SERVER), ("+OK POP", Fault.SERVER)]
)
def test_an_imap_server_that_does_not_begin_is_a_report(
    client: MailServerClient, serve: Serve, greeting: str, fault: Fault
) -> None:
    report = check_imap(client, serve(says(greeting)))
    assert (report.fault, last(report).name) == (fault, "greeting")


def test_an_imap_server_that_talks_without_end_is_a_report(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.say("* OK ready")
        peer.hear_tagged("CAPABILITY")
        peer.talk_on("* OK and another thing\r\n" * 100)

    report = check_imap(client, serve(script))
    assert (report.fault, last(report).name) == (Fault.SERVER, "tls")


def test_an_imap_server_that_accepts_before_it_has_the_token_has_tested_nothing(
    client: MailServerClient, serve: Serve
) -> None:
    def script(peer: Peer) -> None:
        imap_to_auth(peer)
        tag = peer.hear_tagged("AUTHENTICATE")
        peer.say(f"{tag} OK welcome")
        peer.hear_out()

    assert check_imap(client, serve(script), Secret("t" * 1000)).fault is Fault.SERVER
