"""What the POP3 and IMAP sides of the relay bear: how many clients, how slow, how long, and until it stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from line_client import LineClient, admission
from receiving_relay import ReceivingRelay, SingleUserAdmissionClient
from test_relay_imap import fetch as fetch_by_imap
from test_relay_imap import mailbox as imap_mailbox
from test_relay_imap import sign_in as sign_in_by_imap
from test_relay_pop import fetch as fetch_by_pop
from test_relay_pop import mailbox as pop_mailbox
from test_relay_pop import sign_in as sign_in_by_pop

from adapters.practice.ca import PracticeCA
from adapters.relay.listener import ConnectionLimits
from adapters.tls_certificate import TLSCertificate
from domain.catalogue import Protocol

BYE = {"pop3": "-ERR ", "imap": "* BYE "}
IDLE_CLIENTS = 400

Make = Callable[..., ReceivingRelay]


@pytest.fixture
def relay(ca: PracticeCA, certificate: TLSCertificate) -> Iterator[Make]:
    """Start the receiving side where nobody gets as far as a mail server."""
    with ExitStack() as running:

        def start(**options: Any) -> ReceivingRelay:
            admission_client = SingleUserAdmissionClient(admission(Protocol.POP, 1))
            return running.enter_context(ReceivingRelay(admission_client, ca.ca_file, certificate, **options))

        yield start


@pytest.mark.parametrize("scheme", BYE)
def test_a_client_too_many_is_told(relay: Make, scheme: str) -> None:
    port = relay(limits=ConnectionLimits(10, 2)).ports[scheme]
    with LineClient(port) as one, LineClient(port) as two, LineClient(port) as three:
        one.hear()
        two.hear()
        assert "too many connections from this address" in three.hear(BYE[scheme])
        assert three.hear_out() == b""


@pytest.mark.parametrize("scheme", BYE)
@pytest.mark.parametrize("half", [b"", b"CAPA", b"a1 LOGIN x {5}\r\nab", b"AUTH PLAIN\r\n", b"USER x\r\nPA"])
def test_a_client_that_is_too_slow_is_told(relay: Make, scheme: str, half: bytes) -> None:
    with LineClient(relay(sign_in_seconds=0.2).ports[scheme]) as client:
        client.send(half)
        assert f"{BYE[scheme]}Nothing came for too long\r\n".encode() in client.hear_out()


@pytest.mark.parametrize("scheme", BYE)
def test_a_client_that_goes_on_without_signing_in_is_told(relay: Make, scheme: str) -> None:
    with LineClient(relay().ports[scheme]) as client:
        client.send(b"a NOOP\r\n" * 150)
        assert client.hear_out().endswith(f"{BYE[scheme]}Too many commands without signing in\r\n".encode())


@pytest.mark.parametrize("scheme", BYE)
def test_a_relay_that_stops_tells_who_waits(relay: Make, scheme: str) -> None:
    running = relay()
    with LineClient(running.ports[scheme]) as client:
        client.hear()
        running.stop()
        assert "The relay ends this session" in client.hear(BYE[scheme])
        assert client.hear_out() == b""


@pytest.mark.parametrize(
    ("protocol", "scheme", "script", "sign_in", "fetch"),
    [
        (Protocol.POP, "pop3", pop_mailbox, sign_in_by_pop, fetch_by_pop),
        (Protocol.IMAP, "imap", imap_mailbox, sign_in_by_imap, fetch_by_imap),
    ],
)
def test_clients_that_say_nothing_or_half_a_word_are_in_nobodys_way(
    receive: Callable[..., Any], protocol: Protocol, scheme: str, script: Any, sign_in: Any, fetch: Any
) -> None:
    running, _, _ = receive(protocol, script)
    with ExitStack() as idle:
        for number in range(IDLE_CLIENTS):
            client = idle.enter_context(LineClient(running.ports[scheme]))
            client.send([b"", b"C", b"a1 LOGIN {3}\r\n", b"AUTH PLAIN\r\n"][number % 4])
        with LineClient(running.ports[scheme]) as client:
            sign_in(client)
            fetch(client)
