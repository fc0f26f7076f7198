"""A submission server that notes when it has accepted each message, in a process of its own.

It offers STARTTLS and takes every sign-in, with a token or with a password, after some seconds. A message is known by
its subject.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from adapters.practice.ca import PracticeCA

_OFFERED = ("250-mx.contoso.com", "250-PIPELINING", "250-SIZE 157286400", "250-8BITMIME")
_SUBJECT = re.compile(rb"(?im)^Subject: *([^\r\n]+)\r")


@dataclass(frozen=True)
class SubmissionServer:
    """The server at `port`."""

    port: int
    _process: Connection

    def accepted(self) -> dict[str, float]:
        """The instant, of the monotonic clock, at which it accepted each message so far."""
        self._process.send(None)
        accepted: dict[str, float] = self._process.recv()
        return accepted


@contextmanager
def submission_server(ca: PracticeCA, sign_in_seconds: float) -> Iterator[SubmissionServer]:
    """Run it, for `localhost`."""
    certificate = ca.issue()
    spawning = multiprocessing.get_context("spawn")
    ours, its = spawning.Pipe()
    files = certificate.cert_file, certificate.key_file
    process = spawning.Process(target=_run, args=(its, *files, sign_in_seconds), name="submission server")
    process.start()
    its.close()
    try:
        yield SubmissionServer(ours.recv(), ours)
    finally:
        ours.close()
        process.join()


def _run(bench: Connection, cert_file: Path, key_file: Path, sign_in_seconds: float) -> None:
    """Run until the other end of the pipe is closed."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert_file, key_file)
    with suppress(EOFError):
        uvloop.run(_serve(bench, tls, sign_in_seconds))


async def _serve(bench: Connection, tls: ssl.SSLContext, sign_in_seconds: float) -> None:
    accepted: dict[str, float] = {}

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await _Session(reader, writer, tls, sign_in_seconds, accepted).run()
        writer.close()

    server = await asyncio.start_server(session, "127.0.0.1", 0, backlog=512)
    bench.send(server.sockets[0].getsockname()[1])
    asked = asyncio.Event()
    asyncio.get_running_loop().add_reader(bench.fileno(), asked.set)
    while True:
        await asked.wait()
        asked.clear()
        bench.recv()
        bench.send(accepted)


@dataclass
class _Session:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    tls: ssl.SSLContext
    sign_in_seconds: float
    accepted: dict[str, float]
    _last: bytes = b""

    async def run(self) -> None:
        """Obey until QUIT, or until the client has gone."""
        is_secure = False
        self._say("220 mx.contoso.com ESMTP")
        while (verb := (await self._line())[:4].upper()) != b"QUIT":
            match verb:
                case b"EHLO" | b"HELO":
                    offered = "AUTH PLAIN XOAUTH2" if is_secure else "STARTTLS"
                    self._say(
                        "250-mx.contoso.com", "250-PIPELINING", "250-SIZE 157286400", "250-8BITMIME", f"250 {offered}"
                    )
                case b"STAR":
                    self._say("220 2.0.0 begin")
                    await self.writer.start_tls(self.tls)
                    is_secure = True
                case b"AUTH":
                    await self._sign_in()
                case b"DATA":
                    await self._take_message()
                case _:
                    self._say("250 2.0.0 ok")
        self._say("221 2.0.0 bye")
        await self.writer.drain()

    async def _sign_in(self) -> None:
        if len(self._last.split()) < 3:
            self._say("334 ")
            await self._line()
        await asyncio.sleep(self.sign_in_seconds)
        self._say("235 2.7.0 welcome")

    async def _take_message(self) -> None:
        self._say("354 go on")
        subject = _SUBJECT.search(await self.reader.readuntil(b"\r\n.\r\n"))
        self.accepted[subject[1].decode() if subject else ""] = time.monotonic()
        self._say("250 2.0.0 taken")

    async def _line(self) -> bytes:
        self._last = await self.reader.readuntil(b"\r\n")
        return self._last

    def _say(self, *lines: str) -> None:
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())
