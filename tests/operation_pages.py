"""The pages of the operator's manual, and the commands that stand in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

PAGES = Path(__file__).parents[1] / "docs" / "operation"
# Blocks of every language are found: the end of one that was passed over would be read as the beginning of the next.
_BLOCK = re.compile(r"^```(?P<language>\w*) *(?P<host>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A command, and the lines of its output that the page shows; `*` in them stands for anything."""

    text: str
    shown: tuple[str, ...]

    def check(self, printed: str, shown: Sequence[str] | None = None) -> None:
        """Check that the command printed what the page shows, or what this host shows in its place."""
        for line in self.shown if shown is None else shown:
            assert any(fnmatch(one, line) for one in printed.splitlines()), (self.text, line, printed)


@dataclass(frozen=True)
class Block:
    """A block of commands for a terminal on this host, or on the host that the page names."""

    host: str
    commands: tuple[Command, ...]


def blocks(page: str) -> list[Block]:
    """The blocks of a page that show commands and their output."""
    found = [block for block in _BLOCK.finditer((PAGES / page).read_text()) if block["language"] == "console"]
    return [Block(block["host"], tuple(_commands(block["text"]))) for block in found]


def scripts(page: str, *, until: str) -> list[str]:
    """The blocks of a page, up to a heading, that have no language: whole scripts."""
    text, heading, _ = (PAGES / page).read_text().partition(until)
    assert heading, (page, until)
    return [block["text"] for block in _BLOCK.finditer(text) if not block["language"]]


def _commands(text: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *lines = part.rstrip("\n").split("\n")
        yield Command(command, tuple(lines))
