"""Ten thousand inputs, each a client of its own, against the whole SMTP side in one event loop.

Whatever a client says: it is answered in SMTP and its session ends, nothing fails, nothing is held back, and the mail
server hears well-formed commands and whole messages only.
"""

import asyncio
import random
import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
from effort import amount
from line_client import MAILBOX, PASSWORD, USER
from sending_relay import ManyUserAdmissionClient, plain

from adapters.mail.dialer import Dialer
from adapters.mail.line_connection import LineConnection
from adapters.practice.ca import PracticeCA
from adapters.relay.capabilities import Capabilities
from adapters.relay.connection_pool import Pool
from adapters.relay.listener import ClientConnection, ConnectionLimits, Endpoint, Listener
from adapters.relay.mailbox_limits import MailboxQueues
from adapters.relay.smtp_server import SMTPRelay
from infrastructure.clock import SystemClock
from infrastructure.config.tables import MailboxLimitsTable

INPUTS = amount(2_000, of=10_000)
SEEDS = 20
AT_ONCE = 64
SESSION_SECONDS = 30
SIGN_IN = f"AUTH PLAIN {plain(USER, PASSWORD)}\r\n".encode()
BEGIN = b"MAIL FROM:<scan@contoso.com>\r\nRCPT TO:<you@contoso.com>\r\nDATA\r\n"
WHOLE = BEGIN + b"Subject: x\r\n\r\nhello\r\n.\r\n"
PIECES = [
    b"EHLO x\r\n", b"HELO x\r\n", SIGN_IN, SIGN_IN, SIGN_IN, b"AUTH LOGIN\r\n", b"AUTH PLAIN\r\n", b"*\r\n", b"=\r\n",
    plain(USER, PASSWORD).encode() + b"\r\n", f"AUTH PLAIN {plain(USER, 'wrong')}\r\n".encode(), b"STARTTLS\r\n",
    f"MAIL FROM:<{MAILBOX}> SIZE=10 BODY=8BITMIME\r\n".encode(), "MAIL FROM:<ü@b.c> SMTPUTF8\r\n".encode(),
    BEGIN, BEGIN, *[WHOLE] * 6, b"RCPT TO:<a@b.c>\r\n",
    b"RCPT TO:<a@b.c>\r\nRCPT TO:<b@b.c>\r\n",
    b"DATA\r\n", b"..\r\n.\r\n", b".\r\n", b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\r\n.\n", b"\n.\r\n", b"RSET\r\n",
    b"NOOP\r\n", b"VRFY x\r\n", b"QUIT\r\n", b"\0", b"\r", b"\n", b"\r\n", b"\x01", b"x" * 3000,
    b"x" * 13_000 + b"\r\n", b"MAIL FROM:<>\r\n", b'MAIL FROM:<"a b"@c.d>\r\n',
    b"RCPT TO:<" + b"a" * 900 + b"@b.c>\r\n", b"BDAT 5 LAST\r\nhello",
]  # fmt: skip

COMMAND = re.compile(
    rb"(?:EHLO \[\S+\]|AUTH XOAUTH2 \S+|MAIL FROM:<[^\r\n\0<>]*>(?: [!-~]+)*|RCPT TO:<[^\r\n\0<>]*>|DATA|RSET|NOOP|QUIT"
    rb"|VRFY [ -~]*)"
)
CONTENT = re.compile(rb"(?:[^\r\n\0]|\r\n)*")
REPLY = re.compile(rb"(?:[2-5][0-9]{2}[ -][^\r\n\0]*\r\n)*")


class StrictServer(asyncio.Protocol):
    """A mail server that knows no mercy: what it should never hear it writes down."""

    heard_wrong: list[bytes]
    messages: int

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.buffer, self.is_message = cast("asyncio.Transport", transport), b"", False
        self.transport.write(b"220 strict\r\n")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self.message() if self.is_message else self.command():
            pass

    def command(self) -> bool:
        line, end, rest = self.buffer.partition(b"\r\n")
        if not end:
            return False
        self.buffer = rest
        if not COMMAND.fullmatch(line):
            StrictServer.heard_wrong.append(line)
        match line.partition(b" ")[0]:
            case b"EHLO":
                self.transport.write(
                    b"250-strict\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH XOAUTH2\r\n"
                )
            case b"AUTH":
                self.transport.write(b"235 2.7.0 ok\r\n")
            case b"DATA":
                self.is_message, self.buffer = True, b"\r\n" + self.buffer
                self.transport.write(b"354 go on\r\n")
            case b"QUIT":
                self.transport.write(b"221 bye\r\n")
                self.transport.close()
            case _:
                self.transport.write(b"250 ok\r\n")
        return True

    def message(self) -> bool:
        content, end, rest = self.buffer.partition(b"\r\n.\r\n")
        if not CONTENT.fullmatch((content + end).removesuffix(b"\r")):
            StrictServer.heard_wrong.append(content)
        if end:
            self.buffer, self.is_message = rest, False
            StrictServer.messages += 1
            self.transport.write(b"250 queued\r\n")
        return bool(end)


