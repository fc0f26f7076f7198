"""A JSON array with an object a line, so that its writer and its reader need not have the whole array at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any


def array_lines(objects: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The lines of the array, each with its end."""
    yield "["
    comma = ""
    for one in objects:
        yield f"{comma}\n{json.dumps(one)}"
        comma = ","
    yield "\n]\n"


def objects_of(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The objects of an array that `array_lines` made.

    Raises:
        ValueError: a line is not one of such an array, or the last lines are missing.
    """
    line = b""
    for line in lines:
        text = line.strip().removesuffix(b",")
        if text not in (b"[", b"]"):
            yield json.loads(text)
    if line.strip() != b"]":
        raise ValueError("the array has no end")
