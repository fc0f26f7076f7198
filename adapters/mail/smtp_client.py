"""The submission client (RFC 5321, 6409): signs in with a token and hands messages over; the relay uses its commands.

If the server does not reply to the final dot, the report says that it is not known whether the message was sent.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from adapters.mail import refusals
from adapters.mail.line_connection import LineConnection, ProtocolError
from adapters.mail.report import ConversationFailed, Transcript
from adapters.mail.sasl_client import ClientExchange
from adapters.mail.session import MailSession
from adapters.mail.submission import Submission
from domain.mail_report import Fault, Verdict

# RFC 5321 section 4.5.3.1.4; by RFC 4954 section 4 the limit also holds for an AUTH command with an initial response.
COMMAND_LIMIT_OCTETS = 512
MAIL_SECONDS = RCPT_SECONDS = 300.0
DATA_SECONDS = 120.0
BLOCK_SECONDS = 180.0
"""The times that a server may take for MAIL, RCPT, DATA and a piece of the message (RFC 5321 section 4.5.3.2)."""
# RFC 5321 section 4.5.3.2.6: a server may take ten minutes after the final dot; giving up earlier causes duplicates.
ACCEPTANCE_SECONDS = 600.0
_PIECE_OCTETS = 64 * 1024
_REPLY_LINES = 200
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])|$)")
_ENHANCED = re.compile(rb"[2-5][0-9]{2}[ -]([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \r])")


@dataclass(frozen=True, slots=True)
class SMTPReply:
    """A reply of a server; `lines` are its lines as received, each with code and CRLF."""

    code: int
    lines: bytes

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 2034), "" if the reply has none."""
        found = _ENHANCED.match(self.lines)
        return found[1].decode() if found else ""

    @property
    def is_positive(self) -> bool:
        """Whether the reply is a positive completion, 2xx (RFC 5321 section 4.2.1)."""
        return self.code // 100 == 2

    @property
    def is_busy(self) -> bool:
        """Whether the server wants a pause: 421, Exchange's 432, or 4.3.2 (RFC 3463 section 3.4)."""
        return self.code in (421, 432) or self.enhanced == "4.3.2"

    @property
    def status(self) -> str:
        """Code and enhanced status code, for a log: a server may echo a secret in the text."""
        return f"{self.code} {self.enhanced}".rstrip()

    def __str__(self) -> str:
        lines = self.lines.decode("utf-8", "replace").split("\r\n")[:-1]
        return f"{self.code} {' '.join(line[4:] for line in lines)}".rstrip()


class SMTPRefused(ConversationFailed):
    """The server answered with a negative reply."""

    def __init__(self, verdict: Verdict, reply: SMTPReply) -> None:
        super().__init__(verdict, str(reply))
        self.code = reply.code
        self.enhanced = reply.enhanced
        self.status = reply.status
        self.is_busy = reply.is_busy

    @classmethod
    def at(cls, step: str, reply: SMTPReply, exchange: ClientExchange | None = None) -> SMTPRefused:
        """The failure that a negative reply at a step means."""
        return cls(_meaning(step, reply, exchange), reply)


@dataclass(frozen=True)
class Extensions:
    """A server's extensions (RFC 5321 section 4.1.1.1): keywords in upper case, each with its parameters."""

    keywords: Mapping[str, tuple[str, ...]]

    @staticmethod
    @lru_cache(maxsize=64)
    def of(reply: bytes) -> Extensions:
        """Read a reply to EHLO; the result is cached, since most servers send the same reply each time."""
        keywords: dict[str, tuple[str, ...]] = {}
        for line in reply.decode("ascii", "replace").split("\r\n")[1:-1]:
            # Before RFC 2554 the form was "AUTH=LOGIN"; some servers still send it, alone or beside the new form.
            keyword, *parameters = line[4:].upper().replace("AUTH=", "AUTH ").split() or [""]
            keywords[keyword] = (*keywords.get(keyword, ()), *parameters)
        return Extensions(keywords)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def size(self) -> int | None:
        """The limit for a message in octets (RFC 1870): 0 for no limit, None if the server does not announce SIZE."""
        if "SIZE" not in self.keywords:
            return None
        number = next(iter(self.keywords["SIZE"]), "0")
        return int(number) if number.isascii() and number.isdigit() and len(number) <= 20 else 0


