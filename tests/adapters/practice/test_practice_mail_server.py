"""The practice mail server, seen from smtplib, poplib and plain sockets."""

import base64
import json
import poplib
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
import requests
from practice_faults.mail_server import FaultyMailServer
from practice_faults.provider import FaultyProvider

from adapters.practice.ca import PracticeCA
from adapters.practice.mailboxes import Admitted, Malformed, Refused, Unavailable

SCAN = "scan@contoso.com"
FAX = "fax@contoso.com"
SCANNER = "scanner@contoso.com"
MESSAGE = b"From: scan@contoso.com\r\nSubject: Scan\r\n\r\n.one\r\n..two\r\nthree\r\n"

SignIn = Callable[..., dict[str, Any]]


def xoauth2(user: str, token: str) -> str:
    return f"user={user}\x01auth=Bearer {token}\x01\x01"


def oauthbearer(user: str, token: str) -> str:
    return f"n,a={user},\x01host=localhost\x01port=587\x01auth=Bearer {token}\x01\x01"


RESPONSES = {"XOAUTH2": (xoauth2, ""), "OAUTHBEARER": (oauthbearer, "\x01")}


class Smtp:
    """smtplib over either kind of TLS, with the mechanisms that it lacks."""

    def __init__(self, mail: FaultyMailServer, *, implicit_tls: bool = False) -> None:
        context = ssl.create_default_context(cafile=mail.ca_file)
        if implicit_tls:
            self.client: smtplib.SMTP = smtplib.SMTP_SSL("localhost", mail.smtps_port, context=context, timeout=60)
        else:
            self.client = smtplib.SMTP("localhost", mail.smtp_port, timeout=60)
            self.client.starttls(context=context)
        self.client.ehlo()

    def authenticate(
        self, mechanism: str, user: str, token: str, *, initial_response: bool = True
    ) -> tuple[int, bytes]:
        respond, closing_response = RESPONSES[mechanism]

        def answer(challenge: bytes | None = None) -> str:
            return closing_response if challenge else respond(user, token)

        return self.client.auth(mechanism, answer, initial_response_ok=initial_response)

    def close(self) -> None:
        self.client.close()


def in_short(pop: poplib.POP3, line: str) -> bytes:
    """The reply to one line; the type stubs have no such method."""
    reply: bytes = pop._shortcmd(line)  # type: ignore[attr-defined]
    return reply


class Pop(poplib.POP3):
    """poplib with the mechanisms that it lacks."""

    def authenticate(self, mechanism: str, user: str, token: str, *, initial_response: bool = False) -> bytes:
        respond, closing_response = RESPONSES[mechanism]
        response = base64.b64encode(respond(user, token).encode()).decode()
        if initial_response:
            reply = in_short(self, f"AUTH {mechanism} {response}")
        else:
            assert in_short(self, f"AUTH {mechanism}") == b"+ "
            reply = in_short(self, response)
        if reply.startswith(b"+ "):
            self.challenge = json.loads(base64.b64decode(reply[2:]))
            reply = in_short(self, base64.b64encode(closing_response.encode()).decode())
        return reply


class PopSsl(Pop, poplib.POP3_SSL):
    pass


def pop_client(mail: FaultyMailServer, *, implicit_tls: bool = False) -> Pop:
    context = ssl.create_default_context(cafile=mail.ca_file)
    if implicit_tls:
        return PopSsl("localhost", mail.pops_port, context=context, timeout=60)
    client = Pop("localhost", mail.pop_port, timeout=60)
    client.stls(context)
    return client


@pytest.fixture
def smtp(mail: FaultyMailServer) -> Iterator[Smtp]:
    with closing(Smtp(mail)) as client:
        yield client


@pytest.fixture
def pop(mail: FaultyMailServer) -> Iterator[Pop]:
    with closing(pop_client(mail)) as client:
        yield client


@pytest.fixture
def token(provider: FaultyProvider, sign_in: SignIn) -> str:
    access_token: str = sign_in(provider, SCAN)["access_token"]
    return access_token


# Authentication


