"""The IMAP side of the relay (RFC 9051, 3501, 4959, 7888): a client signs in, then it speaks with its mail server.

Before that nothing it says reaches anybody else, and its tags and strings never do.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.mail.connection import Garbled
from adapters.relay import credentials, imap_upstream
from adapters.relay.credentials import Credentials, MalformedCredentials
from adapters.relay.door import Door
from adapters.relay.imap_commands import Command, LiteralRefused, Malformed
from adapters.relay.imap_upstream import IMAPUpstream
from adapters.relay.listener import Client, Stopping
from adapters.relay.receiving import COMMANDS, LINE_LIMIT_OCTETS, SIGN_IN_SECONDS, SIGN_INS, Denied, Receiving, Why
from adapters.relay.splice import Moment, splice
from adapters.relay.upstream import Dialer

# RFC 9051 section 5.4 wants thirty minutes at least; a client in IDLE speaks every 29 (RFC 2177).
_IDLE_SECONDS = 1860.0
_CODES = {Why.WRONG: b"AUTHENTICATIONFAILED", Why.NOT_NOW: b"UNAVAILABLE", Why.NEEDS_SOMEBODY: b"CONTACTADMIN"}
_MALFORMED = b"BAD This is not what the command, or its mechanism, asks for"
_NEEDS_TLS = b"NO [PRIVACYREQUIRED] Begin TLS first: a password does not travel in clear text"
# What is over with the sign-in, or would let a client sign in as somebody else behind our back (RFC 8437).
_NOT_AFTER_SIGN_IN = ("AUTH=", "STARTTLS", "LOGINDISABLED", "SASL-IR", "UNAUTHENTICATE", "LOGIN-REFERRALS")


class IMAPRelay:
    """Speaks IMAP with clients, each for its own mailbox."""

    def __init__(self, door: Door, dialer: Dialer, sign_in_seconds: float = SIGN_IN_SECONDS) -> None:
        """`sign_in_seconds` is for each line of a client that has not signed in."""
        self._sign_in_seconds = sign_in_seconds
        self._receiving = Receiving(door, dialer, imap_upstream.sign_in)

    async def converse(self, client: Client) -> None:
        """Speak with a client until it goes; as `listener.Conversation` has it."""
        session = _Session(client, self._receiving, self._sign_in_seconds)
        try:
            upstream = await session.not_authenticated()
        except Garbled as garbled:
            session.say(b"* BYE " + str(garbled).encode())
            raise
        except TimeoutError:
            session.say(b"* BYE Nothing came for too long")
            raise
        except Stopping:
            session.say(b"* BYE The relay is stopping, connect again")
            raise
        if upstream is not None:
            await splice(client.wire, upstream.wire, _IDLE_SECONDS, last_words)

    def refusal(self, why: str) -> bytes:
        """What a client is told in place of a greeting."""
        return b"* BYE [UNAVAILABLE] " + why.encode() + b"\r\n"


def last_words(moment: Moment, why: str) -> bytes:
    """BYE, which IMAP allows at any time, unless the server has said it or was in the middle of a line."""
    is_said = b"\r\n* BYE" in b"\r\n" + moment.tail
    in_a_line = bool(moment.tail) and not moment.tail.endswith(b"\r\n")
    return b"" if is_said or in_a_line else b"* BYE " + why.encode() + b"\r\n"


def offered_after_sign_in(capabilities: Sequence[str]) -> str:
    """What a mail server can do, as far as it is true for the relay's client."""
    return " ".join(name for name in capabilities if not name.upper().startswith(_NOT_AFTER_SIGN_IN))


