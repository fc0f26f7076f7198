"""The IMAP side of the relay (RFC 9051, 3501, 4959, 7888): a client signs in, then a tunnel leads to its mail server.

Nothing that a client sends before its sign-in reaches a mail server.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.mail import sasl_server
from adapters.mail.dialer import Dialer
from adapters.mail.imap_client import IMAPSession
from adapters.mail.sasl_server import Credentials, MalformedCredentials
from adapters.relay.admission import AdmissionClient
from adapters.relay.imap_commands import Command, LiteralRefused, Malformed
from adapters.relay.listener import ClientConnection
from adapters.relay.receiving_session import (
    SIGN_IN_SECONDS,
    DenialReason,
    MailboxSignIn,
    SignInDenied,
    UnauthenticatedSession,
    join,
)
from adapters.relay.refusals import Cause
from adapters.relay.tunnel import Moment

# RFC 9051 section 5.4 requires thirty minutes at least; a client in IDLE sends a command every 29 (RFC 2177).
_IDLE_SECONDS = 1860.0
_CODES = {
    DenialReason.AUTHENTICATION_FAILED: b"AUTHENTICATIONFAILED",
    DenialReason.TEMPORARY: b"UNAVAILABLE",
    DenialReason.NEEDS_ADMINISTRATOR: b"CONTACTADMIN",
}
_NEEDS_TLS = "Begin TLS first: a password does not travel in clear text"
_OTHER_MECHANISM = "Only PLAIN and LOGIN are known here"
# What a refused command is answered with in place of BAD.
_REPLIES = {_NEEDS_TLS: b" NO [PRIVACYREQUIRED] ", _OTHER_MECHANISM: b" NO "}
# The commands that a record of a refusal may name; another word may be a password.
_KNOWN = frozenset(
    {b"LOGIN", b"AUTHENTICATE", b"STARTTLS", b"CAPABILITY", b"ID", b"NOOP", b"LOGOUT", b"SELECT", b"EXAMINE", b"LIST"}
)
# Capabilities that end with the sign-in, or would let a client sign in as another user in the tunnel (RFC 8437).
_NOT_AFTER_SIGN_IN = ("AUTH=", "STARTTLS", "LOGINDISABLED", "SASL-IR", "UNAUTHENTICATE", "LOGIN-REFERRALS")


class IMAPRelay:
    """Serves IMAP clients, each for its own mailbox."""

    def __init__(
        self, admission_client: AdmissionClient, dialer: Dialer, sign_in_seconds: float = SIGN_IN_SECONDS
    ) -> None:
        """`sign_in_seconds` is the time-out for each line of a client that has not signed in."""
        self._receiving = MailboxSignIn(admission_client, dialer, IMAPSession.sign_in, sign_in_seconds)

    async def serve(self, client: ClientConnection) -> None:
        """As `listener.ProtocolServer.serve`."""
        upstream = await _Session(client, self._receiving).sign_in()
        if upstream is not None:
            await join(client, upstream.connection, _IDLE_SECONDS, goodbye)

    def refusal(self, why: str) -> bytes:
        """As `listener.ProtocolServer.refusal`."""
        return b"* BYE [UNAVAILABLE] " + why.encode() + b"\r\n"


def goodbye(moment: Moment, why: str) -> bytes:
    """BYE, which IMAP allows at any time; empty if the server has sent BYE or was in the middle of a line."""
    is_said = b"\r\n* BYE" in b"\r\n" + moment.tail
    return b"" if is_said or moment.is_in_a_line else b"* BYE " + why.encode() + b"\r\n"


def offered_after_sign_in(capabilities: Sequence[str]) -> str:
    """The capabilities of a mail server without those that a client of the relay can't use."""
    return " ".join(name for name in capabilities if not name.upper().startswith(_NOT_AFTER_SIGN_IN))


