"""The IMAP client of the connection test (RFC 9051, 4959): signs in, looks at INBOX, changes nothing."""

from __future__ import annotations

import re
from itertools import count

from adapters.mail import refusals
from adapters.mail.connection import Connection, Garbled
from adapters.mail.sasl import ClientExchange
from adapters.mail.transcript import Ended, Transcript, stripped, untested

# RFC 9051 sets no limit; servers do, and this is short enough for all of them.
COMMAND_LIMIT_OCTETS = 512
_QUIT_SECONDS = 5.0
_RESPONSE_CODE = re.compile(r"\S+ \[([^\] ]+)")


class IMAPSession:
    """One session on a connection, in the order of its methods."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tags = (f"m{number}" for number in count(1))
        self._offered: set[str] = set()

    def greet(self) -> str:
        """Read the greeting and return it."""
        return greeted(self._line())

    def start_tls(self) -> None:
        """Ask for TLS, up to the go-ahead (RFC 9051 section 6.2.1)."""
        self._ask_capabilities()
        if "STARTTLS" not in self._offered:
            raise stripped("STARTTLS")
        self._command("tls", "STARTTLS")

    def mechanisms(self) -> list[str]:
        """The SASL mechanisms that are offered; what was offered before TLS counts for nothing."""
        self._ask_capabilities()
        return [name.removeprefix("AUTH=") for name in self._offered if name.startswith("AUTH=")]

    def authenticate(self, exchange: ClientExchange) -> str:
        """Sign in (RFC 9051 section 6.2.2, RFC 4959) and return the server's reply."""
        tag = next(self._tags)
        at_once = "SASL-IR" in self._offered
        self._connection.send_line(
            exchange.command(f"{tag} AUTHENTICATE", COMMAND_LIMIT_OCTETS, initial_response=at_once)
        )
        while not (line := self._line()).startswith(f"{tag} "):
            if line == "+" or line.startswith("+ "):
                self._connection.send_line(exchange.answer(line[1:].encode()))
        reply = accepted("auth", line.removeprefix(f"{tag} "), exchange)
        if not exchange.responded:
            raise untested()
        return reply

    def check(self, transcript: Transcript) -> None:
        """Open INBOX read-only: a server may accept a token and then not its user."""
        with transcript.step("examine") as note:
            note.detail = self._command("examine", "EXAMINE INBOX")

    def quit(self) -> str:
        """Take leave. The connection ends either way, so no answer is not a failure."""
        self._connection.send_line(f"{next(self._tags)} LOGOUT".encode())
        return self._line(_QUIT_SECONDS)

    def _ask_capabilities(self) -> None:
        self._offered = set()
        self._command("capabilities", "CAPABILITY")

    def _command(self, step: str, command: str) -> str:
        """Send a command and return its tagged reply, without the tag."""
        tag = next(self._tags)
        self._connection.send_line(f"{tag} {command}".encode())
        while not (line := self._line()).startswith(f"{tag} "):
            if line.upper().startswith("* CAPABILITY "):
                self._offered = set(line.upper().split()[2:])
        return accepted(step, line.removeprefix(f"{tag} "))

    def _line(self, at_most_seconds: float | None = None) -> str:
        return self._connection.line(at_most_seconds).decode("utf-8", "replace")


def greeted(line: str) -> str:
    """The greeting, if it lets us go on.

    Raises:
        Ended: the server takes us as signed in already, or sends us away.
        Garbled: it is no greeting.
    """
    greeting = line.upper()
    if greeting.startswith("* PREAUTH"):
        raise untested()
    if greeting.startswith("* BYE"):
        raise _refused("greeting", line.removeprefix("* "))
    if not greeting.startswith("* OK"):
        raise Garbled("not an IMAP greeting")
    return line


def accepted(step: str, reply: str, exchange: ClientExchange | None = None) -> str:
    """The tagged reply at a step, without its tag, if it is positive.

    Raises:
        Ended: it is negative; says what that means.
        Garbled: it is no reply.
    """
    condition = reply.partition(" ")[0].upper()
    if condition == "OK":
        return reply
    if condition not in ("NO", "BAD"):
        raise Garbled("not an IMAP reply")
    raise _refused(step, reply, exchange)


def _refused(step: str, reply: str, exchange: ClientExchange | None = None) -> Ended:
    code = _RESPONSE_CODE.match(reply)
    # At `auth`, BAD is about the command, not the token.
    about = "syntax" if step == "auth" and reply.upper().startswith("BAD") else step
    meaning = refusals.receiving_refusal(about, code[1] if code else "", exchange.error if exchange else None)
    return Ended(meaning.fault, meaning.sentence, reply)
