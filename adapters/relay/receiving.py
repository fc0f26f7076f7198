"""What POP3 and IMAP have in common in the relay: a sign-in with a password here becomes one with a token there.

Nothing reaches a mail server before the door has let the client in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import ClassVar, Generic, TypeVar

import structlog

from adapters.mail.connection import Garbled
from adapters.mail.transcript import Ended, parts, redact
from adapters.relay import credentials
from adapters.relay.credentials import RESPONSE_LIMIT_OCTETS, Credentials, MalformedCredentials
from adapters.relay.door import Admission, Door
from adapters.relay.lines import Wire
from adapters.relay.listener import Client, Dismissed
from adapters.relay.splice import LastWords, splice
from adapters.relay.upstream import Dialer, signed_in
from domain.errors import NotPermitted, Refused, Unreachable
from domain.outcomes import Fault

log = structlog.get_logger("mailtoken")

LINE_LIMIT_OCTETS = RESPONSE_LIMIT_OCTETS
"""For a line of a client that has not signed in."""
SIGN_IN_SECONDS = 180.0
"""How long it usually may take for each line."""
_COMMANDS = 100
_SIGN_INS = 5
_SHOWN_CHARACTERS = 400

C = TypeVar("C")
S = TypeVar("S")


class Why(Enum):
    """Why a client is not let in. Each protocol has a response code for it (RFC 3206, RFC 5530)."""

    WRONG = "wrong"
    NOT_NOW = "not now"
    NEEDS_SOMEBODY = "needs somebody"


class Denied(Exception):
    """The client is not let in; the text is for whoever reads its log or its display."""

    def __init__(self, why: Why, text: str) -> None:
        super().__init__(text)
        self.why = why

    @property
    def shown(self) -> bytes:
        """The text as a protocol can carry it: printable ASCII, and not longer than a line."""
        text = "".join(character if character.isprintable() else " " for character in str(self))
        return text[:_SHOWN_CHARACTERS].encode("ascii", "replace")


class Receiving(Generic[S]):
    """Lets clients of one protocol in, and finds each its mailbox.

    `sign_in` connects to the mail server of an admission and signs in there with its token; it raises `Ended`.
    `line_seconds` is how long a client may take for each line before it has signed in.
    """

    def __init__(
        self,
        door: Door,
        dialer: Dialer,
        sign_in: Callable[[Dialer, Admission], Awaitable[S]],
        line_seconds: float,
    ) -> None:
        self.line_seconds = line_seconds
        self._door = door
        self._dialer = dialer
        self._sign_in = sign_in

    async def upstream(self, client: Client, shown: Credentials) -> S:
        """A session with the mail server, signed in with the token of whom the password belongs to.

        Raises:
            Denied: a wrong user or password, no token, or the mail server does not want it.
        """
        protocol = client.endpoint.protocol
        try:
            client.admission = await self._door.admit(protocol, client.address, shown.user, shown.password)
            admission, session = await signed_in(client.admission, self._door, self._dial)
        except NotPermitted:
            denied = Denied(Why.WRONG, "The relay knows no such user with this password.")
        except Refused as refused:
            denied = Denied(Why.NEEDS_SOMEBODY, str(refused))
        except Unreachable as unreachable:
            denied = Denied(Why.NOT_NOW, str(unreachable))
        except Ended as ended:
            denied = Denied(_WHY.get(ended.fault, Why.NEEDS_SOMEBODY), ended.verdict)
        else:
            log.info("signed in", address=client.address, protocol=protocol, user=admission.user)
            return session
        log.warning("not signed in", address=client.address, protocol=protocol, why=str(denied))
        raise denied

    async def _dial(self, admission: Admission) -> S:
        """Sign in there. What the server says about it may hold the token, and must not when it is shown."""
        try:
            return await self._sign_in(self._dialer, admission)
        except Ended as ended:
            secret = parts([admission.access_token.reveal()])
            raise Ended(ended.fault, redact(ended.verdict, secret), ended.reply) from None


_WHY = {Fault.TOKEN: Why.WRONG, Fault.NETWORK: Why.NOT_NOW, Fault.SERVER: Why.NOT_NOW}
"""By whose fault it is; everything else waits for somebody to correct it."""


async def join(client: Client, upstream: Wire, idle_seconds: float, last_words: LastWords) -> None:
    """Make a client that has signed in and its mail server one; as `splice`.

    Raises:
        Dismissed: its admission was over before.
    """
    try:
        client.signed_in()
    except Dismissed:
        upstream.abort()
        raise
    await splice(client.wire, upstream, idle_seconds, last_words)


class Session(ABC, Generic[C, S]):
    """One client that has not signed in; `C` is a command of its protocol, `S` the session with its mail server."""

    farewell: ClassVar[bytes]
    """What a last line begins with."""
    farewell_for_now: ClassVar[bytes]
    """The same where the client may come again at once."""

    def __init__(self, client: Client, receiving: Receiving[S]) -> None:
        self._client = client
        self._wire = client.wire
        self._receiving = receiving
        self._line_seconds = receiving.line_seconds

    async def sign_in(self) -> S | None:
        """Greet, and obey until the client has signed in; None if it went without. It has been told why.

        Raises:
            Garbled: a line or command that is too long, or has a bare CR or LF or a NUL in it.
            OSError: the client is gone, or said nothing for too long.
            Dismissed: it is to end here.
        """
        try:
            return await self._obey_until_signed_in()
        except Garbled as garbled:
            self._say(self.farewell + str(garbled).encode())
            raise
        except TimeoutError:
            self._say(self.farewell + b"Nothing came for too long")
            raise
        except Dismissed:
            self._say(self.farewell_for_now + b"The relay ends this session, connect again")
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
                self._call_malformed(command)
            except Denied as denied:
                failures += 1
                self._deny(command, denied, is_last=failures == _SIGN_INS)
                if failures == _SIGN_INS:
                    return None
            else:
                if not wanted:
                    return None
        self._say(self.farewell + b"Too many commands without signing in")
        return None

    @abstractmethod
    def _greet(self) -> None: ...

    @abstractmethod
    async def _command(self) -> C | None:
        """The next command; None if what came was none, and has been answered."""

    @abstractmethod
    async def _obey(self, command: C) -> Credentials | bool:
        """Obey one command: who wants to sign in by it, or whether to go on."""

    @abstractmethod
    def _welcome(self, command: C, upstream: S) -> None: ...

    @abstractmethod
    def _call_malformed(self, command: C) -> None: ...

    @abstractmethod
    def _deny(self, command: C, denied: Denied, *, is_last: bool) -> None: ...

    def _say(self, line: bytes) -> None:
        """One line, sent with the next wait or at the end."""
        self._wire.write(line + b"\r\n")

    async def _by_mechanism(
        self, mechanism: bytes, initial_response: bytes | None = None, *more: bytes
    ) -> Credentials | None:
        """What the client gives by a mechanism, named with its arguments; None if there is no such here."""
        if more:
            raise MalformedCredentials
        return await credentials.by_mechanism(mechanism, initial_response, self._answer)

    async def _answer(self, prompt: bytes) -> bytes:
        """What the client answers to a prompt; `*` cancels (RFC 4422 section 4.2.2)."""
        self._say(b"+ " + prompt)
        answer = await self._wire.line(LINE_LIMIT_OCTETS, self._line_seconds)
        if answer == b"*":
            raise MalformedCredentials
        return answer
