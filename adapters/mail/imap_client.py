"""The IMAP client (RFC 9051, 3501, 4959): signs in with a token, and opens INBOX read-only."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import count

from adapters.mail import refusals
from adapters.mail.line_connection import LineConnection, ProtocolError
from adapters.mail.report import ConversationFailed, Transcript
from adapters.mail.sasl_client import ClientExchange
from adapters.mail.session import MailSession, no_token_wanted

# RFC 9051 sets no limit to a command's length; servers do, and no known server's limit is lower than this.
COMMAND_LIMIT_OCTETS = 512
_RESPONSE_CODE = re.compile(r"\S+ \[([^\] ]+)")
_CAPABILITY_CODE = re.compile(r"OK \[CAPABILITY ([^\[\]]*)\]", re.IGNORECASE)


class IMAPSession(MailSession):
    """One session with an IMAP server; `capabilities` are the server's current ones, in its order and letter case."""

    start_tls_command = "STARTTLS"

    def __init__(self, connection: LineConnection, timeout_seconds: float) -> None:
        super().__init__(connection, timeout_seconds)
        self.capabilities: tuple[str, ...] = ()
        self._tags = (f"m{number}" for number in count(1))

    @property
    def mechanisms(self) -> Collection[str]:
        """The SASL mechanisms that the server offers."""
        return [name.removeprefix("AUTH=") for name in self._offered if name.startswith("AUTH=")]

    async def check(self, transcript: Transcript, sender: str) -> None:
        """Open INBOX read-only."""
        with transcript.step("examine") as note:
            note.detail = _accepted("examine", await self._command("EXAMINE INBOX"))

    async def greet(self) -> str:
        """Read the greeting and return it.

        Raises:
            ConversationFailed: the server regards the client as signed in already (PREAUTH), or refuses it (BYE).
            ProtocolError: the line is not a greeting.
        """
        line = (await self._line(self._begin_reply())).decode("utf-8", "replace")
        greeting = line.upper()
        if greeting.startswith("* PREAUTH"):
            raise no_token_wanted()
        if greeting.startswith("* BYE"):
            raise _refused("greeting", line.removeprefix("* "))
        if not greeting.startswith("* OK"):
            raise ProtocolError("not an IMAP greeting")
        return line

    async def request_tls(self) -> None:
        """Ask for TLS (RFC 9051 section 6.2.1)."""
        await self.ask_capabilities()
        self._require_tls(self._offered)
        _accepted("tls", await self._command("STARTTLS"))

    async def _authenticate(self, exchange: ClientExchange) -> str:
        """Sign in (RFC 9051 section 6.2.2). The capabilities change with the sign-in."""
        tag = next(self._tags)
        line = exchange.command(
            f"{tag} AUTHENTICATE", COMMAND_LIMIT_OCTETS, initial_response="SASL-IR" in self._offered
        )
        self.capabilities = ()
        reply = _accepted("auth", await self._exchanged(tag, line, exchange), exchange)
        if found := _CAPABILITY_CODE.match(reply):
            self.capabilities = tuple(found[1].split())
        if not self.capabilities and exchange.responded:
            await self.ask_capabilities()
        return reply

    async def _quit(self, seconds: float) -> str:
        self.connection.write(f"{next(self._tags)} LOGOUT\r\n".encode())
        return (await self._line(self._begin_reply(seconds))).decode("utf-8", "replace")

    async def ask_capabilities(self) -> None:
        """Send CAPABILITY (RFC 9051 section 6.1.1)."""
        self.capabilities = ()
        _accepted("capabilities", await self._command("CAPABILITY"))

    @property
    def _offered(self) -> set[str]:
        return {name.upper() for name in self.capabilities}

    async def _command(self, command: str) -> str:
        tag = next(self._tags)
        return await self._exchanged(tag, f"{tag} {command}".encode())

    async def _exchanged(self, tag: str, line: bytes, exchange: ClientExchange | None = None) -> str:
        """Send a command and answer the server's challenges; returns the tagged reply without its tag.

        The time-out is for the whole exchange.
        """
        self.connection.write(line + b"\r\n")
        end = self._begin_reply()
        while not (reply := (await self._line(end)).decode("utf-8", "replace")).startswith(f"{tag} "):
            if reply.upper().startswith("* CAPABILITY "):
                self.capabilities = tuple(reply.split()[2:])
            elif exchange and (reply == "+" or reply.startswith("+ ")):
                self.connection.write(exchange.answer(reply[1:].encode()) + b"\r\n")
        return reply.removeprefix(f"{tag} ")


def _accepted(step: str, reply: str, exchange: ClientExchange | None = None) -> str:
    """The tagged reply at a step, without its tag, if the reply is positive.

    Raises:
        ConversationFailed: the reply is negative; the verdict says what it means.
        ProtocolError: the line is not a tagged reply.
    """
    condition = reply.partition(" ")[0].upper()
    if condition == "OK":
        return reply
    if condition not in ("NO", "BAD"):
        raise ProtocolError("not an IMAP reply")
    raise _refused(step, reply, exchange)


def _refused(step: str, reply: str, exchange: ClientExchange | None = None) -> ConversationFailed:
    code = _RESPONSE_CODE.match(reply)
    # At `auth`, BAD is about the command, not the token.
    about = "syntax" if step == "auth" and reply.upper().startswith("BAD") else step
    error = exchange.error if exchange else None
    return ConversationFailed(refusals.receiving_refusal(about, code[1] if code else "", error), reply)
