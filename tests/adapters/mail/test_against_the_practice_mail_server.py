from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from practice_faults.mail_server import FaultyMailServer
from practice_faults.provider import FaultyProvider
from scripted_mail_server import USER, profile

from adapters.mail.mail_server import MailServerClient
from adapters.mail.sasl_client import Mechanism
from adapters.practice.ca import PracticeCA
from domain.catalogue import Protocol
from domain.mail_report import Fault, MailReport
from domain.profile import ProfileState
from domain.secret import Secret

LENGTHS = [50, 1000, 2500, 8000]
PORTS = {
    (Protocol.SMTP, "starttls"): "smtp_port",
    (Protocol.SMTP, "implicit"): "smtps_port",
    (Protocol.POP, "starttls"): "pop_port",
    (Protocol.POP, "implicit"): "pops_port",
}
REFUSED = Secret("no-token-that-was-ever-issued")

Issue = Callable[..., Secret]


@pytest.fixture(scope="module")
def provider(ca: PracticeCA) -> Iterator[FaultyProvider]:
    with FaultyProvider(ca) as provider:
        yield provider


@pytest.fixture(scope="module")
def running(ca: PracticeCA, provider: FaultyProvider) -> Iterator[FaultyMailServer]:
    with FaultyMailServer(ca, provider, shared={USER: {provider.confidential_client_id}}) as server:
        yield server


@pytest.fixture
def mail_server(running: FaultyMailServer) -> Iterator[FaultyMailServer]:
    yield running
    running.clear_faults()


@pytest.fixture(scope="module")
def issue(provider: FaultyProvider) -> Issue:
    """A live access token of a length, for the client's own account."""

    def token(octets: int = 1500) -> Secret:
        provider.rules.access_token_length = octets
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(
                f"{provider.issuer}/oauth2/token",
                data={"grant_type": "client_credentials"},
                auth=(provider.confidential_client_id, provider.client_secret),
                verify=str(provider.ca_file),
                timeout=10,
            )
        return Secret(answer.json()["access_token"])

    return token


def setting(server: FaultyMailServer, protocol: Protocol, tls: str = "starttls", **settings: Any) -> ProfileState:
    return profile(protocol, getattr(server, PORTS[protocol, tls]), tls=tls, **settings)


def submit(
    client: MailServerClient, profile: ProfileState, token: Secret, recipient: str, message: bytes
) -> MailReport:
    return client.submit(profile, token, sender=USER, recipients=[recipient], message=message)


@pytest.mark.parametrize(("protocol", "tls"), PORTS)
@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize("octets", LENGTHS)
def test_a_good_token_of_any_length_is_accepted(
    ca: PracticeCA,
    mail_server: FaultyMailServer,
    issue: Issue,
    protocol: Protocol,
    tls: str,
    mechanism: Mechanism,
    octets: int,
) -> None:
    client = MailServerClient(ca.ca_file, preferred=mechanism)
    report = client.test(setting(mail_server, protocol, tls), issue(octets))
    assert report.ok, report
    attempt = mail_server.authentications[-1]
    assert (attempt.protocol, attempt.mechanism, attempt.user) == (protocol, mechanism, USER)
    assert attempt.has_initial_response is (octets == 50)


@pytest.mark.parametrize("protocol", [Protocol.SMTP, Protocol.POP])
@pytest.mark.parametrize(("mechanism", "closing"), [(Mechanism.XOAUTH2, b""), (Mechanism.OAUTHBEARER, b"\x01")])
@pytest.mark.parametrize("padding", ["", "x" * 2000])
def test_a_token_that_is_refused_is_the_tokens_fault_and_the_exchange_is_closed_as_rfc_7628_asks(
    ca: PracticeCA,
    mail_server: FaultyMailServer,
    protocol: Protocol,
    mechanism: Mechanism,
    closing: bytes,
    padding: str,
) -> None:
    client = MailServerClient(ca.ca_file, preferred=mechanism)
    report = client.test(setting(mail_server, protocol), Secret(REFUSED.reveal() + padding))
    assert (report.fault, report.steps[-1].name) == (Fault.TOKEN, "auth")
    assert report.reply
    assert REFUSED.reveal() not in repr(report)
    assert mail_server.authentications[-1].closing_response == closing


def test_a_message_that_is_sent_arrives_as_it_was(
    client: MailServerClient, mail_server: FaultyMailServer, issue: Issue
) -> None:
    recipient = "arrives@contoso.com"
    message = b"From: scan@contoso.com\r\nSubject: Scan\r\n\r\n.\r\n..two\r\n" + b"x" * 900 + b"\r\n"
    report = client.submit(
        setting(mail_server, Protocol.SMTP), issue(2500), sender=USER, recipients=[recipient], message=message
    )
    assert report.ok, report
    assert mail_server.wait_for_messages(recipient) == [message]


def test_a_message_in_utf8_arrives_as_it_was(
    client: MailServerClient, mail_server: FaultyMailServer, issue: Issue
) -> None:
    recipient = "jürg@contoso.com"
    message = "From: scan@contoso.com\r\nSubject: Grüße\r\n\r\näöü\r\n".encode()
    report = client.submit(
        setting(mail_server, Protocol.SMTP, "implicit"), issue(), sender=USER, recipients=[recipient], message=message
    )
    assert report.ok, report
    assert mail_server.wait_for_messages(recipient) == [message]


