"""Mail clients that come all at once, in processes of their own: the same towards the relay as towards a mail server.

They are lean, so that the two servers have the machine, and what one of them is slower at than the other shows.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from adapters.mail.line_connection import LineConnection
from adapters.mail.sasl_client import Mechanism, client_responses
from adapters.mail.tls import client_context
from bench.material import ACCOUNT
from domain.secret import Secret

_IN_STEP = 0.5
"""Of the measured while: so long clients get into step before it."""
MESSAGE = b"From: <%b>\r\nTo: <somebody@example.org>\r\nSubject: Scan\r\n\r\n" % ACCOUNT.encode() + 128 * (
    b"A line of some scanned page in base64, as long as these are usually made..\r\n"
)
"""About 10,000 octets."""
_LINE_OCTETS = 4096
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Place:
    """Where clients come in, and how: with a relay user's password, or with STARTTLS and a token by XOAUTH2."""

    port: int
    ca_file: Path
    is_tls: bool
    password: str | None = None
    user: str = ACCOUNT
    access_token: str | None = None

    @property
    def plain(self) -> bytes:
        """The response of PLAIN (RFC 4616)."""
        return b64encode(f"\0{self.user}\0{self.password}".encode())

    @property
    def xoauth2(self) -> bytes:
        """The response of XOAUTH2."""
        assert self.access_token
        response = client_responses(self.user, "localhost", self.port, Secret(self.access_token))[Mechanism.XOAUTH2]
        return b64encode(response)


@dataclass(frozen=True)
class Sent:
    """What clients did in a while: messages in a second, and the seconds that each session took.

    `core_ms` are the milliseconds of this machine's cores that a message took, of all processes together.
    """

    per_second: float
    seconds: list[float]
    core_ms: float


class Load:
    """Clients in other processes."""

    def __init__(self, processes: list[Connection]) -> None:
        self._processes = processes

    def send(self, place: Place, clients: int, seconds: float) -> Sent:
        """Have so many clients send, each one message a session and one session after the other."""
        share = self._processes[:clients]
        busy_before = _busy_ms()
        for number, process in enumerate(share):
            process.send((_sending, (place, len(range(number, clients, len(share))), seconds)))
        took = [one for process in share for one in _answer(process)]
        messages = len(took) * (1 + _IN_STEP)
        return Sent(len(took) / seconds, took, (_busy_ms() - busy_before) / messages)

    def fetch_by_imap(self, place: Place) -> float:
        """Fetch all messages of the inbox in one session; octets in a second, beginning with the first FETCH."""
        return self._fetched(_fetching_by_imap, place)

    def fetch_by_pop(self, place: Place) -> float:
        """Retrieve all messages in one session; octets in a second, beginning with the first RETR."""
        return self._fetched(_fetching_by_pop, place)

    def _fetched(self, fetching: Callable[..., Any], place: Place) -> float:
        self._processes[0].send((fetching, (place,)))
        per_second: float = _answer(self._processes[0])
        return per_second


def _busy_ms() -> float:
    """How long this machine's cores have been busy, all together (proc_stat(5))."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) * 1000 / os.sysconf("SC_CLK_TCK")


@contextmanager
def load(processes: int) -> Iterator[Load]:
    """Start the clients' processes."""
    spawning = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        connections = []
        for number in range(processes):
            ours, theirs = spawning.Pipe()
            process = spawning.Process(target=_work, args=(theirs,), name=f"mail clients {number}")
            process.start()
            theirs.close()
            stack.callback(process.join)
            stack.callback(ours.close)
            connections.append(ours)
        yield Load(connections)


def _answer(process: Connection) -> Any:
    answer = process.recv()
    if isinstance(answer, str):
        raise RuntimeError(f"a mail client failed: {answer}")
    return answer


