"""A mail server to measure against: the tests' Dovecot, set up for many sessions, and what stands behind it.

Where it hands its mail out to and whom it asks about tokens is one small process that does next to nothing, so that
what is measured waits for Dovecot and not for them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

import uvloop
from dovecot import Dovecot
from mail_exchanger import MailExchanger

from adapters.mail.sasl_client import Mechanism
from adapters.practice.ca import PracticeCA
from bench.material import ACCOUNT

_NO_LIMITS = """
mail_max_userip_connections = 0
default_client_limit = 8000
default_process_limit = 600
submission_max_mail_size = 200M
"""
# By default Dovecot asks about ten tokens at a time, so that at most ten slow sign-ins go on at once.
_NO_LIMIT_OF_SIGN_INS = """
max_parallel_connections = 1000
"""
_REUSED_PROCESSES = """
service submission-login {
  service_count = 0
  process_min_avail = 2
}
service submission {
  service_count = 0
  process_min_avail = 32
}
service imap-login {
  service_count = 0
}
service pop3-login {
  service_count = 0
}
"""
_CONTENT_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)")
_END_OF_MESSAGE = b"\r\n.\r\n"


@contextmanager
def running_dovecot(ca: PracticeCA, *, reuses_processes: bool, sign_in_seconds: float = 0.0) -> Iterator[Dovecot]:
    """Run it. Any token is one of `ACCOUNT`; what is submitted is taken and thrown away.

    A session has processes of its own, as Dovecot comes, or those of a session before, as in a large installation.
    A sign-in takes at least `sign_in_seconds`.

    Raises:
        NoDovecot: it is not installed.
    """
    configuration = _NO_LIMITS + _REUSED_PROCESSES * reuses_processes
    with _behind(sign_in_seconds) as behind, _UnlimitedDovecot(ca, behind, configuration) as dovecot:
        yield dovecot


class _UnlimitedDovecot(Dovecot):
    """Without the limits that it sets for one user, so that it is not they what is measured."""

    def __init__(self, ca: PracticeCA, behind: _Behind, configuration: str) -> None:
        super().__init__(ca, behind, behind.exchanger, Mechanism.XOAUTH2)
        self._configuration = configuration

    def _configure(self) -> None:
        super()._configure()
        with (self._folder / "dovecot.conf").open("a") as configuration:
            configuration.write(self._configuration)
        with (self._folder / "oauth2.conf").open("a") as configuration:
            configuration.write(_NO_LIMIT_OF_SIGN_INS)


@dataclass
class _Behind:
    """What Dovecot knows of the practice provider and of a mail exchanger, which is never begun here."""

    exchanger: MailExchanger
    introspection_endpoint: str
    mail_server_client_id: str = "bench"
    mail_server_client_secret: str = "bench"


@contextmanager
def _behind(sign_in_seconds: float) -> Iterator[_Behind]:
    spawning = multiprocessing.get_context("spawn")
    ours, its = spawning.Pipe()
    process = spawning.Process(target=_run, args=(its, sign_in_seconds), name="behind Dovecot")
    process.start()
    its.close()
    try:
        exchanger = MailExchanger()
        exchanger.port, introspection_port = ours.recv()
        yield _Behind(exchanger, f"http://127.0.0.1:{introspection_port}/introspect")
    finally:
        ours.close()
        process.join()


def _run(bench: Connection, sign_in_seconds: float) -> None:
    """Run until the other end of the pipe is closed."""
    uvloop.run(_serve(bench, sign_in_seconds))


async def _serve(bench: Connection, sign_in_seconds: float) -> None:
    loop, closed = asyncio.get_running_loop(), asyncio.Event()
    kinds = (_Exchanger, partial(_Introspection, sign_in_seconds))
    servers = [await loop.create_server(kind, "127.0.0.1", 0, backlog=1024) for kind in kinds]
    bench.send([server.sockets[0].getsockname()[1] for server in servers])
    loop.add_reader(bench.fileno(), closed.set)
    await closed.wait()


class _Answering(asyncio.Protocol):
    """A server that answers what it has all of."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.buffer = b""


class _Exchanger(_Answering):
    """An SMTP server that takes every message and keeps none."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.is_in_message = False
        self.transport.write(b"220 mx.contoso.com ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        answers = []
        while (answer := self._message() if self.is_in_message else self._command()) is not None:
            answers.append(answer)
        self.transport.write(b"".join(answers))

    def _message(self) -> bytes | None:
        end = self.buffer.find(_END_OF_MESSAGE)
        if end < 0:
            self.buffer = self.buffer[-len(_END_OF_MESSAGE) :]
            return None
        self.buffer, self.is_in_message = self.buffer[end + len(_END_OF_MESSAGE) :], False
        return b"250 2.0.0 taken\r\n"

    def _command(self) -> bytes | None:
        line, end, rest = self.buffer.partition(b"\r\n")
        if not end:
            return None
        self.buffer = rest
        match line[:4].upper():
            case b"EHLO":
                return b"250-mx.contoso.com\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
            case b"DATA":
                self.is_in_message = True
                return b"354 go on\r\n"
            case b"QUIT":
                return b"221 2.0.0 goodbye\r\n"
            case _:
                return b"250 2.0.0 so be it\r\n"


class _Introspection(_Answering):
    """An introspection endpoint (RFC 7662) that knows one account and accepts every token, after some seconds."""

    _BODY = b'{"active": true, "email": "%b"}' % ACCOUNT.encode()
    _ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = _CONTENT_LENGTH.search(self.buffer, 0, end)
            octets = end + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) < octets:
                return
            self.buffer = self.buffer[octets:]
            if self._seconds:
                asyncio.get_running_loop().call_later(self._seconds, self.transport.write, self._ANSWER)
            else:
                self.transport.write(self._ANSWER)