def test_a_pop_test_finds_the_messages_and_leaves_them_there(
    client: MailServerClient, mail_server: FaultyMailServer, issue: Issue
) -> None:
    mail_server.deliver(USER, b"Subject: Fax\r\n\r\nfor you\r\n")
    report = client.test(setting(mail_server, Protocol.POP), issue())
    assert report.ok
    stat = next(step.detail for step in report.steps if step.name == "stat")
    assert stat == f"+OK {len(mail_server.mailboxes[USER])} {sum(map(len, mail_server.mailboxes[USER]))}"
    assert len(mail_server.mailboxes[USER]) >= 1


def test_a_sender_that_is_not_the_mailbox_is_told_about_send_as(
    client: MailServerClient, mail_server: FaultyMailServer, issue: Issue
) -> None:
    report = client.test(setting(mail_server, Protocol.SMTP, sender_address="admin@contoso.com"), issue())
    assert (report.fault, str(report.reply)[:10]) == (Fault.SENDER, "550 5.7.60")


@pytest.mark.parametrize(
    ("protocol", "code"), [(Protocol.SMTP, "sign_in_not_counted"), (Protocol.POP, "mailbox_not_permitted")]
)
def test_a_token_that_is_accepted_for_another_mailbox_is_found_by_the_next_command(
    client: MailServerClient, mail_server: FaultyMailServer, issue: Issue, protocol: Protocol, code: str
) -> None:
    mail_server.inject_fault("fail_after_auth", protocol=protocol)
    report = client.test(setting(mail_server, protocol), issue())
    assert report.verdict.code == code
    assert [step.ok for step in report.steps if step.name == "auth"] == [True]


@pytest.mark.parametrize("protocol", [Protocol.SMTP, Protocol.POP])
def test_a_wrong_certificate_gets_no_credential(
    client: MailServerClient, mail_server: FaultyMailServer, issue: Issue, protocol: Protocol
) -> None:
    before = mail_server.authentications
    mail_server.inject_fault("wrong_certificate", protocol=protocol)
    assert client.test(setting(mail_server, protocol), issue()).fault is Fault.CERTIFICATE
    assert mail_server.authentications == before


@pytest.mark.parametrize(("protocol", "last_command"), [(Protocol.SMTP, "EHLO"), (Protocol.POP, "CAPA")])
def test_a_stripped_starttls_gets_no_credential(
    client: MailServerClient, mail_server: FaultyMailServer, issue: Issue, protocol: Protocol, last_command: str
) -> None:
    mail_server.inject_fault("strip_starttls", protocol=protocol, times=None)
    report = client.test(setting(mail_server, protocol), issue())
    assert (report.fault, report.steps[-1].name) == (Fault.SERVER, "tls")
    assert mail_server.commands[-1] == (protocol, last_command)


def test_an_outage_of_the_provider_at_the_mail_server_does_not_blame_the_token(
    client: MailServerClient, mail_server: FaultyMailServer, provider: FaultyProvider, issue: Issue
) -> None:
    token = issue()
    for protocol in (Protocol.SMTP, Protocol.POP):
        with provider.inject_fault("server_error", endpoint="introspection"):
            assert client.test(setting(mail_server, protocol), token).fault is Fault.SERVER


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ("535 5.7.139 SmtpClientAuthentication is disabled for the Mailbox", Fault.MAILBOX),
        ("550 5.7.30 Basic authentication is not supported for Client Submission.", Fault.CONFIGURATION),
        ("432 4.3.2 Concurrent connections limit exceeded", Fault.SERVER),
        ("454 4.7.0 Temporary authentication failure", Fault.SERVER),
    ],
)
def test_what_exchange_says_at_auth_is_understood(
    client: MailServerClient, mail_server: FaultyMailServer, issue: Issue, reply: str, fault: Fault
) -> None:
    mail_server.inject_fault("answer", protocol="smtp", reply=reply)
    report = client.test(setting(mail_server, Protocol.SMTP), issue())
    assert (report.fault, report.reply) == (fault, reply)


@pytest.mark.parametrize("protocol", [Protocol.SMTP, Protocol.POP])
def test_a_server_that_hangs_is_given_up_after_the_time_out(
    client: MailServerClient, mail_server: FaultyMailServer, issue: Issue, protocol: Protocol
) -> None:
    with mail_server.inject_fault("hang", protocol=protocol):
        report = client.test(setting(mail_server, protocol, timeout=1), issue())
    assert (report.fault, report.steps[-1].name) == (Fault.NETWORK, "auth")


def test_a_connection_dropped_after_the_final_dot_leaves_it_unknown_whether_the_message_was_sent(
    client: MailServerClient, mail_server: FaultyMailServer, issue: Issue
) -> None:
    mail_server.inject_fault("drop", protocol="smtp", command="END-OF-DATA")
    report = client.submit(
        setting(mail_server, Protocol.SMTP),
        issue(),
        sender=USER,
        recipients=["drop@contoso.com"],
        message=b"Subject: x\n\n",
    )
    assert report.fault is Fault.NETWORK
    assert report.verdict.code == "message_in_doubt"


def test_a_shared_mailbox_takes_the_token_of_an_account_with_access_and_no_other(
    client: MailServerClient, mail_server: FaultyMailServer, issue: Issue
) -> None:
    token = issue()
    setup = setting(mail_server, Protocol.SMTP, account="admin@contoso.com", mailbox=USER)
    assert client.test(setup, token).ok
    setup = setting(mail_server, Protocol.SMTP, account=USER, mailbox="admin@contoso.com")
    assert client.test(setup, token).fault is Fault.TOKEN
