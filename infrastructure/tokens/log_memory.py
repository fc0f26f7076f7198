"""This node's memory of the end of the log, in a file beside the escrow.

A log that is put back behind the service's back can't have this file's event. The file is replaced as a whole, so a
crash leaves the memory before or after.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from domain.log_hold import BEHIND, DIFFERS, LogHead
from infrastructure.clock import instant_text, read_instant
from infrastructure.new_file import replace_file
from infrastructure.store.log_head import read_link, read_log_head
from infrastructure.store.query import Query

log = structlog.get_logger("mailtoken")


@dataclass(frozen=True)
class KnownHead:
    """The end of the log that this node has seen, and the instant at which it saw it.

    `last_right` is the last event in it with which a client may have lost a right; None if the file is of a program
    that did not note it.
    """

    head: LogHead
    at: datetime
    last_right: LogHead | None = None


class LogMemory:
    """The memory of the log of the store `store_id`, kept beside the folder `escrow`."""

    def __init__(self, escrow: Path, store_id: str) -> None:
        self._path = escrow.with_name(f"{escrow.name}.log-head")
        self._store_id = store_id
        self._known = self._read()

    @property
    def known(self) -> KnownHead | None:
        """The end that was written last; None without one of this store: there is nothing to compare with."""
        return self._known

    def write(self, known: KnownHead) -> None:
        """Write the file to stable storage before returning.

        Raises:
            OSError: the storage fails; the memory before is kept.
        """
        value: dict[str, object] = {
            "store": self._store_id,
            "number": known.head.number,
            "link": known.head.link,
            "at": instant_text(known.at),
        }
        if known.last_right:
            value["last_right"] = [known.last_right.number, known.last_right.link]
        replace_file(self._path, json.dumps(value).encode(), 0o600)
        self._known = known

    def _read(self) -> KnownHead | None:
        try:
            value = json.loads(self._path.read_bytes())
            if value["store"] != self._store_id:
                return None
            number, link = value.get("last_right") or (None, None)
            right = LogHead(int(number), str(link)) if number is not None else None
            return KnownHead(LogHead(int(value["number"]), str(value["link"])), read_instant(value["at"]), right)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.error("log_head_unreadable", path=str(self._path), error=type(error).__name__)
            return None


@dataclass(frozen=True)
class LogComparison:
    """The end of the log that this node knows, if any, and the reason for a hold if the log lacks it."""

    known: LogHead | None
    difference: str | None


def compare_log(query: Query, known: KnownHead | None) -> LogComparison:
    """Compare the log with this node's memory of it."""
    return LogComparison(known.head, difference(query, known.head)) if known else LogComparison(None, None)


def proves_clients(query: Query, known: KnownHead) -> bool:
    """Whether the log has the last event that this node has seen with which a client may have lost a right."""
    right = known.last_right
    return right is None or right.number == 0 or read_link(query, right.number) == right.link


def difference(query: Query, known: LogHead) -> str | None:
    """The reason for a hold of a log that lacks this end; None if it has it."""
    if read_link(query, known.number) == known.link:
        return None
    return BEHIND if read_log_head(query).number < known.number else DIFFERS
