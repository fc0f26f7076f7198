import json
import logging
import socket
from base64 import b64decode, b64encode
from collections.abc import Sequence
from email import message_from_bytes, policy
from typing import Any

import pytest
from scripted_mail_server import (
    USER,
    Peer,
    ScriptedServer,
    Serve,
    profile,
    says,
    smtp_farewell,
    smtp_to_auth,
    smtp_to_data,
    smtp_to_mail,
    smtp_to_starttls,
)

from adapters.mail import smtp_client
from adapters.mail.line_connection import LineConnection
from adapters.mail.mail_server import MailServerClient
from adapters.mail.report import parts, redact
from adapters.mail.sasl_client import Mechanism, client_responses
from adapters.mail.submission import Submission
from adapters.practice.ca import PracticeCA
from domain.catalogue import Protocol
from domain.errors import InvalidValue
from domain.mail_report import Fault, MailReport, Step, Verdict
from domain.secret import Secret

TOKEN = Secret("EwBgA8l6BAAU-practice-access-token.0123456789")
TO = "fax@contoso.com"
MESSAGE = b"From: scan@contoso.com\r\nTo: fax@contoso.com\r\nSubject: Scan\r\n\r\nHello.\r\n"
MULTIPART = (
    b"From: scan@contoso.com\nContent-Type: multipart/mixed; boundary=b\n\npreamble\n--b\n"
    b"Content-Type: text/plain; charset=utf-8\n\nGr\xc3\xb6\xc3\x9fe\n--b\n"
    b"Content-Type: text/html\n\n<p>as it is</p>\n--b--\n"
)
ALL = "AUTH XOAUTH2\nSIZE 1000000\n8BITMIME\nSMTPUTF8"


def check(client: MailServerClient, server: ScriptedServer, token: Secret = TOKEN, **settings: Any) -> MailReport:
    return client.test(profile(Protocol.SMTP, server.port, **settings), token)


def submit(
    client: MailServerClient,
    server: ScriptedServer,
    message: bytes = MESSAGE,
    sender: str = USER,
    recipients: Sequence[str] = (TO,),
    **settings: Any,
) -> MailReport:
    return client.submit(
        profile(Protocol.SMTP, server.port, **settings), TOKEN, sender=sender, recipients=recipients, message=message
    )


def names(report: MailReport) -> list[str]:
    return [step.name for step in report.steps]


def last(report: MailReport) -> Step:
    return report.steps[-1]


# The connection test


