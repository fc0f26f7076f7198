"""The POP3 client (RFC 1939, 2595, 5034): signs in with a token, and asks how many messages the mailbox has."""

from __future__ import annotations

import re
from collections.abc import Collection

from adapters.mail import refusals
from adapters.mail.line_connection import LineConnection, ProtocolError
from adapters.mail.report import ConversationFailed, Transcript
from adapters.mail.sasl_client import ClientExchange
from adapters.mail.session import MailSession

# RFC 2449 section 4; by RFC 5034 section 4 the limit also holds for an AUTH command with an initial response.
COMMAND_LIMIT_OCTETS = 255
_CAPABILITY_LINES = 200
_RESPONSE_CODE = re.compile(r"-ERR \[([^\]]+)\]")


class POPSession(MailSession):
    """One session with a POP3 server."""

    start_tls_command = "STLS"

    def __init__(self, connection: LineConnection, timeout_seconds: float) -> None:
        super().__init__(connection, timeout_seconds)
        self._capabilities: dict[str, list[str]] = {}

    @property
    def mechanisms(self) -> Collection[str]:
        """The SASL mechanisms that the server offers (RFC 5034 section 3)."""
        return self._capabilities.get("SASL", [])

    async def check(self, transcript: Transcript, sender: str) -> None:
        """Ask how many messages the mailbox has (STAT)."""
        with transcript.step("stat") as note:
            note.detail = _accepted("stat", await self._command(b"STAT"))

    async def greet(self) -> str:
        """Read the greeting (RFC 1939 section 4) and return it."""
        return _accepted("greeting", await self._reply())

    async def request_tls(self) -> None:
        """Ask for TLS (RFC 2595 section 4)."""
        await self.ask_capabilities()
        self._require_tls(self._capabilities)
        _accepted("tls", await self._command(b"STLS"))

    async def _authenticate(self, exchange: ClientExchange) -> str:
        """Sign in (RFC 5034 section 4)."""
        line = await self._command(exchange.command("AUTH", COMMAND_LIMIT_OCTETS))
        while line == "+" or line.startswith("+ "):
            line = await self._command(exchange.answer(line[1:].encode()))
        return _accepted("auth", line, exchange)

    async def _quit(self, seconds: float) -> str:
        return await self._command(b"QUIT", seconds)

    async def ask_capabilities(self) -> None:
        """Send CAPA (RFC 2449 section 5), and keep each capability in upper case; none if the server refuses CAPA."""
        self._capabilities = {}
        self.connection.write(b"CAPA\r\n")
        end = self._begin_reply()
        if not (await self._line(end)).startswith(b"+OK"):
            return
        while (line := await self._line(end)) != b".":
            name, *parameters = line.decode("utf-8", "replace").upper().split() or [""]
            self._capabilities[name] = parameters
            if len(self._capabilities) > _CAPABILITY_LINES:
                raise ProtocolError("too many capabilities")

    async def _command(self, line: bytes, seconds: float | None = None) -> str:
        self.connection.write(line + b"\r\n")
        return await self._reply(seconds)

    async def _reply(self, seconds: float | None = None) -> str:
        return (await self._line(self._begin_reply(seconds))).decode("utf-8", "replace")


def _accepted(step: str, line: str, exchange: ClientExchange | None = None) -> str:
    """The reply at a step, if it is positive.

    Raises:
        ConversationFailed: the reply is negative; the verdict says what it means.
        ProtocolError: the line is not a reply.
    """
    if line.startswith("+OK"):
        return line
    if not line.startswith("-ERR"):
        raise ProtocolError("not a POP3 reply")
    code = _RESPONSE_CODE.match(line)
    error = exchange.error if exchange else None
    raise ConversationFailed(refusals.receiving_refusal(step, code[1] if code else "", error), line)
