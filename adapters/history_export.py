"""Selected events of the log as a file: a JSON array with an event a line, or CSV for a spreadsheet.

A stretch of the log is read at a time, so a slow reader keeps no transaction open and nothing is whole in memory.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from adapters.json_array import array_lines
from adapters.texts import events
from adapters.texts.wording import Surface
from domain.scope import Scope
from infrastructure.queries.history import History
from infrastructure.queries.history_filter import HistoryFilter

MEDIA_TYPES: Mapping[str, str] = MappingProxyType({"csv": "text/csv", "json": "application/json"})
"""The formats, and the media type of each."""
_COLUMNS = ("position", "at", "who", "role", "about", "what", "profile", "aggregate", "event", "id")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def exported(history: History, wanted: HistoryFilter, scope: Scope, file_format: str) -> Iterator[str]:
    """The pieces of the file, of the events that are selected and that somebody with this scope may see."""
    if file_format == "json":
        return array_lines(one.as_json() for part in history.stretches(wanted, scope) for one in part.records)
    return _csv(history, wanted, scope)


def _csv(history: History, wanted: HistoryFilter, scope: Scope) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for part in history.stretches(wanted, scope):
        names = events.names_in(one.as_json() for one in history.created(part.records))
        writer.writerows(_row(one.as_json(), names) for one in part.records)
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _row(record: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    role, who = events.author_of(record["by"])
    about, what = events.subject_of(record, names), events.event_text(record, names, Surface.PAGE)
    own = [record["profile"] or "", record["aggregate"], record["event"], record["id"]]
    return [_plain(text) for text in (str(record["position"]), record["at"], who, role, about, what, *own)]


def _plain(text: str) -> str:
    """The text of a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
