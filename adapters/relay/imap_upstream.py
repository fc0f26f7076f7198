"""The IMAP client of the relay: signs in with a profile's token (RFC 9051, 4959), and learns what the server can do."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from itertools import count

from adapters.mail.imap import COMMAND_LIMIT_OCTETS, accepted, greeted
from adapters.mail.sasl import ClientExchange
from adapters.mail.transcript import stripped, untested
from adapters.relay.door import Admission
from adapters.relay.lines import Wire
from adapters.relay.upstream import LINE_LIMIT_OCTETS, Dialer, explained, sign_in_exchange

_CAPABILITY_CODE = re.compile(r"OK \[CAPABILITY ([^\]]*)\]", re.IGNORECASE)


@dataclass(frozen=True)
class IMAPUpstream:
    """A session that is signed in; `capabilities` are what it has now, in the server's order and letters."""

    wire: Wire
    capabilities: tuple[str, ...]


async def sign_in(dialer: Dialer, admission: Admission) -> IMAPUpstream:
    """Connect to the mail server of an admission and sign in with its token.

    Raises:
        Ended: it did not work; nothing is left open.
    """
    wire = await dialer.connect(admission, admission.timeout_seconds)
    session = _Session(wire, admission)
    try:
        await session.sign_in(dialer)
    except BaseException:
        wire.abort()
        raise
    dialer.keep_session(wire)
    return IMAPUpstream(wire, session.capabilities)


class _Session:
    def __init__(self, wire: Wire, admission: Admission) -> None:
        self.capabilities: tuple[str, ...] = ()
        self._wire = wire
        self._admission = admission
        self._tags = (f"m{number}" for number in count(1))

    async def sign_in(self, dialer: Dialer) -> None:
        with explained("greeting", self._admission):
            greeted(await self._line())
        await self._ask_capabilities()
        if self._admission.tls == "starttls":
            await self._start_tls(dialer)
            await self._ask_capabilities()
        await self._authenticate()
        if not self.capabilities:
            await self._ask_capabilities()

    async def _start_tls(self, dialer: Dialer) -> None:
        """Begin TLS (RFC 9051 section 6.2.1). What was offered before it counts for nothing after it."""
        if "STARTTLS" not in self._offered:
            raise stripped("STARTTLS")
        with explained("tls", self._admission):
            accepted("tls", await self._command("STARTTLS"))
        await dialer.secure(self._wire, self._admission, self._admission.timeout_seconds)

    async def _authenticate(self) -> None:
        """Sign in (RFC 9051 section 6.2.2). What was offered before it is not what there is after it."""
        names = (name.removeprefix("AUTH=") for name in self._offered if name.startswith("AUTH="))
        exchange = sign_in_exchange(self._wire, self._admission, names)
        at_once = "SASL-IR" in self._offered
        self.capabilities = ()
        with explained("auth", self._admission):
            tag = next(self._tags)
            line = exchange.command(f"{tag} AUTHENTICATE", COMMAND_LIMIT_OCTETS, initial_response=at_once)
            reply = accepted("auth", await self._exchanged(tag, line, exchange), exchange)
        if not exchange.responded:
            raise untested()
        if found := _CAPABILITY_CODE.match(reply):
            self.capabilities = tuple(found[1].split())

    async def _ask_capabilities(self) -> None:
        with explained("capabilities", self._admission):
            self.capabilities = ()
            accepted("capabilities", await self._command("CAPABILITY"))

    @property
    def _offered(self) -> set[str]:
        return {name.upper() for name in self.capabilities}

    async def _command(self, command: str) -> str:
        tag = next(self._tags)
        return await self._exchanged(tag, f"{tag} {command}".encode())

    async def _exchanged(self, tag: str, line: bytes, exchange: ClientExchange | None = None) -> str:
        """Send a command and answer what it asks; its tagged reply without the tag, all of it in the time-out."""
        self._wire.write(line + b"\r\n")
        async with asyncio.timeout(self._admission.timeout_seconds):
            while not (reply := await self._line()).startswith(f"{tag} "):
                if reply.upper().startswith("* CAPABILITY "):
                    self.capabilities = tuple(reply.split()[2:])
                elif exchange and (reply == "+" or reply.startswith("+ ")):
                    self._wire.write(exchange.answer(reply[1:].encode()) + b"\r\n")
        return reply.removeprefix(f"{tag} ")

    async def _line(self) -> str:
        line = await self._wire.line(LINE_LIMIT_OCTETS, self._admission.timeout_seconds)
        return line.decode("utf-8", "replace")
