"""The store in PostgreSQL, which several nodes share: the same tables, and one writer of events at a time."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from operator import itemgetter
from typing import Any
from uuid import UUID

import psycopg
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg import Connection, Cursor
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.rows import DictRow

from domain.errors import StoreRefused
from infrastructure.store.eventsourcing_internals import insert_in_postgres, lock_in_postgres
from infrastructure.store.hash_chain import READ_HEAD, head_of
from infrastructure.store.postgres_pool import PostgresPool, ask_session, parameters_of
from infrastructure.store.query import Query
from infrastructure.store.store import RELAY_USERS, Found, Store, UnitOfWork, store_unit_of_work

_LOCK_TIMEOUT_SECONDS = 30
_LAST_POSITION = 2**63 - 1


_POSITIONS = (
    "SELECT nextval(pg_get_serial_sequence('stored_events', 'notification_id')) AS position FROM generate_series(1, %s)"
)
_VERSIONS = (
    "SELECT originator_id AS id, max(originator_version) AS version FROM stored_events"
    " WHERE originator_id = ANY(%s::uuid[]) GROUP BY originator_id"
)


_WRITE_CHAIN = (
    b"WITH head AS (UPDATE chain_head SET number = %s, position = %s, link = %s, mac = %s WHERE id = 1)"
    b" INSERT INTO chain (number, position, link) SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[])"
)


class _NotBegun(Exception):
    """The connection was broken or its server read-only, as was found before anything was written."""


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

    def events_near(
        self, position: int, limit: int, *, backwards: bool = False, of: Sequence[UUID] | None = None
    ) -> list[tuple[int, StoredEvent]]:
        among = "" if of is None else "originator_id = ANY(?) AND "
        statement = (
            f"SELECT * FROM stored_events WHERE {among}notification_id {'<' if backwards else '>'} ?"  # noqa: S608
            f" ORDER BY notification_id {'DESC' if backwards else 'ASC'} LIMIT ?"
        )
        ids = () if of is None else (list(of),)
        return [_stored(row) for row in self.rows(statement, (*ids, position, limit))]

    def events_of(
        self, ids: Sequence[UUID], until: int | None, but: Sequence[str] = ()
    ) -> list[tuple[int, StoredEvent]]:
        statement = "SELECT * FROM stored_events WHERE originator_id = ANY(?) AND notification_id <= ?"
        end = _LAST_POSITION if until is None else until
        left_out = [f"{topic}%" for topic in but]
        return self._in_log_order(f"{statement} AND topic NOT LIKE ALL(?)", (list(ids), end, left_out))

    def first_events(self, ids: Sequence[UUID]) -> list[tuple[int, StoredEvent]]:
        statement = "SELECT * FROM stored_events WHERE originator_version = 1 AND originator_id = ANY(?)"
        return self._in_log_order(statement, (list(ids),))

    def _in_log_order(self, statement: str, parameters: Sequence[Any]) -> list[tuple[int, StoredEvent]]:
        return sorted(map(_stored, self.rows(statement, parameters)), key=itemgetter(0))

    def copy_events(self, events: Sequence[tuple[int, StoredEvent]]) -> None:
        statement = (
            "INSERT INTO stored_events (notification_id, originator_id, originator_version, topic, state)"
            " VALUES (?, ?, ?, ?, ?)"
        )
        values = [(at, e.originator_id, e.originator_version, e.topic, e.state) for at, e in events]
        if values:
            self.run_many(statement, values)
            sequence = "SELECT setval(pg_get_serial_sequence('stored_events', 'notification_id'), ?)"
            self._execute(sequence, (events[-1][0],))

    def last_version(self, id: str) -> str:
        hexadecimal = f"replace({id}, '-', '')"
        # A cast of any other text would fail, and with it the whole statement.
        value = f"CASE WHEN {hexadecimal} ~ '^[0-9a-f]{{32}}$' THEN {hexadecimal}::uuid END"
        return f"(SELECT max(originator_version) FROM stored_events WHERE originator_id = {value})"  # noqa: S608

    def joined(self, expression: str) -> str:
        return f"string_agg({expression}, ' ' ORDER BY {expression})"

    def texts(self, parameter: str) -> str:
        return f"(SELECT jsonb_array_elements_text(CAST({parameter} AS jsonb)))"

    def pairs(self, parameter: str) -> str:
        return f"(SELECT key, value FROM jsonb_each_text(CAST({parameter} AS jsonb)))"  # noqa: S608

    def by_code_point(self, expression: str) -> str:
        return f'{expression} COLLATE "C"'

    def write_chain(self, links: Sequence[tuple[int, int, bytes]], head: tuple[int, int, bytes, bytes]) -> None:
        numbers, positions, hashes = ([link[part] for link in links] for part in range(3))
        self._cursor.execute(_WRITE_CHAIN, (*head, numbers, positions, hashes))

    def last_of(self, topics: Sequence[str], after: int) -> int | None:
        statement = (
            "SELECT max(notification_id) AS position FROM stored_events WHERE notification_id > ? AND topic = ANY(?)"
        )
        position: int | None = self.rows(statement, (after, list(topics)))[0]["position"]
        return position

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


class _Datastore(PostgresDatastore):
    """The library's datastore on our pool."""

    def __init__(self, pool: PostgresPool, schema: str) -> None:
        super().__init__("", "", "", "", "", lock_timeout=_LOCK_TIMEOUT_SECONDS, schema=schema)
        self.pool: Any = pool

    def register_type_adapters(self) -> None:
        """Do nothing: events are stored without the library's composite type, whose oid is another on each server."""


