"""The POP3 side of the relay (RFC 1939, 2449, 2595, 5034): a client signs in, then a tunnel leads to its mail server.

Nothing that a client sends before its sign-in reaches a mail server.
"""

from __future__ import annotations

import re
from contextlib import suppress

from adapters.mail import sasl_server
from adapters.mail.dialer import Dialer
from adapters.mail.pop_client import POPSession
from adapters.mail.sasl_server import Credentials, MalformedCredentials
from adapters.relay.admission import AdmissionClient
from adapters.relay.listener import ClientConnection
from adapters.relay.receiving_session import (
    LINE_LIMIT_OCTETS,
    SIGN_IN_SECONDS,
    DenialReason,
    MailboxSignIn,
    SignInDenied,
    UnauthenticatedSession,
    join,
)
from adapters.relay.refusals import Cause
from adapters.relay.tunnel import Moment

# RFC 1939 section 3 requires ten minutes at least.
_IDLE_SECONDS = 660.0
_CODES = {
    DenialReason.AUTHENTICATION_FAILED: b"AUTH",
    DenialReason.TEMPORARY: b"SYS/TEMP",
    DenialReason.NEEDS_ADMINISTRATOR: b"SYS/PERM",
}
# A command is a word and an argument, in which blanks may belong to a password.
_COMMAND = re.compile(rb"[ \t]*([^ \t]*)[ \t]?(.*)", re.DOTALL)
_BLANKS = b" \t"
_NEEDS_TLS = "Begin TLS first: a password does not travel in clear text (STLS, or the port for TLS)"
# The commands that a record of a refusal may show, with so many words of each: the others may hold a password.
_SHOWN_WORDS = {
    b"USER": 2,
    b"PASS": 1,
    b"AUTH": 2,
    b"APOP": 1,
    b"STLS": 1,
    b"CAPA": 1,
    b"QUIT": 1,
    b"STAT": 1,
    b"NOOP": 1,
}


class POPRelay:
    """Serves POP3 clients, each for its own mailbox."""

    def __init__(
        self, admission_client: AdmissionClient, dialer: Dialer, sign_in_seconds: float = SIGN_IN_SECONDS
    ) -> None:
        """`sign_in_seconds` is the time-out for each line of a client that has not signed in."""
        self._receiving = MailboxSignIn(admission_client, dialer, POPSession.sign_in, sign_in_seconds)

    async def serve(self, client: ClientConnection) -> None:
        """As `listener.ProtocolServer.serve`."""
        upstream = await _Session(client, self._receiving).sign_in()
        if upstream is not None:
            await join(client, upstream.connection, _IDLE_SECONDS, goodbye)

    def refusal(self, why: str) -> bytes:
        """As `listener.ProtocolServer.refusal`."""
        return b"-ERR [SYS/TEMP] " + why.encode() + b"\r\n"


def goodbye(moment: Moment, why: str) -> bytes:
    """A negative reply if the server owes a reply that has not begun; else empty, since POP3 allows no line then."""
    is_possible = moment.is_owing and not moment.is_in_a_line
    return b"-ERR [SYS/TEMP] " + why.encode() + b"\r\n" if is_possible else b""


class _Session(UnauthenticatedSession[tuple[bytes, bytes], POPSession]):
    """One client in POP3's AUTHORIZATION state; its commands are a word and an argument."""

    goodbye_prefix = b"-ERR "
    temporary_goodbye_prefix = b"-ERR [SYS/TEMP] "

    def __init__(self, client: ClientConnection, receiving: MailboxSignIn[POPSession]) -> None:
        super().__init__(client, receiving)
        self._user: str | None = None

    def _greet(self) -> None:
        self._say(b"+OK Mailtoken relay")

    async def _command(self) -> tuple[bytes, bytes]:
        with self._client.idle():
            line = await self._connection.line(LINE_LIMIT_OCTETS, self._line_seconds)
        found = _COMMAND.fullmatch(line)
        assert found is not None
        word, argument = found.groups()
        if (shown := _SHOWN_WORDS.get(word.upper())) is not None:
            self._client.note(b" ".join(line.split()[:shown]))
        return word.upper(), argument

    def _welcome(self, command: tuple[bytes, bytes], upstream: POPSession) -> None:
        self._say(b"+OK Signed in")

    def _reject(self, command: tuple[bytes, bytes], why: str) -> None:
        self._say(b"-ERR " + why.encode())

    def _deny(self, command: tuple[bytes, bytes], denied: SignInDenied, *, is_last: bool) -> None:
        self._say(b"-ERR [%b] %b" % (_CODES[denied.why], denied.printable))

    async def _obey(self, command: tuple[bytes, bytes]) -> Credentials | bool:
        word, argument = command
        match word:
            case b"QUIT":
                self._say(b"+OK Goodbye")
                return False
            case b"USER" | b"PASS" | b"AUTH" if argument and not self._client.may_sign_in:
                self._refuse(command, _NEEDS_TLS, Cause.NOT_ENCRYPTED)
            case b"USER":
                self._user = sasl_server.credentials(_text(argument.strip(_BLANKS)), "").user
                self._say(b"+OK Send PASS")
            case b"PASS":
                user, self._user = self._user, None
                if user is not None:
                    return sasl_server.credentials(user, _text(argument))
                self._refuse(command, "Send USER first")
            case b"AUTH":
                return await self._auth(command)
            case b"STLS":
                await self._start_tls(command)
            case b"CAPA":
                self._list(self._capabilities())
            case _:
                self._refuse(command, "Sign in first, with USER and PASS or AUTH")
        return True

    def _capabilities(self) -> list[bytes]:
        """The capabilities before the sign-in, the same for all mail servers; later the server answers CAPA itself."""
        always = [b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"IMPLEMENTATION Mailtoken"]
        sign_in = [b"USER", b"SASL PLAIN LOGIN"] if self._client.may_sign_in else []
        return [*always, *sign_in, *([b"STLS"] if self._client.may_start_tls else [])]

    def _list(self, lines: list[bytes]) -> None:
        self._say(b"\r\n".join([b"+OK", *lines, b"."]))

    async def _start_tls(self, command: tuple[bytes, bytes]) -> None:
        if not self._client.may_start_tls:
            return self._refuse(command, "TLS is not offered here, or has begun")
        self._user = None
        self._say(b"+OK Begin TLS")
        return await self._client.start_tls()

    async def _auth(self, command: tuple[bytes, bytes]) -> Credentials | bool:
        """Carry out AUTH (RFC 5034), which without arguments lists the mechanisms."""
        arguments = command[1].split()
        if not arguments:
            self._list([b"PLAIN", b"LOGIN"] if self._client.may_sign_in else [])
            return True
        wanted = await self._by_mechanism(*arguments)
        if wanted is None:
            self._refuse(command, "Only PLAIN and LOGIN are known here")
        return wanted or True


def _text(argument: bytes) -> str:
    with suppress(UnicodeDecodeError):
        return argument.decode()
    raise MalformedCredentials
