"""The submission client: SMTP (RFC 5321) as RFC 6409 has it for handing over one's own mail.

A message is sent as lines that end in CRLF and nothing else, so no server can read two messages in one
(CVE-2023-51764). After the final dot there is no guessing: without the server's word the report says "not known".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.mail import refusals
from adapters.mail.connection import Connection, Garbled
from adapters.mail.sasl import ClientExchange
from adapters.mail.transcript import Ended, Transcript, stripped, untested
from domain.errors import InvalidValue
from domain.outcomes import Fault

# RFC 5321 section 4.5.3.1.4; RFC 4954 section 4 holds an AUTH command with an initial response to it.
COMMAND_LIMIT_OCTETS = 512
# RFC 5321 section 4.5.3.2.6: a server may take ten minutes after the final dot, and giving up makes duplicates.
ACCEPTANCE_SECONDS = 600.0
_QUIT_SECONDS = 5.0
_REPLY_LINES = 200
_LINE = re.compile(r"([2-5][0-9]{2})([ -]|$)(.*)", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s|$)")
_NO_PATH = re.compile("[\\x00-\\x20\\x7f<>\ud800-\udfff]")


@dataclass(frozen=True)
class Reply:
    """A reply: its code and its lines without it."""

    code: int
    lines: tuple[str, ...]

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 2034), "" without."""
        found = _ENHANCED.match(self.lines[0])
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.code} {' '.join(self.lines)}".rstrip()


