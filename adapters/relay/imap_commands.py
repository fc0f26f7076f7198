"""What a client says in IMAP before it has signed in (RFC 9051 section 9): tags, names, strings and literals.

A command is small: a literal that would make it larger than the limit is refused before it is sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import Self

from adapters.relay.lines import TooLong, Wire

COMMAND_LIMIT_OCTETS = 12_288
"""For one line of a command, and for all of its lines and literals together."""
_LITERALS = 8
# RFC 9051: tag = 1*<any ASTRING-CHAR except "+">. It goes back to the client and nowhere else.
_COMMAND = re.compile(rb"([^\x00-\x20\x7f-\xff(){%*\"\\+]{1,64}) ([A-Za-z]{1,32})(?: (.*))?", re.DOTALL)
_LITERAL = re.compile(rb"\{([0-9]{1,10})(\+?)\}\Z")
_STRING = rb'"(?:[^"\\]|\\["\\])*"|[^\x00-\x20\x7f"(){\\]+'
_STRINGS = re.compile(rb" *(?:(?:%b)(?: +(?:%b))*)? *" % (_STRING, _STRING))
_ESCAPED = re.compile(rb'\\(["\\])')


class Malformed(Exception):
    """Not a command, or not one with these arguments."""


class LiteralRefused(Exception):
    """A literal that the client may not send, and has not sent; `tag` is its command's, `*` if that has none."""

    def __init__(self, tag: bytes) -> None:
        super().__init__()
        self.tag = tag


@dataclass(frozen=True)
class Command:
    """One command. `name` is in upper case; `lines` are the rest, with a literal between each two."""

    tag: bytes
    name: bytes
    lines: tuple[bytes, ...]
    literals: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Command({self.tag!r}, {self.name!r})"

    @classmethod
    async def read(cls, wire: Wire, seconds: float, *, may_ask: bool) -> Self:
        """Read one; each of its parts has `seconds`. `may_ask` is whether the client may be asked for a literal.

        Raises:
            LiteralRefused: it waits to send one that is too large, or may not be asked for.
            Malformed: no tag, or no name.
            Garbled: too long, or with a bare CR or LF or a NUL in a line.
            OSError: the client is gone, or was too slow.
        """
        lines, literals = [await wire.line(COMMAND_LIMIT_OCTETS, seconds)], list[bytes]()
        while marker := _LITERAL.search(lines[-1]):
            octets, is_coming = int(marker[1]), bool(marker[2])
            is_large = octets + sum(map(len, lines + literals)) > COMMAND_LIMIT_OCTETS or len(literals) >= _LITERALS
            if is_coming and is_large:
                raise TooLong(f"a command of more than {COMMAND_LIMIT_OCTETS} octets")
            if not is_coming:
                if is_large or not may_ask:
                    raise LiteralRefused(_tag(lines[0]))
                wire.write(b"+ Go on\r\n")
            literals.append(await wire.octets(octets, seconds))
            lines.append(await wire.line(COMMAND_LIMIT_OCTETS, seconds))
        begun = _COMMAND.fullmatch(lines[0])
        if not begun:
            raise Malformed
        return cls(begun[1], begun[2].upper(), (begun[3] or b"", *lines[1:]), tuple(literals))

    def strings(self) -> list[bytes]:
        """The arguments: atoms, quoted strings and literals.

        Raises:
            Malformed: something else is among them.
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
    """What to answer a command with whose end nobody has seen."""
    tag = line.partition(b" ")[0]
    return tag if _COMMAND.fullmatch(tag + b" NOOP") else b"*"
