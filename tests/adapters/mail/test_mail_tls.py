import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from scripted_mail_server import (
    Peer,
    Script,
    ScriptedServer,
    Serve,
    imap_to_auth,
    pop_to_auth,
    profile,
    says,
    smtp_to_starttls,
)

from adapters.mail.dialer import Dialer
from adapters.mail.line_connection import LineConnection
from adapters.mail.mail_server import MailServerClient
from adapters.mail.server_address import MailServerAddress
from adapters.mail.tls import client_context, describe
from adapters.practice import ca as practice_ca
from adapters.practice.ca import PracticeCA
from adapters.texts.verdicts import verdict_text
from adapters.texts.wording import Surface
from domain.catalogue import Protocol
from domain.errors import InvalidValue
from domain.mail_report import Fault, MailReport, Step
from domain.secret import Secret

TOKEN = Secret("EwBgA8l6BAAU-practice-access-token.0123456789")
IN_CLEAR = b"EHLO [127.0.0.1]\r\nSTARTTLS\r\n"


def starttls(peer: Peer) -> None:
    """A server that does its part of STARTTLS, whatever the client thinks of it."""
    smtp_to_starttls(peer)
    peer.say("220 go ahead")
    try:
        peer.begin_tls()
        peer.hear()
    except (ssl.SSLError, EOFError):
        pass


def check(client: MailServerClient, scripted: ScriptedServer, **settings: Any) -> MailReport:
    return client.test(profile(Protocol.SMTP, scripted.port, **settings), TOKEN)


def tls_step(report: MailReport) -> Step:
    return next(step for step in report.steps if step.name == "tls")


def test_the_context_verifies_chain_and_name_and_takes_tls_1_2_or_newer() -> None:
    context = client_context(None)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_the_systems_authorities_are_trusted_with_and_without_a_ca_file(
    ca: PracticeCA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = ssl.get_default_verify_paths()._replace(openssl_cafile=str(PracticeCA.create(tmp_path).ca_file))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: system)
    alone, with_ours = client_context(None), client_context(ca.ca_file)
    assert [context.cert_store_stats()["x509_ca"] for context in (alone, with_ours)] == [1, 2]


def test_a_certificate_for_another_name_gets_no_token(client: MailServerClient, serve: Serve, ca: PracticeCA) -> None:
    server = serve(starttls, ca.issue("somewhere-else.example").ssl_context())
    report = check(client, server)
    assert (report.fault, tls_step(report).ok) == (Fault.CERTIFICATE, False)
    assert report.verdict.code == "certificate_for_another_name"
    assert (server.heard_in_clear.startswith(IN_CLEAR), server.heard) == (True, b"")


def test_a_certificate_for_another_address_gets_no_token(
    client: MailServerClient, serve: Serve, ca: PracticeCA
) -> None:
    server = serve(starttls, ca.issue("localhost").ssl_context())
    report = check(client, server, server="127.0.0.1")
    assert report.fault is Fault.CERTIFICATE
    assert report.verdict.code == "certificate_for_another_address"
    assert server.heard == b""


def test_a_certificate_of_an_unknown_authority_gets_no_token_and_ca_file_is_named(serve: Serve) -> None:
    server = serve(starttls)
    report = check(MailServerClient(None), server)
    assert report.fault is Fault.CERTIFICATE
    assert report.verdict.code.startswith("certificate_")
    assert "ca_file" in verdict_text(report.verdict, Surface.PAGE)
    assert server.heard == b""


def test_a_certificate_that_has_expired_gets_no_token(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(practice_ca, "NOT_AFTER", datetime(2001, 1, 1, tzinfo=UTC))
    ca = practice_ca.PracticeCA.create(tmp_path)
    server = serve(starttls, ca.issue().ssl_context())
    report = check(MailServerClient(ca.ca_file), server)
    assert report.fault is Fault.CERTIFICATE
    assert report.verdict.code == "certificate_expired"
    assert server.heard == b""


def test_the_environment_adds_no_authority_and_keeps_no_keys(
    ca: PracticeCA, serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.ca_file))
    monkeypatch.setenv("SSL_CERT_DIR", str(ca.ca_file.parent))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert check(MailServerClient(None), serve(starttls)).fault is Fault.CERTIFICATE
    assert tls_step(check(MailServerClient(ca.ca_file), serve(starttls))).ok
    assert not (tmp_path / "keys").exists()


