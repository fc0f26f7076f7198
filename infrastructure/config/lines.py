"""Finds the line of a configuration file where a table or key stands: tomllib does not say it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence

_HEADER = re.compile(r"\s*\[\[?(?P<key>.+?)\]\]?\s*(?:#.*)?")
_ASSIGNMENT = re.compile(r"\s*(?P<key>[^=#\[\]]+?)\s*=")


def line_of(text: str, place: Sequence[str]) -> int | None:
    """The number of the line with the key at `place`, such as ("server", "listen").

    Without such a line it is the line of the innermost table around it, and None if there is no such table either.
    """
    found: int | None = None
    most = 0
    for number, path in _places(text):
        common = 0
        while common < min(len(path), len(place)) and path[common] == place[common]:
            common += 1
        if common == len(path) > most:
            found, most = number, common
    return found


def _places(text: str) -> Iterator[tuple[int, Sequence[str]]]:
    """The lines of headers and keys, each with its path from the root.

    A line within a value of several lines may be taken for one of them.
    """
    table: Sequence[str] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.fullmatch(line):
            table = _path(header["key"])
            yield number, table
        elif assignment := _ASSIGNMENT.match(line):
            yield number, (*table, *_path(assignment["key"]))


def _path(key: str) -> Sequence[str]:
    """The parts of a dotted key."""
    try:
        value = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    path = []
    while isinstance(value, dict):
        (name, value), *_ = value.items()
        path.append(name)
    return path