class _Recorder(PostgresApplicationRecorder):
    def __init__(self, datastore: _Datastore, store: Store) -> None:
        super().__init__(datastore)
        self._store = store

    # The library's own insert_events can commit the unit of work without the events if the client fails in between, and
    # repeats itself after an error that may hide a commit. This one begins a transaction in its first round trip, in
    # which it reads, and writes and commits in its second, which it never repeats.
    def insert_events(
        self, stored_events: Sequence[StoredEvent], *, unit_of_work: UnitOfWork | None = None, **_: Any
    ) -> Sequence[int]:
        work = unit_of_work or UnitOfWork()
        return self._store.with_newest_keys(lambda: self._insert(stored_events, work))

    def _insert(self, stored_events: Sequence[StoredEvent], work: UnitOfWork) -> Sequence[int]:
        pool = self.datastore.pool
        assert isinstance(pool, PostgresPool)
        try:
            with pool.unchecked(), self.datastore.get_connection() as connection:
                try:
                    begun = self._begin(connection, len(stored_events), work)
                except psycopg.Error as error:
                    if not connection.closed and not isinstance(error, ReadOnlySqlTransaction):
                        raise
                    pool.give_up(connection)
                    raise _NotBegun from error
                return self._finish(connection, stored_events, work, *begun)
        except _NotBegun:
            with self.datastore.get_connection() as connection:
                begun = self._begin(connection, len(stored_events), work)
                return self._finish(connection, stored_events, work, *begun)

    def _begin(self, connection: Connection[DictRow], events: int, work: UnitOfWork) -> tuple[Found, Sequence[int]]:
        """Begin a transaction that has the lock, in one round trip: what it finds, and positions for its events."""
        with connection.pipeline():
            connection.execute("BEGIN")
            lock_in_postgres(self, connection.cursor())
            head = connection.execute(READ_HEAD)
            taken = connection.execute(_POSITIONS, (events,))
            versions = connection.execute(_VERSIONS, ([str(id) for id in work.expects],)) if work.expects else None
            users = connection.execute(RELAY_USERS) if work.leaving else None
        known = {row["id"]: row["version"] for row in versions or ()}
        found = Found(
            head_of(head.fetchall()), {id: known.get(id) for id in work.expects}, users.fetchall() if users else ()
        )
        return found, sorted(row["position"] for row in taken)

    def _finish(
        self,
        connection: Connection[DictRow],
        events: Sequence[StoredEvent],
        work: UnitOfWork,
        found: Found,
        positions: Sequence[int],
    ) -> Sequence[int]:
        """Write all and commit, in one round trip; after the first statement that fails the server runs no other."""
        with connection.pipeline():
            cursor = connection.cursor()

            def insert() -> Sequence[int]:
                insert_in_postgres(self, cursor, positions, events)
                return positions

            store_unit_of_work(_PostgresQuery(cursor), events, insert, self._store.integrity, work, found)
            committed = connection.execute("COMMIT", prepare=False)
        if committed.statusmessage != "COMMIT":
            raise psycopg.OperationalError(f"the transaction ended with {committed.statusmessage}")
        return positions

    # The library reads ten times before it gives up; the pool has tried a new connection already.
    select_events: Any = inspect.unwrap(PostgresApplicationRecorder.select_events)

    def create_statements(self) -> Iterator[str]:
        """The statements that create the library's table and index, but not its types and functions."""
        statements = (statement.as_string() for statement in self.sql_create_statements)
        return (text for text in statements if text.startswith(("CREATE TABLE", "CREATE UNIQUE INDEX")))


