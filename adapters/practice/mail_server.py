"""A practice mail server: SMTP submission and POP3 on loopback, for clients with tokens of the practice provider.

The server runs in a thread with an event loop of its own. Messages sent by SMTP can be read by POP3.
"""

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from typing import Self

from adapters.practice.ca import PracticeCA
from adapters.practice.mailboxes import Authentication, Mailboxes, MailProtocol
from adapters.practice.pop_server import LINE_LIMIT, PopSession
from adapters.practice.provider import PracticeProvider
from adapters.practice.smtp_server import SubmissionServer


class PracticeMailServer:
    """SMTP with STARTTLS and over TLS, POP3 with STLS and over TLS, from `start` to `close`.

    `shared` has, for each mailbox, the other accounts that may use it; an app-only token's account is its client id.
    The ports are 0 until the first `start`; a second `start` keeps ports and mailboxes.
    """

    mailboxes_class = Mailboxes
    smtp_session_class: type[SubmissionServer] = SubmissionServer
    pop_session_class: type[PopSession] = PopSession

    def __init__(
        self,
        ca: PracticeCA,
        provider: PracticeProvider,
        *,
        shared: Mapping[str, AbstractSet[str]] | None = None,
    ) -> None:
        self.ca_file = ca.ca_file
        self.smtp_port = 0
        self.smtps_port = 0
        self.pop_port = 0
        self.pops_port = 0
        self._mailboxes = self.mailboxes_class(provider, shared or {})
        certificate = ca.issue()
        self._smtp_tls = certificate.ssl_context()
        self._pop_tls = certificate.ssl_context()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._closing: asyncio.Event

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        """Listen and serve, in a thread."""
        listening: Future[None] = Future()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._serve(listening),), name="practice-mail", daemon=True
        )
        self._thread.start()
        listening.result()
        return self

    def close(self) -> None:
        """Stop listening, and cut every connection."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()
            self._thread = None
        self._mailboxes.close()

    @property
    def mailboxes(self) -> Mapping[str, list[bytes]]:
        """The messages in each mailbox, as they were sent, by the mailbox's address in lower case."""
        return self._mailboxes.mailboxes

    @property
    def authentications(self) -> list[Authentication]:
        """Every attempt to authenticate with a token."""
        return list(self._mailboxes.authentications)

    @property
    def commands(self) -> list[tuple[MailProtocol, str]]:
        """Every command received, without its arguments, such as ("smtp", "EHLO")."""
        return list(self._mailboxes.commands)

    def deliver(self, address: str, message: bytes) -> None:
        """Put a message into a mailbox, as if another server had sent it."""
        self._mailboxes.deliver(address, message)

    def wait_for_messages(self, address: str, count: int = 1, timeout_seconds: float = 5) -> list[bytes]:
        """Wait until a mailbox holds `count` messages, and return all of them.

        Raises:
            TimeoutError: the messages didn't come in time.
        """
        return self._mailboxes.wait_for_messages(address, count, timeout_seconds)

    async def _serve(self, listening: "Future[None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        try:
            servers = await self._listen()
        except OSError as error:
            listening.set_exception(error)
            return
        listening.set_result(None)
        await self._closing.wait()
        for server in servers:
            server.close()
        for session in list(self._mailboxes.sessions):
            session.cut()

    async def _listen(self) -> list[asyncio.Server]:
        smtp = await self._listen_smtp(self.smtp_port, implicit_tls=False)
        smtps = await self._listen_smtp(self.smtps_port, implicit_tls=True)
        pop = await self._listen_pop(self.pop_port, implicit_tls=False)
        pops = await self._listen_pop(self.pops_port, implicit_tls=True)
        self.smtp_port, self.smtps_port, self.pop_port, self.pops_port = map(_port, (smtp, smtps, pop, pops))
        return [smtp, smtps, pop, pops]

    async def _listen_smtp(self, port: int, *, implicit_tls: bool) -> asyncio.Server:
        return await self._loop.create_server(
            lambda: self.smtp_session_class(self._mailboxes, self._smtp_tls, implicit_tls=implicit_tls),
            "127.0.0.1",
            port,
            ssl=self._smtp_tls if implicit_tls else None,
        )

    async def _listen_pop(self, port: int, *, implicit_tls: bool) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # asyncio's streams report a cancelled session as an error.
            with contextlib.suppress(asyncio.CancelledError):
                await self.pop_session_class(
                    self._mailboxes, reader, writer, None if implicit_tls else self._pop_tls
                ).serve()

        return await asyncio.start_server(
            serve, "127.0.0.1", port, limit=LINE_LIMIT, ssl=self._pop_tls if implicit_tls else None
        )


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port