def _work(bench: Connection) -> None:
    """Do what is asked until the other end of the pipe is closed."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        while True:
            try:
                do, arguments = bench.recv()
            except EOFError:
                return
            try:
                bench.send(runner.run(do(*arguments)))
            except Exception as error:
                bench.send(repr(error))


async def _connected(place: Place) -> LineConnection:
    _, connection = await asyncio.get_running_loop().create_connection(LineConnection, "localhost", place.port)
    return connection


# SMTP


async def _sending(place: Place, clients: int, seconds: float) -> list[float]:
    """The seconds of each session that ended in the measured while, or of the first one if that took longer.

    Sessions before it are for getting into step.
    """
    tls = client_context(place.ca_file) if place.is_tls else None
    loop = asyncio.get_running_loop()
    begin = loop.time() + seconds * _IN_STEP
    end = begin + seconds
    took: list[float] = []

    async def client() -> None:
        while (began := loop.time()) < end or not took:
            await _send_one(place, tls)
            ended = loop.time()
            if begin <= ended and (ended < end or not took):
                took.append(ended - began)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return took


async def _send_one(place: Place, tls: ssl.SSLContext | None) -> None:
    connection = await _connected(place)
    await _smtp(connection, 220)
    await _smtp(connection, 250, b"EHLO [127.0.0.1]")
    if tls:
        await _smtp(connection, 220, b"STARTTLS")
        await connection.start_tls(tls, _PATIENCE_SECONDS, server_hostname="localhost")
        await _smtp(connection, 250, b"EHLO [127.0.0.1]")
    if place.access_token:
        # Dovecot takes a token of usual length only like this.
        await _smtp(connection, 334, b"AUTH XOAUTH2")
        await _smtp(connection, 235, place.xoauth2)
    else:
        await _smtp(connection, 235, b"AUTH PLAIN " + place.plain)
    await _smtp(connection, 250, b"MAIL FROM:<%b>" % ACCOUNT.encode())
    await _smtp(connection, 250, b"RCPT TO:<somebody@example.org>")
    await _smtp(connection, 354, b"DATA")
    await _smtp(connection, 250, MESSAGE + b".")
    await _smtp(connection, 221, b"QUIT")
    connection.close()


async def _smtp(connection: LineConnection, code: int, command: bytes | None = None) -> None:
    if command is not None:
        connection.write(command + b"\r\n")
    line = await connection.line(_LINE_OCTETS, _PATIENCE_SECONDS)
    while line[3:4] == b"-":
        line = await connection.line(_LINE_OCTETS, _PATIENCE_SECONDS)
    if int(line[:3]) != code:
        raise RuntimeError(f"{code} was expected: {line!r}")


# IMAP and POP3


async def _fetching_by_imap(place: Place) -> float:
    connection = await _connected(place)
    await connection.line(_LINE_OCTETS, _PATIENCE_SECONDS)
    if place.is_tls:
        await _imap(connection, b"STARTTLS")
        await connection.start_tls(client_context(place.ca_file), _PATIENCE_SECONDS, server_hostname="localhost")
    if place.access_token:
        await _imap(connection, b"AUTHENTICATE XOAUTH2 " + place.xoauth2)
    else:
        await _imap(connection, b"AUTHENTICATE PLAIN " + place.plain)
    await _imap(connection, b"EXAMINE INBOX")
    loop = asyncio.get_running_loop()
    began = loop.time()
    connection.write(b"f FETCH 1:* (BODY.PEEK[])\r\n")
    octets = await _octets_until(connection, b"\r\nf OK Fetch completed")
    took = loop.time() - began
    connection.write(b"l LOGOUT\r\n")
    connection.close()
    return octets / took


async def _imap(connection: LineConnection, command: bytes) -> None:
    connection.write(b"t " + command + b"\r\n")
    while not (line := await connection.line(_LINE_OCTETS, _PATIENCE_SECONDS)).startswith(b"t "):
        pass
    if not line.startswith(b"t OK"):
        raise RuntimeError(f"OK was expected: {line!r}")


async def _fetching_by_pop(place: Place) -> float:
    connection = await _connected(place)
    await _pop(connection)
    if place.is_tls:
        await _pop(connection, b"STLS")
        await connection.start_tls(client_context(place.ca_file), _PATIENCE_SECONDS, server_hostname="localhost")
    if place.access_token:
        await _pop(connection, b"AUTH XOAUTH2", b"+ ")
        await _pop(connection, place.xoauth2)
    else:
        await _pop(connection, b"AUTH PLAIN " + place.plain)
    count = int((await _pop(connection, b"STAT")).split()[1])
    loop = asyncio.get_running_loop()
    octets, began = 0, loop.time()
    for number in range(1, count + 1):
        connection.write(b"RETR %d\r\n" % number)
        octets += await _octets_until(connection, b"\r\n.\r\n")
    took = loop.time() - began
    connection.write(b"QUIT\r\n")
    connection.close()
    return octets / took


async def _pop(connection: LineConnection, command: bytes | None = None, expected: bytes = b"+OK") -> bytes:
    if command is not None:
        connection.write(command + b"\r\n")
    line = await connection.line(_LINE_OCTETS, _PATIENCE_SECONDS)
    if not line.startswith(expected):
        raise RuntimeError(f"{expected!r} was expected: {line!r}")
    return line


async def _octets_until(connection: LineConnection, mark: bytes) -> int:
    """Read until `mark` has come, and what came with it; how many octets."""
    octets, tail = 0, b""
    while True:
        data = await connection.some(_PATIENCE_SECONDS)
        octets += len(data)
        if mark in tail + data[: len(mark)] or mark in data:
            return octets
        tail = (tail + data)[-len(mark) :]