class PostgresStore(Store):
    """A store in the database of `url` (libpq's URI or keywords), with `password` if the URL has none.

    The tables are in the first schema of the session's search path.

    Raises:
        StoreRefused: the URL is not one of PostgreSQL, or there is no schema to use.
        OperationalError: the server can't be reached or refuses the session; the text is libpq's.
    """

    shared_by_nodes = True
    bytes_type = "bytea"
    integer_type = "bigint"

    def __init__(self, url: str, password: str | None = None) -> None:
        parameters = parameters_of(url, password)
        session = ask_session(parameters)
        if session.pooled:
            # A statement prepared in one transaction is not there in the next one.
            parameters["prepare_threshold"] = None
        self._schema = session.schema
        self._datastore = _Datastore(PostgresPool(parameters), session.schema)
        self._recorder = _Recorder(self._datastore, self)
        self.recorder = self._recorder

    def create_tables(self) -> None:
        """Create the tables that are missing.

        Raises:
            StoreRefused: the role may not create tables in the schema.
        """
        with self.writing() as query:
            (row,) = query.rows("SELECT has_schema_privilege(?, 'CREATE') AS may_create", (self._schema,))
            if not row["may_create"]:
                raise StoreRefused("schema_not_writable", schema=self._schema)
            for statement in (*self._recorder.create_statements(), *self.create_statements()):
                query.run(statement)

    def tables(self) -> Set[str]:
        """The names of all tables of the schema, those of other programs included."""
        statement = "SELECT tablename AS name FROM pg_tables WHERE schemaname = ?"
        with self.reading() as query:
            return {row["name"] for row in query.rows(statement, (self._schema,))}

    @contextmanager
    def reading(self) -> Iterator[Query]:
        """A transaction that reads one consistent snapshot."""
        with self._datastore.get_connection() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield self._query(connection)

    @contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[Query]:
        """A transaction that commits; with `alone`, every other writer of events waits for its end."""
        with self._datastore.get_connection() as connection, connection.transaction():
            if alone:
                lock_in_postgres(self._recorder, connection.cursor())
            yield self._query(connection)

    def now_seconds(self, query: Query) -> float:
        """The database's clock, the same for every node."""
        (row,) = query.rows("SELECT extract(epoch FROM clock_timestamp())::double precision AS seconds")
        return float(row["seconds"])

    def forget(self) -> bool:
        """Do nothing: PostgreSQL overwrites deleted rows when it vacuums the table."""
        return True

    def has_room(self) -> bool:
        """Always true: a server without room refuses the transaction."""
        return True

    def back_up(self, suffix: str) -> None:
        """Return None: the operator makes a backup of the database."""

    def close(self) -> None:
        """Close every connection."""
        self._datastore.close()

    @staticmethod
    def _query(connection: Connection[DictRow]) -> Query:
        return _PostgresQuery(connection.cursor())