@pytest.mark.parametrize("length", [50, 2500, 8000])
@pytest.mark.parametrize("initial_response", [False, True])
@pytest.mark.parametrize("implicit_tls", [False, True])
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_a_token_of_any_length_opens_its_account_s_mailbox(
    mail: FaultyMailServer,
    provider: FaultyProvider,
    sign_in: SignIn,
    mechanism: str,
    implicit_tls: bool,
    initial_response: bool,
    length: int,
) -> None:
    provider.rules.access_token_length = length
    token = sign_in(provider)["access_token"]
    with (
        closing(Smtp(mail, implicit_tls=implicit_tls)) as smtp,
        closing(pop_client(mail, implicit_tls=implicit_tls)) as pop,
    ):
        assert smtp.authenticate(mechanism, SCAN, token, initial_response=initial_response)[0] == 235
        assert pop.authenticate(mechanism, SCAN, token, initial_response=initial_response).startswith(b"+OK")
        assert pop.stat() == (0, 0)
    assert [attempt.protocol for attempt in mail.authentications] == ["smtp", "pop"]
    assert {attempt.has_initial_response for attempt in mail.authentications} == {initial_response}
    assert {attempt.verdict for attempt in mail.authentications} == {Admitted(SCAN)}


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_a_bad_token_is_challenged_and_refused_after_the_closing_response(
    mail: FaultyMailServer, smtp: Smtp, pop: Pop, mechanism: str
) -> None:
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        smtp.authenticate(mechanism, SCAN, "stale")
    assert (refused.value.smtp_code, refused.value.smtp_error) == (535, b"5.7.3 Authentication unsuccessful")
    with pytest.raises(poplib.error_proto, match=r"^b'-ERR \[AUTH\]"):
        pop.authenticate(mechanism, SCAN, "stale")
    assert pop.challenge["status"] == {"XOAUTH2": "401", "OAUTHBEARER": "invalid_token"}[mechanism]
    closing_response = RESPONSES[mechanism][1].encode()
    assert [attempt.closing_response for attempt in mail.authentications] == [closing_response] * 2
    assert all(isinstance(attempt.verdict, Refused) for attempt in mail.authentications)


def test_a_token_that_was_revoked_or_has_expired_is_refused(
    provider: FaultyProvider, sign_in: SignIn, mail: FaultyMailServer
) -> None:
    for end in (provider.revoke_account, provider.expire_access_tokens, provider.disable_account):
        token = sign_in(provider)["access_token"]
        end(SCAN)
        with closing(Smtp(mail)) as smtp, pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3"):
            smtp.authenticate("XOAUTH2", SCAN, token)


def test_a_shared_mailbox_opens_to_those_who_were_given_access(
    mail: FaultyMailServer, provider: FaultyProvider, sign_in: SignIn, token: str
) -> None:
    with closing(Smtp(mail)) as smtp:
        assert smtp.authenticate("XOAUTH2", "Scanner@Contoso.com", token)[0] == 235
        smtp.client.sendmail(SCANNER, [FAX], MESSAGE)
    with closing(Smtp(mail)) as smtp, pytest.raises(smtplib.SMTPAuthenticationError):
        smtp.authenticate("XOAUTH2", SCANNER, sign_in(provider, FAX)["access_token"])
    with closing(Smtp(mail)) as smtp, pytest.raises(smtplib.SMTPAuthenticationError):
        smtp.authenticate("XOAUTH2", FAX, token)


def test_an_app_only_token_opens_a_mailbox_given_to_its_client(
    ca: PracticeCA, provider: FaultyProvider, http: requests.Session
) -> None:
    token = http.post(
        f"{provider.issuer}/oauth2/token",
        data={"grant_type": "client_credentials"},
        auth=(provider.confidential_client_id, provider.client_secret),
        timeout=60,
    ).json()["access_token"]
    with (
        FaultyMailServer(ca, provider, shared={SCAN: {provider.confidential_client_id}}) as mail,
        closing(pop_client(mail)) as pop,
    ):
        assert pop.authenticate("XOAUTH2", SCAN, token).startswith(b"+OK")


