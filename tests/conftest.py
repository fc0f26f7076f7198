"""What tests of several rooms share: a store on each engine, and the services over it with fakes at the ports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import freezegun
import pytest
from fakes import FakeClock, FakeProvider, Services
from postgres import NoPostgres, PostgresServer, shared_server

from infrastructure.log import EventLog
from infrastructure.opening import create_store, open_store
from infrastructure.postgres import PostgresStore
from infrastructure.sealing import Sealer
from infrastructure.sqlite import SqliteStore
from infrastructure.store import Store

# They wait by the monotonic clock, which freezegun would stop.
freezegun.configure(extend_ignore_list=["psycopg", "psycopg_pool", "eventsourcing.persistence"])

OpenAgain = Callable[[], Store]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> PostgresServer:
    """The private server of this run of pytest; all its workers share it."""
    folder = tmp_path_factory.getbasetemp()
    in_worker = "PYTEST_XDIST_WORKER" in os.environ
    try:
        return shared_server(folder.parent, os.getppid()) if in_worker else shared_server(folder, os.getpid())
    except NoPostgres as none:
        pytest.skip(str(none))


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The address of a database of this test alone."""
    with postgres.new_database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine a store can have."""
    name: str = request.param
    return name


@pytest.fixture
def store_address(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where the test's store is: a file, or the address of a database."""
    url: str | None = request.getfixturevalue("postgres_url") if engine == "postgresql" else None
    return url or str(tmp_path / "mailtoken.db")


@pytest.fixture
def open_again(engine: str, store_address: str) -> Iterator[OpenAgain]:
    """Open the test's store once more, as another process does; everything opened so is closed after the test."""
    with ExitStack() as opened:

        def open_one() -> Store:
            store = PostgresStore(store_address) if engine == "postgresql" else SqliteStore(Path(store_address))
            opened.callback(store.close)
            return store

        yield open_one


@pytest.fixture(scope="session")
def sealer() -> Sealer:
    """The key of every store in these tests."""
    return Sealer(bytes(range(32)))


@pytest.fixture
def empty_store(open_again: OpenAgain) -> Store:
    """A store without tables."""
    return open_again()


@pytest.fixture
def store_id(empty_store: Store, sealer: Sealer) -> str:
    """Make the store; who it is."""
    return create_store(empty_store, sealer)


@pytest.fixture
def store(empty_store: Store, store_id: str, sealer: Sealer) -> Store:
    """A store as `mailtoken init` leaves it, opened."""
    assert open_store(empty_store, sealer) == store_id
    return empty_store


@pytest.fixture
def event_log(store: Store) -> EventLog:
    """The event log of the store."""
    return EventLog(store)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until it is stepped."""
    return FakeClock()


@pytest.fixture
def provider() -> FakeProvider:
    """A provider in memory, called contoso."""
    return FakeProvider()


@pytest.fixture
def service(
    store: Store, store_id: str, sealer: Sealer, tmp_path: Path, clock: FakeClock, provider: FakeProvider
) -> Services:
    """The services over the store, with the provider in memory."""
    return Services(store, sealer, store_id, tmp_path, clock, {provider.name: provider})
