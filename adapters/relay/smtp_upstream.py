"""The submission client of the relay: a session with a mail server, signed in with a profile's token (RFC 6409)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic

from adapters.mail import refusals
from adapters.mail.connection import Garbled
from adapters.mail.sasl import ClientExchange
from adapters.mail.smtp import COMMAND_LIMIT_OCTETS
from adapters.mail.transcript import Ended, stripped, untested
from adapters.relay.door import Admission, MailServerAddress
from adapters.relay.lines import Wire
from adapters.relay.upstream import LINE_LIMIT_OCTETS, Dialer, explained, sign_in_exchange
from domain.outcomes import Fault

_LOOK_SECONDS = 20
# For a server that answers each step just in time.
_SIGN_IN_SECONDS = 60.0
_QUIT_SECONDS = 2.0
_REPLY_LINES = 200
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])|$)")
_ENHANCED = re.compile(rb"[2-5][0-9]{2}[ -]([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \r])")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as it came: `lines` are all of it, each with its code and CRLF."""

    code: int
    lines: bytes

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 2034), "" without."""
        found = _ENHANCED.match(self.lines)
        return found[1].decode() if found else ""

    @property
    def is_positive(self) -> bool:
        """Whether what was asked is done."""
        return self.code // 100 == 2

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced}".rstrip()


class Refusal(Ended):
    """The server said no; its code is known."""

    def __init__(self, fault: Fault, verdict: str, reply: Reply) -> None:
        super().__init__(fault, verdict, str(reply))
        self.code = reply.code
        self.enhanced = reply.enhanced

    @classmethod
    def at(cls, step: str, reply: Reply, exchange: ClientExchange | None = None) -> Refusal:
        """What a negative reply at a step means."""
        meaning = refusals.smtp_refusal(step, reply.code, reply.enhanced, exchange.error if exchange else None)
        return cls(meaning.fault, meaning.sentence, reply)


@dataclass(frozen=True)
class Extensions:
    """What a server can do (RFC 5321 section 4.1.1.1): keywords in upper case, each with its parameters."""

    keywords: Mapping[str, tuple[str, ...]]

    @staticmethod
    @lru_cache(maxsize=64)
    def of(reply: bytes) -> Extensions:
        """Read the lines of a reply to EHLO; most servers say the same each time."""
        keywords: dict[str, tuple[str, ...]] = {}
        for line in reply.decode("ascii", "replace").split("\r\n")[1:-1]:
            # "AUTH=LOGIN" is how it was written before RFC 2554; some servers still do, beside or instead.
            keyword, *parameters = line[4:].upper().replace("AUTH=", "AUTH ").split() or [""]
            keywords[keyword] = (*keywords.get(keyword, ()), *parameters)
        return Extensions(keywords)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def size(self) -> int | None:
        """The longest message in octets (RFC 1870), 0 if there is no limit; None if the server does not say."""
        if "SIZE" not in self.keywords:
            return None
        number = next(iter(self.keywords["SIZE"]), "0")
        return int(number) if number.isascii() and number.isdigit() and len(number) <= 20 else 0


class SMTPUpstream:
    """One session with the mail server of `server`; `extensions` are what it offered last."""

    def __init__(self, wire: Wire, server: MailServerAddress | Admission, timeout_seconds: float) -> None:
        self.wire = wire
        self.extensions = Extensions({})
        self._server = server
        self._timeout_seconds = timeout_seconds

    @classmethod
    async def open(cls, dialer: Dialer, server: MailServerAddress | Admission, timeout_seconds: float) -> SMTPUpstream:
        """Connect, and go as far as a client may without signing in: TLS has begun, the extensions are known.

        Raises:
            Ended: it did not work.
        """
        session = cls(await dialer.connect(server, timeout_seconds), server, timeout_seconds)
        try:
            with explained("greeting", server):
                session._expect("greeting", await session.reply())
            await session._say_hello()
            if server.tls == "starttls":
                await session._start_tls(dialer)
        except BaseException:
            session.wire.abort()
            raise
        return session

    @classmethod
    async def sign_in(cls, dialer: Dialer, admission: Admission) -> SMTPUpstream:
        """Open a session and sign in with the token.

        Raises:
            Ended: it did not work; `Refusal` if the server refused.
        """
        with explained("auth", admission):
            async with asyncio.timeout(max(_SIGN_IN_SECONDS, admission.timeout_seconds)):
                session = await cls.open(dialer, admission, admission.timeout_seconds)
                try:
                    await session.authenticate(admission)
                except BaseException:
                    session.wire.abort()
                    raise
        dialer.keep_session(session.wire)
        return session

    @classmethod
    async def look(cls, dialer: Dialer, server: MailServerAddress) -> Extensions:
        """What a server can do, without signing in.

        Raises:
            Ended: it could not be asked.
        """
        session = await cls.open(dialer, server, _LOOK_SECONDS)
        dialer.keep_session(session.wire)
        await session.quit()
        return session.extensions

    async def authenticate(self, admission: Admission) -> None:
        """Sign in with the token (RFC 4954).

        Raises:
            Ended: the server offers no mechanism for it, or refuses.
            Garbled, OSError: the conversation broke off.
        """
        exchange = sign_in_exchange(self.wire, admission, self.extensions.keywords.get("AUTH", ()))
        reply = await self.command(exchange.command("AUTH", COMMAND_LIMIT_OCTETS))
        while reply.code == 334:
            reply = await self.command(exchange.answer(reply.lines[4:]))
        self._expect("auth", reply, exchange)
        if not exchange.responded:
            raise untested()

    async def command(self, line: bytes, seconds: float | None = None) -> Reply:
        """Send a command, without CRLF, and return its reply; raises as `reply` does."""
        self.wire.write(line + b"\r\n")
        return await self.reply(seconds)

    async def reply(self, seconds: float | None = None) -> Reply:
        """The next reply (RFC 5321 section 4.2.1), all of it within `seconds`, by default the profile's time-out.

        Raises:
            Garbled: not one.
            OSError: the connection has ended, or there was none in time.
        """
        end = monotonic() + (seconds or self._timeout_seconds)
        lines: list[bytes] = []
        codes: set[bytes] = set()
        separator: bytes | None = b"-"
        while separator == b"-":
            line = await self.wire.line(LINE_LIMIT_OCTETS, end - monotonic())
            found = _LINE.match(line)
            if not found or len(lines) > _REPLY_LINES:
                raise Garbled("not an SMTP reply")
            code, separator = found.groups()
            codes.add(code)
            lines.append(line)
        if len(codes) > 1:
            raise Garbled("not one SMTP reply")
        return Reply(int(code), b"\r\n".join((*lines, b"")))

    async def quit(self) -> None:
        """Take leave, and end the connection. No answer is not a failure."""
        with suppress(OSError, Garbled):
            await self.command(b"QUIT", _QUIT_SECONDS)
        self.wire.close()

    async def _say_hello(self) -> None:
        with explained("capabilities", self._server):
            reply = self._expect("capabilities", await self.command(b"EHLO " + self.wire.own_address.encode()))
        self.extensions = Extensions.of(reply.lines)

    async def _start_tls(self, dialer: Dialer) -> None:
        """Begin TLS (RFC 3207). What was offered before it counts for nothing after it."""
        if "STARTTLS" not in self.extensions:
            raise stripped("STARTTLS")
        with explained("tls", self._server):
            self._expect("tls", await self.command(b"STARTTLS"))
        await dialer.secure(self.wire, self._server, self._timeout_seconds)
        await self._say_hello()

    def _expect(self, step: str, reply: Reply, exchange: ClientExchange | None = None) -> Reply:
        if not reply.is_positive:
            raise Refusal.at(step, reply, exchange)
        return reply
