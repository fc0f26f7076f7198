"""The POP3 side of the relay (RFC 1939, 2449, 2595, 5034): a client signs in, then it speaks with its mail server.

Before that nothing it says reaches anybody else.
"""

from __future__ import annotations

from contextlib import suppress

from adapters.mail.connection import Garbled
from adapters.relay import credentials, pop_upstream
from adapters.relay.credentials import Credentials, MalformedCredentials
from adapters.relay.door import Door
from adapters.relay.lines import Wire
from adapters.relay.listener import Client, Stopping
from adapters.relay.receiving import COMMANDS, LINE_LIMIT_OCTETS, SIGN_IN_SECONDS, SIGN_INS, Denied, Receiving, Why
from adapters.relay.splice import Moment, splice
from adapters.relay.upstream import Dialer

# RFC 1939 section 3 wants ten minutes at least.
_IDLE_SECONDS = 660.0
_CODES = {Why.WRONG: b"AUTH", Why.NOT_NOW: b"SYS/TEMP", Why.NEEDS_SOMEBODY: b"SYS/PERM"}
_MALFORMED = b"-ERR This is not what the command, or its mechanism, asks for"
_NEEDS_TLS = b"-ERR Begin TLS first: a password does not travel in clear text (STLS, or the port for TLS)"


class POPRelay:
    """Speaks POP3 with clients, each for its own mailbox."""

    def __init__(self, door: Door, dialer: Dialer, sign_in_seconds: float = SIGN_IN_SECONDS) -> None:
        """`sign_in_seconds` is for each line of a client that has not signed in."""
        self._sign_in_seconds = sign_in_seconds
        self._receiving = Receiving(door, dialer, pop_upstream.sign_in)

    async def converse(self, client: Client) -> None:
        """Speak with a client until it goes; as `listener.Conversation` has it."""
        session = _Session(client, self._receiving, self._sign_in_seconds)
        try:
            upstream = await session.authorization()
        except Garbled as garbled:
            session.say(b"-ERR " + str(garbled).encode())
            raise
        except TimeoutError:
            session.say(b"-ERR Nothing came for too long")
            raise
        except Stopping:
            session.say(b"-ERR [SYS/TEMP] The relay is stopping, connect again")
            raise
        if upstream is not None:
            await splice(client.wire, upstream, _IDLE_SECONDS, last_words)

    def refusal(self, why: str) -> bytes:
        """What a client is told in place of a greeting."""
        return b"-ERR [SYS/TEMP] " + why.encode() + b"\r\n"


def last_words(moment: Moment, why: str) -> bytes:
    """A negative reply, which POP3 has no place for unless one is owed and none has begun."""
    in_a_line = bool(moment.tail) and not moment.tail.endswith(b"\r\n")
    return b"-ERR [SYS/TEMP] " + why.encode() + b"\r\n" if moment.is_owing and not in_a_line else b""


class _Session:
    """One client in POP3's AUTHORIZATION state."""

    def __init__(self, client: Client, receiving: Receiving[Wire], seconds: float) -> None:
        self._client = client
        self._wire = client.wire
        self._receiving = receiving
        self._seconds = seconds
        self._user: str | None = None
        self._failures = 0

    def say(self, line: bytes) -> None:
        """One line, sent with the next wait or at the end."""
        self._wire.write(line + b"\r\n")

    async def authorization(self) -> Wire | None:
        """Greet, and obey until the client has signed in; None if it went without.

        Raises:
            Garbled: a line that is too long, or has a bare CR or LF or a NUL in it.
            OSError: the client is gone, or said nothing for too long.
        """
        self.say(b"+OK Mailtoken relay")
        for _ in range(COMMANDS):
            with self._client.idle():
                line = await self._wire.line(LINE_LIMIT_OCTETS, self._seconds)
            word, _, argument = line.partition(b" ")
            try:
                wanted = await self._obey(word.upper(), argument)
                if isinstance(wanted, Credentials):
                    return await self._signed_in(wanted)
            except MalformedCredentials:
                self.say(_MALFORMED)
            except Denied as denied:
                self.say(b"-ERR [%b] %b" % (_CODES[denied.why], denied.shown))
                self._failures += 1
                if self._failures >= SIGN_INS:
                    return None
            else:
                if not wanted:
                    return None
        self.say(b"-ERR Too many commands without signing in")
        return None

    async def _signed_in(self, wanted: Credentials) -> Wire:
        upstream = await self._receiving.upstream(self._client, wanted)
        self.say(b"+OK Signed in")
        return upstream

    async def _obey(self, word: bytes, argument: bytes) -> Credentials | bool:
        """Obey one command: who wants to sign in by it, or whether to go on."""
        match word:
            case b"QUIT":
                self.say(b"+OK Goodbye")
                return False
            case b"USER" | b"PASS" | b"AUTH" if argument and not self._client.may_sign_in:
                self.say(_NEEDS_TLS)
            case b"USER":
                self._user = credentials.credentials(_text(argument), "").user
                self.say(b"+OK Send PASS")
            case b"PASS":
                user, self._user = self._user, None
                if user is not None:
                    return credentials.credentials(user, _text(argument))
                self.say(b"-ERR Send USER first")
            case b"AUTH":
                return await self._auth(*argument.split())
            case b"STLS":
                await self._start_tls()
            case b"CAPA":
                self._list(self._capabilities())
            case _:
                self.say(b"-ERR Sign in first, with USER and PASS or AUTH")
        return True

    def _capabilities(self) -> list[bytes]:
        """What is true whichever mail server it will be; after the sign-in CAPA is that one's own."""
        always = [b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"IMPLEMENTATION Mailtoken"]
        sign_in = [b"USER", b"SASL PLAIN LOGIN"] if self._client.may_sign_in else []
        return [*always, *sign_in, *([b"STLS"] if self._client.may_start_tls else [])]

    def _list(self, lines: list[bytes]) -> None:
        self.say(b"\r\n".join([b"+OK", *lines, b"."]))

    async def _start_tls(self) -> None:
        if not self._client.may_start_tls:
            return self.say(b"-ERR TLS is not offered here, or has begun")
        self._user = None
        self.say(b"+OK Begin TLS")
        return await self._client.start_tls()

    async def _auth(self, mechanism: bytes = b"", response: bytes | None = None, *more: bytes) -> Credentials | bool:
        """AUTH (RFC 5034): who wants to sign in; True once that has come to nothing."""
        if more:
            raise MalformedCredentials
        match mechanism.upper():
            case b"":
                self._list([b"PLAIN", b"LOGIN"] if self._client.may_sign_in else [])
            case b"PLAIN":
                return credentials.plain(response or await self._answer(b""))
            case b"LOGIN":
                user = response or await self._answer(credentials.USER_PROMPT)
                return credentials.login(user, await self._answer(credentials.PASSWORD_PROMPT))
            case _:
                self.say(b"-ERR Only PLAIN and LOGIN are known here")
        return True

    async def _answer(self, prompt: bytes) -> bytes:
        """What the client answers to a prompt; `*` cancels (RFC 4422 section 4.2.2)."""
        self.say(b"+ " + prompt)
        answer = await self._wire.line(LINE_LIMIT_OCTETS, self._seconds)
        if answer == b"*":
            raise MalformedCredentials
        return answer


def _text(argument: bytes) -> str:
    with suppress(UnicodeDecodeError):
        return argument.decode()
    raise MalformedCredentials
