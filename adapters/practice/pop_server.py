"""POP3 (RFC 1939) with CAPA (RFC 2449), STLS (RFC 2595) and AUTH XOAUTH2 and OAUTHBEARER (RFC 5034, RFC 7628)."""

import asyncio
import binascii
import contextlib
import logging
import ssl
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterable
from typing import assert_never

from adapters.practice.mailboxes import Admitted, Mailboxes, Malformed, Refused, Unavailable, unique_id
from adapters.practice.sasl import MECHANISMS, Mechanism

log = logging.getLogger(__name__)

LINE_LIMIT = 12_290
IDLE_SECONDS = 600
WRONG_STATE = "-ERR Command is not valid in this state."
AUTH_FAILED = "-ERR [AUTH] Authentication failure: unknown user name or bad token."
BASIC_REFUSED = "-ERR Logon failure: unknown user name or bad password."

Command = Callable[[list[str]], Awaitable[None]]


class PopSession:
    """One connection, from the greeting to QUIT; `tls` is None if TLS began with the first byte."""

    def __init__(
        self,
        mailboxes: Mailboxes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.mailboxes = mailboxes
        self._reader = reader
        self._writer = writer
        self._tls = tls
        self._encrypted = tls is None
        self._mailbox: str | None = None
        self._messages: list[bytes] = []
        self._deleted: set[int] = set()
        anytime: dict[str, Command] = {"CAPA": self._capa, "QUIT": self._quit}
        self._before_auth: dict[str, Command] = anytime | {
            "STLS": self._stls,
            "AUTH": self._auth,
            "USER": self._user,
            "PASS": self._pass,
        }
        self._after_auth: dict[str, Command] = anytime | {
            "STAT": self._stat,
            "LIST": self._list,
            "UIDL": self._uidl,
            "RETR": self._retr,
            "TOP": self._top,
            "DELE": self._dele,
            "RSET": self._rset,
            "NOOP": self._noop,
        }

    async def serve(self) -> None:
        """Answer commands until QUIT, a line that is too long, or the end of the connection."""
        self.mailboxes.sessions.add(self)
        try:
            await self.greet()
            while not self._writer.is_closing():
                async with asyncio.timeout(IDLE_SECONDS):
                    line = await self._reader.readline()
                if not line.endswith(b"\n"):
                    break
                await self._obey(line.decode("utf-8", errors="replace").split())
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            log.debug("client_lost", exc_info=True)
        except ValueError:
            await self.say("-ERR Line too long.")
        finally:
            self.mailboxes.sessions.discard(self)
            self.hang_up()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def greet(self) -> None:
        """Send the greeting (RFC 1939 section 4)."""
        await self.say("+OK The practice POP3 service is ready.")

    async def say(self, line: str) -> None:
        """Send one reply."""
        self._writer.write(line.encode() + b"\r\n")
        await self._writer.drain()

    def hang_up(self) -> None:
        """Close the connection once all replies are sent."""
        self._writer.close()

    def cut(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()

    async def _obey(self, words: list[str]) -> None:
        name, arguments = (words[0].upper(), words[1:]) if words else ("", [])
        self.mailboxes.commands.append(("pop", name))
        await self.obey(name, arguments)

    async def obey(self, name: str, arguments: list[str]) -> None:
        """Answer a command; its name is in upper case."""
        known = self._before_auth if self._mailbox is None else self._after_auth
        if name in known:
            await known[name](arguments)
        elif name in self._before_auth | self._after_auth:
            await self.say(WRONG_STATE)
        else:
            await self.say("-ERR Unknown command.")

    async def _say_lines(self, first: str, lines: Iterable[bytes]) -> None:
        """Send a multi-line reply, with its dots stuffed (RFC 1939 section 3)."""
        stuffed = (b"." + line if line.startswith(b".") else line for line in lines)
        self._writer.write(b"\r\n".join([first.encode(), *stuffed, b".", b""]))
        await self._writer.drain()

    # Any state

    async def _capa(self, _: list[str]) -> None:
        capabilities = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE"]
        if self.offers_stls():
            capabilities.append("STLS")
        if self._encrypted:
            capabilities.append(f"SASL {' '.join(MECHANISMS)}")
        await self._say_lines("+OK", (capability.encode() for capability in capabilities))

    def offers_stls(self) -> bool:
        """Whether STLS is allowed now (RFC 2595 section 4)."""
        return self._tls is not None and not self._encrypted

    async def _quit(self, _: list[str]) -> None:
        if self._mailbox is not None:
            self.mailboxes.remove(self._mailbox, [self._messages[index] for index in self._deleted])
        await self.say("+OK Goodbye.")
        self.hang_up()

    # AUTHORIZATION state

    async def _stls(self, _: list[str]) -> None:
        if self._tls is None or not self.offers_stls():
            await self.say(WRONG_STATE)
            return
        if self._reader._buffer:  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio has no other way to see it
            # Clear text behind STLS would be taken for commands under TLS.
            self.hang_up()
            return
        await self.say("+OK Begin TLS negotiation now.")
        await self._writer.start_tls(self._tls)
        self._encrypted = True

    async def _user(self, _: list[str]) -> None:
        await self.say("+OK" if self._encrypted else WRONG_STATE)

    async def _pass(self, _: list[str]) -> None:
        await self.say(BASIC_REFUSED if self._encrypted else WRONG_STATE)

    async def _auth(self, arguments: list[str]) -> None:
        if not self._encrypted:
            await self.say(WRONG_STATE)
            return
        match [arguments[0].upper(), *arguments[1:]] if arguments else []:
            case []:
                await self._say_lines("+OK", (mechanism.encode() for mechanism in MECHANISMS))
            case ["XOAUTH2" | "OAUTHBEARER" as mechanism, *initial_response]:
                await self._authenticate_bearer(mechanism, initial_response)
            case _:
                await self.say("-ERR Unknown authentication mechanism.")

    async def _authenticate_bearer(self, mechanism: Mechanism, initial_response: list[str]) -> None:
        response = _decoded(initial_response[0]) if initial_response else await self._challenge(b"")
        if response is None:
            await self.say("-ERR Authentication cancelled, or not base64.")
            return
        attempt = await self.mailboxes.admit("pop", mechanism, response, has_initial_response=bool(initial_response))
        match attempt.verdict:
            case Admitted(mailbox):
                self.admit(mailbox)
                await self.say("+OK User successfully authenticated.")
            case Refused(challenge):
                attempt.closing_response = await self._challenge(challenge)
                await self.say(AUTH_FAILED)
            case Unavailable():
                await self.say("-ERR [SYS/TEMP] The provider could not be reached.")
            case Malformed():
                await self.say("-ERR The response is not in the form that the mechanism requires.")
            case verdict:
                assert_never(verdict)

    def admit(self, mailbox: str) -> None:
        """Enter the TRANSACTION state, with the messages that the mailbox has now."""
        self._mailbox = mailbox
        self._messages = list(self.mailboxes.mailboxes[mailbox])

    async def _challenge(self, challenge: bytes) -> bytes | None:
        await self.say(f"+ {b64encode(challenge).decode()}")
        line = await self._reader.readline()
        return _decoded(line.decode("utf-8", errors="replace").strip())

    # TRANSACTION state

    async def _stat(self, _: list[str]) -> None:
        kept = self._kept()
        await self.say(f"+OK {len(kept)} {sum(len(message) for _, message in kept)}")

    async def _list(self, arguments: list[str]) -> None:
        await self._list_each(arguments, lambda message: str(len(message)))

    async def _uidl(self, arguments: list[str]) -> None:
        await self._list_each(arguments, unique_id)

    async def _list_each(self, arguments: list[str], describe: Callable[[bytes], str]) -> None:
        if not arguments:
            lines = (f"{index + 1} {describe(message)}".encode() for index, message in self._kept())
            await self._say_lines("+OK", lines)
        elif (index := await self._index(arguments[0])) is not None:
            await self.say(f"+OK {index + 1} {describe(self._messages[index])}")

    async def _retr(self, arguments: list[str]) -> None:
        index = await self._index(*arguments[:1])
        if index is not None:
            await self._say_lines("+OK", self._messages[index].splitlines())

    async def _top(self, arguments: list[str]) -> None:
        index = await self._index(*arguments[:1])
        if index is None:
            return
        if len(arguments) != 2 or not arguments[1].isdecimal():
            await self.say("-ERR TOP needs a message and a number of lines.")
            return
        lines = self._messages[index].splitlines()
        body = lines.index(b"") + 1 if b"" in lines else len(lines)
        await self._say_lines("+OK", lines[: body + int(arguments[1])])

    async def _dele(self, arguments: list[str]) -> None:
        index = await self._index(*arguments[:1])
        if index is not None:
            self._deleted.add(index)
            await self.say("+OK")

    async def _rset(self, _: list[str]) -> None:
        self._deleted.clear()
        await self.say("+OK")

    async def _noop(self, _: list[str]) -> None:
        await self.say("+OK")

    def _kept(self) -> list[tuple[int, bytes]]:
        return [(index, message) for index, message in enumerate(self._messages) if index not in self._deleted]

    async def _index(self, number: str = "") -> int | None:
        """The index of a message number; None for an unknown number, after an error reply to the client."""
        index = int(number) - 1 if number.isdecimal() else -1
        if 0 <= index < len(self._messages) and index not in self._deleted:
            return index
        await self.say("-ERR No such message.")
        return None


def _decoded(response: str) -> bytes | None:
    """Decode a response; "=" stands for an empty response (RFC 5034 section 4), and "*" cancels."""
    try:
        return b"" if response == "=" else b64decode(response, validate=True)
    except binascii.Error:
        return None
