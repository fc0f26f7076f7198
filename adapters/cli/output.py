"""The output for a person: with colours and the terminal's width on a terminal, as plain lines elsewhere.

Every value goes through `clean`, so that no name or reply can send control characters to the terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from adapters.cli.service_socket import one_line
from adapters.json_array import array_lines

ABSENT = "-"
WIDE = 118
"""The terminal width, in columns, from which a table has a column for its sentences."""
_ENDLESS = 4000
"""The width, in columns, where output is no terminal: no line is broken, for grep."""

RETRIEVED = "Retrieved"
_MARKS = {
    "Not Retrieved": ("○", "dim"),
    "Waiting for authorisation": ("◐", "yellow"),
    RETRIEVED: ("●", "green"),
    "Invalid": ("✗", "bold red"),
}


def out() -> Console:
    """The console of standard output."""
    return _console(sys.stdout)


def err() -> Console:
    """The console of standard error, for questions and messages beside the result."""
    return _console(sys.stderr)


@cache
def _console(file: TextIO) -> Console:
    width = None if file.isatty() else _ENDLESS
    return Console(file=file, width=width, markup=False, highlight=False, emoji=False)


def print_message(line: str) -> None:
    """Print one line of the result."""
    out().print(Text(one_line(line)), soft_wrap=not out().is_terminal)


@contextmanager
def progress(doing: str, what: str = "events") -> Iterator[Callable[[int], None]]:
    """Show a person who waits how many of `what` are done."""
    if not err().is_terminal:
        yield lambda _: None
        return
    with err().status(f"{doing} ...") as status:
        yield lambda done: status.update(f"{doing} ... {done:,} {what}")


def write_json(value: Any) -> None:
    """Print the result as JSON."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def write_octets(octets: bytes) -> None:
    """Print octets as they are; a terminal gets a line feed behind a line without one."""
    sys.stdout.flush()
    sys.stdout.buffer.write(octets)
    if sys.stdout.isatty() and not octets.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def write_json_array(objects: Iterable[dict[str, Any]]) -> None:
    """Print the objects as a JSON array, an object a line, each as soon as it is there."""
    sys.stdout.writelines(array_lines(objects))


def clean(value: object) -> str:
    """A value in one line; `ABSENT` for None."""
    return ABSENT if value is None else one_line(str(value))


def label(token: str) -> Text:
    """The label of a token with its mark, the same with and without colours."""
    mark, style = _MARKS.get(token, ("?", ""))
    return Text(f"{mark} {clean(token)}", style, no_wrap=True)


def table(*headings: str) -> Table:
    """An empty table with these columns."""
    empty = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for heading in headings:
        empty.add_column(heading, overflow="fold")
    return empty


def rows(headings: Iterable[str], records: Iterable[Iterable[object]]) -> Table:
    """A table of plain values."""
    filled = table(*headings)
    for record in records:
        filled.add_row(*(Text(clean(value)) for value in record))
    return filled


def show(renderable: Table | Text) -> None:
    """Print a table or a text; without spaces at the ends of lines if the output is no terminal."""
    console = out()
    if console.is_terminal:
        console.print(renderable)
        return
    with console.capture() as captured:
        console.print(renderable)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def now() -> datetime:
    """The wall clock's time in UTC."""
    return datetime.now(UTC)


def clock_time(instant: datetime, relative_to: datetime) -> str:
    """The local time of day, with the date unless it is today's."""
    local, today = instant.astimezone(), relative_to.astimezone()
    if local.date() == today.date():
        return f"{local:%H:%M}"
    return f"{local:%b} {local.day} {local:%H:%M}" if local.year == today.year else f"{local:%Y-%m-%d %H:%M}"


def ago(text: str, relative_to: datetime) -> str:
    """An instant of JSON in the past, and how long ago it was."""
    instant = datetime.fromisoformat(text)
    seconds = (relative_to - instant).total_seconds()
    return f"{clock_time(instant, relative_to)} ({'just now' if seconds < 10 else f'{duration(seconds)} ago'})"


def ahead(text: str, relative_to: datetime) -> str:
    """An instant of JSON in the future (or just past), and how far off it is."""
    instant = datetime.fromisoformat(text)
    seconds = (instant - relative_to).total_seconds()
    when = f"in {duration(seconds)}" if seconds > 0 else f"{duration(-seconds)} ago"
    return f"{clock_time(instant, relative_to)} ({when})"


def duration(seconds: float) -> str:
    """A length of time in its largest fitting unit: days, hours, minutes or seconds."""
    for size, unit in ((86400, "day"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit != "day" and seconds >= size):
            count = int(seconds // size)
            return f"{count} {unit}{'s' if unit == 'day' else ''}"
    return f"{int(seconds)} s"


def countdown(seconds: float) -> str:
    """The time left as minutes:seconds."""
    minutes, left = divmod(max(0, int(seconds)), 60)
    return f"{minutes}:{left:02}"
