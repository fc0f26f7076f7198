"""The part of a session that POP3 and IMAP share: a client's password sign-in becomes a token sign-in to its mailbox.

Nothing that a client sends reaches a mail server before the service has admitted the client.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import ClassVar, Generic, TypeVar

import structlog

from adapters.mail import sasl_server
from adapters.mail.dialer import Dialer
from adapters.mail.line_connection import LineConnection, ProtocolError, TooLong, UnexpectedTLS
from adapters.mail.report import ConversationFailed, parts, redacted
from adapters.mail.sasl_server import (
    OTHER_IDENTITY,
    RESPONSE_LIMIT_OCTETS,
    Credentials,
    MalformedCredentials,
    OtherIdentity,
)
from adapters.mail.server_address import MailboxLogin
from adapters.relay.admission import AdmissionClient, sign_in_with_renewal
from adapters.relay.listener import ClientConnection, SessionRevoked
from adapters.relay.refusals import Cause
from adapters.relay.reply_texts import reply_text
from adapters.relay.tunnel import Goodbye, run_tunnel
from adapters.texts.verdicts import verdict_text
from adapters.texts.wording import Surface
from domain.errors import NotPermitted, Refused, Unreachable
from domain.mail_report import Fault

log = structlog.get_logger("mailtoken")

LINE_LIMIT_OCTETS = RESPONSE_LIMIT_OCTETS
"""The limit for a line of a client that has not signed in."""
SIGN_IN_SECONDS = 180.0
"""The default time-out for each line of a client that has not signed in."""
_COMMANDS = 100
_SIGN_INS = 5
_SHOWN_CHARACTERS = 400

C = TypeVar("C")
S = TypeVar("S")


class DenialReason(Enum):
    """Why a sign-in is denied. Each protocol has a response code for it (RFC 3206, RFC 5530)."""

    AUTHENTICATION_FAILED = "authentication_failed"
    TEMPORARY = "temporary"
    NEEDS_ADMINISTRATOR = "needs_administrator"


class SignInDenied(Exception):
    """A sign-in is denied; a person reads the text in the client's log or on its display."""

    def __init__(self, why: DenialReason, text: str) -> None:
        super().__init__(text)
        self.why = why

    @property
    def printable(self) -> bytes:
        """The text as a protocol can carry it: printable ASCII, and not longer than a line."""
        text = "".join(character if character.isprintable() else " " for character in str(self))
        return text[:_SHOWN_CHARACTERS].encode("ascii", "replace")


class MailboxSignIn(Generic[S]):
    """Signs clients of one protocol in, each to its mailbox.

    `sign_in` connects to the mail server of a mailbox and signs in there with its token.
    `line_seconds` is how long a client may take for each line before it has signed in.
    """

    def __init__(
        self,
        admission_client: AdmissionClient,
        dialer: Dialer,
        sign_in: Callable[[Dialer, MailboxLogin], Awaitable[S]],
        line_seconds: float,
    ) -> None:
        self.line_seconds = line_seconds
        self._admission_client = admission_client
        self._dialer = dialer
        self._sign_in = sign_in

    async def upstream(self, client: ClientConnection, credentials: Credentials) -> S:
        """A session with the mail server, signed in with the token of the relay user.

        Raises:
            SignInDenied: the user or the password is wrong, there is no token, or the mail server rejects the token.
        """
        protocol = client.endpoint.protocol
        client.user = credentials.user
        client.note(b"sign-in as " + credentials.user.encode())
        try:
            client.admission = await self._admission_client.admit(
                protocol, client.address, credentials.user, credentials.password
            )
            admission, session = await sign_in_with_renewal(client.admission, self._admission_client, self._dial)
        except NotPermitted:
            cause, denied = (
                Cause.WRONG_PASSWORD,
                SignInDenied(DenialReason.AUTHENTICATION_FAILED, "The relay knows no such user with this password."),
            )
        except Refused as refused:
            cause, denied = Cause.SERVICE, SignInDenied(DenialReason.NEEDS_ADMINISTRATOR, reply_text(refused))
        except Unreachable as unreachable:
            cause, denied = Cause.SERVICE, SignInDenied(DenialReason.TEMPORARY, reply_text(unreachable))
        except ConversationFailed as failed:
            cause, denied = (
                Cause.MAIL_SERVER,
                SignInDenied(
                    _WHY.get(failed.fault, DenialReason.NEEDS_ADMINISTRATOR), verdict_text(failed.verdict, Surface.API)
                ),
            )
        else:
            log.info("signed_in", address=client.address, protocol=protocol, user=admission.user)
            return session
        log.warning(
            "sign_in_refused", address=client.address, protocol=protocol, user=credentials.user, why=str(denied)
        )
        client.record(cause, str(denied))
        raise denied

    async def _dial(self, login: MailboxLogin) -> S:
        """Sign in to the mail server; the token is removed from the text of a refusal."""
        try:
            return await self._sign_in(self._dialer, login)
        except ConversationFailed as failed:
            secret = parts([login.access_token.reveal()])
            raise ConversationFailed(redacted(failed.verdict, secret), failed.reply) from None


