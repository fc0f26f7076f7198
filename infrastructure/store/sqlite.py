"""The store in one SQLite file: write-ahead log, synchronous=FULL, and deleted bytes overwritten."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any
from uuid import UUID

from eventsourcing.persistence import OperationalError, StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteCursor

from domain.errors import StoreRefused
from infrastructure.new_file import sync
from infrastructure.store.eventsourcing_internals import (
    DurableSqliteDatastore,
    insert_in_sqlite,
    library_errors,
    plain_cursor,
)
from infrastructure.store.query import Query, rows_in
from infrastructure.store.store import Store, UnitOfWork, store_unit_of_work

_LOCK_TIMEOUT_SECONDS = 30
_POOL_SIZE = 32
_ROOM_BYTES = 8 * 1024 * 1024
"""The free space that a request to a provider needs."""


class _SqliteQuery:
    def __init__(self, cursor: SQLiteCursor) -> None:
        self._cursor = plain_cursor(cursor)

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Mapping[str, Any]]:
        return self._cursor.execute(statement, parameters).fetchall()

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        return self._cursor.execute(statement, parameters).rowcount

    def run_many(self, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
        self._cursor.executemany(statement, parameters)

    def events(self, after: int, limit: int) -> list[tuple[int, StoredEvent]]:
        statement = "SELECT rowid AS position, * FROM stored_events WHERE rowid > ? ORDER BY rowid LIMIT ?"
        return [_stored(row) for row in self._cursor.execute(statement, (after, limit))]

    def events_near(
        self, position: int, limit: int, *, backwards: bool = False, of: Sequence[UUID] | None = None
    ) -> list[tuple[int, StoredEvent]]:
        # The plus sign keeps SQLite from reading the whole log by position instead of by id.
        place = "rowid" if of is None else "+rowid"
        among = "" if of is None else f"originator_id IN {self.texts('?')} AND "
        statement = (
            f"SELECT rowid AS position, * FROM stored_events WHERE {among}{place} {'<' if backwards else '>'} ?"  # noqa: S608
            f" ORDER BY {place} {'DESC' if backwards else 'ASC'} LIMIT ?"
        )
        ids = () if of is None else (json.dumps([id.hex for id in of]),)
        return [_stored(row) for row in self._cursor.execute(statement, (*ids, position, limit))]

    def events_of(
        self, ids: Sequence[UUID], until: int | None, but: Sequence[str] = ()
    ) -> list[tuple[int, StoredEvent]]:
        # The plus sign keeps SQLite from reading the whole log by position instead of by id.
        statement = "SELECT rowid AS position, * FROM stored_events WHERE"
        end = "" if until is None else f" +rowid <= {until} AND"
        left_out = "".join(f" topic NOT LIKE '{topic}%' AND" for topic in but)
        return self._in_log_order(f"{statement}{end}{left_out} originator_id IN", ids)

    def first_events(self, ids: Sequence[UUID]) -> list[tuple[int, StoredEvent]]:
        statement = "SELECT rowid AS position, * FROM stored_events WHERE originator_version = 1 AND originator_id IN"
        return self._in_log_order(statement, ids)

    def _in_log_order(self, statement: str, ids: Sequence[UUID]) -> list[tuple[int, StoredEvent]]:
        return sorted(map(_stored, rows_in(self, statement, [id.hex for id in ids])), key=itemgetter(0))

    def copy_events(self, events: Sequence[tuple[int, StoredEvent]]) -> None:
        statement = (
            "INSERT INTO stored_events (rowid, originator_id, originator_version, topic, state) VALUES (?, ?, ?, ?, ?)"
        )
        values = ((at, UUID(str(e.originator_id)).hex, e.originator_version, e.topic, e.state) for at, e in events)
        self._cursor.executemany(statement, values)

    def last_version(self, id: str) -> str:
        hexadecimal = f"replace({id}, '-', '')"
        return f"(SELECT max(originator_version) FROM stored_events WHERE originator_id = {hexadecimal})"  # noqa: S608

    def joined(self, expression: str) -> str:
        return f"group_concat({expression}, ' ')"

    def texts(self, parameter: str) -> str:
        return f"(SELECT value FROM json_each({parameter}))"  # noqa: S608

    def pairs(self, parameter: str) -> str:
        return f"(SELECT key, value FROM json_each({parameter}))"  # noqa: S608

    def by_code_point(self, expression: str) -> str:
        return expression

    def write_chain(self, links: Sequence[tuple[int, int, bytes]], head: tuple[int, int, bytes, bytes]) -> None:
        self._cursor.executemany("INSERT INTO chain (number, position, link) VALUES (?, ?, ?)", links)
        statement = "UPDATE chain_head SET number = ?, position = ?, link = ?, mac = ? WHERE id = 1"
        self._cursor.execute(statement, head)

    def last_of(self, topics: Sequence[str], after: int) -> int | None:
        wanted = ", ".join("?" * len(topics))
        statement = f"SELECT max(rowid) FROM stored_events WHERE rowid > ? AND topic IN ({wanted})"  # noqa: S608
        position: int | None = self._cursor.execute(statement, (after, *topics)).fetchone()[0]
        return position

    def version_of(self, id: UUID) -> int | None:
        statement = "SELECT max(originator_version) FROM stored_events WHERE originator_id = ?"
        version: int | None = self._cursor.execute(statement, (id.hex,)).fetchone()[0]
        return version


def _stored(row: Mapping[str, Any]) -> tuple[int, StoredEvent]:
    id = UUID(row["originator_id"])
    return row["position"], StoredEvent(id, row["originator_version"], row["topic"], row["state"])


class _Recorder(SQLiteApplicationRecorder):
    def __init__(self, datastore: DurableSqliteDatastore, store: Store) -> None:
        super().__init__(datastore)
        self._store = store

    def insert_events(
        self, stored_events: Sequence[StoredEvent], *, unit_of_work: UnitOfWork | None = None, **_: Any
    ) -> Sequence[int]:
        work = unit_of_work or UnitOfWork()
        return self._store.with_newest_keys(lambda: self._insert(stored_events, work))

    def _insert(self, stored_events: Sequence[StoredEvent], work: UnitOfWork) -> Sequence[int]:
        with self.datastore.transaction(commit=True) as cursor:

            def insert() -> Sequence[int]:
                return insert_in_sqlite(self, cursor, stored_events)

            return store_unit_of_work(_SqliteQuery(cursor), stored_events, insert, self._store.integrity, work)


class SqliteStore(Store):
    """A store in the file `path`.

    Its write-ahead log, which has the newest changes, is gone after a clean end of the last process.
    """

    shared_by_nodes = False
    bytes_type = "BLOB"
    integer_type = "INTEGER"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wal_is_missing = path.exists() and not Path(f"{path}-wal").exists()
        self._datastore = DurableSqliteDatastore(path, lock_timeout_seconds=_LOCK_TIMEOUT_SECONDS, pool_size=_POOL_SIZE)
        self._recorder = _Recorder(self._datastore, self)
        self.recorder = self._recorder

    def create_tables(self) -> None:
        """Create the tables that are missing; only the owner can read the file."""
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        with self.writing() as query:
            for statement in (*self._recorder.create_table_statements, *self.create_statements()):
                query.run(statement)

    def tables(self) -> Set[str]:
        """The names of all tables of the file, those of other programs included; a missing file is not created."""
        if not self.path.exists():
            return set()
        # A connection of the pool would change the journal mode, also of another program's file.
        with library_errors(), closing(sqlite3.connect(self.path, timeout=_LOCK_TIMEOUT_SECONDS)) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    @contextmanager
    def reading(self) -> Iterator[Query]:
        """A transaction that reads one consistent snapshot, which SQLite takes at the first read."""
        with self._datastore.transaction(commit=False) as cursor:
            yield _SqliteQuery(cursor)

    @contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[Query]:
        """A transaction that commits; SQLite lets no other one write meanwhile."""
        with self._datastore.transaction(commit=True) as cursor:
            yield _SqliteQuery(cursor)

    def now_seconds(self, query: Query) -> float:
        """Seconds since this machine's boot, suspended or not."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def forget(self) -> bool:
        """Write the write-ahead log back and truncate it; then no file has the bytes of deleted rows."""
        try:
            with self._datastore.get_connection(commit=True) as connection:
                cursor = connection.cursor()
                # A checkpoint that waited for a long reader would keep every writer waiting too.
                cursor.execute("PRAGMA busy_timeout = 0")
                try:
                    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    return int(cursor.fetchone()[0]) == 0
                finally:
                    cursor.execute(f"PRAGMA busy_timeout = {_LOCK_TIMEOUT_SECONDS * 1000}")
        except (sqlite3.OperationalError, OperationalError):
            return False

    def has_room(self) -> bool:
        """Whether the file system of the store has 8 MiB free."""
        return shutil.disk_usage(self.path.parent).free >= _ROOM_BYTES

    def back_up(self, suffix: str) -> str:
        """Copy the committed state, also while others read and write; only the owner can read the copy.

        Raises:
            StoreRefused: there is no room for it.
        """
        copy = self.path.with_name(f"{self.path.name}.{suffix}")
        size = sum(path.stat().st_size for path in (self.path, Path(f"{self.path}-wal")) if path.exists())
        if shutil.disk_usage(self.path.parent).free < size + _ROOM_BYTES:
            raise StoreRefused("no_room_for_backup", path=str(copy), mebibytes=(size + _ROOM_BYTES) // 2**20 + 1)
        os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with (
                library_errors(),
                closing(sqlite3.connect(self.path)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
            for path in (copy, copy.parent):
                sync(path)
        except BaseException:
            copy.unlink()
            raise
        return str(copy)

    def close(self) -> None:
        """Close every connection, once the transactions under way are over; none begins any more."""
        self._datastore.close()
