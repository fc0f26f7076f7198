"""What tests of several rooms share: a store on each engine, and the services over it with fakes at the ports."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import freezegun
import hypothesis
import pytest
import structlog
from effort import be_thorough
from engines import BOTH
from fakes import FakeClock, FakeProvider, Services
from memory import memory
from needs import is_there
from postgres import NoPostgres, PostgresServer, shared_server
from spared_work import spare_work

from infrastructure.encryption.envelope import Sealer
from infrastructure.store.event_log import EventLog
from infrastructure.store.open import create_store, open_store
from infrastructure.store.postgres import PostgresStore
from infrastructure.store.sqlite import SqliteStore
from infrastructure.store.store import Store

if folder := memory():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", folder)

spare_work()

# How long something takes is no finding: the machine may be slow or busy.
hypothesis.settings.register_profile(
    "mailtoken", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("mailtoken")

# They wait by the monotonic clock, which freezegun would stop.
freezegun.configure(extend_ignore_list=["psycopg", "psycopg_pool", "eventsourcing.persistence"])


# Tests wait for sockets, timers and processes most of the time, so there are three of pytest's workers for each core.
_WORKERS_PER_CORE = 3
_MOST_WORKERS = 16


def pytest_xdist_auto_num_workers() -> int:
    """The number of workers that `-n auto` means."""
    return min(_WORKERS_PER_CORE * len(os.sched_getaffinity(0)), _MOST_WORKERS)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="run also the tests that are marked as thorough")
    parser.addoption("--nothing-left-out", action="store_true", help="--thorough, and fail if a test is left out")


def pytest_configure(config: pytest.Config) -> None:
    if _is_thorough(config):
        be_thorough()


_SLOW_ROOMS = ("web", "journeys", "peers", "authorization_servers", "tests")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests without Python's garbage collector, and keep it from them afterwards.

    The modules and tests are there until the end, and looking through them took half of the time of collecting.
    """
    gc.disable()
    try:
        with _compiled_by_one():
            return (yield)
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def _compiled_by_one() -> Iterator[None]:
    """In a new clone the first worker compiles the tests and the others wait: it takes twice as long as collecting."""
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if sys.dont_write_bytecode or _are_compiled():
            fcntl.flock(lock, fcntl.LOCK_UN)
        yield


def _are_compiled() -> bool:
    compiled = Path(__file__).with_name("domain") / "__pycache__"
    return any(compiled.glob(f"*.{sys.implementation.cache_tag}-pytest-*"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folders with the longest tests come first, so that none of them is left to one worker at the end."""
    items.sort(key=lambda item: item.path.parent.name not in _SLOW_ROOMS)


def pytest_runtest_setup(item: pytest.Item) -> None:
    needed = [need for mark in item.iter_markers("needs") for need in mark.args]
    missing = [need for need in needed if not is_there(need)]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    if item.get_closest_marker("thorough") and not _is_thorough(item.config):
        pytest.skip("thorough: --thorough runs them, as .ci/run does")


def _is_thorough(config: pytest.Config) -> bool:
    return bool(config.getoption("--thorough") or config.getoption("--nothing-left-out"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, by what it needs: the last lines, which nobody overlooks."""
    reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ()))
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"left out: {count} tests ({reason.removeprefix('Skipped: ')})", yellow=True)
    if not _is_thorough(terminalreporter.config):
        terminalreporter.write_line("tried: a part of the examples, rounds and random inputs that --thorough tries")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter and reporter.stats.get("skipped")
    if skipped and exitstatus == pytest.ExitCode.OK and session.config.getoption("--nothing-left-out"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# The default renders each traceback with all local variables, in colour: a second of work.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)

OpenAgain = Callable[[], Store]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> PostgresServer:
    """The private server of this run of pytest; all its workers share it."""
    folder = tmp_path_factory.getbasetemp()
    in_worker = "PYTEST_XDIST_WORKER" in os.environ
    try:
        return shared_server(folder.parent, os.getppid()) if in_worker else shared_server(folder, os.getpid())
    except NoPostgres as none:
        pytest.skip(f"needs PostgreSQL: {none}")


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The address of a database of this test alone."""
    with postgres.new_database() as url:
        yield url


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine a store can have."""
    name: str = request.param
    return name


@pytest.fixture
def empty_store(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store that was not made yet."""
    url = request.getfixturevalue("postgres_url") if engine == "postgresql" else None
    store = PostgresStore(url) if url else SqliteStore(tmp_path / "empty.db")
    yield store
    store.close()


@pytest.fixture(scope="session")
def sealer() -> Sealer:
    """The key of every store in these tests."""
    return Sealer(bytes(range(32)))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory, sealer: Sealer) -> tuple[Path, str]:
    """A store as `mailtoken init` leaves it, in a file to copy, and its id: making one for each test takes longer."""
    path = tmp_path_factory.mktemp("template") / "mailtoken.db"
    return path, _make(SqliteStore(path), sealer)


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer, sealer: Sealer) -> Iterator[tuple[str, str]]:
    """The same as a database."""
    with postgres.new_database() as url:
        yield urlsplit(url).path[1:], _make(PostgresStore(url), sealer)


def _make(store: Store, sealer: Sealer) -> str:
    with closing(store):
        return create_store(store, sealer)


@pytest.fixture
def made(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The test's own store, which nobody has used: a file or the address of a database, and the store's id."""
    if engine == "sqlite":
        file, store_id = request.getfixturevalue("sqlite_template")
        yield str(shutil.copy(file, tmp_path)), store_id
    else:
        template, store_id = request.getfixturevalue("postgres_template")
        with request.getfixturevalue("postgres").new_database(template) as url:
            yield url, store_id


@pytest.fixture
def store_address(made: tuple[str, str]) -> str:
    """Where the test's store is."""
    return made[0]


@pytest.fixture
def store_id(made: tuple[str, str]) -> str:
    """Who the test's store is."""
    return made[1]


@pytest.fixture
def open_again(engine: str, store_address: str, sealer: Sealer) -> Iterator[OpenAgain]:
    """Open the test's store once more, as another process does; everything opened so is closed after the test."""
    with ExitStack() as opened:

        def open_one() -> Store:
            store = PostgresStore(store_address) if engine == "postgresql" else SqliteStore(Path(store_address))
            opened.callback(store.close)
            open_store(store, sealer)
            return store

        yield open_one


@pytest.fixture
def store(open_again: OpenAgain, store_id: str, sealer: Sealer) -> Store:
    """The test's store, opened."""
    store = open_again()
    assert open_store(store, sealer) == store_id
    return store


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