def test_oauthbearer_without_a_user_means_the_token_s_own_account(
    mail: FaultyMailServer, smtp: Smtp, token: str
) -> None:
    smtp.client.auth("OAUTHBEARER", lambda _=None: f"n,,\x01auth=Bearer {token}\x01\x01")
    assert mail.authentications[-1].verdict == Admitted(SCAN)


@pytest.mark.parametrize(
    "response",
    [
        "user=scan@contoso.com\x01auth=Bearer x\x01",
        "user=scan@contoso.com\x01auth=Basic x\x01\x01",
        "user=scan@contoso.com\r\nauth=Bearer x\x01\x01",
        "user=scan@contoso.com\x01auth=Bearer x y\x01\x01",
        "",
    ],
)
def test_a_malformed_response_is_a_syntax_error(mail: FaultyMailServer, smtp: Smtp, pop: Pop, response: str) -> None:
    encoded = base64.b64encode(response.encode()).decode() or "="
    assert smtp.client.docmd("AUTH", "XOAUTH2")[0] == 334
    assert smtp.client.docmd(encoded if response else "")[0] == 501
    with pytest.raises(poplib.error_proto, match="-ERR"):
        in_short(pop, f"AUTH XOAUTH2 {encoded}")
    assert [attempt.verdict for attempt in mail.authentications] == [Malformed()] * 2


def test_authentication_can_be_cancelled(smtp: Smtp, pop: Pop) -> None:
    assert smtp.client.docmd("AUTH", "xoauth2")[0] == 334
    assert smtp.client.docmd("*")[0] == 501
    in_short(pop, "AUTH xoauth2")
    with pytest.raises(poplib.error_proto, match="cancelled"):
        in_short(pop, "*")
    assert in_short(pop, "AUTH OAUTHBEARER") == b"+ "


def test_passwords_are_refused_as_exchange_refuses_them(smtp: Smtp, pop: Pop) -> None:
    for mechanism in ("PLAIN", "LOGIN"):
        assert smtp.client.docmd("AUTH", mechanism) == (
            550,
            b"5.7.30 Basic authentication is not supported for Client Submission.",
        )
    pop.user(SCAN)
    with pytest.raises(poplib.error_proto, match="Logon failure"):
        pop.pass_("secret")


def test_auth_is_neither_offered_nor_accepted_before_tls(mail: FaultyMailServer) -> None:
    with closing(smtplib.SMTP("localhost", mail.smtp_port, timeout=60)) as smtp:
        smtp.ehlo()
        assert "auth" not in smtp.esmtp_features
        assert smtp.docmd("AUTH", "XOAUTH2")[0] == 530
        assert smtp.docmd("MAIL", "FROM:<scan@contoso.com>")[0] == 530
    with closing(poplib.POP3("localhost", mail.pop_port, timeout=60)) as pop:
        assert "SASL" not in pop.capa()
        for command in ("AUTH XOAUTH2", "USER scan", "PASS x", "STAT"):
            with pytest.raises(poplib.error_proto, match="not valid in this state"):
                in_short(pop, command)
    assert mail.authentications == []


def test_mail_needs_authentication(smtp: Smtp, pop: Pop) -> None:
    assert smtp.client.docmd("MAIL", "FROM:<scan@contoso.com>") == (
        530,
        b"5.7.57 Client not authenticated to send mail.",
    )
    with pytest.raises(poplib.error_proto, match="not valid in this state"):
        pop.stat()


def test_a_provider_that_cannot_be_asked_is_a_temporary_failure(
    mail: FaultyMailServer, provider: FaultyProvider, smtp: Smtp, pop: Pop, token: str
) -> None:
    provider.inject_fault("server_error", endpoint="introspection")
    with pytest.raises(smtplib.SMTPAuthenticationError, match=r"4\.7\.0"):
        smtp.authenticate("XOAUTH2", SCAN, token)
    provider.close()
    with pytest.raises(poplib.error_proto, match=r"\[SYS/TEMP\]"):
        pop.authenticate("XOAUTH2", SCAN, token)
    assert [attempt.verdict for attempt in mail.authentications] == [Unavailable()] * 2


