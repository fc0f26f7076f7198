"""Who may come in by SMTP: AUTH in all its forms, networks, and what a client hears if it may not."""

from base64 import b64encode
from typing import Any

import pytest
from line_client import MAILBOX, PASSWORD, USER
from sending_relay import ManyUserAdmissionClient, Sender, StartRelay, plain
from smtp_peer import GREETING, Peer, say
from waiting import wait_until

from domain.errors import Refused, Unreachable
from infrastructure.logging import ALLOWED_FIELDS

USERNAME, WORD = b64encode(USER.encode()).decode(), b64encode(PASSWORD.encode()).decode()


@pytest.fixture(params=[True, False], ids=["pool", "no-pool"])
def pool(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_plain_with_an_initial_response(send: StartRelay, peer: Peer) -> None:
    with Sender(send().port).greet() as client:
        client.ask(f"AUTH PLAIN {plain(USER, PASSWORD)}", "235 2.7.0")
        client.deliver()
    assert len(peer.messages) == 1


def test_plain_after_the_prompt(send: StartRelay) -> None:
    with Sender(send().port).greet() as client:
        client.ask("auth plain", "334 ")
        client.ask(plain(USER, PASSWORD, identity=USER), "235 2.7.0")


def test_login_after_two_prompts(send: StartRelay) -> None:
    with Sender(send().port).greet() as client:
        assert client.ask("AUTH LOGIN") == "334 VXNlcm5hbWU6"
        assert client.ask(USERNAME) == "334 UGFzc3dvcmQ6"
        client.ask(WORD, "235 2.7.0")


def test_login_with_the_user_name_in_the_command(send: StartRelay) -> None:
    with Sender(send().port).greet() as client:
        assert client.ask(f"AUTH LOGIN {USERNAME}") == "334 UGFzc3dvcmQ6"
        client.ask(WORD, "235 2.7.0")


def test_a_client_that_never_said_hello_is_let_in(send: StartRelay) -> None:
    with Sender(send().port) as client:
        client.hear("220 ")
        client.sign_in()


def test_a_star_cancels_and_the_client_may_try_again(send: StartRelay) -> None:
    with Sender(send().port).greet() as client:
        client.ask("AUTH LOGIN", "334")
        client.ask("*", "501 5.7.0")
        client.ask(f"AUTH LOGIN {USERNAME}", "334")
        client.ask("*", "501 5.7.0")
        client.sign_in()


@pytest.mark.parametrize("before", [["AUTH LOGIN"], [f"AUTH LOGIN {USERNAME}"], ["AUTH PLAIN"]])
def test_quit_at_the_prompt_is_taken_for_what_it_is(
    send: StartRelay, users: ManyUserAdmissionClient, before: str
) -> None:
    with Sender(send().port).greet() as client:
        for line in before:
            client.ask(line, "334")
        client.ask("QUIT", "221 2.0.0")
        assert client.hear_out() == b""
    assert users.asked == []


def test_a_client_that_hangs_up_at_the_prompt_leaves_the_relay_as_it_was(send: StartRelay) -> None:
    relay = send()
    with Sender(relay.port).greet() as client:
        client.ask("AUTH LOGIN", "334")
    wait_until(lambda: not relay.relay._listener.connections, "no client is connected")
    with Sender(relay.port).greet() as client:
        client.sign_in()


@pytest.mark.parametrize(
    "response",
    [
        "====",
        "not base64",
        b64encode(b"no separators").decode(),
        plain("", PASSWORD),
        plain(USER + "\r\nRCPT TO:<x@x.x>", PASSWORD),
        plain(USER + "\x01auth=Bearer x", PASSWORD),
        plain(USER, PASSWORD + "\n"),
        b64encode(b"\0\xff\xfe\0x").decode(),
        plain("x" * 2000, "y"),
    ],
)
def test_what_is_no_response_of_the_mechanism_is_a_syntax_error_and_nobody_is_asked(
    send: StartRelay, users: ManyUserAdmissionClient, peer: Peer, response: str
) -> None:
    relay = send()
    wait_until(lambda: peer.conversations, "the mail server has a connection")
    before = peer.heard
    with Sender(relay.port).greet() as client:
        client.ask(f"AUTH PLAIN {response}", "501 5.5.2")
        client.ask("AUTH PLAIN", "334")
        client.ask(response, "501 5.5.2")
        client.ask("NOOP", "250")
    assert users.asked == []
    assert b"AUTH" not in before + peer.heard


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "XOAUTH2", "", "PLAIN-X"])
def test_other_mechanisms_are_refused_by_name(send: StartRelay, mechanism: str) -> None:
    with Sender(send().port).greet() as client:
        assert "PLAIN" in client.ask(f"AUTH {mechanism}", "504 5.5.4")


