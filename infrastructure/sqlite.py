"""The store in one SQLite file: write-ahead log, synchronous=FULL, and deleted bytes overwritten."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from eventsourcing.persistence import OperationalError, StoredEvent
from eventsourcing.sqlite import (
    SQLiteApplicationRecorder,
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteCursor,
    SQLiteDatastore,
    SQLiteTransaction,
)

from infrastructure.store import Alongside, Query, Store, store_alongside

_LOCK_TIMEOUT_SECONDS = 30
_POOL_SIZE = 32
_ROOM_BYTES = 8 * 1024 * 1024
"""Less free space than this and no new token is asked for."""


@contextmanager
def _library_errors() -> Iterator[None]:
    """The library's own errors, where it lets SQLite's through: a file that is locked, or is no database."""
    try:
        yield
    except sqlite3.Error as error:
        raise OperationalError(str(error)) from error


class _Transaction(SQLiteTransaction):
    """Begins IMMEDIATE to write: a DEFERRED transaction that reads first fails at once when it writes."""

    def __enter__(self) -> SQLiteCursor:
        cursor = self.connection.cursor()
        with _library_errors():
            cursor.execute("BEGIN IMMEDIATE" if self.commit else "BEGIN")
        return cursor


class _Connection(SQLiteConnection):
    @contextmanager
    def transaction(self, *, commit: bool) -> Iterator[SQLiteCursor]:
        with _Transaction(self, commit=commit) as cursor, cursor:
            yield cursor


class _Pool(SQLiteConnectionPool):
    def _create_connection(self) -> SQLiteConnection:
        with _library_errors():
            plain = super()._create_connection()._sqlite_conn  # noqa: SLF001 - the library has no hook for PRAGMAs
            plain.execute("PRAGMA synchronous = FULL")
            plain.execute("PRAGMA secure_delete = ON")
        return _Connection(plain, self.max_age)


class _Datastore(SQLiteDatastore):
    def __init__(self, path: Path) -> None:
        super().__init__(str(path), lock_timeout=_LOCK_TIMEOUT_SECONDS, pool_size=_POOL_SIZE, pool_timeout=30.0)
        self.pool.close()
        self.pool = _Pool(
            db_name=str(path), lock_timeout=_LOCK_TIMEOUT_SECONDS, pool_size=_POOL_SIZE, pool_timeout=30.0
        )


class _SqliteQuery:
    def __init__(self, cursor: SQLiteCursor) -> None:
        self._cursor = cursor.sqlite_cursor

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Mapping[str, Any]]:
        return self._cursor.execute(statement, parameters).fetchall()

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        return self._cursor.execute(statement, parameters).rowcount

    def run_many(self, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
        self._cursor.executemany(statement, parameters)

    def events(self, after: int, limit: int) -> list[tuple[int, StoredEvent]]:
        statement = "SELECT rowid AS position, * FROM stored_events WHERE rowid > ? ORDER BY rowid LIMIT ?"
        return [_stored(row) for row in self._cursor.execute(statement, (after, limit))]

    def version_of(self, id: UUID) -> int | None:
        statement = "SELECT max(originator_version) FROM stored_events WHERE originator_id = ?"
        version: int | None = self._cursor.execute(statement, (id.hex,)).fetchone()[0]
        return version


def _stored(row: sqlite3.Row) -> tuple[int, StoredEvent]:
    id = UUID(row["originator_id"])
    return row["position"], StoredEvent(id, row["originator_version"], row["topic"], row["state"])


class _Recorder(SQLiteApplicationRecorder):
    def _create_table(self, c: SQLiteCursor) -> None:
        super()._create_table(c)
        for statement in SqliteStore.create_statements():
            c.execute(statement)

    def _insert_events(
        self, c: SQLiteCursor, stored_events: Sequence[StoredEvent], *, beside: Alongside | None = None, **_: Any
    ) -> Sequence[int]:
        def insert() -> Sequence[int]:
            return super(_Recorder, self)._insert_events(c, stored_events) or ()

        return store_alongside(_SqliteQuery(c), stored_events, insert, beside or Alongside())


class SqliteStore(Store):
    """A store in the file `path`."""

    shared_by_nodes = False
    bytes_type = "BLOB"
    integer_type = "INTEGER"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._datastore = _Datastore(path)
        self._recorder = _Recorder(self._datastore)
        self.recorder = self._recorder

    def create_tables(self) -> None:
        """Make what is missing; the file is readable by its owner only."""
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        self._recorder.create_table()

    def has_tables(self) -> bool:
        """Whether there is a store in the file; a file that is not there is not made."""
        if not self.path.exists():
            return False
        with self.reading() as query:
            return bool(query.rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'"))

    @contextmanager
    def reading(self) -> Iterator[Query]:
        """One consistent snapshot: SQLite takes it at the first read."""
        with self._datastore.transaction(commit=False) as cursor:
            yield _SqliteQuery(cursor)

    @contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[Query]:
        """One transaction, the only one that writes."""
        with self._datastore.transaction(commit=True) as cursor:
            yield _SqliteQuery(cursor)

    def now_seconds(self, query: Query) -> float:
        """Seconds since this machine's boot, suspended or not."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def forget(self) -> bool:
        """Write the log back and truncate it: sealed bytes that were dropped are in no file then."""
        try:
            with self._datastore.get_connection(commit=True) as connection:
                cursor = connection.cursor()
                # Not to wait for a long reader: it would keep every writer waiting too.
                cursor.execute("PRAGMA busy_timeout = 0")
                try:
                    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    return int(cursor.fetchone()[0]) == 0
                finally:
                    cursor.execute(f"PRAGMA busy_timeout = {_LOCK_TIMEOUT_SECONDS * 1000}")
        except (sqlite3.OperationalError, OperationalError):
            return False

    def has_room(self) -> bool:
        """Whether the file system has room for some pages."""
        return shutil.disk_usage(self.path.parent).free >= _ROOM_BYTES

    def close(self) -> None:
        """Close every connection."""
        self._datastore.close()