_WHY = {
    Fault.TOKEN: DenialReason.AUTHENTICATION_FAILED,
    Fault.NETWORK: DenialReason.TEMPORARY,
    Fault.SERVER: DenialReason.TEMPORARY,
}
"""The reason by the fault of a failed sign-in to the mail server; every other fault needs an administrator."""


async def join(client: ClientConnection, upstream: LineConnection, idle_seconds: float, goodbye: Goodbye) -> None:
    """Run the tunnel between a client that has signed in and its mail server.

    Raises:
        SessionRevoked: the admission was revoked during the sign-in.
    """
    try:
        client.mark_signed_in()
    except SessionRevoked:
        upstream.abort()
        raise
    await run_tunnel(client.connection, upstream, idle_seconds, goodbye)


class UnauthenticatedSession(ABC, Generic[C, S]):
    """A client's session before its sign-in. `C` is a command of the protocol, `S` a session with a mail server."""

    goodbye_prefix: ClassVar[bytes]
    """The beginning of the last line to a client."""
    temporary_goodbye_prefix: ClassVar[bytes]
    """The beginning of the last line to a client that may connect again at once."""

    def __init__(self, client: ClientConnection, receiving: MailboxSignIn[S]) -> None:
        self._client = client
        self._connection = client.connection
        self._receiving = receiving
        self._line_seconds = receiving.line_seconds

    async def sign_in(self) -> S | None:
        """Greet the client and carry out its commands until it has signed in; None if the session ended before.

        Raises:
            ProtocolError: a line or a command is too long, or contains a bare CR, a bare LF or a NUL.
            OSError: the client is gone, or was silent for too long.
            SessionRevoked: the admission was revoked, or the relay stops.
        """
        try:
            return await self._obey_until_signed_in()
        except UnexpectedTLS:
            raise
        except ProtocolError as garbled:
            cause = Cause.LINE_TOO_LONG if isinstance(garbled, TooLong) else Cause.BARE_LINE_END
            self._client.refuse(cause, str(garbled))
            self._say(self.goodbye_prefix + str(garbled).encode())
            raise
        except TimeoutError:
            self._say(self.goodbye_prefix + b"Nothing came for too long")
            raise
        except SessionRevoked:
            self._say(self.temporary_goodbye_prefix + b"The relay ends this session, connect again")
            raise

    async def _obey_until_signed_in(self) -> S | None:
        self._greet()
        failures = 0
        for _ in range(_COMMANDS):
            command = await self._command()
            if command is None:
                continue
            try:
                wanted = await self._obey(command)
                if isinstance(wanted, Credentials):
                    upstream = await self._receiving.upstream(self._client, wanted)
                    self._welcome(command, upstream)
                    return upstream
            except MalformedCredentials:
                self._refuse(command, "This is not what the command, or its mechanism, asks for")
            except SignInDenied as denied:
                failures += 1
                self._deny(command, denied, is_last=failures == _SIGN_INS)
                if failures == _SIGN_INS:
                    return None
            else:
                if not wanted:
                    return None
        self._say(self.goodbye_prefix + b"Too many commands without signing in")
        return None

    @abstractmethod
    def _greet(self) -> None: ...

    @abstractmethod
    async def _command(self) -> C | None:
        """The next command; None if the line was not a command and the client has received an error reply."""

    @abstractmethod
    async def _obey(self, command: C) -> Credentials | bool:
        """Carry a command out; returns the credentials of a sign-in, or whether the session goes on."""

    @abstractmethod
    def _welcome(self, command: C, upstream: S) -> None: ...

    @abstractmethod
    def _reject(self, command: C, why: str) -> None:
        """Write the error reply to a command."""

    @abstractmethod
    def _deny(self, command: C, denied: SignInDenied, *, is_last: bool) -> None: ...

    def _refuse(self, command: C, why: str, cause: Cause = Cause.COMMAND) -> None:
        """Refuse a command, with a line in the log and a record."""
        name = self._client.last_command
        self._client.refuse(cause, f"{name}: {why}" if name else why)
        self._reject(command, why)

    def _say(self, line: bytes) -> None:
        """Write a line, which is sent at the next wait or at the end of the session."""
        self._connection.write(line + b"\r\n")

    async def _by_mechanism(
        self, mechanism: bytes, initial_response: bytes | None = None, *more: bytes
    ) -> Credentials | None:
        """The credentials that the client sends by a SASL mechanism; None if the relay does not know the mechanism."""
        if more:
            raise MalformedCredentials
        try:
            return await sasl_server.by_mechanism(mechanism, initial_response, self._answer)
        except OtherIdentity:
            self._client.refuse(Cause.OTHER_IDENTITY, OTHER_IDENTITY)
            raise SignInDenied(DenialReason.AUTHENTICATION_FAILED, f"{OTHER_IDENTITY}.") from None

    async def _answer(self, prompt: bytes) -> bytes:
        """The client's reply to a prompt; `*` cancels (RFC 4422 section 4.2.2)."""
        self._say(b"+ " + prompt)
        answer = (await self._connection.line(LINE_LIMIT_OCTETS, self._line_seconds)).strip(b" \t")
        if answer == b"*":
            raise MalformedCredentials
        return answer
