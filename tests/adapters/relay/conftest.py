"""What the relay's tests share: an authority for both sides, scripted mail servers, and the receiving side at work."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import structlog
from line_client import admission
from receiving_relay import ReceivingRelay, SingleUserAdmissionClient
from scripted_mail_server import Script, ScriptedServer
from sending_relay import ManyUserAdmissionClient, SendingRelay, StartRelay
from smtp_peer import Peer

from adapters.practice.ca import PracticeCA
from adapters.relay.listener import ConnectionLimits
from adapters.tls_certificate import TLSCertificate
from domain.catalogue import Protocol


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PracticeCA:
    return PracticeCA.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def server_tls(ca: PracticeCA) -> ssl.SSLContext:
    return ca.issue().ssl_context()


@pytest.fixture(scope="session")
def client_tls(ca: PracticeCA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca.ca_file)
    return context


@pytest.fixture(scope="session")
def certificate(ca: PracticeCA) -> TLSCertificate:
    """The relay's own."""
    issued = ca.issue()
    return TLSCertificate(issued.cert_file, issued.key_file, "[relay]")


@pytest.fixture
def serve(server_tls: ssl.SSLContext) -> Iterator[Callable[..., ScriptedServer]]:
    """Start a scripted mail server; the scripts' own failures come out at the end of the test."""
    with ExitStack() as running:

        def start(*scripts: Script) -> ScriptedServer:
            server = ScriptedServer(*scripts, tls=server_tls)
            running.callback(server.close)
            return server

        yield start


@pytest.fixture
def receive(
    serve: Callable[..., ScriptedServer], ca: PracticeCA, certificate: TLSCertificate
) -> Iterator[Callable[..., tuple[ReceivingRelay, SingleUserAdmissionClient, ScriptedServer]]]:
    """Start the receiving side of the relay before a mail server that speaks by these scripts."""
    with ExitStack() as running:

        def start(
            protocol: Protocol, *scripts: Script, limits: ConnectionLimits | None = None, **different: Any
        ) -> tuple[ReceivingRelay, SingleUserAdmissionClient, ScriptedServer]:
            server = serve(*scripts)
            admission_client = SingleUserAdmissionClient(admission(protocol, server.port, **different))
            return (
                running.enter_context(ReceivingRelay(admission_client, ca.ca_file, certificate, limits)),
                admission_client,
                server,
            )

        yield start


@pytest.fixture
def peer(server_tls: ssl.SSLContext) -> Iterator[Peer]:
    """A mail server that takes messages."""
    with Peer(server_tls) as running:
        yield running


@pytest.fixture
def users(peer: Peer) -> ManyUserAdmissionClient:
    """An admission client that admits one user, whose mail goes to `peer`."""
    admission_client = ManyUserAdmissionClient()
    admission_client.add(peer.port)
    return admission_client


@pytest.fixture
def send(ca: PracticeCA, users: ManyUserAdmissionClient) -> Iterator[StartRelay]:
    """Start the relay, with the `[relay]` table of a test."""
    with ExitStack() as running:

        def start(*urls: str, **table: Any) -> SendingRelay:
            return running.enter_context(SendingRelay(users, ca.ca_file, *urls, **table))

        yield start


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the SMTP side logs, as the fields of each line."""
    lines: list[dict[str, Any]] = []

    def keep(_: object, __: str, fields: Any) -> Any:
        lines.append(dict(fields))
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[keep], wrapper_class=structlog.BoundLogger)
    for module in ("smtp_server", "message_relay", "listener", "connection_pool", "capabilities"):
        monkeypatch.setattr(f"adapters.relay.{module}.log", log)
    return lines
