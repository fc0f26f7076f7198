"""What POP3 and IMAP have in common in the relay: a sign-in with a password here becomes one with a token there.

Nothing reaches a mail server before the door has let the client in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Generic, TypeVar

import structlog

from adapters.mail.transcript import Ended, parts, redact
from adapters.relay.credentials import RESPONSE_LIMIT_OCTETS, Credentials
from adapters.relay.door import Admission, Door
from adapters.relay.listener import Client
from adapters.relay.upstream import Dialer, signed_in
from domain.errors import NotPermitted, Refused, Unreachable
from domain.outcomes import Fault

log = structlog.get_logger("mailtoken")

LINE_LIMIT_OCTETS = RESPONSE_LIMIT_OCTETS
"""For a line of a client that has not signed in."""
COMMANDS = 100
"""How many commands a client may give without signing in."""
SIGN_INS = 5
"""How many times it may try to."""
SIGN_IN_SECONDS = 180.0
"""How long it usually may take for each line before it has signed in."""
_SHOWN_CHARACTERS = 400

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
    """

    def __init__(self, door: Door, dialer: Dialer, sign_in: Callable[[Dialer, Admission], Awaitable[S]]) -> None:
        self._door = door
        self._dialer = dialer
        self._sign_in = sign_in

    async def upstream(self, client: Client, credentials: Credentials) -> S:
        """A session with the mail server, signed in with the token of whom the password belongs to.

        Raises:
            Denied: a wrong user or password, no token, or the mail server does not want it.
        """
        protocol = client.endpoint.protocol
        try:
            admission = await self._door.admit(protocol, client.address, credentials.user, credentials.password)
            admission, session = await signed_in(admission, self._door, self._dial)
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
