"""The uses of undocumented parts of the eventsourcing library.

A test lists these parts, so that it fails with a version of the library that changes one. The one other use is in
`domain.aggregate`, which calls the library's `_create`.
"""

from __future__ import annotations

import sqlite3
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


class DurableSqliteDatastore(SQLiteDatastore):
    """The library's datastore on connections with synchronous=FULL and secure_delete=ON."""

    def __init__(self, path: Path, *, lock_timeout_seconds: int, pool_size: int) -> None:
        options: dict[str, Any] = {
            "lock_timeout": lock_timeout_seconds,
            "pool_size": pool_size,
            "pool_timeout": _POOL_TIMEOUT_SECONDS,
        }
        super().__init__(str(path), **options)
        self.pool.close()
        self.pool = _Pool(db_name=str(path), **options)


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