def test_a_server_with_nothing_newer_than_tls_1_1_is_a_report(
    client: MailServerClient, serve: Serve, ca: PracticeCA
) -> None:
    old = ca.issue().ssl_context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    report = check(client, serve(starttls, old))
    assert (report.fault, tls_step(report).ok) == (Fault.SERVER, False)
    assert report.verdict.code == "tls_not_agreed"


def test_tls_1_2_will_do(client: MailServerClient, serve: Serve, ca: PracticeCA) -> None:
    context = ca.issue().ssl_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    detail = str(tls_step(check(client, serve(starttls, context))).detail)
    assert detail.startswith("TLSv1.2, certificate of localhost")


def test_a_server_that_hangs_up_instead_of_tls_is_the_networks_fault(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_starttls(peer)
        peer.say("220 go ahead")

    assert check(client, serve(script)).fault is Fault.NETWORK


def test_a_server_that_goes_on_in_clear_instead_of_tls_gets_no_token(client: MailServerClient, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        smtp_to_starttls(peer)
        peer.say("220 go ahead")
        peer.sock.recv(1)
        peer.say("250-mx.contoso.com", "250 AUTH XOAUTH2")
        peer.hear_out()

    server = serve(script)
    assert not check(client, server).ok
    assert b"AUTH" not in server.heard_in_clear


def test_implicit_tls_towards_a_port_that_begins_in_clear_says_what_to_set(
    client: MailServerClient, serve: Serve
) -> None:
    report = check(client, serve(says("220 ready")), tls="implicit")
    assert (report.fault, report.steps[-1].name) == (Fault.CONFIGURATION, "tls")
    assert report.verdict.code == "tls_not_begun"


def implicit(script: Script) -> Script:
    def begin(peer: Peer) -> None:
        peer.begin_tls()
        script(peer)

    return begin


@pytest.mark.parametrize(
    ("protocol", "greeting"), [(Protocol.SMTP, "220 ready"), (Protocol.POP, "+OK ready"), (Protocol.IMAP, "* OK ready")]
)
def test_implicit_tls_comes_before_the_greeting(
    client: MailServerClient, serve: Serve, protocol: Protocol, greeting: str
) -> None:
    def script(peer: Peer) -> None:
        peer.say(greeting)
        peer.hear()

    server = serve(implicit(script))
    report = client.test(profile(protocol, server.port, tls="implicit"), TOKEN)
    assert [step.name for step in report.steps] == ["resolve", "connect", "tls", "greeting", "capabilities"]
    assert report.steps[-2].detail == greeting
    assert server.heard_in_clear == b""


@pytest.mark.parametrize(("protocol", "script"), [(Protocol.POP, pop_to_auth), (Protocol.IMAP, imap_to_auth)])
def test_the_certificate_is_verified_for_every_protocol(serve: Serve, protocol: Protocol, script: Script) -> None:
    def refused(peer: Peer) -> None:
        with pytest.raises(ssl.SSLError):
            script(peer)

    server = serve(refused)
    assert MailServerClient(None).test(profile(protocol, server.port), TOKEN).fault is Fault.CERTIFICATE
    assert server.heard == b""


def test_a_name_with_a_dot_at_its_end_is_the_name_of_its_certificate(serve: Serve, ca: PracticeCA) -> None:
    """On the connection itself: not every resolver knows `localhost.`, so the name is not looked up here."""
    server = serve(Peer.begin_tls)

    async def secured() -> None:
        dialer = Dialer(ca.ca_file)
        _, connection = await asyncio.get_running_loop().create_connection(LineConnection, "127.0.0.1", server.port)
        address = MailServerAddress("localhost.", server.port, "implicit", Protocol.SMTP)
        await dialer.secure(connection, address, 5)
        assert "certificate of localhost" in describe(connection.transport)
        assert connection.is_private
        connection.close()

    asyncio.run(secured())


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_ca_file_that_can_not_be_used_is_named_at_once(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidValue, match=r"ca\.pem"):
        MailServerClient(file)
