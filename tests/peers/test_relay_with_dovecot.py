"""`mailtoken relay` in front of a real Dovecot: programs with a password send and receive, the server sees a token."""

from __future__ import annotations

import imaplib
import itertools
import poplib
import random
import smtplib
from base64 import b64encode
from collections.abc import Callable, Sequence

import pytest
from dovecot import Dovecot
from peer_service import LENGTHS, OfficeService, Own, Renew, Settings
from practice_faults.provider import FaultyProvider
from relay_clients import Clients
from service_process import SCAN

from adapters.mail.sasl_client import Mechanism

PASSWORD = "correct horse"
_numbers = itertools.count(1)

User = Callable[..., str]


@pytest.fixture
def user(service_process: OfficeService, clients: Clients) -> User:
    """Make a relay user of a test alone, for these settings."""

    def make(*profiles: str) -> str:
        name = f"user-{next(_numbers)}"
        done = service_process.run("relay", "user", "add", name, *profiles, message=f"{PASSWORD}\n")
        assert done.returncode == 0, done.stderr
        return name

    return make


def subject() -> str:
    return f"Scan number {next(_numbers)} of this run"


def message(line: str) -> bytes:
    return f"Subject: {line}\r\nFrom: {SCAN}\r\n\r\n.dots stay\r\n.\r\nend\r\n".encode()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_mail_is_sent(
    settings: Settings,
    renewed: Renew,
    user: User,
    clients: Clients,
    dovecot: Dovecot,
    mechanism: Mechanism,
    tls: str,
    length: int,
) -> None:
    profile, to = settings[mechanism, "smtp", tls], f"sent.{mechanism}.{tls}.{length}@example.org".lower()
    renewed(profile, length)
    with clients.smtp(tls) as client:
        client.login(user(profile), PASSWORD)
        assert client.sendmail(SCAN, [to], message("Page one")) == {}
    (delivered,) = dovecot.messages(to)
    assert b"Subject: Page one" in delivered
    assert b"\n.dots stay\n.\nend\n" in delivered.replace(b"\r\n", b"\n")
    assert dovecot.exchanger.envelopes[-1].mail_from == SCAN


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_mail_is_fetched_by_pop(
    settings: Settings,
    renewed: Renew,
    user: User,
    clients: Clients,
    dovecot: Dovecot,
    mechanism: Mechanism,
    tls: str,
    length: int,
) -> None:
    profile, line = settings[mechanism, "pop", tls], subject()
    renewed(profile, length)
    dovecot.deliver(SCAN, message(line))
    with clients.pop(tls) as client:
        client.user(user(profile))
        client.pass_(PASSWORD)
        count, _ = client.stat()
        assert f"Subject: {line}".encode() in client.retr(count)[1]
        assert len(client.uidl()[1]) == count
        assert "UIDL" in client.capa()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_mail_is_fetched_by_imap(
    settings: Settings,
    renewed: Renew,
    user: User,
    clients: Clients,
    dovecot: Dovecot,
    mechanism: Mechanism,
    tls: str,
    length: int,
) -> None:
    profile, line = settings[mechanism, "imap", tls], subject()
    renewed(profile, length)
    dovecot.deliver(SCAN, message(line))
    with clients.imap(tls) as client:
        _, said = client.login(user(profile), PASSWORD)
        assert b"IDLE" in said[0].split(b"]")[0]
        assert b"AUTH=" not in said[0]
        client.select("INBOX", readonly=True)
        _, found = client.search(None, "SUBJECT", f'"{line}"')
        _, fetched = client.fetch(found[0].decode(), "(BODY.PEEK[])")
        assert f"Subject: {line}".encode() in content_of(fetched)


def content_of(fetched: Sequence[bytes | tuple[bytes, bytes] | None]) -> bytes:
    """The octets of the one part that was fetched."""
    part = fetched[0]
    assert isinstance(part, tuple)
    return part[1]


def test_mail_that_comes_while_a_client_idles_is_told_at_once(
    settings: Settings, user: User, clients: Clients, dovecot: Dovecot, mechanism: Mechanism
) -> None:
    with clients.imap() as client:
        client.login(user(settings[mechanism, "imap", "starttls"]), PASSWORD)
        _, (count,) = client.select("INBOX")
        assert count is not None
        client.send(b"x IDLE\r\n")
        assert client.readline().startswith(b"+ ")
        dovecot.deliver(SCAN, message(subject()))
        assert client.readline() == b"* %d EXISTS\r\n" % (int(count) + 1)
        client.send(b"DONE\r\n")
        while not client.readline().startswith(b"x OK"):
            pass


