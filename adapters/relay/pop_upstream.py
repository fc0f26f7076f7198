"""The POP3 client of the relay: signs in with a profile's token (RFC 1939, 2595, 5034)."""

from __future__ import annotations

import asyncio

from adapters.mail.pop import COMMAND_LIMIT_OCTETS, accepted, add_capability
from adapters.mail.transcript import stripped, untested
from adapters.relay.door import Admission
from adapters.relay.lines import Wire
from adapters.relay.upstream import LINE_LIMIT_OCTETS, Dialer, explained, sign_in_exchange


async def sign_in(dialer: Dialer, admission: Admission) -> Wire:
    """Connect to the mail server of an admission and sign in with its token.

    Raises:
        Ended: it did not work; nothing is left open.
    """
    wire = await dialer.connect(admission, admission.timeout_seconds)
    try:
        await _Session(wire, admission).sign_in(dialer)
    except BaseException:
        wire.abort()
        raise
    dialer.keep_session(wire)
    return wire


class _Session:
    def __init__(self, wire: Wire, admission: Admission) -> None:
        self._wire = wire
        self._admission = admission

    async def sign_in(self, dialer: Dialer) -> None:
        with explained("greeting", self._admission):
            accepted("greeting", await self._line())
        if self._admission.tls == "starttls":
            await self._start_tls(dialer)
        offered = (await self._capabilities()).get("SASL", [])
        exchange = sign_in_exchange(self._wire, self._admission, offered)
        with explained("auth", self._admission):
            line = await self._command(exchange.command("AUTH", COMMAND_LIMIT_OCTETS))
            while line == "+" or line.startswith("+ "):
                line = await self._command(exchange.answer(line[1:].encode()))
            accepted("auth", line, exchange)
        if not exchange.responded:
            raise untested()

    async def _start_tls(self, dialer: Dialer) -> None:
        """Begin TLS (RFC 2595 section 4)."""
        if "STLS" not in await self._capabilities():
            raise stripped("STLS")
        with explained("tls", self._admission):
            accepted("tls", await self._command(b"STLS"))
        await dialer.secure(self._wire, self._admission, self._admission.timeout_seconds)

    async def _capabilities(self) -> dict[str, list[str]]:
        """What CAPA lists (RFC 2449 section 5); nothing if the server doesn't know CAPA."""
        capabilities: dict[str, list[str]] = {}
        with explained("capabilities", self._admission):
            async with asyncio.timeout(self._admission.timeout_seconds):
                if (await self._command(b"CAPA")).startswith("+OK"):
                    while (line := await self._line()) != ".":
                        add_capability(capabilities, line)
        return capabilities

    async def _command(self, line: bytes) -> str:
        self._wire.write(line + b"\r\n")
        return await self._line()

    async def _line(self) -> str:
        line = await self._wire.line(LINE_LIMIT_OCTETS, self._admission.timeout_seconds)
        return line.decode("utf-8", "replace")