def test_a_wrong_password_is_a_definite_no_and_says_nothing_to_the_mail_server(send: StartRelay, peer: Peer) -> None:
    relay = send()
    relay.look()
    before = len(peer.conversations)
    with Sender(relay.port).greet() as client:
        replies = {client.sign_in("535 5.7.8", password="wrong"), client.sign_in("535 5.7.8", user="nobody")}
        assert len(replies) == 1
        client.sign_in("535 5.7.8", password="wrong")
        assert client.hear_out() == b"", "after three it is enough"
    assert len(peer.conversations) == before
    assert peer.tokens_seen == []


@pytest.mark.parametrize(
    ("trouble", "reply"),
    [
        (
            Refused("code_of_a_newer_service", profile="office-mfp/smtp-service"),
            "454 4.7.0 office-mfp/smtp-service: code_of_a_newer_service: ask the administrator of the relay",
        ),
        (Unreachable("service_not_running"), "454 4.7.0 the token service is not running: try again later"),
    ],
)
def test_a_token_that_can_not_be_served_is_for_later_and_the_client_hears_why(
    send: StartRelay, users: ManyUserAdmissionClient, trouble: Exception, reply: str
) -> None:
    users.trouble = trouble
    with Sender(send().port).greet() as client:
        client.sign_in(reply)


def test_a_client_from_a_named_network_needs_no_sign_in(
    send: StartRelay, users: ManyUserAdmissionClient, peer: Peer, pool: bool
) -> None:
    users.add(peer.port, network="127.0.0.2")
    relay = send(pool=pool)
    with Sender(relay.port, address="127.0.0.2").greet() as client:
        client.deliver()
        client.deliver()
    with Sender(relay.port).greet() as client:
        client.ask(f"MAIL FROM:<{MAILBOX}>", "530 5.7.0")
        client.sign_in()
        client.deliver()
    assert len(peer.messages) == 3


def test_a_client_by_network_hears_that_its_token_can_not_be_served(
    send: StartRelay, users: ManyUserAdmissionClient, peer: Peer
) -> None:
    users.add(peer.port, network="127.0.0.2")
    users.trouble = Refused("code_of_a_newer_service")
    with Sender(send().port, address="127.0.0.2").greet() as client:
        assert "code_of_a_newer_service: ask the administrator" in client.ask(f"MAIL FROM:<{MAILBOX}>", "451 4.7.0")


def test_nobody_sends_without_signing_in(send: StartRelay, peer: Peer) -> None:
    with Sender(send().port).greet() as client:
        client.ask(f"MAIL FROM:<{MAILBOX}>", "530 5.7.0")
        client.ask("RCPT TO:<you@contoso.com>", "503 5.5.1")
        client.ask("DATA", "503 5.5.1")
    looked = {b"EHLO", b"STARTTLS", b"QUIT"}
    assert {line.split()[0] for line in peer.heard.splitlines()} <= looked


def test_who_is_signed_in_can_not_sign_in_again(send: StartRelay) -> None:
    with Sender(send().port).greet() as client:
        client.sign_in()
        client.sign_in("503 5.5.1")


# The token at the mail server


def test_a_rejected_token_is_renewed_once_and_the_client_notices_nothing(
    send: StartRelay, users: ManyUserAdmissionClient, peer: Peer, pool: bool
) -> None:
    peer.tokens = {"token-2"}
    users.newer_tokens = ["token-2"]
    with Sender(send(pool=pool).port).greet() as client:
        client.sign_in()
        client.deliver()
    assert users.renewals == [1]
    assert peer.tokens_seen == [("XOAUTH2", "token-1"), ("XOAUTH2", "token-2")]
    assert peer.closing_responses == [b""]


