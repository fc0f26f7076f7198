"""What can go wrong at the practice mail server.

`InsteadOfCommand` takes the place of a command's real answer; the others are looked for where they matter: at the
TLS handshake, at the list of capabilities, after a successful AUTH.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from practice_faults.fault_injection import Fault, Waiting

# Not commands, but points at which the server answers: the greeting, the end of a message (SMTP), the TLS handshake.
GREETING = "GREETING"
END_OF_DATA = "END-OF-DATA"
HANDSHAKE = "HANDSHAKE"


class Session(Protocol):
    """A connection with a client, as far as a fault needs it."""

    async def say(self, line: str) -> None:
        """Send one reply."""

    def hang_up(self) -> None:
        """Close the connection, once what was said is sent."""

    def cut(self) -> None:
        """Close the connection at once."""


class InsteadOfCommand(Fault):
    """Happens in place of a command."""

    async def happen(self, session: Session) -> None:
        """Treat the client so."""
        raise NotImplementedError


@dataclass(frozen=True)
class Answer(InsteadOfCommand):
    """A reply of our choice; 421 closes the connection, as RFC 5321 section 3.8 says."""

    reply: str

    async def happen(self, session: Session) -> None:
        """Give the reply."""
        await session.say(self.reply)
        if self.reply.startswith("421"):
            session.hang_up()


@dataclass(frozen=True)
class Drop(InsteadOfCommand):
    """The connection closes without a word."""

    async def happen(self, session: Session) -> None:
        """Close it."""
        session.cut()


@dataclass(frozen=True)
class Hang(Waiting, InsteadOfCommand):
    """No answer until `release`, then the connection closes."""

    async def happen(self, session: Session) -> None:
        """Wait, then close."""
        # Without the shield, one client that gives up would release all the others.
        await asyncio.shield(asyncio.wrap_future(self.released))
        session.cut()


@dataclass(frozen=True)
class FailAfterAuth(Fault):
    """AUTH succeeds and the next command fails, as Exchange Online does when token and user don't match."""

    reply: str | None = None


class WrongCertificate(Fault):
    """The certificate is for another host."""


class StripStartTLS(Fault):
    """STARTTLS isn't offered and not understood, as with an attacker in between."""


MODES: Mapping[str, tuple[Callable[..., Fault], str | None]] = {
    "answer": (Answer, "AUTH"),
    "drop": (Drop, "AUTH"),
    "hang": (Hang, "AUTH"),
    "fail_after_auth": (FailAfterAuth, "AUTH"),
    "wrong_certificate": (WrongCertificate, HANDSHAKE),
    "strip_starttls": (StripStartTLS, None),
}


def fault(mode: str, **details: Any) -> tuple[Fault, str | None]:
    """Make the fault a mode of `MODES` names; the command it usually happens at comes with it.

    Raises:
        ValueError: there is no such mode.
    """
    if mode not in MODES:
        raise ValueError(f"no such fault: {mode}")
    make, command = MODES[mode]
    return make(**details), command