def test_a_line_that_is_too_long_is_refused(smtp: Smtp, pop: Pop) -> None:
    assert smtp.client.docmd("AUTH", "XOAUTH2 " + "x" * 13_000)[0] == 500
    assert smtp.client.docmd("AUTH", "XOAUTH2")[0] == 334
    assert smtp.client.docmd("x" * 13_000)[0] == 500
    with pytest.raises(poplib.error_proto, match="too long"):
        in_short(pop, "AUTH XOAUTH2 " + "x" * 13_000)


@pytest.mark.parametrize(("port", "command"), [("smtp_port", b"STARTTLS"), ("pop_port", b"STLS")])
def test_what_is_pipelined_behind_starttls_is_never_obeyed(mail: FaultyMailServer, port: str, command: bytes) -> None:
    context = ssl.create_default_context(cafile=mail.ca_file)
    with socket.create_connection(("localhost", getattr(mail, port)), timeout=60) as raw, ExitStack() as stack:
        raw.recv(1000)
        raw.sendall(command + b"\r\nNOOP injected\r\n")
        try:
            assert raw.recv(1000)[:3] in {b"220", b""}
            stack.enter_context(context.wrap_socket(raw, server_hostname="localhost"))
        except OSError:
            assert command == b"STLS"
    assert ("smtp", "NOOP") not in mail.commands
    assert ("pop", "NOOP") not in mail.commands


# Messages


def test_a_message_sent_by_smtp_is_read_by_pop_octet_by_octet(
    mail: FaultyMailServer, smtp: Smtp, pop: Pop, token: str
) -> None:
    smtp.authenticate("XOAUTH2", SCAN, token)
    smtp.client.sendmail(SCAN, ["SCAN@contoso.com", FAX], MESSAGE)
    assert mail.wait_for_messages(FAX) == [MESSAGE]
    assert mail.mailboxes[SCAN] == [MESSAGE]
    pop.authenticate("XOAUTH2", SCAN, token)
    assert b"\r\n".join(pop.retr(1)[1]) + b"\r\n" == MESSAGE


def test_a_sender_other_than_the_mailbox_is_refused(smtp: Smtp, token: str) -> None:
    smtp.authenticate("XOAUTH2", SCAN, token)
    with pytest.raises(smtplib.SMTPSenderRefused) as refused:
        smtp.client.sendmail(SCANNER, [FAX], MESSAGE)
    assert (refused.value.smtp_code, refused.value.smtp_error[:6]) == (550, b"5.7.60")


def test_pop_lists_shows_and_deletes_messages(mail: FaultyMailServer, pop: Pop, token: str) -> None:
    for number in (b"1", b"2", b"3"):
        mail.deliver(SCAN, MESSAGE.replace(b"three", number))
    pop.authenticate("XOAUTH2", SCAN, token)
    assert pop.stat() == (3, 3 * len(MESSAGE) - 12)
    assert pop.list()[1] == [b"1 57", b"2 57", b"3 57"]
    assert in_short(pop, "LIST 2") == b"+OK 2 57"
    ids = [line.split()[1] for line in pop.uidl()[1]]
    assert len(set(ids)) == 3
    assert pop.uidl(3) == b"+OK 3 " + ids[2]
    assert pop.top(1, 1)[1] == [b"From: scan@contoso.com", b"Subject: Scan", b"", b".one"]

    pop.dele(2)
    assert [line.split()[0] for line in pop.list()[1]] == [b"1", b"3"]
    for gone in (pop.retr, pop.dele, pop.list):
        with pytest.raises(poplib.error_proto, match="No such message"):
            gone(2)
    pop.rset()
    assert pop.stat()[0] == 3
    pop.dele(2)
    pop.noop()
    assert len(mail.mailboxes[SCAN]) == 3
    pop.quit()
    assert [message[-3:-2] for message in mail.mailboxes[SCAN]] == [b"1", b"3"]

    with closing(pop_client(mail)) as again:
        again.authenticate("XOAUTH2", SCAN, token)
        assert [line.split()[1] for line in again.uidl()[1]] == [ids[0], ids[2]]