@pytest.mark.parametrize(("mechanisms", "closing"), [("XOAUTH2", b""), ("OAUTHBEARER", b"AQ==")])
def test_a_token_rejected_twice_is_an_authentication_failure_after_one_renewal(
    send: StartRelay, users: ManyUserAdmissionClient, peer: Peer, pool: bool, mechanisms: str, closing: bytes
) -> None:
    peer.tokens = set()
    peer.mechanisms = mechanisms
    users.newer_tokens = ["token-2", "token-3"]
    with Sender(send(pool=pool).port).greet() as client:
        told = client.sign_in("535 5.7.3")
    assert "the renewed one as well" in told
    assert "renew it" not in told
    assert users.renewals == [1]
    assert peer.tokens_seen == [(mechanisms, "token-1"), (mechanisms, "token-2")]
    assert peer.closing_responses == [closing, closing]
    assert all("AUTH" not in verbs[verbs.index("AUTH") + 1 :] for verbs in peer.verbs if "AUTH" in verbs)


def test_a_renewal_that_fails_is_told_as_what_it_is(
    send: StartRelay, users: ManyUserAdmissionClient, peer: Peer
) -> None:
    peer.tokens = set()
    users.trouble_at_renewal = Unreachable("service_timeout")
    with Sender(send().port).greet() as client:
        assert "the token service does not answer in time" in client.sign_in("454 4.7.0")
    assert len(peer.tokens_seen) == 1


@pytest.mark.parametrize("octets", [50, 1000, 2500])
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_tokens_of_any_length_by_both_mechanisms(
    send: StartRelay, users: ManyUserAdmissionClient, peer: Peer, octets: int, mechanism: str
) -> None:
    token = "t" * octets
    peer.tokens = {token}
    peer.mechanisms = mechanism
    users.newer_tokens = [token]
    with Sender(send().port).greet() as client:
        client.sign_in()
        client.deliver()
    assert peer.tokens_seen[-1] == (mechanism, token)
    assert max(map(len, peer.conversations[-1].commands)) <= 510


def test_a_mailbox_whose_smtp_auth_is_disabled_is_told_with_the_servers_own_code(
    send: StartRelay, users: ManyUserAdmissionClient, peer: Peer
) -> None:
    peer.do("AUTH", say("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled"))
    with Sender(send().port).greet() as client:
        assert "SMTP AUTH is disabled" in client.sign_in("535 5.7.139")
    assert users.renewals == []


def test_a_mail_server_that_offers_no_tokens_gets_none(send: StartRelay, peer: Peer) -> None:
    peer.mechanisms = "PLAIN LOGIN"
    with Sender(send().port).greet() as client:
        client.sign_in("454 4.3.0")
    assert peer.tokens_seen == []


def test_a_token_about_to_end_is_renewed_before_it_is_used(
    send: StartRelay, users: ManyUserAdmissionClient, peer: Peer
) -> None:
    users.add(peer.port, expires_at=users.admissions[USER].expires_at.replace(year=2020))
    peer.tokens = {"token-2"}
    users.newer_tokens = ["token-2"]
    with Sender(send().port).greet() as client:
        client.sign_in()
    assert peer.tokens_seen == [("XOAUTH2", "token-2")]


def test_a_mail_server_that_is_not_there_is_told_to_the_client(send: StartRelay, peer: Peer) -> None:
    peer.stop_listening()
    with Sender(send().port).greet() as client:
        assert "accepts no connection" in client.sign_in("454 4.4.1")


def test_a_mail_server_that_is_busy_at_the_greeting_is_asked_again_later(
    send: StartRelay, peer: Peer, pool: bool
) -> None:
    budgets = {"localhost": {"pause": 1, "wait": 30}}
    relay = send(pool=pool, budgets=budgets)
    wait_until(lambda: peer.verbs and "QUIT" in peer.verbs[0], "the mail server got QUIT")
    peer.do(GREETING, say("421 4.3.2 too many connections"))
    with Sender(relay.port).greet() as client:
        client.sign_in()
    assert peer.tokens_seen == [("XOAUTH2", "token-1")]


def test_the_password_and_the_token_are_in_no_log_line_and_no_reply(
    send: StartRelay, users: ManyUserAdmissionClient, peer: Peer, logged: list[dict[str, Any]]
) -> None:
    peer.tokens = set()
    users.newer_tokens = ["a-newer-token"]
    with Sender(send().port).greet() as client:
        replies = [client.sign_in("535"), client.sign_in("535", password="another secret"), client.ask("AUTH x", "504")]
    seen = repr([replies, logged])
    assert len(logged) >= 3
    for secret in ("token-1", "a-newer-token", PASSWORD, "another secret", plain(USER, PASSWORD)):
        assert secret not in seen
    assert {name for line in logged for name in line} <= ALLOWED_FIELDS
