"""The store in PostgreSQL, for several nodes: the same tables, one writer at a time in commit order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg import Connection, Cursor
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow

from domain.errors import StoreRefused
from infrastructure.store import Alongside, Query, Store, store_alongside

_LOCK_TIMEOUT_SECONDS = 30
_POOL_SIZE = 10


class _PostgresQuery:
    def __init__(self, cursor: Cursor[DictRow]) -> None:
        self._cursor = cursor

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Mapping[str, Any]]:
        self._execute(statement, parameters)
        return list(self._cursor.fetchall())

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        self._execute(statement, parameters)
        return self._cursor.rowcount

    def run_many(self, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
        self._cursor.executemany(_translate(statement), parameters)

    def events(self, after: int, limit: int) -> list[tuple[int, StoredEvent]]:
        statement = "SELECT * FROM stored_events WHERE notification_id > ? ORDER BY notification_id LIMIT ?"
        return [_stored(row) for row in self.rows(statement, (after, limit))]

    def version_of(self, id: UUID) -> int | None:
        statement = "SELECT max(originator_version) AS version FROM stored_events WHERE originator_id = ?"
        version: int | None = self.rows(statement, (id,))[0]["version"]
        return version

    def _execute(self, statement: str, parameters: Sequence[Any]) -> None:
        self._cursor.execute(_translate(statement), parameters)


def _stored(row: Mapping[str, Any]) -> tuple[int, StoredEvent]:
    event = StoredEvent(row["originator_id"], row["originator_version"], row["topic"], bytes(row["state"]))
    return row["notification_id"], event


def _translate(statement: str) -> bytes:
    # Our statements hold no literal "?" or "%".
    return statement.replace("?", "%s").encode()


class _Recorder(PostgresApplicationRecorder):
    def _create_table(self, curs: Cursor[DictRow]) -> None:
        super()._create_table(curs)
        for statement in PostgresStore.create_statements():
            curs.execute(statement.encode())

    def lock(self, curs: Cursor[DictRow]) -> None:
        """Keep every other writer of events out until this transaction ends."""
        self._lock_table(curs)

    # The library's own insert_events can commit the rows beside the events without them when the client fails in
    # between, and repeats itself after an error that may hide a commit. One plain transaction, and no repetition.
    def insert_events(
        self, stored_events: Sequence[StoredEvent], *, beside: Alongside | None = None, **_: Any
    ) -> Sequence[int]:
        with self.datastore.transaction(commit=True) as cursor:
            self._lock_table(cursor)

            def insert() -> Sequence[int]:
                self._notify_channel(cursor)
                super(PostgresApplicationRecorder, self)._insert_stored_events(cursor, stored_events)
                return [row["notification_id"] for row in cursor.fetchall()]

            return store_alongside(_PostgresQuery(cursor), stored_events, insert, beside or Alongside())


class PostgresStore(Store):
    """A store in the database `url` names (libpq's URI or keywords), with `password` if that has none.

    Raises:
        StoreRefused: not a PostgreSQL address.
    """

    shared_by_nodes = True
    bytes_type = "bytea"
    integer_type = "bigint"

    def __init__(self, url: str, password: str | None = None) -> None:
        try:
            parts = conninfo_to_dict(url)
        except Exception:
            raise StoreRefused("[store] url is not an address PostgreSQL understands") from None
        self._datastore = PostgresDatastore(
            dbname=str(parts.pop("dbname", None) or "mailtoken"),
            host=str(parts.pop("host", None) or ""),
            port=str(parts.pop("port", None) or "5432"),
            user=str(parts.pop("user", None) or ""),
            password=str(parts.pop("password", None) or password or ""),
            pool_size=1,
            max_overflow=_POOL_SIZE - 1,
            lock_timeout=_LOCK_TIMEOUT_SECONDS,
            connect_timeout=30.0,
            pre_ping=True,
        )
        # The library has no place for the rest, such as sslmode and sslrootcert.
        assert isinstance(self._datastore.pool.kwargs, dict)
        self._datastore.pool.kwargs.update(parts)
        self._recorder = _Recorder(self._datastore)
        self.recorder = self._recorder

    def create_tables(self) -> None:
        """Make what is missing."""
        self._recorder.create_table()

    def has_tables(self) -> bool:
        """Whether there is a store in the database; its types are made known to this process if so."""
        with self.reading() as query:
            found = bool(query.rows("SELECT 1 FROM information_schema.tables WHERE table_name = 'meta'"))
        if found:
            self._datastore.register_type_adapters()
        return found

    @contextmanager
    def reading(self) -> Iterator[Query]:
        """One consistent snapshot."""
        with self._datastore.get_connection() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield self._query(connection)

    @contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[Query]:
        """One transaction; those that write events wait for it only if it must be alone."""
        with self._datastore.get_connection() as connection, connection.transaction():
            if alone:
                self._recorder.lock(connection.cursor())
            yield self._query(connection)

    def now_seconds(self, query: Query) -> float:
        """The database's clock, the same for every node."""
        (row,) = query.rows("SELECT extract(epoch FROM clock_timestamp())::double precision AS seconds")
        return float(row["seconds"])

    def forget(self) -> bool:
        """PostgreSQL overwrites dropped rows in its own time; this promises nothing."""
        return True

    def has_room(self) -> bool:
        """The server says so when it has none."""
        return True

    def close(self) -> None:
        """Close every connection."""
        self._datastore.close()

    @staticmethod
    def _query(connection: Connection[DictRow]) -> Query:
        return _PostgresQuery(connection.cursor())
