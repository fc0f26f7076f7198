"""The recipes of `docs/recipes`, read as somebody who follows them reads them.

A block of `sh` is to be typed. Every other block belongs into the file that the paragraph before it names last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs" / "recipes"

_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<content>.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_ROW = re.compile(r"^\| ([^|]+?) \| ([^|]+?) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """Something to type; or, with a `file`, something to write at its end."""

    content: str
    file: str | None = None


@dataclass(frozen=True)
class Section:
    """What a page says from its top, or from one of its headings, to the next heading."""

    text: str

    def blocks(self) -> Iterator[Block]:
        """What there is to type and to write, in order."""
        for found in _BLOCK.finditer(self.text):
            before = self.text[: found.start()].rstrip().rpartition("\n\n")[2]
            file = None if found["language"] == "sh" else _CODE.findall(before)[-1]
            yield Block(found["content"], file)

    def screens(self) -> list[dict[str, str]]:
        """What each table says to enter, by the name on the screen."""
        tables = [dict(rows) for part in self.text.split("\n\n") if (rows := _ROW.findall(part))]
        return [{name: value.strip("`") for name, value in table.items()} for table in tables]


def sections() -> dict[tuple[str, str], Section]:
    """All that have something to do in them, by page and heading; the heading of a page's top is empty."""
    found = {}
    for page in PAGES.glob("*.md"):
        parts = ["", *_HEADING.split(page.read_text())]
        for heading, text in zip(parts[::2], parts[1::2], strict=True):
            found[page.name, heading] = Section(text)
    return {name: section for name, section in found.items() if any(section.blocks()) or section.screens()}
