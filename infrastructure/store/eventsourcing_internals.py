"""The uses of undocumented parts of the eventsourcing library.

A test lists these parts, so that it fails with a version of the library that changes one. The one other use is in
`domain.aggregate`, which calls the library's `_create`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from eventsourcing.domain import Snapshot
from eventsourcing.persistence import JSONTranscoder, OperationalError, StoredEvent, Transcoding
from eventsourcing.sqlite import (
    SQLiteApplicationRecorder,
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteCursor,
    SQLiteDatastore,
    SQLiteTransaction,
)

if TYPE_CHECKING:  # the package of PostgreSQL is optional
    from eventsourcing.postgres import PostgresApplicationRecorder
    from psycopg import Cursor
    from psycopg.rows import DictRow

_POOL_TIMEOUT_SECONDS = 30.0
_CLOSE_SECONDS = 30.0


# Any engine


class SubclassTranscoder(JSONTranscoder):
    """Encodes a subclass as its base: the datetime of the test library freezegun is a subclass of the real one."""

    def _encode_obj(self, o: Any) -> dict[str, Any]:
        for base in type(o).__mro__:
            transcoding: Transcoding | None = self.types.get(base)
            if transcoding:
                return {"_type_": transcoding.name, "_data_": transcoding.encode(o)}
        return super()._encode_obj(o)


def aggregate_in_state(id: UUID, version: int, topic: str, state: object, since: datetime) -> Any:
    """The aggregate of this topic in this state, without its events."""
    attributes: Mapping[str, Any] = {"state": state, "_created_on": since, "_modified_on": since}
    return Snapshot(id, version, since, topic, dict(attributes)).mutate(None)


# SQLite


@contextmanager
def library_errors() -> Iterator[None]:
    """Turn SQLite's errors, such as that of a locked file, into the library's own where the library does not."""
    try:
        yield
    except sqlite3.Error as error:
        raise OperationalError(str(error)) from error


class _Transaction(SQLiteTransaction):
    """Begins IMMEDIATE if it writes: a DEFERRED transaction that has read can fail at its first write."""

    def __enter__(self) -> SQLiteCursor:
        cursor = self.connection.cursor()
        with library_errors():
            cursor.execute("BEGIN IMMEDIATE" if self.commit else "BEGIN")
        return cursor


class _Connection(SQLiteConnection):
    @contextmanager
    def transaction(self, *, commit: bool) -> Iterator[SQLiteCursor]:
        with _Transaction(self, commit=commit) as cursor, cursor:
            yield cursor


class _Pool(SQLiteConnectionPool):
    """Sets each connection up; the library has no hook for it."""

    def _create_connection(self) -> SQLiteConnection:
        with library_errors():
            plain = super()._create_connection()._sqlite_conn
            plain.execute("PRAGMA synchronous = FULL")
            plain.execute("PRAGMA secure_delete = ON")
        return _Connection(plain, self.max_age)


class _Uses:
    """Counts the uses of something that must not be closed under them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._number = 0
        self._is_over = False

    @contextmanager
    def one(self) -> Iterator[None]:
        with self._changed:
            if self._is_over:
                raise OperationalError("the store is closed")
            self._number += 1
        try:
            yield
        finally:
            with self._changed:
                self._number -= 1
                self._changed.notify_all()

    def end(self, timeout_seconds: float) -> bool:
        """Allow no further use; returns whether the last one ended in this time."""
        with self._changed:
            self._is_over = True
            return self._changed.wait_for(lambda: not self._number, timeout_seconds)


class DurableSqliteDatastore(SQLiteDatastore):
    """The library's datastore on connections with synchronous=FULL and secure_delete=ON.

    `close` waits for the transactions of other threads: SQLite crashes the process if a connection is closed in use.
    """

    def __init__(self, path: Path, *, lock_timeout_seconds: int, pool_size: int) -> None:
        self._uses = _Uses()
        options: dict[str, Any] = {
            "lock_timeout": lock_timeout_seconds,
            "pool_size": pool_size,
            "pool_timeout": _POOL_TIMEOUT_SECONDS,
        }
        super().__init__(str(path), **options)
        self.pool.close()
        self.pool = _Pool(db_name=str(path), **options)

    @contextmanager
    def get_connection(self, *, commit: bool) -> Iterator[SQLiteConnection]:
        """A connection; an `OperationalError` once the datastore is closed."""
        with self._uses.one(), super().get_connection(commit=commit) as connection:
            yield connection

    def close(self) -> None:
        """Close every connection; all are left to the end of the process if one is still in use after some time."""
        if self._uses.end(_CLOSE_SECONDS):
            super().close()

    def __del__(self) -> None:
        super().close()


def plain_cursor(cursor: SQLiteCursor) -> sqlite3.Cursor:
    """The cursor of the standard library."""
    return cursor.sqlite_cursor


def insert_in_sqlite(
    recorder: SQLiteApplicationRecorder, cursor: SQLiteCursor, events: Sequence[StoredEvent]
) -> Sequence[int]:
    """Insert events within the transaction of `cursor`; returns their positions."""
    return recorder._insert_events(cursor, events) or ()


# PostgreSQL


def lock_in_postgres(recorder: PostgresApplicationRecorder, cursor: Cursor[DictRow]) -> None:
    """Make every other writer of events wait until this transaction ends."""
    recorder._lock_table(cursor)


def insert_in_postgres(
    recorder: PostgresApplicationRecorder,
    cursor: Cursor[DictRow],
    positions: Sequence[int],
    events: Sequence[StoredEvent],
) -> None:
    """Insert events at these positions within the transaction of `cursor`, which has the lock; nothing is awaited."""
    recorder._notify_channel(cursor)
    columns = [
        list(positions),
        [event.originator_id for event in events],
        [event.originator_version for event in events],
        [event.topic for event in events],
        [event.state for event in events],
    ]
    cursor.execute(
        b"INSERT INTO stored_events (notification_id, originator_id, originator_version, topic, state)"
        b" SELECT * FROM unnest(%s::bigint[], %s::uuid[], %s::bigint[], %s::text[], %s::bytea[])",
        columns,
    )
