"""A PostgreSQL server that stops, restarts, turns read-only, is replaced or is reached through a pooler."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import PersistenceError
from memory import memory
from needs import _PATH
from postgres import _USER, NoPostgres, PostgresServer, _account, private_server
from postgres_control import ControlledServer
from psycopg.conninfo import make_conninfo
from store_examples import a_token
from waiting import in_background, wait_until

from domain.errors import StoreRefused
from infrastructure.encryption.envelope import Sealer
from infrastructure.store.event_log import EventLog
from infrastructure.store.open import create_store, open_store
from infrastructure.store.postgres import PostgresStore
from infrastructure.store.store import Store

Open = Callable[..., PostgresStore]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Open a store at an address; it is closed at the end of the test."""
    stores: list[PostgresStore] = []

    def open_at(url: str, **changes: str) -> PostgresStore:
        stores.append(PostgresStore(make_conninfo(url, **changes)))
        return stores[-1]

    yield open_at
    for store in stores:
        store.close()


def write(store: Store) -> None:
    EventLog(store).save(a_token())


def number_of_events(store: Store) -> int:
    with store.reading() as query:
        return int(query.rows("SELECT count(*) AS number FROM stored_events")[0]["number"])


def open_all_connections(store: Store) -> None:
    """Have the pool hold several connections that were in use."""

    def read(depth: int) -> None:
        with store.reading():
            if depth:
                read(depth - 1)

    read(4)


# The address is wrong, or the server is not there: libpq's words, at once


def test_a_database_that_is_not_there_is_named_in_libpqs_words(postgres: PostgresServer) -> None:
    with pytest.raises(PersistenceError, match='database "nowhere" does not exist'):
        PostgresStore(postgres.url("nowhere"))


def test_a_server_that_is_not_there_is_named_in_libpqs_words(tmp_path: Path) -> None:
    with pytest.raises(PersistenceError, match="No such file or directory"):
        PostgresStore(f"host={tmp_path} user=nobody")


# Sessions that end, a schema of its own, and another program's tables


def test_sessions_that_the_server_ended_are_replaced(postgres_url: str, sealer: Sealer, opened: Open) -> None:
    store = opened(postgres_url)
    create_store(store, sealer)
    open_all_connections(store)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    write(store)
    assert number_of_events(store) == 1


