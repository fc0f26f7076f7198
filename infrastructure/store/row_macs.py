"""The MACs of rows: nobody who writes rows without the store's key can make a row that is believed.

A MAC covers the table and every column, the version of the aggregate among them. A row is believed if its MAC is right
and if its version is that of the aggregate's last event in the log, so an older row that is put back is not. The rows
that are checked are those by which somebody gets a right or a token; a list trusts the columns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import structlog

from domain.errors import Refused, StoreRefused
from infrastructure.encryption.integrity_keys import MacKeys, key_number
from infrastructure.store.query import Query
from infrastructure.store.rows import View
from infrastructure.store.schema import COLUMNS, MAC

log = structlog.get_logger("mailtoken")

TRead = TypeVar("TRead")
_encode = json.JSONEncoder(check_circular=False).encode


UNREADABLE = (ValueError, TypeError, LookupError, AttributeError)
"""The errors of reading a state from a row that something else than this program wrote."""


def readable(read: Callable[[Mapping[str, Any]], TRead], rows: Iterable[Mapping[str, Any]]) -> Iterator[TRead]:
    """What `read` makes of each row, but not of one that can't be read: one altered row must not stop the others."""
    for row in rows:
        with suppress(*UNREADABLE):
            yield read(row)


def row_message(table: str, row: Mapping[str, Any], prefix: str = "") -> bytes:
    """The bytes that a row's MAC covers; `prefix` stands before the names of the columns in `row`.

    JSON tells a number from a text and from null, which SQLite lets stand in any column.

    Raises:
        TypeError: a column holds bytes, which this program never stores there.
    """
    if prefix:
        return _encode([table, *[row[prefix + column] for column in COLUMNS[table]]]).encode()
    return _encode([table, *[row[column] for column in COLUMNS[table]]]).encode()


def columns_with_mac(table: str, prefix: str) -> str:
    """The columns of a table and its MAC for a statement that joins tables, each under its name behind `prefix`."""
    return ", ".join(f"{table}.{column} AS {prefix}{column}" for column in (*COLUMNS[table], MAC))


def insert_with_mac(query: Query, keys: MacKeys, table: str, row: Mapping[str, Any], *, otherwise: str = "") -> int:
    """Store a working row with its MAC; returns 0 if `otherwise`, the clause for a conflict, left it out."""
    statement, values = insert_statement(keys, table, row)
    return query.run(f"{statement} {otherwise}", values)


def insert_statement(keys: MacKeys, table: str, row: Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
    """The statement that stores a working row with its MAC, and its parameters."""
    whole = with_mac(keys, table, row)
    return (
        f"INSERT INTO {table} ({', '.join(whole)}) VALUES ({', '.join('?' * len(whole))})",  # noqa: S608 - our tables
        tuple(whole.values()),
    )


def with_mac(keys: MacKeys, table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its MAC."""
    return {**row, MAC: keys.mac(row_message(table, row))}


def view_with_mac(keys: MacKeys, view: View) -> View:
    """The view, whose row gets its MAC if it has one."""
    return replace(view, row=with_mac(keys, view.table, view.row)) if view.row else view


@dataclass(frozen=True, order=True)
class AlteredRow:
    """A row that is not believed: its table, the id of its aggregate, and its name if it has one."""

    table: str
    id: str
    name: str | None

    def refusal(self) -> Refused:
        """The refusal of what needs the row."""
        return Refused("row_altered", table=self.table, name=self.name or self.id)


class RowChecks:
    """Checks the rows of one store, and remembers those that failed until they are right again."""

    def __init__(self, keys: Callable[[], MacKeys], reload_keys: Callable[[], None]) -> None:
        self._keys = keys
        self._reload_keys = reload_keys
        self._altered: dict[tuple[str, str], AlteredRow] = {}

    @property
    def altered(self) -> list[AlteredRow]:
        """The rows that failed when they were last checked."""
        return sorted(self._altered.copy().values(), key=lambda row: (row.table, row.id))

    def has_mac(self, table: str, row: Mapping[str, Any], prefix: str = "") -> bool:
        """Whether the MAC of the row is right."""
        mac = row[prefix + MAC]
        if not isinstance(mac, bytes):
            return False
        if key_number(mac) > self._keys().newest:
            with suppress(StoreRefused):
                self._reload_keys()
        try:
            return self._keys().is_valid(row_message(table, row, prefix), mac)
        except TypeError:
            return False

    def is_right(self, table: str, row: Mapping[str, Any], events: int | None, prefix: str = "") -> bool:
        """Whether the row is believed; `events` is the number of its aggregate's events in the log."""
        return self.altered_row(table, row, events, prefix) is None

    def altered_row(
        self, table: str, row: Mapping[str, Any], events: int | None, prefix: str = ""
    ) -> AlteredRow | None:
        """The row if it is not believed; None if it is."""
        if row[prefix + "version"] == events and self.has_mac(table, row, prefix):
            self._altered.pop((table, str(row[prefix + "id"])), None)
            return None
        altered = _altered(table, row, prefix)
        self.note(altered)
        return altered

    def check(self, table: str, row: Mapping[str, Any], events: int | None, prefix: str = "") -> None:
        """Check that the row is believed.

        Raises:
            Refused: it is not.
        """
        if altered := self.altered_row(table, row, events, prefix):
            raise altered.refusal()

    def note(self, row: AlteredRow) -> None:
        """Remember a row that failed."""
        key = (row.table, row.id)
        if key not in self._altered:
            log.error("row_altered", table=row.table, id=row.id)
        self._altered[key] = row

    def replace(self, altered: Iterable[AlteredRow]) -> None:
        """Remember these rows, and no others."""
        found = set()
        for row in altered:
            self.note(row)
            found.add((row.table, row.id))
        for key in self._altered.keys() - found:
            self._altered.pop(key, None)

    def forget(self, table: str, id: str) -> None:
        """Forget a row that failed: it is right again."""
        self._altered.pop((table, id), None)


def _altered(table: str, row: Mapping[str, Any], prefix: str) -> AlteredRow:
    # A row of PostgreSQL is a dictionary; one of SQLite iterates over its values.
    name = row[prefix + "name"] if "name" in COLUMNS[table] else None
    return AlteredRow(table, str(row[prefix + "id"]), None if name is None else str(name))
