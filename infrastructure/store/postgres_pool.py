"""The connections to PostgreSQL. A connection that is broken, or whose server has become read-only, is not used again.

After a failover the next transaction gets a connection that libpq opens anew, at the address that is the primary then.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from eventsourcing.persistence import OperationalError
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from domain.errors import StoreRefused

_MOST = 10
_TIMEOUT_SECONDS = 30.0
_PATIENCE_SECONDS = 1.0
"""The wait for a connection before the server is asked for one more, whose error says why there is none."""
_CONNECT_SECONDS = 5
_DATABASE = "mailtoken"


class _Connection(Connection[DictRow]):
    was_used = False


@dataclass(frozen=True)
class Session:
    """What a session with the server is like: its schema, and whether a pooler such as pgbouncer stands in between."""

    schema: str
    pooled: bool


class PostgresPool(ConnectionPool[_Connection]):
    """A pool of connections with these parameters of libpq."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._here = threading.local()
        super().__init__(
            connection_class=_Connection,
            kwargs={**parameters, "row_factory": dict_row, "autocommit": True},
            min_size=1,
            max_size=_MOST,
            open=False,
            timeout=_TIMEOUT_SECONDS,
            check=self._verify,
            # A failed attempt is not repeated in the background: the next caller makes a new one.
            reconnect_timeout=0,
        )

    def getconn(self, timeout: float | None = None) -> _Connection:
        """A connection for one caller.

        Raises:
            psycopg.OperationalError: in libpq's words, if the server can't be reached or refuses the connection.
        """
        try:
            return super().getconn(_PATIENCE_SECONDS)
        except PoolTimeout:
            assert isinstance(self.kwargs, dict)
            _Connection.connect(**self.kwargs).close()
        # The server answers, so every connection was in use.
        return super().getconn(timeout)

    @contextmanager
    def unchecked(self) -> Iterator[None]:
        """Within the block, this thread's connections are not checked first, which takes a round trip.

        A caller that finds its connection broken, or its server read-only, calls `give_up` and asks for another one.
        """
        self._here.unchecked = True
        try:
            yield
        finally:
            self._here.unchecked = False

    def give_up(self, connection: Connection[DictRow]) -> None:
        """Use neither this connection again nor those that were opened before now."""
        connection.close()
        self.drain()

    def _verify(self, connection: _Connection) -> None:
        """Check a connection before its use; if it can't be used, neither can those that were opened before now.

        A connection that was read-only from the start serves those who read, as there may be no better one.
        """
        if getattr(self._here, "unchecked", False):
            return
        try:
            row = connection.execute("SHOW transaction_read_only").fetchone()
            if connection.was_used and row and row["transaction_read_only"] == "on":
                raise psycopg.OperationalError("the server is read-only")
        except psycopg.Error:
            self.give_up(connection)
            raise
        connection.was_used = True


def parameters_of(url: str, password: str | None) -> dict[str, Any]:
    """The parameters of libpq in `url`, its URI or keywords, with `password` if the URL has none.

    Raises:
        StoreRefused: the URL is not one of PostgreSQL.
    """
    try:
        parameters: dict[str, Any] = conninfo_to_dict(url)
    except psycopg.Error:
        raise StoreRefused("store_url_malformed") from None
    defaults = {"dbname": _DATABASE, "connect_timeout": _CONNECT_SECONDS}
    return {**defaults, **({"password": password} if password else {}), **parameters}


def ask_session(parameters: dict[str, Any]) -> Session:
    """Open a session and ask what it is like.

    Raises:
        OperationalError: the server can't be reached or refuses the session; the text is libpq's.
        StoreRefused: the schema is missing, or its name needs quotes.
    """
    statement = "SELECT current_schema() AS schema, pg_backend_pid() AS process"
    try:
        with _Connection.connect(**parameters, row_factory=dict_row, autocommit=True) as connection:
            row = connection.execute(statement).fetchone()
            told = connection.info.backend_pid
    except psycopg.Error as error:
        raise OperationalError(str(error)) from error
    assert row
    if row["schema"] is None:
        raise StoreRefused("schema_missing")
    if not row["schema"].isidentifier() or row["schema"] != row["schema"].lower():
        raise StoreRefused("schema_name_not_plain", schema=row["schema"])
    # A pooler tells a process number of its own, since it changes the server's process from transaction to transaction.
    return Session(row["schema"], pooled=row["process"] != told)