def invented(generator: random.Random) -> bytes:
    """What one client says: pieces of the protocol, some of them damaged."""
    said = b"EHLO x\r\n" + SIGN_IN if generator.random() < 0.6 else b""
    said += b"".join(generator.choices(PIECES, k=generator.randrange(1, 8)))
    for _ in range(generator.choice([0, 0, 0, 1, 3])):
        at = generator.randrange(len(said) + 1)
        match generator.randrange(4):
            case 0:
                said = said[:at] + generator.randbytes(generator.randrange(1, 4)) + said[at:]
            case 1:
                said = said[:at] + said[at + 1 :]
            case 2:
                said = said[:at] + generator.choice([b"\r", b"\n", b"\0", b"\x01", b"\r\n", b"."]) + said[at:]
            case 3:
                said = said[:at] + said[at : at + 40] * 3 + said[at + 40 :]
    return said or b"\r\n"


async def played(relay: SMTPRelay, endpoint: Endpoint, said: bytes, generator: random.Random) -> bytes:
    """One client that says all this and listens; returns what it heard."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_unix_connection(LineConnection, sock=theirs)
    client = ClientConnection(
        connection, "127.0.0.1", endpoint, None, True, Listener({}, ConnectionLimits(10, 10), None)
    )
    reader, writer = await asyncio.open_unix_connection(sock=ours)

    async def listen() -> bytes:
        heard = b""
        # A relay that has heard enough closes with octets unread, which breaks the connection off.
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                heard += data
        return heard

    async def serve() -> None:
        try:
            await relay.serve(client)
        except OSError:
            pass
        finally:
            connection.close()

    async with asyncio.timeout(SESSION_SECONDS):
        conversation, hearing = loop.create_task(serve()), loop.create_task(listen())
        cuts = sorted(generator.randrange(len(said)) for _ in range(generator.randrange(3)))
        for start, end in zip([0, *cuts], [*cuts, len(said)], strict=True):
            writer.write(said[start:end])
            await asyncio.sleep(0)
        if not writer.is_closing():
            writer.write_eof()
        await conversation
        heard = await hearing
    writer.close()
    return heard


async def fuzz(seed: int, inputs: int, changes: dict[str, Any], ca_file: Path, failures: list[str]) -> None:
    users = ManyUserAdmissionClient()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(repr(context)))
    server = await loop.create_server(StrictServer, "127.0.0.1", 0)
    users.add(server.sockets[0].getsockname()[1], tls="none", **changes)
    before = dict(users.admissions)
    dialer, capabilities = Dialer(ca_file), Capabilities(1_000_000)
    pool = Pool(
        dialer, users, MailboxQueues(lambda _: MailboxLimitsTable()), capabilities, SystemClock(), keeps_sessions=True
    )
    relay = SMTPRelay(users, pool, capabilities, idle_seconds=20, message_size=1_000_000)
    endpoint = Endpoint.of_url("smtp://127.0.0.1:1")
    numbers = iter(range(inputs))

    async def some() -> None:
        for number in numbers:
            generator = random.Random(seed * 1_000_003 + number)
            said = invented(generator)
            try:
                heard = await played(relay, endpoint, said, generator)
            except Exception as error:
                failures.append(f"{number}: {error!r} after {said!r}")
            else:
                if not REPLY.fullmatch(heard):
                    failures.append(f"{number}: {heard!r} after {said!r}")

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    await pool.close()
    server.close()
    assert users.admissions == before
    assert users.renewals == []


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.torture) for seed in range(1, SEEDS))])
@pytest.mark.parametrize("changes", [{}, {"normalizes": True, "sender": MAILBOX}], ids=["as it is", "put right"])
def test_whatever_a_client_says_the_mail_server_hears_nothing_but_smtp(
    ca: PracticeCA, changes: dict[str, Any], seed: int, logged: list[dict[str, Any]]
) -> None:
    StrictServer.heard_wrong, StrictServer.messages = [], 0
    failures: list[str] = []
    uvloop.run(fuzz(seed, INPUTS, changes, ca.ca_file, failures))
    assert failures == []
    assert StrictServer.heard_wrong == []
    assert StrictServer.messages > INPUTS // 20, "the inputs get far enough to matter"