class _Session(UnauthenticatedSession[Command, IMAPSession]):
    """One client in IMAP's not authenticated state."""

    goodbye_prefix = temporary_goodbye_prefix = b"* BYE "

    def _greet(self) -> None:
        self._say(b"* OK [CAPABILITY " + self._capabilities() + b"] Mailtoken relay")

    async def _command(self) -> Command | None:
        may_ask = self._client.may_sign_in
        try:
            with self._client.idle():
                command = await Command.read(self._connection, self._line_seconds, may_ask=may_ask)
        except Malformed:
            self._client.refuse(Cause.COMMAND, "This is not a command")
            self._say(b"* BAD This is not a command")
        except LiteralRefused as refused:
            why, cause = ("The literal is too large", Cause.COMMAND) if may_ask else (_NEEDS_TLS, Cause.NOT_ENCRYPTED)
            self._client.refuse(cause, why)
            self._say(refused.tag + _REPLIES.get(why, b" BAD ") + why.encode())
        else:
            if command.name in _KNOWN:
                self._client.note(command.name)
            return command
        return None

    def _welcome(self, command: Command, upstream: IMAPSession) -> None:
        offered = offered_after_sign_in(upstream.capabilities)
        self._say(b"%b OK [CAPABILITY %b] Signed in" % (command.tag, offered.encode("ascii", "replace")))

    def _reject(self, command: Command, why: str) -> None:
        self._say(command.tag + _REPLIES.get(why, b" BAD ") + why.encode())

    def _deny(self, command: Command, denied: SignInDenied, *, is_last: bool) -> None:
        self._say(b"%b NO [%b] %b" % (command.tag, _CODES[denied.why], denied.printable))
        if is_last:
            self._say(self.goodbye_prefix + b"Too many sign-ins that failed")

    async def _obey(self, command: Command) -> Credentials | bool:
        tag = command.tag
        match command.name:
            case b"LOGOUT":
                self._say(b"* BYE Goodbye\r\n%b OK LOGOUT" % tag)
                return False
            case b"LOGIN" | b"AUTHENTICATE" if not self._client.may_sign_in:
                self._refuse(command, _NEEDS_TLS, Cause.NOT_ENCRYPTED)
            case b"LOGIN":
                return _login(command)
            case b"AUTHENTICATE":
                return await self._authenticate(command)
            case b"STARTTLS":
                await self._start_tls(command)
            case b"CAPABILITY":
                self._say(b"* CAPABILITY %b\r\n%b OK CAPABILITY" % (self._capabilities(), tag))
            case b"ID":
                self._say(b'* ID ("name" "Mailtoken")\r\n%b OK ID' % tag)
            case b"NOOP":
                self._say(tag + b" OK NOOP")
            case _:
                self._refuse(command, "Sign in first, with LOGIN or AUTHENTICATE")
        return True

    def _capabilities(self) -> bytes:
        """The capabilities before the sign-in, the same for all mail servers; the sign-in's reply has the server's."""
        sign_in = [b"AUTH=PLAIN", b"AUTH=LOGIN"] if self._client.may_sign_in else [b"LOGINDISABLED"]
        start_tls = [b"STARTTLS"] if self._client.may_start_tls else []
        return b" ".join([b"IMAP4rev1", b"SASL-IR", b"LITERAL-", b"ID", *start_tls, *sign_in])

    async def _start_tls(self, command: Command) -> None:
        if not self._client.may_start_tls:
            return self._refuse(command, "TLS is not offered here, or has begun")
        self._say(command.tag + b" OK Begin TLS")
        return await self._client.start_tls()

    async def _authenticate(self, command: Command) -> Credentials | bool:
        """Carry out AUTHENTICATE, with its initial response if it has one (RFC 4959)."""
        mechanism, *responses = _strings(command) or [b""]
        wanted = await self._by_mechanism(mechanism, *responses)
        if wanted is None:
            self._refuse(command, _OTHER_MECHANISM)
        return wanted or True


def _login(command: Command) -> Credentials:
    try:
        user, password = (string.decode() for string in _strings(command))
    except ValueError:
        raise MalformedCredentials from None
    return sasl_server.credentials(user, password)


def _strings(command: Command) -> list[bytes]:
    try:
        return command.strings()
    except Malformed:
        raise MalformedCredentials from None