def test_a_large_message_comes_back_as_it_went(
    settings: Settings, user: User, clients: Clients, mechanism: Mechanism
) -> None:
    content = b64encode(random.Random(3).randbytes(6_000_000))
    large = b"Subject: large\r\n\r\n" + b"".join(content[at : at + 76] + b"\r\n" for at in range(0, len(content), 76))
    with clients.imap("implicit") as client:
        client.login(user(settings[mechanism, "imap", "implicit"]), PASSWORD)
        client.create(f"large-{mechanism}")
        client.append(f"large-{mechanism}", "", "", large)
        client.select(f"large-{mechanism}")
        _, fetched = client.fetch("1", "(BODY[])")
    assert content_of(fetched) == large


def test_a_client_that_pipelines_everything_gets_everything(
    settings: Settings, user: User, clients: Clients, mechanism: Mechanism
) -> None:
    name = user(settings[mechanism, "imap", "starttls"])
    with clients.imap("implicit") as client:
        client.send(f'p1 LOGIN {name} "{PASSWORD}"\r\np2 SELECT INBOX\r\np3 NOOP\r\np4 NOOP\r\n'.encode())
        tagged: list[list[bytes]] = []
        while len(tagged) < 4:
            if (line := client.readline()).startswith(b"p"):
                tagged.append(line.split(b" ")[:2])
        assert tagged == [[b"p1", b"OK"], [b"p2", b"OK"], [b"p3", b"OK"], [b"p4", b"OK"]]


@pytest.mark.parametrize("protocol", ["smtp", "pop", "imap"])
def test_a_token_that_the_mail_server_rejects_is_renewed_once(
    provider: FaultyProvider, own: Own, user: User, clients: Clients, protocol: str
) -> None:
    account = f"relayed-{protocol}@contoso.com"
    name = user(own(account, protocol))
    provider.expire_access_tokens(account)
    before = provider.grant_counts["refresh_token"]
    sign_in(clients, protocol, name, PASSWORD)
    assert provider.grant_counts["refresh_token"] == before + 1


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [("smtp", rb"[45]\d\d"), ("pop", rb"-ERR \[SYS/PERM\]"), ("imap", rb"\[CONTACTADMIN\]")],
)
def test_a_grant_that_is_dead_is_told_to_the_program(
    service_process: OfficeService,
    provider: FaultyProvider,
    own: Own,
    user: User,
    clients: Clients,
    protocol: str,
    answer: bytes,
) -> None:
    account = f"gone-{protocol}@contoso.com"
    profile = own(account, protocol)
    name = user(profile)
    provider.revoke_account(account)
    with pytest.raises((smtplib.SMTPAuthenticationError, poplib.error_proto, imaplib.IMAP4.error)) as failed:
        sign_in(clients, protocol, name, PASSWORD)
    assert failed.match(answer.decode()), failed.value
    assert service_process.status(profile)["token"] == "Invalid"


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [("smtp", "535"), ("pop", r"-ERR \[AUTH\]"), ("imap", r"\[AUTHENTICATIONFAILED\]")],
)
def test_a_wrong_password_is_said_to_be_wrong_and_changes_nothing(
    service_process: OfficeService, settings: Settings, user: User, clients: Clients, protocol: str, answer: str
) -> None:
    profile = settings[Mechanism.XOAUTH2, protocol, "starttls"]
    name, before = user(profile), service_process.status(profile)
    with pytest.raises((smtplib.SMTPAuthenticationError, poplib.error_proto, imaplib.IMAP4.error), match=answer):
        sign_in(clients, protocol, name, "wrong")
    assert service_process.status(profile) == before


def sign_in(clients: Clients, protocol: str, name: str, password: str) -> None:
    """Sign in and do one thing that needs it."""
    match protocol:
        case "smtp":
            with clients.smtp() as sending:
                sending.login(name, password)
                sending.mail(SCAN.replace("scan", name))
        case "pop":
            with clients.pop() as receiving:
                receiving.user(name)
                receiving.pass_(password)
                receiving.stat()
        case _:
            with clients.imap() as reading:
                reading.login(name, password)
                reading.select()


def test_the_log_of_the_relay_names_who_came_and_no_secret(
    service_process: OfficeService, provider: FaultyProvider, settings: Settings, user: User, clients: Clients
) -> None:
    name = user(settings[Mechanism.XOAUTH2, "imap", "starttls"])
    sign_in(clients, "imap", name, PASSWORD)
    with pytest.raises(imaplib.IMAP4.error):
        sign_in(clients, "imap", name, "wrong-secret-word")
    log = (service_process.directory / "relay.log").read_text()
    assert f'"user": "{name}"' in log
    secrets = [PASSWORD, "wrong-secret-word", *provider.issued_secrets]
    encoded = [b64encode(secret.encode()).decode().rstrip("=")[:-1] for secret in secrets]
    assert not [secret for secret in (*secrets, *encoded) if secret in log]