class SMTPSession(MailSession):
    """One session with a submission server; `extensions` are those of its last reply to EHLO."""

    start_tls_command = "STARTTLS"

    def __init__(self, connection: LineConnection, timeout_seconds: float) -> None:
        super().__init__(connection, timeout_seconds)
        self.extensions = Extensions({})

    @property
    def mechanisms(self) -> Collection[str]:
        """The SASL mechanisms that the server offers (RFC 4954 section 3)."""
        return self.extensions.keywords.get("AUTH", ())

    async def check(self, transcript: Transcript, sender: str) -> None:
        """Begin a message from `sender` with MAIL, and cancel it with RSET."""
        with transcript.step("mail") as note:
            reply = _expect("mail", await self.command(self._mail(Submission.of(sender, [sender], b"")), MAIL_SECONDS))
            await self.command(b"RSET")
            note.detail = str(reply)

    async def deliver(self, transcript: Transcript, message: Submission) -> dict[str, SMTPReply]:
        """Hand the message over; returns the refused recipients if the server accepted others.

        Raises:
            ConversationFailed: the message was not sent, or it is not known whether it was.
        """
        message = message.fitting(takes_8bit="8BITMIME" in self.extensions, takes_utf8="SMTPUTF8" in self.extensions)
        try:
            return await self._deliver(transcript, message)
        except ConversationFailed as failed:
            if failed.verdict.code == "message_too_large":
                facts = {"octets": len(message.content), "limit": self.extensions.size or "not announced"}
                failed.verdict = replace(failed.verdict, fields={**failed.verdict.fields, **facts})
            raise

    async def _deliver(self, transcript: Transcript, message: Submission) -> dict[str, SMTPReply]:
        with transcript.step("mail") as note:
            note.detail = str(_expect("mail", await self.command(self._mail(message), MAIL_SECONDS)))
        with transcript.step("rcpt") as note:
            refused = await self._recipients(message.recipients)
            note.ok = not refused
            note.detail = listed(refused) or f"{len(message.recipients)} accepted"
        with transcript.step("data") as note:
            _expect("data", await self.command(b"DATA", DATA_SECONDS), 354)
            await self._send(message.stuffed)
            note.detail = str(_expect("data", await self._acceptance()))
        return refused

    async def command(self, line: bytes, seconds: float | None = None) -> SMTPReply:
        """Send a command, without CRLF, and return its reply; raises as `reply` does."""
        self.connection.write(line + b"\r\n")
        return await self.reply(seconds)

    async def reply(self, seconds: float | None = None) -> SMTPReply:
        """The next reply (RFC 5321 section 4.2.1), all of it within `seconds`, by default the time-out.

        Raises:
            ProtocolError: a line is not a reply.
            OSError: the connection has ended, or no complete reply came in time.
        """
        end = self._begin_reply(seconds)
        lines: list[bytes] = []
        codes: set[bytes] = set()
        separator: bytes | None = b"-"
        while separator == b"-":
            line = await self._line(end)
            found = _LINE.match(line)
            if not found or len(lines) > _REPLY_LINES:
                raise ProtocolError("not an SMTP reply")
            code, separator = found.groups()
            codes.add(code)
            lines.append(line)
        if len(codes) > 1:
            raise ProtocolError("not one SMTP reply")
        return SMTPReply(int(code), b"\r\n".join((*lines, b"")))

    async def pass_on(self, piece: bytes) -> SMTPReply | None:
        """Send a piece of a message; returns the refusal if the server sent one before the end of the message.

        A server that refuses a message in its midst often closes the connection behind its reply.

        Raises:
            ProtocolError: the server sent something else than a refusal.
            OSError: the connection has ended without a reply, or the server did not read in time.
        """
        try:
            if not self.connection.has_input:
                self.connection.write(piece)
                await self.connection.drain(BLOCK_SECONDS, or_input=True)
                return None
        except OSError:
            if not self.connection.has_input:
                raise
        reply = await self.reply()
        if reply.code < 400:
            raise ProtocolError("a message accepted before its end")
        return reply

    async def greet(self) -> SMTPReply:
        """Read the greeting (RFC 5321 section 3.1) and return it."""
        return _expect("greeting", await self.reply())

    async def ask_capabilities(self) -> None:
        """Send EHLO with this end's address (RFC 5321 section 4.1.1.1)."""
        hello = b"EHLO " + self.connection.own_address.encode()
        self.extensions = Extensions.of(_expect("capabilities", await self.command(hello)).lines)

    async def request_tls(self) -> None:
        """Ask for TLS (RFC 3207)."""
        await self.ask_capabilities()
        self._require_tls(self.extensions.keywords)
        _expect("tls", await self.command(b"STARTTLS"))

    async def _authenticate(self, exchange: ClientExchange) -> SMTPReply:
        """Sign in (RFC 4954)."""
        reply = await self.command(exchange.command("AUTH", COMMAND_LIMIT_OCTETS))
        while reply.code == 334:
            reply = await self.command(exchange.answer(reply.lines[4:]))
        if not reply.is_positive:
            raise SMTPRefused.at("auth", reply, exchange)
        return reply

    async def _quit(self, seconds: float) -> str:
        return str(await self.command(b"QUIT", seconds))

    def _mail(self, message: Submission) -> bytes:
        """The MAIL command with the parameters that the message needs.

        Raises:
            ConversationFailed: the message needs an extension that the server doesn't offer.
        """
        parameters = ""
        if "SIZE" in self.extensions:
            parameters += f" SIZE={len(message.content)}"
        if message.needs_8bitmime:
            self._require("8BITMIME")
            parameters += " BODY=8BITMIME"
        if message.needs_smtputf8:
            self._require("SMTPUTF8")
            parameters += " SMTPUTF8"
        return f"MAIL FROM:<{message.sender}>{parameters}".encode()

    def _require(self, extension: str) -> None:
        if extension not in self.extensions:
            raise ConversationFailed(Verdict(f"extension_{extension.lower()}_missing", Fault.CONFIGURATION))

    async def _recipients(self, recipients: Sequence[str]) -> dict[str, SMTPReply]:
        """Send the recipients; returns the refused recipients.

        Raises:
            ConversationFailed: the server refused all recipients.
        """
        replies = {
            recipient: await self.command(f"RCPT TO:<{recipient}>".encode(), RCPT_SECONDS) for recipient in recipients
        }
        refused = {recipient: reply for recipient, reply in replies.items() if not reply.is_positive}
        if len(refused) == len(replies):
            verdict = _meaning("rcpt", next(iter(refused.values())))
            raise ConversationFailed(replace(verdict, fields={**verdict.fields, "nothing_sent": True}), listed(refused))
        return refused

    async def _send(self, content: bytes) -> None:
        """Send the content in pieces.

        Raises:
            ConversationFailed: the connection broke, or the server refused the message before its end.
        """
        try:
            for start in range(0, len(content), _PIECE_OCTETS):
                if reply := await self.pass_on(content[start : start + _PIECE_OCTETS]):
                    raise SMTPRefused.at("data", reply)
        except (OSError, ProtocolError) as error:
            raise ConversationFailed(Verdict("message_broken_off", Fault.NETWORK)) from error

    async def _acceptance(self) -> SMTPReply:
        """The reply to the final dot."""
        try:
            return await self.reply(ACCEPTANCE_SECONDS)
        except (OSError, ProtocolError) as error:
            raise ConversationFailed(Verdict("message_in_doubt", Fault.NETWORK)) from error


def _meaning(step: str, reply: SMTPReply, exchange: ClientExchange | None = None) -> Verdict:
    error, mechanism = (exchange.error, exchange.mechanism) if exchange else (None, "")
    return refusals.smtp_refusal(step, reply.code, reply.enhanced, str(reply), error, mechanism)


def listed(refused: Mapping[str, SMTPReply]) -> str:
    """The refused recipients, each with the server's reply, as text."""
    return "; ".join(f"{recipient}: {reply}" for recipient, reply in refused.items())


def _expect(step: str, reply: SMTPReply, code: int = 250) -> SMTPReply:
    """The reply, if it is of the same class as `code`: the first digit tells success from failure.

    Raises:
        SMTPRefused: the reply is of another class.
    """
    if reply.code // 100 != code // 100:
        raise SMTPRefused.at(step, reply)
    return reply