class _Session:
    """One client in IMAP's not authenticated state."""

    def __init__(self, client: Client, receiving: Receiving[IMAPUpstream], seconds: float) -> None:
        self._client = client
        self._wire = client.wire
        self._receiving = receiving
        self._seconds = seconds
        self._failures = 0

    def say(self, line: bytes) -> None:
        """One line, sent with the next wait or at the end."""
        self._wire.write(line + b"\r\n")

    async def not_authenticated(self) -> IMAPUpstream | None:
        """Greet, and obey until the client has signed in; None if it went without.

        Raises:
            Garbled: a command that is too long, or has a bare CR or LF or a NUL in it.
            OSError: the client is gone, or said nothing for too long.
        """
        self.say(b"* OK [CAPABILITY " + self._capabilities() + b"] Mailtoken relay")
        for _ in range(COMMANDS):
            command = await self._command()
            if command is None:
                continue
            try:
                wanted = await self._obey(command)
                if isinstance(wanted, Credentials):
                    return await self._signed_in(command.tag, wanted)
            except (Malformed, MalformedCredentials):
                self.say(command.tag + b" " + _MALFORMED)
            except Denied as denied:
                self.say(b"%b NO [%b] %b" % (command.tag, _CODES[denied.why], denied.shown))
                self._failures += 1
                if self._failures >= SIGN_INS:
                    self.say(b"* BYE Too many sign-ins that failed")
                    return None
            else:
                if not wanted:
                    return None
        self.say(b"* BYE Too many commands without signing in")
        return None

    async def _command(self) -> Command | None:
        """The next command; None if what came was none, and has been answered."""
        may_ask = self._client.may_sign_in
        try:
            with self._client.idle():
                return await Command.read(self._wire, self._seconds, may_ask=may_ask)
        except Malformed:
            self.say(b"* BAD This is not a command")
        except LiteralRefused as refused:
            self.say(refused.tag + b" " + (b"BAD The literal is too large" if may_ask else _NEEDS_TLS))
        return None

    async def _signed_in(self, tag: bytes, wanted: Credentials) -> IMAPUpstream:
        upstream = await self._receiving.upstream(self._client, wanted)
        offered = offered_after_sign_in(upstream.capabilities)
        self.say(b"%b OK [CAPABILITY %b] Signed in" % (tag, offered.encode("ascii", "replace")))
        return upstream

    async def _obey(self, command: Command) -> Credentials | bool:
        """Obey one command: who wants to sign in by it, or whether to go on."""
        tag = command.tag
        match command.name:
            case b"LOGOUT":
                self.say(b"* BYE Goodbye\r\n%b OK LOGOUT" % tag)
                return False
            case b"LOGIN" | b"AUTHENTICATE" if not self._client.may_sign_in:
                self.say(tag + b" " + _NEEDS_TLS)
            case b"LOGIN":
                return _login(command)
            case b"AUTHENTICATE":
                return await self._authenticate(tag, *command.strings())
            case b"STARTTLS":
                await self._start_tls(tag)
            case b"CAPABILITY":
                self.say(b"* CAPABILITY %b\r\n%b OK CAPABILITY" % (self._capabilities(), tag))
            case b"ID":
                self.say(b'* ID ("name" "Mailtoken")\r\n%b OK ID' % tag)
            case b"NOOP":
                self.say(tag + b" OK NOOP")
            case _:
                self.say(tag + b" BAD Sign in first, with LOGIN or AUTHENTICATE")
        return True

    def _capabilities(self) -> bytes:
        """What is true whichever mail server it will be; that one's own come with the sign-in."""
        sign_in = [b"AUTH=PLAIN", b"AUTH=LOGIN"] if self._client.may_sign_in else [b"LOGINDISABLED"]
        start_tls = [b"STARTTLS"] if self._client.may_start_tls else []
        return b" ".join([b"IMAP4rev1", b"SASL-IR", b"LITERAL-", b"ID", *start_tls, *sign_in])

    async def _start_tls(self, tag: bytes) -> None:
        if not self._client.may_start_tls:
            return self.say(tag + b" BAD TLS is not offered here, or has begun")
        self.say(tag + b" OK Begin TLS")
        return await self._client.start_tls()

    async def _authenticate(
        self, tag: bytes, mechanism: bytes = b"", response: bytes | None = None, *more: bytes
    ) -> Credentials | bool:
        """AUTHENTICATE, with its initial response if it has one (RFC 4959)."""
        if more:
            raise Malformed
        match mechanism.upper():
            case b"PLAIN":
                return credentials.plain(response or await self._answer(b""))
            case b"LOGIN":
                user = response or await self._answer(credentials.USER_PROMPT)
                return credentials.login(user, await self._answer(credentials.PASSWORD_PROMPT))
            case _:
                self.say(tag + b" NO Only PLAIN and LOGIN are known here")
        return True

    async def _answer(self, prompt: bytes) -> bytes:
        """What the client answers to a prompt; `*` cancels (RFC 4422 section 4.2.2)."""
        self.say(b"+ " + prompt)
        answer = await self._wire.line(LINE_LIMIT_OCTETS, self._seconds)
        if answer == b"*":
            raise MalformedCredentials
        return answer


def _login(command: Command) -> Credentials:
    try:
        user, password = (string.decode() for string in command.strings())
    except ValueError:
        raise Malformed from None
    return credentials.credentials(user, password)