@dataclass(frozen=True)
class Message:
    """A message with its envelope, checked and ready for the wire.

    `content` ends each line in CRLF; dots are not stuffed yet. An empty `sender` is the null reverse-path.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @classmethod
    def of(cls, sender: str, recipients: Sequence[str], message: bytes) -> Message:
        """Check what a caller gives; bare line feeds become CRLF.

        Raises:
            InvalidValue: a bare carriage return or a NUL in the message, an address that is none, no recipients.
        """
        for field, address in (("sender", sender), *(("recipient", recipient) for recipient in recipients)):
            if _NO_PATH.search(address) or (not address and field == "recipient"):
                raise InvalidValue(field, f"{address!r} is not an e-mail address like scan@contoso.com")
        if not recipients:
            raise InvalidValue("recipients", "there are none")
        lines = message.replace(b"\r\n", b"\n")
        if b"\r" in lines or b"\0" in lines:
            raise InvalidValue("message", "it has a carriage return without a line feed, or a NUL")
        content = lines.replace(b"\n", b"\r\n")
        return cls(sender, tuple(recipients), content if content.endswith(b"\r\n") else content + b"\r\n")

    @property
    def needs_smtputf8(self) -> bool:
        """Whether an address or a header field is not in ASCII (RFC 6531, 6532)."""
        header = self.content.partition(b"\r\n\r\n")[0]
        return not (header.isascii() and all(address.isascii() for address in (self.sender, *self.recipients)))

    @property
    def needs_8bitmime(self) -> bool:
        """Whether there are octets above 127 (RFC 6152)."""
        return not self.content.isascii()


class SMTPSession:
    """One session on a connection, in the order of its methods."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._extensions: dict[str, list[str]] = {}

    def greet(self) -> str:
        """Read the banner and return it."""
        return str(self._expect("greeting", self._reply(), 220))

    def start_tls(self) -> None:
        """Ask for TLS, up to the go-ahead (RFC 3207). What was offered before it counts for nothing after it."""
        self._say_hello()
        if "STARTTLS" not in self._extensions:
            raise stripped("STARTTLS")
        self._expect("tls", self._command("STARTTLS"), 220)

    def mechanisms(self) -> list[str]:
        """Say hello and return the SASL mechanisms that are offered."""
        self._say_hello()
        return self._extensions.get("AUTH", [])

    def authenticate(self, exchange: ClientExchange) -> str:
        """Sign in (RFC 4954) and return the server's reply."""
        self._connection.send_line(exchange.command("AUTH", COMMAND_LIMIT_OCTETS))
        while (reply := self._reply()).code == 334:
            self._connection.send_line(exchange.answer(reply.lines[0].encode()))
        if reply.code // 100 != 2:
            raise _refused("auth", reply, exchange)
        if not exchange.responded:
            raise untested()
        return str(reply)

    def check(self, transcript: Transcript, sender: str) -> None:
        """Begin a message as `sender` and take it back: a server may accept a token and then not its user."""
        with transcript.step("mail") as note:
            message = Message.of(sender, [sender], b"")
            reply = self._expect("mail", self._command(self._mail(message)), 250)
            self._command("RSET")
            note.detail = str(reply)

    def deliver(self, transcript: Transcript, message: Message) -> dict[str, Reply]:
        """Hand the message over; returns the recipients that were refused, when others were not."""
        with transcript.step("mail") as note:
            note.detail = str(self._expect("mail", self._command(self._mail(message)), 250))
        with transcript.step("rcpt") as note:
            refused = self._recipients(message.recipients)
            note.ok = not refused
            note.detail = listed(refused) or f"{len(message.recipients)} accepted"
        with transcript.step("data") as note:
            self._expect("data", self._command("DATA"), 354)
            self._send(message.content)
            note.detail = str(self._expect("data", self._acceptance(), 250))
        return refused

    def quit(self) -> str:
        """Take leave. The connection ends either way, so no answer is not a failure."""
        self._connection.send_line(b"QUIT")
        return str(self._reply(_QUIT_SECONDS))

    def _say_hello(self) -> None:
        reply = self._expect("capabilities", self._command(f"EHLO {self._connection.own_address}"), 250)
        self._extensions = {}
        for line in reply.lines[1:]:
            # "AUTH=LOGIN" is how it was written before RFC 2554; some servers still do, beside or instead.
            keyword, *parameters = line.upper().replace("AUTH=", "AUTH ").split() or [""]
            self._extensions.setdefault(keyword, []).extend(parameters)

    def _mail(self, message: Message) -> str:
        """MAIL with the parameters this message needs.

        Raises:
            Ended: it needs an extension that the server doesn't offer.
        """
        parameters = ""
        if "SIZE" in self._extensions:
            parameters += f" SIZE={len(message.content)}"
        if message.needs_8bitmime:
            self._require("8BITMIME", "encode its text as quoted-printable or base64")
            parameters += " BODY=8BITMIME"
        if message.needs_smtputf8:
            self._require("SMTPUTF8", "use addresses and header fields in ASCII (RFC 2047)")
            parameters += " SMTPUTF8"
        return f"MAIL FROM:<{message.sender}>{parameters}"

    def _require(self, extension: str, instead: str) -> None:
        if extension not in self._extensions:
            raise Ended(
                Fault.CONFIGURATION,
                f"The message needs {extension}, which the server doesn't offer: {instead}. It was not sent.",
            )

    def _recipients(self, recipients: Sequence[str]) -> dict[str, Reply]:
        """Name the recipients; returns the refused ones.

        Raises:
            Ended: all of them were.
        """
        replies = {recipient: self._command(f"RCPT TO:<{recipient}>") for recipient in recipients}
        refused = {recipient: reply for recipient, reply in replies.items() if reply.code // 100 != 2}
        if len(refused) == len(replies):
            first = next(iter(refused.values()))
            meaning = refusals.smtp_refusal("rcpt", first.code, first.enhanced)
            raise Ended(meaning.fault, f"{meaning.sentence} Nothing was sent.", listed(refused))
        return refused

    def _send(self, content: bytes) -> None:
        """Send the content, dots stuffed (RFC 5321 section 4.5.2), and the final dot."""
        try:
            self._connection.send(re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")
        except OSError as error:
            raise Ended(
                Fault.NETWORK,
                "The connection broke before the server had the whole message: it was not sent; try again.",
            ) from error

    def _acceptance(self) -> Reply:
        """The reply to the final dot."""
        try:
            return self._reply(ACCEPTANCE_SECONDS)
        except (OSError, Garbled) as error:
            raise Ended(
                Fault.NETWORK,
                "It is not known whether the message was sent: the server had all of it, but its answer did not come;"
                " look for it before you send it again.",
            ) from error

    def _command(self, command: str) -> Reply:
        self._connection.send_line(command.encode())
        return self._reply()

    def _reply(self, at_most_seconds: float | None = None) -> Reply:
        """The next reply (RFC 5321 section 4.2.1).

        Raises:
            Garbled: not one.
        """
        lines: list[str] = []
        codes: set[str] = set()
        separator = "-"
        while separator == "-":
            parts = _LINE.fullmatch(self._connection.line(at_most_seconds).decode("utf-8", "replace"))
            if not parts:
                raise Garbled("not an SMTP reply")
            code, separator, text = parts.groups()
            codes.add(code)
            lines.append(text)
            if len(codes) > 1 or len(lines) > _REPLY_LINES:
                raise Garbled("not one SMTP reply")
        return Reply(int(code), tuple(lines))

    def _expect(self, step: str, reply: Reply, code: int) -> Reply:
        # The first digit tells success from failure (RFC 5321 section 4.2.1).
        if reply.code // 100 != code // 100:
            raise _refused(step, reply)
        return reply


def listed(refused: dict[str, Reply]) -> str:
    """Who was refused, and why."""
    return "; ".join(f"{recipient}: {reply}" for recipient, reply in refused.items())


def _refused(step: str, reply: Reply, exchange: ClientExchange | None = None) -> Ended:
    meaning = refusals.smtp_refusal(step, reply.code, reply.enhanced, exchange.error if exchange else None)
    return Ended(meaning.fault, meaning.sentence, str(reply))