@contextmanager
def a_role(postgres_url: str, name: str) -> Iterator[str]:
    """A role without rights of its own, and the address with it."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN".encode())
        try:
            yield make_conninfo(postgres_url, user=name)
        finally:
            connection.execute(f"DROP OWNED BY {name} CASCADE".encode())
            connection.execute(f"DROP ROLE {name}".encode())


@pytest.fixture
def name(postgres_url: str) -> str:
    """A name that no other test uses."""
    return f"role_{psycopg.conninfo.conninfo_to_dict(postgres_url)['dbname']}"


def tables(url: str) -> dict[str, set[str]]:
    """The tables and types of each schema."""
    found: dict[str, set[str]] = {}
    with psycopg.connect(url) as connection:
        statement = (
            "SELECT n.nspname, t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace"
            " WHERE n.nspname NOT LIKE 'pg_%' AND n.nspname <> 'information_schema'"
        )
        for schema, table in connection.execute(statement):
            found.setdefault(schema, set()).add(table)
    return found


def test_all_tables_are_in_the_schema_of_the_role(postgres_url: str, name: str, sealer: Sealer, opened: Open) -> None:
    with a_role(postgres_url, name) as url:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA AUTHORIZATION {name}".encode())
            connection.execute("CREATE TABLE public.meta (chapter int)")
            connection.execute("CREATE TABLE public.stored_events (chapter int)")
        store = opened(url)
        create_store(store, sealer)
        write(store)
        open_store(opened(url), sealer)
        assert {"meta", "stored_events", "token"} <= tables(postgres_url)[name]
        assert {one for one in tables(postgres_url)["public"] if not one.startswith("_")} == {"meta", "stored_events"}
        store.close()


def test_a_schema_named_in_the_address_is_used(postgres_url: str, sealer: Sealer, opened: Open) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA mail_tokens")
    create_store(opened(postgres_url, options="-csearch_path=mail_tokens"), sealer)
    assert set(tables(postgres_url)) == {"mail_tokens"}


@pytest.mark.parametrize("statement", ["CREATE TABLE meta (name text, value text)", "CREATE TABLE token (id int)"])
def test_another_programs_table_stops_init_and_nothing_is_made(
    postgres_url: str, sealer: Sealer, opened: Open, statement: str
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(statement.encode())
    before = tables(postgres_url)
    with pytest.raises(StoreRefused, match="table_of_another_program"):
        create_store(opened(postgres_url), sealer)
    assert tables(postgres_url) == before


def test_a_role_that_may_not_create_tables_is_told_and_nothing_is_made(
    postgres_url: str, name: str, sealer: Sealer, opened: Open
) -> None:
    with a_role(postgres_url, name) as url:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        store = opened(url)
        with pytest.raises(StoreRefused, match="schema_not_writable schema='public'"):
            create_store(store, sealer)
        store.close()
    assert tables(postgres_url) == {}


@pytest.mark.parametrize(("path", "code"), [("nowhere", "schema_missing"), ('"Mail"', "schema_name_not_plain")])
def test_a_schema_that_can_t_be_used_is_told(postgres_url: str, path: str, code: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "Mail"')
    with pytest.raises(StoreRefused, match=code):
        PostgresStore(make_conninfo(postgres_url, options=f"-csearch_path={path}"))


# A server of its own, which fails over


@pytest.fixture(scope="module")
def server() -> Iterator[ControlledServer]:
    try:
        with private_server() as private:
            controlled = ControlledServer.of(private)
            controlled.set(wal_level="replica", max_wal_senders="4")
            controlled.stop()
            controlled.start()
            yield controlled
    except NoPostgres as none:
        pytest.skip(f"needs PostgreSQL: {none}")


@pytest.fixture
def url(server: ControlledServer, sealer: Sealer) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    server.run(f"CREATE DATABASE {name}")
    address = server.url(name)
    with closing(PostgresStore(address)) as store:
        create_store(store, sealer)
    yield address
    server.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.thorough
def test_a_server_that_restarts_is_used_at_the_next_attempt(
    server: ControlledServer, url: str, sealer: Sealer, opened: Open
) -> None:
    store = opened(url)
    open_store(store, sealer)
    open_all_connections(store)
    server.stop()
    with pytest.raises(PersistenceError, match="connection to server on socket"):
        write(store)
    with pytest.raises(PersistenceError, match="connection to server on socket"):
        number_of_events(store)
    server.start()
    write(store)
    assert number_of_events(store) == 1


@pytest.mark.thorough
def test_a_server_that_is_read_only_for_a_time_serves_those_who_read(
    server: ControlledServer, url: str, sealer: Sealer, opened: Open
) -> None:
    store = opened(url)
    open_store(store, sealer)
    write(store)
    open_all_connections(store)
    server.set(default_transaction_read_only="on")
    try:
        # Each session reads the changed setting when it is told, some time after the server was.
        wait_until(lambda: "read-only" in refusal(store), "the server takes no more events")
        assert number_of_events(store) >= 1
    finally:
        with psycopg.connect(server.url(), autocommit=True, options="-cdefault_transaction_read_only=off") as admin:
            admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
            admin.execute("SELECT pg_reload_conf()")
    wait_until(lambda: not refusal(store), "the store takes events again")


def refusal(store: Store) -> str:
    """Why an event could not be written; empty if it was."""
    try:
        write(store)
    except PersistenceError as refused:
        return str(refused)
    return ""


@pytest.mark.thorough
def test_the_server_that_was_promoted_is_used_in_place_of_the_one_that_was_lost(
    server: ControlledServer, url: str, sealer: Sealer, opened: Open
) -> None:
    with server.standby(5433) as standby:
        both = {"host": f"{server.directory},{standby.directory}", "port": f"{server.port},{standby.port}"}
        store = opened(url, **both, target_session_attrs="read-write")
        open_store(store, sealer)
        write(store)
        open_all_connections(store)
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        wait_until(lambda: is_there(standby, str(name)), "the standby has the event")
        server.stop()
        try:
            with pytest.raises(PersistenceError):
                write(store)
            standby.promote()
            write(store)
            assert number_of_events(store) == 2
        finally:
            server.start()
        # The lost server is back, and nobody told it that it is no primary: what has a connection stays where it is.
        write(store)
        assert number_of_events(store) == 3


def is_there(standby: ControlledServer, database: str) -> bool:
    try:
        with psycopg.connect(standby.url(database)) as connection:
            return bool(connection.execute("SELECT 1 FROM stored_events").fetchall())
    except psycopg.Error:
        return False


@pytest.mark.thorough
def test_a_wrong_password_is_told_at_once_and_not_shown(server: ControlledServer, url: str) -> None:
    rules = server.data / "pg_hba.conf"
    text = rules.read_text()
    server.run("CREATE ROLE printer LOGIN PASSWORD 'right'")
    rules.write_text(f"local all printer scram-sha-256\n{text}")
    server.run("SELECT pg_reload_conf()")
    try:
        with pytest.raises(PersistenceError, match="password authentication failed") as failed:
            PostgresStore(make_conninfo(url, user="printer"), "rather-secret")
        assert "rather-secret" not in str(failed.value)
        PostgresStore(make_conninfo(url, user="printer"), "right").close()
    finally:
        rules.write_text(text)
        server.run("SELECT pg_reload_conf()", "DROP ROLE printer")


# Behind a pooler


@contextmanager
def pgbouncer(server: PostgresServer, folder: Path) -> Iterator[str]:
    """A pgbouncer in transaction mode with two sessions; the folder of its socket."""
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n* = host={server.directory} user={_USER}\n[pgbouncer]\nlisten_addr =\n"
        f"unix_socket_dir = {folder}\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
    )
    account = _account()
    if account:
        os.chown(folder, account["user"], account["group"])
    program = shutil.which("pgbouncer", path=_PATH)
    assert program
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([program, configuration], stdout=log, stderr=log, cwd="/", **account) as process,
    ):
        try:
            wait_until(lambda: (folder / ".s.PGSQL.6432").exists() or process.poll(), "pgbouncer listens")
            assert process.poll() is None, (folder / "log").read_text()
            yield str(folder)
        finally:
            process.terminate()
            process.wait()


@pytest.fixture
def reachable_folder() -> Iterator[Path]:
    """A folder that the account of a server can be given; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="mailtoken-pooler-", dir=memory()) as folder:
        yield Path(folder)


@pytest.mark.needs("pgbouncer")
def test_a_pooler_in_transaction_mode_is_worked_through(
    postgres: PostgresServer, postgres_url: str, sealer: Sealer, opened: Open, reachable_folder: Path
) -> None:
    with pgbouncer(postgres, reachable_folder) as folder:
        database = str(psycopg.conninfo.conninfo_to_dict(postgres_url)["dbname"])
        store = opened(f"host={folder} port=6432 user={_USER} dbname={database}")
        create_store(store, sealer)

        def write_ten() -> None:
            # A statement is prepared at its sixth execution.
            for _ in range(10):
                write(store)

        writers = [in_background(write_ten) for _ in range(4)]
        for writer in writers:
            writer.result(60)
        assert number_of_events(store) == 40
        store.close()
