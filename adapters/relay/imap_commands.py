"""Parses the IMAP commands of a client before its sign-in (RFC 9051 section 9): tags, names, strings and literals.

A literal that would make a command larger than the limit is refused before the client sends it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import Self

from adapters.mail.line_connection import LineConnection, TooLong

COMMAND_LIMIT_OCTETS = 12_288
"""The limit for a line of a command, and for all of its lines and literals together."""
_LITERALS = 8
# RFC 9051: tag = 1*<any ASTRING-CHAR except "+">. A tag is sent back to the client and to no mail server.
_COMMAND = re.compile(rb"([^\x00-\x20\x7f-\xff(){%*\"\\+]{1,64}) +([A-Za-z]{1,32})(?: (.*))?", re.DOTALL)
_LITERAL = re.compile(rb"\{([0-9]{1,10})(\+?)\}\Z")
_STRING = rb'"(?:[^"\\]|\\["\\])*"|[^\x00-\x20\x7f"(){\\]+'
_STRINGS = re.compile(rb" *(?:(?:%b)(?: +(?:%b))* *)?" % (_STRING, _STRING))
_ESCAPED = re.compile(rb'\\(["\\])')


class Malformed(Exception):
    """A line is not a command, or its arguments are malformed."""


class LiteralRefused(Exception):
    """A literal is refused before the client has sent it; `tag` is that of its command, `*` if it has none."""

    def __init__(self, tag: bytes) -> None:
        super().__init__()
        self.tag = tag


@dataclass(frozen=True)
class Command:
    """A command. `name` is in upper case; `lines` are the rest, with a literal between each two."""

    tag: bytes
    name: bytes
    lines: tuple[bytes, ...]
    literals: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Command({self.tag!r}, {self.name!r})"

    @classmethod
    async def read(cls, connection: LineConnection, seconds: float, *, may_ask: bool) -> Self:
        """Read a command; each of its parts has `seconds`. `may_ask` is whether the relay may ask for a literal.

        Raises:
            LiteralRefused: the client waits to send a literal that is too large, or that the relay may not ask for.
            Malformed: the command has no tag or no name.
            ProtocolError: the command is too long, or a line contains a bare CR, a bare LF or a NUL.
            OSError: the client is gone, or was too slow.
        """
        lines, literals = [await connection.line(COMMAND_LIMIT_OCTETS, seconds)], list[bytes]()
        while marker := _LITERAL.search(lines[-1]):
            octets, is_coming = int(marker[1]), bool(marker[2])
            is_large = octets + sum(map(len, lines + literals)) > COMMAND_LIMIT_OCTETS or len(literals) >= _LITERALS
            if is_coming and is_large:
                raise TooLong(f"a command of more than {COMMAND_LIMIT_OCTETS} octets")
            if not is_coming:
                if is_large or not may_ask:
                    raise LiteralRefused(_tag(lines[0]))
                connection.write(b"+ Go on\r\n")
            literals.append(await connection.octets(octets, seconds))
            lines.append(await connection.line(COMMAND_LIMIT_OCTETS, seconds))
        begun = _COMMAND.fullmatch(lines[0])
        if not begun:
            raise Malformed
        return cls(begun[1], begun[2].upper(), (begun[3] or b"", *lines[1:]), tuple(literals))

    def strings(self) -> list[bytes]:
        """The arguments: atoms, quoted strings and literals.

        Raises:
            Malformed: an argument is of another form.
        """
        found: list[bytes] = []
        for line, literal in zip_longest(self.lines, self.literals):
            text = line if literal is None else _LITERAL.sub(b"", line)
            if not _STRINGS.fullmatch(text):
                raise Malformed
            found += map(_unquoted, re.findall(_STRING, text))
            if literal is not None:
                found.append(literal)
        return found


def _unquoted(string: bytes) -> bytes:
    return _ESCAPED.sub(rb"\1", string[1:-1]) if string.startswith(b'"') else string


def _tag(line: bytes) -> bytes:
    """The tag of a command that is not complete."""
    tag = line.partition(b" ")[0]
    return tag if _COMMAND.fullmatch(tag + b" NOOP") else b"*"