def test_a_connection_test_goes_step_by_step_up_to_one_more_command_after_auth(
    client: MailServerClient, serve: Serve
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_mail(peer)
        assert peer.hear() == f"MAIL FROM:<{USER}>"
        peer.say("250 2.1.0 Sender OK")
        peer.hear("RSET")
        peer.say("250 ok")
        smtp_farewell(peer)

    server = serve(script)
    report = check(client, server)
    assert report.ok
    assert report.verdict == Verdict("token_accepted", Fault.NONE, {"mailbox": "scan@contoso.com"})
    assert names(report) == ["resolve", "connect", "greeting", "tls", "capabilities", "auth", "mail", "quit"]
    assert all(step.ok and step.seconds >= 0 for step in report.steps)
    detail = {step.name: step.detail for step in report.steps}
    assert "127.0.0.1" in str(detail["resolve"])
    assert detail["connect"] == f"127.0.0.1:{server.port}"
    assert detail["greeting"] == "220 mx.contoso.com ready"
    assert detail["tls"] == (
        "TLSv1.3, certificate of localhost, issued by Mailtoken practice CA, valid until Dec 31 00:00:00 2099 GMT"
    )
    assert detail["capabilities"] == "sign-in by XOAUTH2"
    assert detail["auth"] == "XOAUTH2 as scan@contoso.com: 235 2.7.0 Authentication successful"
    response = client_responses(USER, "localhost", server.port, TOKEN)[Mechanism.XOAUTH2]
    assert b"\r\nAUTH XOAUTH2 " + b64encode(response) + b"\r\n" in server.heard


def test_hello_is_said_with_our_address_and_not_with_a_name(client: MailServerClient, serve: Serve) -> None:
    server = serve(lambda peer: smtp_to_auth(peer, "AUTH PLAIN"))
    check(client, server)
    assert server.heard_in_clear.startswith(b"EHLO [127.0.0.1]\r\n")
    assert server.heard == b"EHLO [127.0.0.1]\r\n"


@pytest.mark.needs("IPv6")
def test_an_ipv6_address_is_written_as_an_address_literal(client: MailServerClient, serve: Serve) -> None:
    server = serve(lambda peer: smtp_to_auth(peer, "AUTH PLAIN"), address="::1")
    report = client.test(profile(Protocol.SMTP, server.port, server="::1"), TOKEN)
    assert report.steps[1].detail == f"[::1]:{server.port}"
    assert server.heard == b"EHLO [IPv6:::1]\r\n"


def test_the_test_uses_the_sender_address_that_will_be_used(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_mail(peer)
        peer.hear("MAIL FROM:<no-reply@contoso.com>")
        peer.say("550 5.7.60 SMTP; Client does not have permissions to send as this sender")

    report = check(client, serve(script), sender_address="no-reply@contoso.com")
    assert report.fault is Fault.SENDER
    assert report.verdict.code == "send_as_not_granted"
    assert report.reply is not None
    assert report.reply.startswith("550 5.7.60")


def test_a_shared_mailbox_is_the_user_that_signs_in(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_auth(peer)
        response = b64decode(peer.hear("AUTH XOAUTH2 ").split()[2])
        assert response.startswith(b"user=scanner@contoso.com\x01")
        peer.say("535 5.7.3 Authentication unsuccessful")

    assert check(client, serve(script), mailbox="scanner@contoso.com").fault is Fault.TOKEN


def test_a_server_that_hangs_up_instead_of_answering_quit_is_no_failure(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_mail(peer)
        peer.hear("MAIL")
        peer.say("250 ok")
        peer.hear("RSET")
        peer.say("250 ok")
        peer.hear("QUIT")

    report = check(client, serve(script))
    assert report.ok
    assert last(report).detail == "the connection ended without an answer"


def test_a_test_against_a_server_that_was_written_before_rfc_2554_reads_its_list(
    client: MailServerClient, serve: Serve
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_auth(peer, "AUTH=PLAIN XOAUTH2\nAUTH LOGIN PLAIN XOAUTH2")
        peer.hear("AUTH XOAUTH2 ")
        peer.say("535 no")

    assert check(client, serve(script)).steps[4].detail == "sign-in by LOGIN, PLAIN, XOAUTH2"


# AUTH and its refusals


@pytest.mark.parametrize(
    ("reply", "fault", "code"),
    [
        ("535 5.7.3 Authentication unsuccessful", Fault.TOKEN, "token_refused"),
        ("535 5.7.139 SmtpClientAuthentication is disabled.", Fault.MAILBOX, "smtp_auth_disabled"),
        (
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit",
            Fault.MAILBOX,
            "smtp_auth_disabled_for_tenant",
        ),
        (
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit",
            Fault.MAILBOX,
            "smtp_auth_disabled_for_mailbox",
        ),
        ("535-5.7.8 Username and Password not accepted.\r\n535 5.7.8 See the page", Fault.TOKEN, "token_refused"),
        ("535 no", Fault.TOKEN, "token_refused"),
        ("550 5.7.30 Basic authentication is not supported", Fault.CONFIGURATION, "taken_for_password"),
        ("530 5.7.1 Not authenticated", Fault.CONFIGURATION, "sign_in_not_counted"),
        ("530 5.7.57 Client not authenticated to send mail", Fault.CONFIGURATION, "sign_in_not_counted"),
        ("530 5.7.0 Must issue a STARTTLS command first", Fault.CONFIGURATION, "tls_or_sign_in_first"),
        ("501 5.5.127 Token is about to expire", Fault.TOKEN, "token_about_to_expire"),
        ("432 4.3.2 Concurrent connections limit exceeded", Fault.SERVER, "connection_limit_reached"),
        ("454 4.7.0 Temporary authentication failure", Fault.SERVER, "try_later"),
        ("421 4.7.0 Try again later", Fault.SERVER, "try_later"),
        ("421 4.3.0 Try again later", Fault.SERVER, "try_later"),
        ("451 hm", Fault.SERVER, "try_later"),
        ("504 5.5.4 Unrecognized authentication type", Fault.SERVER, "refused_by_server"),
        ("504 5.7.4 Unrecognized authentication type", Fault.MAILBOX, "mechanism_not_available"),
        (
            "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy.",
            Fault.MAILBOX,
            "security_defaults_on",
        ),
        (
            "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated"
            " successfully. Contact your administrator.",
            Fault.MAILBOX,
            "conditional_access_refused",
        ),
        (
            "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.",
            Fault.MAILBOX,
            "basic_authentication_disabled",
        ),
        (
            "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.",
            Fault.PERMISSION,
            "credentials_incorrect",
        ),
        ("535 5.7.139 Authentication unsuccessful, account is locked.", Fault.MAILBOX, "account_locked"),
        ("535 5.7.139 Authentication unsuccessful, something new.", Fault.MAILBOX, "smtp_auth_refused"),
    ],
)
def test_each_refusal_of_auth_says_whose_fault_it_is_and_what_to_do(
    client: MailServerClient, serve: Serve, reply: str, fault: Fault, code: str
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_auth(peer)
        peer.hear("AUTH XOAUTH2 ")
        peer.say(reply)

    report = check(client, serve(script))
    assert (report.fault, last(report).name, last(report).ok) == (fault, "auth", False)
    assert report.verdict.code == code
    assert report.reply is not None
    assert report.reply.startswith(reply[:3])
    assert last(report).detail == report.reply


@pytest.mark.parametrize(
    ("mechanism", "closing"), [(Mechanism.XOAUTH2, b"\r\n\r\n"), (Mechanism.OAUTHBEARER, b"\r\nAQ==\r\n")]
)
def test_an_error_challenge_gets_the_closing_response_and_then_the_token_is_at_fault(
    client: MailServerClient, serve: Serve, mechanism: Mechanism, closing: bytes
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_auth(peer, f"AUTH {mechanism}")
        peer.hear(f"AUTH {mechanism} ")
        peer.say("334 " + b64encode(b'{"status":"401","schemes":"bearer","scope":"https://mail.google.com/"}').decode())
        peer.hear()
        peer.say("535 5.7.8 Username and Password not accepted")
        peer.hear_out()

    server = serve(script)
    report = check(client, server)
    assert (report.fault, report.reply) == (Fault.TOKEN, "535 5.7.8 Username and Password not accepted")
    assert server.heard.endswith(closing)


def test_a_challenge_that_names_the_scope_is_about_the_scope_and_not_renewed(
    client: MailServerClient, serve: Serve
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_auth(peer)
        peer.hear("AUTH")
        error = {"status": "insufficient_scope", "scope": "https://outlook.office.com/SMTP.Send"}
        peer.say("334 " + b64encode(json.dumps(error).encode()).decode())
        peer.hear()
        peer.say("535 no")

    report = check(client, serve(script))
    assert report.fault is Fault.PERMISSION
    assert report.verdict.fields == {"scope": "https://outlook.office.com/SMTP.Send"}


def test_a_challenge_followed_by_a_temporary_failure_does_not_blame_the_token(
    client: MailServerClient, serve: Serve
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_auth(peer)
        peer.hear("AUTH")
        peer.say("334 " + b64encode(b'{"status":"503"}').decode())
        peer.hear()
        peer.say("454 4.7.0 Temporary authentication failure")

    assert check(client, serve(script)).fault is Fault.SERVER


def test_a_server_that_goes_on_challenging_is_cancelled(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_auth(peer)
        peer.hear("AUTH")
        peer.say("334 e30=")
        assert peer.hear() == ""
        peer.say("334 e30=")
        assert peer.hear() == "*"
        peer.say("501 5.7.0 cancelled")

    assert check(client, serve(script)).fault is Fault.TOKEN


@pytest.mark.parametrize("octets", [50, 1000, 2500, 8000])
@pytest.mark.parametrize("mechanism", Mechanism)
def test_a_long_token_waits_for_the_challenge_and_arrives_whole(
    client: MailServerClient, serve: Serve, mechanism: Mechanism, octets: int
) -> None:
    token = Secret("t" * octets)

    def script(peer: Peer) -> None:
        smtp_to_auth(peer, f"AUTH {mechanism}")
        line = peer.hear(f"AUTH {mechanism}")
        assert len(line) + 2 <= 512
        assert (len(line.split()) == 3) is (octets == 50)
        if octets > 50:
            peer.say("334 ")
            line = peer.hear()
        host, port = "localhost", peer.sock.getsockname()[1]
        assert b64decode(line.split()[-1]) == client_responses(USER, host, port, token)[mechanism]
        peer.say("535 5.7.3 no")

    assert check(client, serve(script), token).fault is Fault.TOKEN


def test_a_server_that_accepts_before_it_has_the_token_has_tested_nothing(
    client: MailServerClient, serve: Serve
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_auth(peer)
        peer.hear("AUTH XOAUTH2")
        peer.say("235 2.7.0 welcome")
        peer.hear_out()

    report = check(client, serve(script), Secret("t" * 1000))
    assert (report.fault, report.ok) == (Fault.SERVER, False)


def test_a_server_without_a_mechanism_for_tokens_gets_none(client: MailServerClient, serve: Serve) -> None:
    server = serve(lambda peer: smtp_to_auth(peer, "AUTH PLAIN LOGIN"))
    report = check(client, server)
    assert (report.fault, last(report).name) == (Fault.SERVER, "capabilities")
    assert (last(report).detail, report.reply) == ("sign-in by LOGIN, PLAIN", None)
    assert b"AUTH" not in server.heard


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ("530 5.7.57 Client not authenticated to send mail.", Fault.CONFIGURATION),
        ("550 5.7.1 Not allowed", Fault.PERMISSION),
        ("553 who?", Fault.SENDER),
        ("451 4.3.0 later", Fault.SERVER),
    ],
)
def test_auth_that_is_accepted_and_then_does_not_count_is_found_by_the_next_command(
    client: MailServerClient, serve: Serve, reply: str, fault: Fault
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_mail(peer)
        peer.hear("MAIL FROM:<")
        peer.say(reply)

    report = check(client, serve(script))
    assert (report.fault, last(report).name, report.reply) == (fault, "mail", reply)


# A secret leaves only under TLS, and is never shown


def test_starttls_that_is_not_offered_ends_it_before_any_secret(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mx.contoso.com ready")
        peer.hear("EHLO ")
        peer.say("250-mx.contoso.com", "250 AUTH XOAUTH2 PLAIN")
        peer.hear_out()

    server = serve(script)
    report = check(client, server)
    assert (report.fault, last(report).name) == (Fault.SERVER, "tls")
    assert report.verdict == Verdict("tls_not_offered", Fault.SERVER, {"command": "STARTTLS"})
    assert server.heard_in_clear == b"EHLO [127.0.0.1]\r\n"


def test_starttls_that_is_refused_ends_it_before_any_secret(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_starttls(peer)
        peer.say("454 4.7.0 TLS not available due to temporary reason")
        peer.hear_out()

    server = serve(script)
    assert check(client, server).fault is Fault.SERVER
    assert b"AUTH" not in server.heard_in_clear


def test_what_is_said_in_clear_after_the_go_ahead_for_tls_ends_it_before_any_secret(
    client: MailServerClient, serve: Serve
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_starttls(peer)
        peer.say("220 go ahead", "250-mx.contoso.com", "250 AUTH XOAUTH2")
        peer.hear_out()

    server = serve(script)
    report = check(client, server)
    assert (report.fault, last(report).name) == (Fault.NETWORK, "tls")
    assert report.verdict.code == "plaintext_injected"
    assert server.heard_in_clear == b"EHLO [127.0.0.1]\r\nSTARTTLS\r\n"


def test_what_was_offered_before_tls_counts_for_nothing_after_it(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 ready")
        peer.hear("EHLO ")
        peer.say("250-mx", "250-AUTH XOAUTH2", "250 STARTTLS")
        peer.hear("STARTTLS")
        peer.say("220 go ahead")
        peer.begin_tls()
        peer.hear("EHLO ")
        peer.say("250 mx")
        peer.hear_out()

    server = serve(script)
    assert last(check(client, server)).name == "capabilities"
    assert b"AUTH" not in server.heard


@pytest.mark.parametrize("server_name", ["192.0.2.1", "smtp.contoso.com", "::"])
def test_without_tls_nothing_is_sent_to_another_machine(client: MailServerClient, server_name: str) -> None:
    report = client.test(profile(Protocol.SMTP, 25, server=server_name, tls="none"), TOKEN)
    assert (report.fault, report.steps) == (Fault.CONFIGURATION, ())
    assert report.verdict.code == "tls_required"


def test_without_tls_a_server_on_this_machine_may_have_the_token(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mx.contoso.com ready")
        peer.hear("EHLO ")
        peer.say("250-mx.contoso.com", "250 AUTH XOAUTH2")
        peer.hear("AUTH XOAUTH2 ")
        peer.say("235 ok")
        peer.hear("MAIL")
        peer.say("250 ok")
        peer.hear("RSET")
        peer.say("250 ok")
        smtp_farewell(peer)

    for server_name in ("127.0.0.1", "localhost"):
        server = serve(script)
        report = client.test(profile(Protocol.SMTP, server.port, server=server_name, tls="none"), TOKEN)
        assert report.ok
        assert "tls" not in names(report)


def test_a_name_that_should_be_this_machine_and_is_not_gets_no_token(
    client: MailServerClient, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if `localhost` had been resolved to somewhere else."""

    def script(peer: Peer) -> None:
        peer.say("+OK ready")
        peer.hear("CAPA")
        peer.say("+OK", "SASL XOAUTH2", ".")
        peer.hear_out()

    monkeypatch.setattr(LineConnection, "address", "192.0.2.1")
    server = serve(script)
    report = client.test(profile(Protocol.POP, server.port, tls="none"), TOKEN)
    assert (report.fault, last(report).name) == (Fault.CONFIGURATION, "auth")
    assert report.verdict.code == "connection_not_private"
    assert server.heard_in_clear == b"CAPA\r\n"


@pytest.mark.parametrize("octet", ["\r", "\n", "\0", "\x01"])
def test_a_mailbox_that_could_end_its_field_reaches_no_server(
    client: MailServerClient, serve: Serve, octet: str
) -> None:
    server = serve(lambda peer: peer.hear_out())
    report = check(client, server, mailbox=f"scan@contoso.com{octet}auth=Bearer other")
    assert (report.fault, report.steps) == (Fault.CONFIGURATION, ())
    socket.create_connection(("127.0.0.1", server.port)).close()
    assert server.heard_in_clear == b""


def test_a_server_that_echoes_the_token_does_not_get_it_into_the_report(
    client: MailServerClient, serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_auth(peer)
        line = peer.hear("AUTH")
        peer.say(f"500-5.5.2 Unrecognized: {line[:80]}", f"500 5.5.2 and {TOKEN.reveal()[5:40]!r}, {TOKEN.reveal()}")

    server = serve(script)
    with caplog.at_level(logging.DEBUG):
        report = check(client, server)
    response = b64encode(client_responses(USER, "localhost", server.port, TOKEN)[Mechanism.XOAUTH2]).decode()
    shown = repr(report) + caplog.text + "".join(capfd.readouterr())
    for secret in (TOKEN.reveal(), response):
        assert not any(secret[at : at + 12] in shown for at in range(len(secret) - 11))
    assert report.reply == "500 5.5.2 Unrecognized: AUTH XOAUTH2 *** 5.5.2 and '***', ***"


def test_a_reply_is_shown_as_one_line_without_control_characters(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_auth(peer)
        peer.hear("AUTH")
        peer.say("535 5.7.3 \x1b[2Jgone\u202e\a")

    assert check(client, serve(script)).reply == "535 5.7.3  [2Jgone  "


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nothing in it", "nothing in it"),
        ("all abcdefghijklmnop of it", "all *** of it"),
        ("the end efghijklmnop", "the end ***"),
        ("abcdefghijkl, cdefghijklmn", "***, ***"),
        ("abcdefghijk is too little to tell", "abcdefghijk is too little to tell"),
        ("short", "short"),
        ("", ""),
    ],
)
def test_every_part_of_a_secret_of_twelve_characters_is_hidden(text: str, shown: str) -> None:
    assert redact(text, parts(["abcdefghijklmnop", "another-secret"])) == shown


def test_a_secret_of_less_than_twelve_characters_is_hidden_as_a_whole() -> None:
    assert redact("it was hush!", parts(["hush", "abcdefghijklmnop"])) == "it was ***!"


# Networks and servers that fail


@pytest.mark.needs("a resolver")
def test_a_name_that_does_not_exist_is_a_report(client: MailServerClient) -> None:
    report = client.test(profile(Protocol.SMTP, 587, server="nowhere.invalid"), TOKEN)
    assert (report.fault, last(report).name) == (Fault.NETWORK, "resolve")
    assert (report.verdict.code, report.verdict.fields["server"]) == ("host_not_found", "nowhere.invalid:587")


def test_a_port_nobody_listens_on_is_a_report(client: MailServerClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    report = client.test(profile(Protocol.SMTP, port), TOKEN)
    assert (report.fault, last(report).name) == (Fault.NETWORK, "connect")
    assert report.verdict.code == "connection_refused"


def test_a_server_that_says_nothing_is_given_up_after_the_time_out(client: MailServerClient, serve: Serve) -> None:
    report = check(client, serve(lambda peer: peer.hear_out()), timeout=1)
    assert (report.fault, last(report).name) == (Fault.NETWORK, "greeting")
    assert report.verdict.code == "no_greeting"
    assert last(report).seconds >= 1


def test_a_server_that_drips_is_given_up_at_the_deadline_of_the_whole_conversation(
    ca: PracticeCA, serve: Serve
) -> None:
    server = serve(lambda peer: peer.drip("220-one\r\n"))
    report = check(MailServerClient(ca.ca_file, deadline_seconds=0.5), server, timeout=300)
    assert (report.fault, last(report).name) == (Fault.NETWORK, "greeting")
    assert report.verdict.code == "conversation_too_slow"


def test_a_server_that_drips_one_line_is_given_up_after_the_time_out_of_one_operation(
    client: MailServerClient, serve: Serve
) -> None:
    report = check(client, serve(lambda peer: peer.drip("2")), timeout=1)
    assert report.fault is Fault.NETWORK
    assert report.verdict.code == "no_greeting"


@pytest.mark.parametrize(
    "greeting", ["SSH-2.0-OpenSSH_9.2", "", "220" + "x" * 9000, "220-a\r\n250 b", "220-a\r\n" * 300, "2200 x", "199 x"]
)
def test_what_is_no_reply_is_a_report(client: MailServerClient, serve: Serve, greeting: str) -> None:
    report = check(client, serve(says(greeting)))
    assert (report.fault, last(report).name) == (Fault.SERVER, "greeting")
    assert report.verdict.code == "not_a_mail_server"


def test_a_server_that_is_closing_says_so_in_the_report(client: MailServerClient, serve: Serve) -> None:
    report = check(client, serve(lambda peer: peer.say("421 4.3.0 too busy")))
    assert (report.fault, report.reply) == (Fault.SERVER, "421 4.3.0 too busy")


def test_a_connection_that_is_closed_at_auth_is_the_networks_fault(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_auth(peer)
        peer.hear("AUTH")

    report = check(client, serve(script))
    assert (report.fault, last(report).name) == (Fault.NETWORK, "auth")


@pytest.mark.parametrize("missing", ["server", "account"])
def test_a_profile_that_is_not_filled_in_is_a_report(client: MailServerClient, missing: str) -> None:
    report = client.test(profile(Protocol.SMTP, 587, **{missing: None}), TOKEN)
    assert (report.fault, report.steps) == (Fault.CONFIGURATION, ())
    assert report.verdict.code == "login_incomplete"
    assert isinstance(report.verdict.cause, InvalidValue)
    assert report.verdict.cause.field == missing


# Submission


def test_a_message_is_handed_over_as_lines_with_crlf_and_stuffed_dots(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_data(peer)
        peer.say("250 2.0.0 queued as 17")
        smtp_farewell(peer)

    server = serve(script)
    report = submit(client, server, b"Subject: Scan\n\n.\r\n.hidden\nlast")
    assert report.ok
    assert report.verdict == Verdict("message_accepted", Fault.NONE, {"accepted": ["fax@contoso.com"]})
    assert names(report)[-5:] == ["auth", "mail", "rcpt", "data", "quit"]
    assert report.steps[-2].detail == "250 2.0.0 queued as 17"
    assert server.heard.endswith(
        b"MAIL FROM:<scan@contoso.com>\r\nRCPT TO:<fax@contoso.com>\r\nDATA\r\n"
        b"Subject: Scan\r\n\r\n..\r\n..hidden\r\nlast\r\n.\r\nQUIT\r\n"
    )


@pytest.mark.parametrize(
    ("content", "stuffed"),
    [
        (b".\r\nbody\r\n", b"..\r\nbody\r\n.\r\n"),
        (b"..Subject: x\r\n", b"...Subject: x\r\n.\r\n"),
        (b"a.\r\n\r\n.\r\n", b"a.\r\n\r\n..\r\n.\r\n"),
    ],
)
def test_a_dot_is_stuffed_at_the_beginning_of_every_line_also_of_the_first(content: bytes, stuffed: bytes) -> None:
    assert Submission.of(USER, [TO], content).stuffed == stuffed


@pytest.mark.parametrize(
    "message", [b"Subject: x\r\n\r\none\rtwo", b"\r", b"a\r\r\nb", b"nul\0", b"end\r\n.\rMAIL FROM:<x@y>\r\n"]
)
def test_a_message_with_a_bare_carriage_return_or_a_nul_reaches_no_server(
    client: MailServerClient, message: bytes
) -> None:
    report = client.submit(profile(Protocol.SMTP, 1), TOKEN, sender=USER, recipients=[TO], message=message)
    assert (report.fault, report.steps) == (Fault.MESSAGE, ())
    assert report.verdict.code == "message_not_sendable"
    assert report.verdict.cause is not None
    assert report.verdict.cause.code == "bare_control_in_message"


def test_a_smuggled_end_of_data_with_bare_line_feeds_stays_text(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_data(peer)
        peer.say("250 ok")
        smtp_farewell(peer)

    server = serve(script)
    assert submit(client, server, b"Subject: x\n\none\n.\nMAIL FROM:<other@contoso.com>\n").ok
    assert b"\r\none\r\n..\r\nMAIL FROM:<other@contoso.com>\r\n.\r\nQUIT" in server.heard


@pytest.mark.parametrize(
    ("sender", "recipients"),
    [
        (USER, ["fax@contoso.com>\r\nDATA"]),
        ("a b@contoso.com", [TO]),
        (USER, ["<fax@contoso.com>"]),
        (USER, [""]),
        (USER, []),
        ("scan\udce4@contoso.com", [TO]),
    ],
)
def test_an_address_that_is_none_reaches_no_server(
    client: MailServerClient, sender: str, recipients: Sequence[str]
) -> None:
    report = client.submit(profile(Protocol.SMTP, 1), TOKEN, sender=sender, recipients=recipients, message=MESSAGE)
    assert (report.fault, report.steps) == (Fault.MESSAGE if sender == USER else Fault.SENDER, ())


def test_a_bounce_has_an_empty_sender(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_mail(peer)
        assert peer.hear() == "MAIL FROM:<>"
        peer.say("550 5.7.1 no")

    assert submit(client, serve(script), sender="").fault is Fault.PERMISSION


def test_only_an_smtp_setting_sends(client: MailServerClient) -> None:
    report = client.submit(profile(Protocol.POP, 995), TOKEN, sender=USER, recipients=[TO], message=MESSAGE)
    assert (report.fault, report.steps) == (Fault.CONFIGURATION, ())


@pytest.mark.parametrize(
    ("message", "recipient", "mail"),
    [
        (MESSAGE, TO, f"MAIL FROM:<{USER}> SIZE={len(MESSAGE)}"),
        ("Subject: x\n\nä\n".encode(), TO, f"MAIL FROM:<{USER}> SIZE=18 BODY=8BITMIME"),
        ("Subject: ä\n\nx\n".encode(), TO, f"MAIL FROM:<{USER}> SIZE=18 BODY=8BITMIME SMTPUTF8"),
        (b"Subject: x\n\nx\n", "jürg@contoso.com", f"MAIL FROM:<{USER}> SIZE=17 SMTPUTF8"),
    ],
)
def test_an_extension_is_used_only_if_the_message_needs_it(
    client: MailServerClient, serve: Serve, message: bytes, recipient: str, mail: str
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_mail(peer, ALL)
        assert peer.hear() == mail
        peer.say("452 4.3.1 enough seen")

    assert submit(client, serve(script), message, recipients=[recipient]).fault is Fault.SERVER


@pytest.mark.parametrize(
    ("message", "recipient", "extension"),
    [
        (MULTIPART.replace(b"preamble", b"pr\xc3\xa4amble"), TO, "8BITMIME"),
        (MESSAGE, "jürg@contoso.com", "SMTPUTF8"),
    ],
)
def test_a_message_that_needs_what_is_not_offered_is_not_sent(
    client: MailServerClient, serve: Serve, message: bytes, recipient: str, extension: str
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_mail(peer)
        peer.hear_out()

    server = serve(script)
    report = submit(client, server, message, recipients=[recipient])
    assert report.fault is Fault.CONFIGURATION
    assert report.verdict.code == f"extension_{extension.lower()}_missing"
    assert b"MAIL" not in server.heard


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("Subject: Cron größe.sh\n\ngrün\n".encode(), "grün"),
        (b"Subject: x\nContent-Type: text/plain; charset=ISO-8859-1\n\ngr\xfcn\n", "grün"),
        (b"Subject: x\n\ngr\xfcn\n", "grün"),
        (b"Subject: x\n\n" + b"0123456789" * 300 + b"\nend\n", "0123456789" * 300 + "\nend"),
        (b"Subject: " + b"word " * 900 + b"\n\nbody\n", "body"),
        (b"Subject: x\nContent-Transfer-Encoding: base64\n\n" + b64encode(b"text " * 600) + b"\n", "text " * 600),
        (MULTIPART, "Größe"),
    ],
)
def test_a_message_is_encoded_for_a_server_that_would_not_take_it_as_it_is(
    client: MailServerClient, serve: Serve, message: bytes, text: str
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_data(peer)
        peer.say("250 ok")
        smtp_farewell(peer)

    server = serve(script)
    assert submit(client, server, message).ok
    sent = server.heard.partition(b"\r\nDATA\r\n")[2].removesuffix(b".\r\nQUIT\r\n")
    assert sent.isascii()
    assert max(map(len, sent.split(b"\r\n"))) <= 998
    read, given = (message_from_bytes(octets, policy=policy.default) for octets in (sent, message))
    assert str(read["Subject"]).strip() == str(given["Subject"]).strip()
    body = read.get_body(("plain",))
    assert body is not None
    assert body.get_content().splitlines() == text.splitlines()
    assert (b"<p>as it is</p>" in sent) is (b"<p>as it is</p>" in message)


@pytest.mark.parametrize("refused_at", ["MAIL", "data"])
def test_a_message_that_is_too_large_is_said_with_its_size_and_the_limit(
    client: MailServerClient, serve: Serve, refused_at: str
) -> None:
    def script(peer: Peer) -> None:
        if refused_at == "MAIL":
            smtp_to_mail(peer, ALL)
            peer.hear("MAIL")
        else:
            smtp_to_data(peer)
        peer.say("552 5.3.4 Message size exceeds fixed maximum message size")

    report = submit(client, serve(script))
    assert report.fault is Fault.MESSAGE
    limit = 1000000 if refused_at == "MAIL" else "not announced"
    assert report.verdict == Verdict("message_too_large", Fault.MESSAGE, {"octets": len(MESSAGE), "limit": limit})


@pytest.mark.parametrize("at", ["mail", "data"])
@pytest.mark.parametrize(
    ("reply", "fault", "code"),
    [
        (
            "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
            Fault.SENDER,
            "send_as_not_granted",
        ),
        ("554 5.2.252 SendAsDenied; scan@contoso.com not allowed", Fault.SENDER, "send_as_not_granted"),
        ("554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException", Fault.SENDER, "send_as_not_granted"),
        ("550 5.1.8 Access denied, bad outbound sender", Fault.MAILBOX, "sending_barred"),
        ("550 5.7.705 Access denied, tenant has exceeded threshold", Fault.MAILBOX, "sending_barred"),
        ("550 5.7.708 Access denied, traffic not accepted from this IP", Fault.MAILBOX, "sending_barred"),
        ("550 5.4.5 Daily user sending limit exceeded", Fault.MAILBOX, "sending_limit_reached"),
        ("554 5.2.2 mailbox full", Fault.MAILBOX, "mailbox_full"),
        ("552 5.2.2 Over quota", Fault.MAILBOX, "mailbox_full"),
        ("452 4.2.2 Over quota", Fault.MAILBOX, "mailbox_full"),
        ("550 5.2.2 Submission quota exceeded", Fault.MAILBOX, "sending_limit_reached"),
        ("552 5.2.3 Message too long", Fault.MESSAGE, "message_too_large"),
        ("552 Message size exceeds maximum value", Fault.MESSAGE, "message_too_large"),
        ("550 5.1.90 You have reached your daily limit", Fault.MAILBOX, "sending_limit_reached"),
        (
            "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
            Fault.MAILBOX,
            "sending_limit_reached",
        ),
        ("550 5.7.502 Access denied, banned sender", Fault.MAILBOX, "sending_barred"),
    ],
)
def test_a_refusal_of_a_message_names_its_cause(
    client: MailServerClient, serve: Serve, at: str, reply: str, fault: Fault, code: str
) -> None:
    def script(peer: Peer) -> None:
        if at == "mail":
            smtp_to_mail(peer)
            peer.hear("MAIL")
        else:
            smtp_to_data(peer)
        peer.say(reply)

    report = submit(client, serve(script))
    assert (report.fault, report.verdict.code, report.reply) == (fault, code, reply)


@pytest.mark.parametrize("reply", ["550 5.1.1 no such user", "450 4.2.1 later", "535 5.7.3 odd"])
def test_a_recipient_that_is_refused_is_named_and_the_others_get_the_message_once(
    client: MailServerClient, serve: Serve, reply: str
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_mail(peer)
        peer.hear("MAIL")
        peer.say("250 ok")
        peer.hear("RCPT TO:<one@contoso.com>")
        peer.say("250 ok")
        peer.hear("RCPT TO:<two@contoso.com>")
        peer.say(reply)
        peer.hear("RCPT TO:<three@contoso.com>")
        peer.say("251 will forward")
        peer.hear("DATA")
        peer.say("354 go on")
        peer.hear_message()
        peer.say("250 ok")
        smtp_farewell(peer)

    report = submit(client, serve(script), recipients=["one@contoso.com", "two@contoso.com", "three@contoso.com"])
    assert (report.fault, report.ok) == (Fault.MAILBOX, False)
    assert report.verdict.code == "message_accepted_in_part"
    assert report.verdict.fields == {
        "accepted": ["one@contoso.com", "three@contoso.com"],
        "refused": ["two@contoso.com"],
    }
    assert report.reply == f"two@contoso.com: {reply}"
    assert [step.ok for step in report.steps if step.name in ("rcpt", "data")] == [False, True]


def test_nothing_is_sent_if_every_recipient_is_refused(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_mail(peer)
        peer.hear("MAIL")
        peer.say("250 ok")
        for _ in range(2):
            peer.hear("RCPT")
            peer.say("550 5.1.1 no such user")
        peer.hear_out()

    server = serve(script)
    report = submit(client, server, recipients=["one@contoso.com", "two@contoso.com"])
    assert (report.fault, last(report).name) == (Fault.MAILBOX, "rcpt")
    assert report.verdict.fields == {"nothing_sent": True}
    assert b"DATA" not in server.heard


@pytest.mark.parametrize(
    ("reply", "fault", "code"),
    [
        (
            "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
            Fault.SENDER,
            "send_as_not_granted",
        ),
        ("554 5.2.2 mailbox full", Fault.MAILBOX, "mailbox_full"),
        ("432 4.3.2 STOREDRV; concurrent connections limit exceeded", Fault.SERVER, "connection_limit_reached"),
        ("554 5.6.0 I do not like it", Fault.SERVER, "message_refused"),
        ("421 4.7.0 later", Fault.SERVER, "try_later"),
    ],
)
def test_each_refusal_of_a_message_says_whose_fault_it_is_and_what_to_do(
    client: MailServerClient, serve: Serve, reply: str, fault: Fault, code: str
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_data(peer)
        peer.say(reply)

    report = submit(client, serve(script))
    assert (report.fault, last(report).name, report.reply) == (fault, "data", reply)
    assert report.verdict.code == code


@pytest.mark.parametrize("end", ["hangs up", "says nothing", "says nonsense"])
def test_without_an_answer_to_the_final_dot_it_is_not_known_whether_the_message_was_sent(
    client: MailServerClient, serve: Serve, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    if end == "says nothing":
        monkeypatch.setattr(smtp_client, "ACCEPTANCE_SECONDS", 0.2)

    def script(peer: Peer) -> None:
        smtp_to_data(peer)
        if end == "says nonsense":
            peer.say("what?")
        if end != "hangs up":
            peer.hear_out()

    report = submit(client, serve(script))
    assert (report.fault, last(report).name, last(report).ok) == (Fault.NETWORK, "data", False)
    assert report.verdict.code == "message_in_doubt"


def test_the_answer_to_the_final_dot_may_take_longer_than_an_operation(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_data(peer)
        peer.stay_silent(1.2)
        peer.say("250 ok")
        smtp_farewell(peer)

    assert submit(client, serve(script), timeout=1).ok


def test_a_connection_that_breaks_within_the_message_has_not_sent_it(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_mail(peer)
        peer.hear("MAIL")
        peer.say("250 ok")
        peer.hear("RCPT")
        peer.say("250 ok")
        peer.hear("DATA")
        peer.say("354 go on")
        peer.hear()

    report = submit(client, serve(script), b"Subject: x\n\n" + b"x" * 70 * 200_000)
    assert (report.fault, last(report).name) == (Fault.NETWORK, "data")
    assert report.verdict.code == "message_broken_off"


def test_a_refusal_within_the_message_is_told_although_the_server_closes_with_it(
    client: MailServerClient, serve: Serve
) -> None:
    def script(peer: Peer) -> None:
        smtp_to_mail(peer)
        peer.hear("MAIL")
        peer.say("250 ok")
        peer.hear("RCPT")
        peer.say("250 ok")
        peer.hear("DATA")
        peer.say("354 go on")
        peer.hear()
        peer.say("552 5.3.4 too big")

    for _ in range(20):
        report = submit(client, serve(script), b"Subject: x\n\n" + b"x" * 70 * 20_000)
        assert (report.verdict.code, last(report).name) == ("message_too_large", "data")
        assert last(report).detail == "552 5.3.4 too big"


def test_a_large_message_arrives_whole(client: MailServerClient, serve: Serve) -> None:
    lines = b"".join(b"%07d .\r\n" % number for number in range(200_000))

    def script(peer: Peer) -> None:
        smtp_to_data(peer)
        peer.say("250 ok")
        smtp_farewell(peer)

    server = serve(script)
    assert submit(client, server, b"Subject: x\r\n\r\n" + lines).ok
    assert b"\r\n\r\n" + lines + b".\r\nQUIT" in server.heard
