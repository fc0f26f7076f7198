"""Whatever a client says before it has signed in, the relay's work grows with its length and not with the square."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterator

import pytest
from effort import amount
from line_client import LineClient, admission
from receiving_relay import ReceivingRelay, SingleUserAdmissionClient
from sending_relay import SendingRelay, StartRelay

from adapters.practice.ca import PracticeCA
from adapters.relay.listener import ConnectionLimits
from adapters.tls_certificate import TLSCertificate
from domain.catalogue import Protocol

SHORT, SHORT_OF_SMTP, LONGER, MOST = 1_000, 200, 10, 30
"""The octets of a short value, and of one in a command of SMTP; how many times as long the long one is, and how many
times its work may be."""
FILLINGS = ("a", " ", "@", "<", '"', "\\", "[", ",", "=", "(", "{1}", '"" ', "@a,", "a.", "\t", "\u00e9")
COMMANDS = {
    "smtp": ("EHLO {}", "MAIL FROM:<{}>", "MAIL FROM:<@{}:a@b>", "RCPT TO:{}", "MAIL FROM:<a@b> {}", "{}"),
    "pop3": ("USER {}", "PASS {}", "CAPA {}", "AUTH {}", "{}"),
    "imap": ("a LOGIN {}", 'a LOGIN "{}" "{}"', "a CAPABILITY {}", "a ID ({})", "{} LOGIN a b", "{}"),
}
SIGN_INS = {
    "smtp": ("AUTH PLAIN {}", "AUTH LOGIN {}", "AUTH {}"),
    "pop3": ("AUTH PLAIN {}", "AUTH LOGIN {}"),
    "imap": ("a AUTHENTICATE PLAIN {}", "a AUTHENTICATE {}"),
}


@pytest.fixture(scope="module")
def receiving(ca: PracticeCA, certificate: TLSCertificate) -> Iterator[ReceivingRelay]:
    """The receiving side, where nobody gets as far as a mail server."""
    client = SingleUserAdmissionClient(admission(Protocol.POP, 1))
    with ReceivingRelay(client, ca.ca_file, certificate, ConnectionLimits(1000, 1000)) as relay:
        yield relay


@pytest.fixture
def ports(receiving: ReceivingRelay, send: StartRelay) -> dict[str, int]:
    """The port of each protocol."""
    sending: SendingRelay = send(connections=1000, connections_per_address=1000)
    return {**receiving.ports, "smtp": sending.port}


def spent(port: int, line: bytes) -> float:
    """The CPU seconds of this process, in which the relay runs too, for one line and the end of the connection."""
    with LineClient(port) as client:
        client.hear()
        began = time.process_time()
        client.send(line + b"\r\nNOOP\r\nQUIT\r\n" if not line.startswith(b"a ") else line + b"\r\na LOGOUT\r\n")
        client.sock.shutdown(1)
        client.hear_out()
        return time.process_time() - began


def works(port: int, command: str, filling: str, short: int = SHORT) -> tuple[float, float]:
    """The work for a short and for a long value, the least of a few."""
    texts = (filling * (octets // len(filling.encode())) for octets in (short, short * LONGER))
    lines = [command.replace("{}", text).encode() for text in texts]
    little, much = (spent(port, line) for line in lines)
    if much > MOST * little:
        little, much = (min(spent(port, line) for _ in range(5)) for line in lines)
    return little, much


@pytest.mark.parametrize("scheme", COMMANDS)
def test_a_long_command(ports: dict[str, int], scheme: str) -> None:
    for number, command in enumerate(COMMANDS[scheme]):
        for filling in FILLINGS[number % (every := amount(4, of=1)) :: every]:
            short = SHORT_OF_SMTP if scheme == "smtp" else SHORT
            little, much = works(ports[scheme], command, filling, short)
            assert much <= MOST * little, (command, filling)


@pytest.mark.parametrize("scheme", SIGN_INS)
def test_a_long_sasl_response(ports: dict[str, int], scheme: str) -> None:
    for command in SIGN_INS[scheme]:
        for filling in ("a", "=", "AA==", b64encode(b"\0a\0").decode(), b64encode(b"n,a=x,\x01").decode()):
            little, much = works(ports[scheme], command, filling)
            assert much <= MOST * little, (command, filling)
