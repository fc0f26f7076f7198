"""10,000 inputs of a bad client for each receiving protocol: every session ends by itself and reaches nobody."""

from __future__ import annotations

import asyncio
import random
import re
import socket
from base64 import b64encode
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

import pytest
import uvloop
from effort import amount
from line_client import admission
from receiving_relay import SingleUserAdmissionClient

from adapters.mail.dialer import Dialer
from adapters.mail.line_connection import LineConnection, PlaintextInjection, ProtocolError
from adapters.relay.imap_server import IMAPRelay
from adapters.relay.listener import ClientConnection, ConnectionLimits, Endpoint, Listener, ProtocolServer
from adapters.relay.pop_server import POPRelay
from domain.catalogue import Protocol

INPUTS = amount(2_000, of=10_000)
SEEDS = 20
_AT_ONCE = 100
_PATIENCE_SECONDS = 60
_ENDS = [b"\r\n"] * 12 + [b"\n", b"\r", b"\0\r\n", b"", b"\r\r\n", b" \r\n"]
_ODD = [b"\0", b"\x01", b"\xff\xfe", b"\r", b"\n", b'"', b"\\", b"{", b"}", b"=", b"*", b"%s", b"../..", b" ", b"\t"]
_RESPONSES = [
    b64encode(response)
    for response in (b"", b"\0", b"\0u\0p", b"\0u\0p\0q", b"a\0u\0p", b"\0u\r\n\0p", b"\0\xff\0p", b"\0u\0\x01", b"x")
]
_WORDS = {
    Protocol.POP: [
        *(
            b"USER",
            b"PASS",
            b"AUTH",
            b"PLAIN",
            b"LOGIN",
            b"CAPA",
            b"STLS",
            b"QUIT",
            b"APOP",
            b"NOOP",
            b"RETR",
            b"XOAUTH2",
        ),
        *(b"user", b"mfp-3", b"1", b"."),
        *_RESPONSES,
    ],
    Protocol.IMAP: [
        *(b"a1", b"A2", b"*", b"+", b"LOGIN", b"AUTHENTICATE", b"PLAIN", b"CAPABILITY", b"STARTTLS", b"LOGOUT", b"ID"),
        *(b"NOOP", b"SELECT", b"INBOX", b"NIL", b"(", b")", b'"x"', b'"x\\"', b'""', b"{0}", b"{3}", b"{3+}\r\nabc"),
        *(b"{3+}", b"{0+}\r\n", b"{99999999999}", b"{70000+}", b"{5+}\r\n\r\n\0\x01\xff", b"{-1+}"),
        *_RESPONSES,
    ],
}
_REPLY = {
    Protocol.POP: re.compile(rb"(?:\+OK|-ERR|\+ )[\x20-\x7e]*|[A-Z][A-Za-z -]*|\."),
    Protocol.IMAP: re.compile(rb"(?:\*|\+|[\x21-\x7e]{1,64}) [\x20-\x7e]*"),
}
_RELAYS: dict[Protocol, type[POPRelay | IMAPRelay]] = {Protocol.POP: POPRelay, Protocol.IMAP: IMAPRelay}


class Nowhere:
    """A way to mail servers that nobody may take."""

    async def connect(self, *_: Any, **__: Any) -> LineConnection:
        raise AssertionError("a mail server was dialled")


def inputs(protocol: Protocol, seed: int) -> Iterator[bytes]:
    """What a client that is broken, or means harm, might send; the same in each run."""
    chance = random.Random(f"{protocol} {seed}")
    for _ in range(INPUTS):
        lines = (_line(chance, _WORDS[protocol]) for _ in range(chance.randint(1, 6)))
        yield b"".join(lines)


def _line(chance: random.Random, words: list[bytes]) -> bytes:
    line = b" ".join(chance.choice(words) for _ in range(chance.randint(0, 5)))
    match chance.randrange(12):
        case 0:
            line += chance.randbytes(chance.randint(1, 40))
        case 1:
            at = chance.randint(0, len(line))
            line = line[:at] + chance.choice(_ODD) + line[at:]
        case 2 if chance.random() < 0.1:
            line += b"x" * chance.choice([1000, 12_287, 12_288, 12_289, 40_000])
    return line + chance.choice(_ENDS)


async def _session(protocol: Protocol, protocol_server: ProtocolServer, octets: bytes) -> bytes:
    """One client that sends its input and says no more; what it hears. Whatever may not leave a session does."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    _, connection = await loop.connect_accepted_socket(LineConnection, theirs)
    client = ClientConnection(
        connection,
        "127.0.0.1",
        Endpoint(protocol, False, "fuzz"),
        None,
        True,
        Listener({}, ConnectionLimits(10, 10), None),
    )
    with ours:
        await loop.sock_sendall(ours, octets)
        ours.shutdown(socket.SHUT_WR)
        try:
            await protocol_server.serve(client)
        except (OSError, ProtocolError, PlaintextInjection):
            pass
        finally:
            connection.close()
        heard = bytearray()
        while data := await loop.sock_recv(ours, 65536):
            heard += data
    return bytes(heard)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.torture) for seed in range(1, SEEDS))])
@pytest.mark.parametrize("protocol", [Protocol.POP, Protocol.IMAP])
def test_no_input_crashes_or_hangs_a_session_or_reaches_a_mail_server(protocol: Protocol, seed: int) -> None:
    admission_client = SingleUserAdmissionClient(admission(protocol, 1))
    protocol_server = _RELAYS[protocol](admission_client, cast("Dialer", Nowhere()))
    answers: list[bytes] = []

    async def scenario() -> None:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            given = inputs(protocol, seed)
            while batch := list(islice(given, _AT_ONCE)):
                answers.extend(await asyncio.gather(*(_session(protocol, protocol_server, octets) for octets in batch)))

    uvloop.run(scenario())
    assert len(answers) == INPUTS
    lines = {line for answer in answers for line in answer.split(b"\r\n")[:-1]}
    assert not [line for line in lines if not _REPLY[protocol].fullmatch(line)]
    assert all(answer.endswith(b"\r\n") for answer in answers)
    users = [user for _, _, user in admission_client.asked]
    assert users, "no input led to a sign-in"
    assert not [user for user in users if user and re.search("[\r\n\0\x01]", user)]