def test_a_session_that_breaks_off_deletes_nothing(mail: FaultyMailServer, pop: Pop, token: str) -> None:
    mail.deliver(SCAN, MESSAGE)
    pop.authenticate("XOAUTH2", SCAN, token)
    pop.dele(1)
    pop.close()
    mail.close()
    assert mail.mailboxes[SCAN] == [MESSAGE]


def test_waiting_for_a_message_that_does_not_come_ends_in_time(mail: FaultyMailServer) -> None:
    with pytest.raises(TimeoutError):
        mail.wait_for_messages(FAX, timeout_seconds=0.01)


def test_a_restarted_server_keeps_its_ports_and_its_mailboxes(mail: FaultyMailServer) -> None:
    ports = (mail.smtp_port, mail.smtps_port, mail.pop_port, mail.pops_port)
    mail.deliver(SCAN, MESSAGE)
    mail.close()
    with pytest.raises(ConnectionRefusedError):
        smtplib.SMTP("localhost", mail.smtp_port, timeout=60)
    mail.start()
    assert (mail.smtp_port, mail.smtps_port, mail.pop_port, mail.pops_port) == ports
    assert mail.mailboxes[SCAN] == [MESSAGE]
    with closing(Smtp(mail)) as smtp:
        assert smtp.client.noop()[0] == 250


# Misbehaviour


@pytest.mark.parametrize(
    "reply",
    [
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
        "454 4.7.0 Temporary server error. Please try again later.",
        "432 4.3.2 Concurrent connections limit exceeded.",
    ],
)
def test_auth_may_be_answered_with_any_reply(smtp: Smtp, mail: FaultyMailServer, token: str, reply: str) -> None:
    mail.inject_fault("answer", reply=reply)
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        smtp.authenticate("XOAUTH2", SCAN, token)
    assert isinstance(refused.value.smtp_error, bytes)
    assert f"{refused.value.smtp_code} {refused.value.smtp_error.decode()}" == reply
    assert smtp.authenticate("XOAUTH2", SCAN, token)[0] == 235


def test_pop_auth_may_be_answered_with_any_reply(pop: Pop, mail: FaultyMailServer, token: str) -> None:
    mail.inject_fault("answer", protocol="pop", reply="-ERR [SYS/TEMP] Server unavailable.")
    with pytest.raises(poplib.error_proto, match="Server unavailable"):
        pop.authenticate("XOAUTH2", SCAN, token, initial_response=True)
    assert pop.authenticate("XOAUTH2", SCAN, token).startswith(b"+OK")


def send_by_smtp(mail: FaultyMailServer, token: str) -> None:
    with closing(Smtp(mail, implicit_tls=True)) as smtp:
        smtp.authenticate("XOAUTH2", SCAN, token)
        smtp.client.sendmail(SCAN, [FAX], MESSAGE)


def look_by_pop(mail: FaultyMailServer, token: str) -> None:
    with closing(pop_client(mail, implicit_tls=True)) as pop:
        pop.authenticate("XOAUTH2", SCAN, token)
        pop.stat()


@pytest.mark.parametrize("command", ["AUTH", "MAIL", "RCPT", "DATA", "END-OF-DATA"])
def test_an_smtp_answer_may_be_wrong_at_any_command(mail: FaultyMailServer, token: str, command: str) -> None:
    mail.inject_fault("answer", command=command, reply="554 5.2.2 mailbox full")
    with pytest.raises(smtplib.SMTPException, match="mailbox full"):
        send_by_smtp(mail, token)
    assert FAX not in mail.mailboxes


def test_421_closes_the_connection(smtp: Smtp, mail: FaultyMailServer) -> None:
    mail.inject_fault("answer", command="NOOP", reply="421 4.3.0 Try again later")
    assert smtp.client.noop()[0] == 421
    with pytest.raises(smtplib.SMTPServerDisconnected):
        smtp.client.noop()


