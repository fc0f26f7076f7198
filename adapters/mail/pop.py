"""The POP3 client of the connection test (RFC 1939, 2595, 5034): signs in, asks for the state, changes nothing."""

from __future__ import annotations

import re

from adapters.mail import refusals
from adapters.mail.connection import Connection, Garbled
from adapters.mail.sasl import ClientExchange
from adapters.mail.transcript import Ended, Transcript, stripped, untested

# RFC 2449 section 4; RFC 5034 section 4 holds an AUTH command with an initial response to it.
COMMAND_LIMIT_OCTETS = 255
_QUIT_SECONDS = 5.0
_CAPABILITY_LINES = 200
_RESPONSE_CODE = re.compile(r"-ERR \[([^\]]+)\]")


class POPSession:
    """One session on a connection, in the order of its methods."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def greet(self) -> str:
        """Read the greeting and return it."""
        return self._reply("greeting")

    def start_tls(self) -> None:
        """Ask for TLS, up to the go-ahead (RFC 2595 section 4)."""
        if "STLS" not in self._capabilities():
            raise stripped("STLS")
        self._connection.send_line(b"STLS")
        self._reply("tls")

    def mechanisms(self) -> list[str]:
        """The SASL mechanisms that are offered (RFC 5034 section 3)."""
        return self._capabilities().get("SASL", [])

    def authenticate(self, exchange: ClientExchange) -> str:
        """Sign in (RFC 5034 section 4) and return the server's reply."""
        self._connection.send_line(exchange.command("AUTH", COMMAND_LIMIT_OCTETS))
        while (line := self._line()) == "+" or line.startswith("+ "):
            self._connection.send_line(exchange.answer(line[1:].encode()))
        accepted("auth", line, exchange)
        if not exchange.responded:
            raise untested()
        return line

    def check(self, transcript: Transcript) -> None:
        """Ask how many messages there are: a server may accept a token and then not its user."""
        with transcript.step("stat") as note:
            self._connection.send_line(b"STAT")
            note.detail = self._reply("stat")

    def quit(self) -> str:
        """Take leave. The connection ends either way, so no answer is not a failure."""
        self._connection.send_line(b"QUIT")
        return self._line(_QUIT_SECONDS)

    def _capabilities(self) -> dict[str, list[str]]:
        """What CAPA lists (RFC 2449 section 5), by name in upper case; nothing if the server doesn't know CAPA."""
        self._connection.send_line(b"CAPA")
        if not self._line().startswith("+OK"):
            return {}
        capabilities: dict[str, list[str]] = {}
        while (line := self._line()) != ".":
            add_capability(capabilities, line)
        return capabilities

    def _reply(self, step: str) -> str:
        return accepted(step, self._line())

    def _line(self, at_most_seconds: float | None = None) -> str:
        return self._connection.line(at_most_seconds).decode("utf-8", "replace")


def add_capability(capabilities: dict[str, list[str]], line: str) -> None:
    """Note one line of CAPA's list: its name in upper case, with what follows it.

    Raises:
        Garbled: there are too many.
    """
    name, *parameters = line.upper().split() or [""]
    capabilities[name] = parameters
    if len(capabilities) > _CAPABILITY_LINES:
        raise Garbled("too many capabilities")


def accepted(step: str, line: str, exchange: ClientExchange | None = None) -> str:
    """The reply at a step, if it is positive.

    Raises:
        Ended: it is negative; says what that means.
        Garbled: it is no reply.
    """
    if line.startswith("+OK"):
        return line
    if not line.startswith("-ERR"):
        raise Garbled("not a POP3 reply")
    code = _RESPONSE_CODE.match(line)
    meaning = refusals.receiving_refusal(step, code[1] if code else "", exchange.error if exchange else None)
    raise Ended(meaning.fault, meaning.sentence, line)
