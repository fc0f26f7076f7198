"""The steps that SMTP, POP3 and IMAP sessions share: connect, begin TLS, sign in with a token.

No token is sent before the connection is private: under TLS, verified by chain and by name, or to this machine itself.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar, Self

from adapters.mail import tls
from adapters.mail.dialer import Dialer
from adapters.mail.line_connection import LineConnection, ProtocolError
from adapters.mail.report import ConversationFailed, Steps, Transcript
from adapters.mail.sasl_client import ClientExchange, Mechanism, choose, client_responses
from adapters.mail.server_address import MailboxLogin, MailServerAddress
from domain.errors import InvalidValue
from domain.mail_report import Fault, Verdict

LINE_LIMIT_OCTETS = 8192
"""The limit for a line of a mail server, message content aside."""
REPLY_LIMIT_OCTETS = 256 * 1024
"""The limit for all lines of one reply together."""
_QUIT_SECONDS = 5.0
# The answer to QUIT is not used, and the mailbox's connection counts as in use until it comes.
_QUIT_UNSEEN_SECONDS = 2.0


class MailSession(ABC):
    """One session with a mail server. `timeout_seconds` is for each reply."""

    start_tls_command: ClassVar[str]

    def __init__(self, connection: LineConnection, timeout_seconds: float) -> None:
        self.connection = connection
        self._timeout_seconds = timeout_seconds
        self._reply_octets = 0

    @classmethod
    async def open(cls, dialer: Dialer, server: MailServerAddress, timeout_seconds: float) -> Self:
        """Connect, begin TLS and ask for the capabilities, without signing in.

        Raises:
            ConversationFailed: a step failed; the connection is closed.
        """
        steps = Steps(server.where)
        session = await cls._connect(dialer, server, steps, timeout_seconds=timeout_seconds)
        with _aborted_on_failure(session.connection), steps.step("capabilities"):
            await session.ask_capabilities()
        dialer.keep_session(session.connection)
        return session

    @classmethod
    async def sign_in(
        cls,
        dialer: Dialer,
        login: MailboxLogin,
        *,
        transcript: Transcript | None = None,
        deadline_seconds: float = math.inf,
        preferred: Mechanism = Mechanism.XOAUTH2,
    ) -> Self:
        """Open a session and sign in with the token, by the preferred mechanism if the server offers it.

        The whole connection ends after `deadline_seconds`.

        Raises:
            ConversationFailed: a step failed; the connection is closed.
        """
        steps = transcript or Steps(login.address.where)
        try:
            responses = login_responses(login)
        except InvalidValue as error:
            raise ConversationFailed(Verdict("login_incomplete", Fault.CONFIGURATION, cause=error)) from None
        session = await cls._connect(
            dialer,
            login.address,
            steps,
            timeout_seconds=login.timeout_seconds,
            deadline_seconds=deadline_seconds,
        )
        with _aborted_on_failure(session.connection):
            with steps.step("capabilities") as note:
                await session.ask_capabilities()
                note.detail = lambda: f"sign-in by {', '.join(sorted(set(session.mechanisms))) or 'nothing'}"
                mechanism = _chosen(session.mechanisms, preferred)
            with steps.step("auth") as note:
                reply = await session.authenticate(ClientExchange(mechanism, responses[mechanism]))
                note.detail = lambda: f"{mechanism} as {login.mailbox}: {reply}"
        dialer.keep_session(session.connection)
        return session

    @property
    @abstractmethod
    def mechanisms(self) -> Collection[str]:
        """The SASL mechanisms that the server offers."""

    @abstractmethod
    async def greet(self) -> object:
        """Read the greeting and return it; its text is `str` of it."""

    @abstractmethod
    async def ask_capabilities(self) -> None:
        """Ask for the server's capabilities; those from before TLS are discarded."""

    @abstractmethod
    async def request_tls(self) -> None:
        """Ask for TLS, up to the server's go-ahead."""

    async def authenticate(self, exchange: ClientExchange) -> object:
        """Sign in and return the server's reply; its text is `str` of it.

        Raises:
            ConversationFailed: the connection is not private, or the server refused, or accepted without the token.
            ProtocolError, OSError: the conversation broke off.
        """
        if not self.connection.is_private:
            raise ConversationFailed(Verdict("connection_not_private", Fault.CONFIGURATION))
        reply = await self._authenticate(exchange)
        if not exchange.responded:
            raise no_token_wanted()
        return reply

    @abstractmethod
    async def check(self, transcript: Transcript, sender: str) -> None:
        """Send one more command that changes nothing: a server may accept a token and then refuse its user.

        `sender` is the address that messages come from, for the protocol that sends.
        """

    async def quit(self, transcript: Transcript) -> None:
        """Send QUIT or LOGOUT. The work is done by now, so a missing answer is not a failure."""
        with transcript.step("quit") as note:
            try:
                note.detail = await self._quit(_QUIT_SECONDS)
            except (OSError, ProtocolError):
                note.detail = "the connection ended without an answer"

    async def close(self) -> None:
        """Send QUIT or LOGOUT, and end the connection whether or not the server answers."""
        with suppress(OSError, ProtocolError):
            await self._quit(_QUIT_UNSEEN_SECONDS)
        self.connection.close()

    @abstractmethod
    async def _authenticate(self, exchange: ClientExchange) -> object:
        """Sign in and return the server's reply, as `authenticate` does."""

    @abstractmethod
    async def _quit(self, seconds: float) -> str:
        """Send the protocol's last command, and return the server's reply."""

    @classmethod
    async def _connect(
        cls,
        dialer: Dialer,
        server: MailServerAddress,
        steps: Steps,
        *,
        timeout_seconds: float,
        deadline_seconds: float = math.inf,
    ) -> Self:
        """Connect, read the greeting and begin TLS."""
        deadline = asyncio.get_running_loop().time() + deadline_seconds
        connection = await dialer.connect(server, steps, timeout_seconds=timeout_seconds, deadline=deadline)
        session = cls(connection, timeout_seconds)
        with _aborted_on_failure(session.connection):
            with steps.step("greeting") as note:
                greeting = await session.greet()
                note.detail = lambda: str(greeting)
            if server.tls == "starttls":
                with steps.step("tls") as note:
                    await session.request_tls()
                    await dialer.secure(connection, server, timeout_seconds)
                    note.detail = lambda: tls.describe(connection.transport)
        return session

    def _require_tls(self, offered: Collection[str]) -> None:
        if self.start_tls_command not in offered:
            raise ConversationFailed(Verdict("tls_not_offered", Fault.SERVER, {"command": self.start_tls_command}))

    def _begin_reply(self, seconds: float | None = None) -> float:
        """The instant at which the wait for a reply ends; by default after the time-out."""
        self._reply_octets = 0
        return self.connection.until(seconds or self._timeout_seconds)

    async def _line(self, end: float) -> bytes:
        """The next line of a reply.

        Raises:
            ProtocolError: the line or the reply is too long.
            OSError: the connection has ended, or no line came in time.
        """
        line = self.connection.ready_line(LINE_LIMIT_OCTETS)
        if line is None:
            line = await self.connection.line_by(LINE_LIMIT_OCTETS, end)
        self._reply_octets += len(line)
        if self._reply_octets > REPLY_LIMIT_OCTETS:
            raise ProtocolError(f"a reply of more than {REPLY_LIMIT_OCTETS} octets")
        return line


def login_responses(login: MailboxLogin) -> dict[Mechanism, bytes]:
    """The response of each mechanism, made before the connection is opened.

    Raises:
        InvalidValue: a value has characters that the mechanism can't carry.
    """
    return client_responses(login.mailbox, login.address.server, login.address.port, login.access_token)


def no_token_wanted() -> ConversationFailed:
    """The failure of a sign-in that the server accepted without the token (IMAP's PREAUTH, RFC 9051 section 7.1.4)."""
    return ConversationFailed(Verdict("no_token_wanted", Fault.SERVER))


@contextmanager
def _aborted_on_failure(connection: LineConnection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.abort()
        raise


def _chosen(offered: Collection[str], preferred: Mechanism) -> Mechanism:
    """The mechanism to sign in by.

    Raises:
        ConversationFailed: the server offers no mechanism for tokens.
    """
    mechanism = choose(offered, preferred)
    if mechanism is None:
        raise ConversationFailed(Verdict("no_mechanism_for_tokens", Fault.SERVER))
    return mechanism