@pytest.mark.parametrize("command", ["GREETING", "EHLO", "AUTH", "MAIL", "END-OF-DATA"])
def test_an_smtp_connection_may_drop_at_any_command(mail: FaultyMailServer, token: str, command: str) -> None:
    mail.inject_fault("drop", command=command)
    with pytest.raises((smtplib.SMTPServerDisconnected, OSError)):
        send_by_smtp(mail, token)
    assert FAX not in mail.mailboxes


@pytest.mark.parametrize("command", ["GREETING", "AUTH", "STAT"])
def test_a_pop_connection_may_drop_at_any_command(mail: FaultyMailServer, token: str, command: str) -> None:
    mail.inject_fault("drop", command=command)
    with pytest.raises((poplib.error_proto, OSError)):
        look_by_pop(mail, token)


def test_auth_may_succeed_and_the_next_command_fail(smtp: Smtp, pop: Pop, mail: FaultyMailServer, token: str) -> None:
    mail.inject_fault("fail_after_auth", times=2)
    assert smtp.authenticate("XOAUTH2", SCAN, token)[0] == 235
    assert smtp.client.mail(SCAN)[0] == 530
    assert pop.authenticate("XOAUTH2", SCAN, token).startswith(b"+OK")
    with pytest.raises(poplib.error_proto, match="authenticated but not connected"):
        pop.stat()


def test_a_server_may_hang_and_serve_others_meanwhile(smtp: Smtp, pop: Pop, mail: FaultyMailServer, token: str) -> None:
    assert smtp.client.sock
    smtp.client.sock.settimeout(0.2)
    pop.sock.settimeout(0.2)
    with mail.inject_fault("hang", times=2) as hang:
        with pytest.raises((smtplib.SMTPServerDisconnected, TimeoutError)):
            smtp.authenticate("XOAUTH2", SCAN, token)
        with pytest.raises(TimeoutError):
            pop.authenticate("XOAUTH2", SCAN, token)
        hang.wait_until_met(times=2)
        with closing(Smtp(mail)) as other:
            assert other.authenticate("XOAUTH2", SCAN, token)[0] == 235


def test_closing_lets_go_of_clients_that_hang(smtp: Smtp, mail: FaultyMailServer) -> None:
    hang = mail.inject_fault("hang", command="NOOP")
    smtp.client.putcmd("NOOP")
    hang.wait_until_met()
    mail.close()
    with pytest.raises((smtplib.SMTPServerDisconnected, OSError)):
        smtp.client.getreply()


@pytest.mark.parametrize("implicit_tls", [False, True])
@pytest.mark.parametrize(("protocol", "connect"), [("smtp", Smtp), ("pop", pop_client)])
def test_the_certificate_may_be_for_another_host(
    mail: FaultyMailServer, protocol: Any, connect: Callable[..., Any], implicit_tls: bool
) -> None:
    mail.inject_fault("wrong_certificate", protocol=protocol)
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'localhost'"):
        connect(mail, implicit_tls=implicit_tls)
    connect(mail, implicit_tls=implicit_tls).close()


def test_starttls_may_be_stripped(mail: FaultyMailServer) -> None:
    mail.inject_fault("strip_starttls", times=2)
    with closing(smtplib.SMTP("localhost", mail.smtp_port, timeout=60)) as smtp:
        with pytest.raises(smtplib.SMTPNotSupportedError):
            smtp.starttls()
        assert smtp.docmd("STARTTLS")[0] == 500
    with closing(poplib.POP3("localhost", mail.pop_port, timeout=60)) as pop:
        with pytest.raises(poplib.error_proto, match="not supported"):
            pop.stls()
        with pytest.raises(poplib.error_proto, match="not valid"):
            in_short(pop, "STLS")


def test_a_mode_that_does_not_exist_is_refused(mail: FaultyMailServer) -> None:
    with pytest.raises(ValueError, match="hnag"):
        mail.inject_fault("hnag")


def test_a_fault_without_a_limit_lasts_until_it_is_cleared(smtp: Smtp, mail: FaultyMailServer) -> None:
    mail.inject_fault("answer", command="NOOP", reply="451 4.3.0 No", times=None)
    assert [smtp.client.noop()[0] for _ in range(3)] == [451] * 3
    mail.clear_faults()
    assert smtp.client.noop()[0] == 250
