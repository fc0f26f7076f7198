"""The POP3 side of the relay (RFC 1939, 2449, 2595, 5034): a client signs in, then it speaks with its mail server.

Before that nothing it says reaches anybody else.
"""

from __future__ import annotations

from contextlib import suppress

from adapters.relay import credentials, pop_upstream
from adapters.relay.credentials import Credentials, MalformedCredentials
from adapters.relay.door import Door
from adapters.relay.lines import Wire
from adapters.relay.listener import Client
from adapters.relay.receiving import LINE_LIMIT_OCTETS, SIGN_IN_SECONDS, Denied, Receiving, Session, Why, join
from adapters.relay.splice import Moment
from adapters.relay.upstream import Dialer

# RFC 1939 section 3 wants ten minutes at least.
_IDLE_SECONDS = 660.0
_CODES = {Why.WRONG: b"AUTH", Why.NOT_NOW: b"SYS/TEMP", Why.NEEDS_SOMEBODY: b"SYS/PERM"}
_NEEDS_TLS = b"-ERR Begin TLS first: a password does not travel in clear text (STLS, or the port for TLS)"


class POPRelay:
    """Speaks POP3 with clients, each for its own mailbox."""

    def __init__(self, door: Door, dialer: Dialer, sign_in_seconds: float = SIGN_IN_SECONDS) -> None:
        """`sign_in_seconds` is for each line of a client that has not signed in."""
        self._receiving = Receiving(door, dialer, pop_upstream.sign_in, sign_in_seconds)

    async def converse(self, client: Client) -> None:
        """Speak with a client until it goes; as `listener.Conversation` has it."""
        upstream = await _Session(client, self._receiving).sign_in()
        if upstream is not None:
            await join(client, upstream, _IDLE_SECONDS, last_words)

    def refusal(self, why: str) -> bytes:
        """What a client is told in place of a greeting."""
        return b"-ERR [SYS/TEMP] " + why.encode() + b"\r\n"


def last_words(moment: Moment, why: str) -> bytes:
    """A negative reply, which POP3 has no place for unless one is owed and none has begun."""
    is_possible = moment.is_owing and not moment.is_in_a_line
    return b"-ERR [SYS/TEMP] " + why.encode() + b"\r\n" if is_possible else b""


class _Session(Session[tuple[bytes, bytes], Wire]):
    """One client in POP3's AUTHORIZATION state; its commands are a word and an argument."""

    farewell = b"-ERR "
    farewell_for_now = b"-ERR [SYS/TEMP] "

    def __init__(self, client: Client, receiving: Receiving[Wire]) -> None:
        super().__init__(client, receiving)
        self._user: str | None = None

    def _greet(self) -> None:
        self._say(b"+OK Mailtoken relay")

    async def _command(self) -> tuple[bytes, bytes]:
        with self._client.idle():
            line = await self._wire.line(LINE_LIMIT_OCTETS, self._line_seconds)
        word, _, argument = line.partition(b" ")
        return word.upper(), argument

    def _welcome(self, command: tuple[bytes, bytes], upstream: Wire) -> None:
        self._say(b"+OK Signed in")

    def _call_malformed(self, command: tuple[bytes, bytes]) -> None:
        self._say(b"-ERR This is not what the command, or its mechanism, asks for")

    def _deny(self, command: tuple[bytes, bytes], denied: Denied, *, is_last: bool) -> None:
        self._say(b"-ERR [%b] %b" % (_CODES[denied.why], denied.shown))

    async def _obey(self, command: tuple[bytes, bytes]) -> Credentials | bool:
        word, argument = command
        match word:
            case b"QUIT":
                self._say(b"+OK Goodbye")
                return False
            case b"USER" | b"PASS" | b"AUTH" if argument and not self._client.may_sign_in:
                self._say(_NEEDS_TLS)
            case b"USER":
                self._user = credentials.credentials(_text(argument), "").user
                self._say(b"+OK Send PASS")
            case b"PASS":
                user, self._user = self._user, None
                if user is not None:
                    return credentials.credentials(user, _text(argument))
                self._say(b"-ERR Send USER first")
            case b"AUTH":
                return await self._auth(*argument.split())
            case b"STLS":
                await self._start_tls()
            case b"CAPA":
                self._list(self._capabilities())
            case _:
                self._say(b"-ERR Sign in first, with USER and PASS or AUTH")
        return True

    def _capabilities(self) -> list[bytes]:
        """What is true whichever mail server it will be; after the sign-in CAPA is that one's own."""
        always = [b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"IMPLEMENTATION Mailtoken"]
        sign_in = [b"USER", b"SASL PLAIN LOGIN"] if self._client.may_sign_in else []
        return [*always, *sign_in, *([b"STLS"] if self._client.may_start_tls else [])]

    def _list(self, lines: list[bytes]) -> None:
        self._say(b"\r\n".join([b"+OK", *lines, b"."]))

    async def _start_tls(self) -> None:
        if not self._client.may_start_tls:
            return self._say(b"-ERR TLS is not offered here, or has begun")
        self._user = None
        self._say(b"+OK Begin TLS")
        return await self._client.start_tls()

    async def _auth(self, *arguments: bytes) -> Credentials | bool:
        """AUTH (RFC 5034); without arguments it lists the mechanisms."""
        if not arguments:
            self._list([b"PLAIN", b"LOGIN"] if self._client.may_sign_in else [])
            return True
        wanted = await self._by_mechanism(*arguments)
        if wanted is None:
            self._say(b"-ERR Only PLAIN and LOGIN are known here")
        return wanted or True


def _text(argument: bytes) -> str:
    with suppress(UnicodeDecodeError):
        return argument.decode()
    raise MalformedCredentials
