"""A disk that fills up, before a renewal, after its reply, in the middle of its transaction: nothing is lost.

The service recovers by itself when there is room again. The errors are the system's own: a small file system for the
escrow where one may be mounted, else a limit on how large a file may grow; and a database that may not grow by a page.
"""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from eventsourcing.persistence import PersistenceError
from eventsourcing.sqlite import SQLiteConnection
from fakes import SCANNER, Answer, FakeClock, FakeProvider, Services

from domain.errors import StorageFull
from infrastructure.encryption.envelope import Sealer
from infrastructure.store.open import create_store
from infrastructure.store.sqlite import SqliteStore
from infrastructure.store.store import Store

ADMIN = "administrator"
SERVICE, ALERT = "office-mfp/smtp-service", "office-mfp/smtp-alert"
ROOM_FOR_ONE = 768 * 1024
"""The escrow takes half a MiB for a reply."""


class Disk:
    """The disk the database is on: when it is full, the database does not grow, and has no page left inside."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.is_full = False
        with store.writing() as query:
            query.run("CREATE TABLE ballast (bytes BLOB)")
        pool = store._datastore.pool
        create = pool._create_connection

        def limited() -> SQLiteConnection:
            connection = create()
            if self.is_full:
                self._limit(connection)
            return connection

        pool._create_connection = limited  # type: ignore[method-assign]

    def fill(self) -> None:
        self.is_full = True
        for connection in self._connections():
            self._limit(connection)
        for size in (65536, 4096, 64):
            while self._takes(size):
                pass

    def make_room(self) -> None:
        self.is_full = False
        for connection in self._connections():
            connection._sqlite_conn.execute(f"PRAGMA max_page_count = {2**30}")

    def _takes(self, size: int) -> bool:
        try:
            with self._store.writing() as query:
                query.run("INSERT INTO ballast VALUES (zeroblob(?))", (size,))
        except PersistenceError:
            return False
        return True

    def _connections(self) -> list[SQLiteConnection]:
        pool = self._store._datastore.pool
        return [*pool._pool, *pool._in_use.values()]

    @staticmethod
    def _limit(connection: SQLiteConnection) -> None:
        """SQLite never sets the limit below what there is; from there on it is SQLITE_FULL, as with ENOSPC."""
        connection._sqlite_conn.execute("PRAGMA max_page_count = 1")


@pytest.fixture
def small_escrow(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """An escrow with room for one reply; call it to use that up, and again to give it back."""
    folder = tmp_path / "escrow"
    folder.mkdir(mode=0o700, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM_FOR_ONE},mode=0700", "tmpfs", str(folder)]
    if shutil.which("mount") and subprocess.run(mount, check=False, capture_output=True).returncode == 0:
        try:
            yield from _by_ballast(folder / "something-else")
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    else:
        yield from _by_limit()


def _by_ballast(ballast: Path) -> Iterator[Callable[[], None]]:
    def toggle() -> None:
        if ballast.exists():
            ballast.unlink()
        else:
            with ballast.open("wb") as file, suppress(OSError):
                while file.write(bytes(64 * 1024)):
                    file.flush()
            assert os.statvfs(ballast.parent).f_bavail == 0

    yield toggle


def _by_limit() -> Iterator[Callable[[], None]]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def toggle() -> None:
        is_tight = resource.getrlimit(resource.RLIMIT_FSIZE) != limits
        resource.setrlimit(resource.RLIMIT_FSIZE, limits if is_tight else (256 * 1024, limits[1]))

    try:
        yield toggle
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def store(tmp_path: Path, sealer: Sealer) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "mailtoken.db")
    create_store(store, sealer)
    yield store
    store.close()


@pytest.fixture
def disk(store: SqliteStore) -> Disk:
    return Disk(store)


@pytest.fixture
def installation(
    store: SqliteStore, sealer: Sealer, tmp_path: Path, clock: FakeClock, provider: FakeProvider
) -> Services:
    """A token that is due for its renewal."""
    with store.reading() as query:
        store_id = query.rows("SELECT value FROM meta WHERE name = 'store_id'")[0]["value"]
    installation = Services(store, sealer, store_id, tmp_path, clock, {provider.name: provider})
    installation.add_machine()
    installation.get_token(SERVICE)
    # What the database grew by is in its file by now, so that a limit on files leaves it alone.
    installation.tokens.forget()
    provider.requests.clear()
    clock.step(minutes=55)
    return installation


def everything(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table that says something of a token; not the claims, which only say who is at it."""
    with store.reading() as query:
        tables = ("stored_events", "chain", "vault", "token", "profile")
        return {table: [tuple(row) for row in query.rows(f"SELECT * FROM {table}")] for table in tables}


def claims(store: Store) -> int:
    with store.reading() as query:
        return len(query.rows("SELECT * FROM claim"))


def a_long_grant(provider: FakeProvider) -> Answer:
    """A grant that needs a page of its own, wherever it is stored; a short one may fit into what pages have left."""
    return provider.grant(SCANNER, access_token="a" * 12_000)


def in_escrow(installation: Services) -> list[str]:
    return sorted(path.suffix for path in (installation.directory / "escrow").glob("*.*"))


def whole(installation: Services) -> None:
    assert in_escrow(installation) == []
    assert claims(installation.store) == 0
    assert installation.audit.verify().findings == ()


def test_before_a_renewal_nothing_is_asked(
    installation: Services, provider: FakeProvider, clock: FakeClock, small_escrow: Callable[[], None]
) -> None:
    before = everything(installation.store)
    small_escrow()
    with pytest.raises(StorageFull, match="no_space") as refused:
        installation.tokens.renew(SERVICE, ADMIN)
    assert str(installation.directory / "escrow") in str(refused.value)
    # The token in hand is served, and nobody is told anything else of it.
    assert installation.access_token(ALERT).credential.issued_at < clock.now()
    assert everything(installation.store) == before
    assert (provider.requests, in_escrow(installation)) == ([], [])
    small_escrow()
    installation.tokens.renew(SERVICE, ADMIN)
    assert provider.requests == ["refresh"]
    assert installation.access_token(ALERT).credential.issued_at == clock.now()
    whole(installation)


def test_with_the_whole_disk_full_the_token_in_hand_is_served(
    installation: Services, provider: FakeProvider, clock: FakeClock, disk: Disk, small_escrow: Callable[[], None]
) -> None:
    disk.fill()
    small_escrow()
    with pytest.raises((StorageFull, PersistenceError), match=r"full|no_space"):
        installation.tokens.renew(SERVICE, ADMIN)
    assert installation.access_token(ALERT).credential.issued_at < clock.now()
    assert (provider.requests, installation.label(SERVICE)) == ([], "Retrieved")
    disk.make_room()
    small_escrow()
    assert installation.access_token(ALERT).credential.issued_at == clock.now()
    whole(installation)


def test_before_a_poll_nothing_is_asked_and_the_attempt_goes_on(
    installation: Services, provider: FakeProvider, small_escrow: Callable[[], None]
) -> None:
    fax = "office-mfp/pop-internet-fax"
    installation.tokens.request(fax, None, ADMIN)
    installation.tokens.forget()
    provider.approve()
    token_id = installation.tokens.status(fax).profile.token_id
    small_escrow()
    assert installation.tokens.poll(token_id)
    assert provider.requests == ["device_code"]
    assert installation.label(fax) == "Waiting for authorisation"
    small_escrow()
    assert installation.tokens.poll(token_id) is None
    assert installation.label(fax) == "Retrieved"
    whole(installation)


def test_after_the_reply_it_stays_in_the_escrow_and_is_stored_when_there_is_room(
    installation: Services,
    provider: FakeProvider,
    clock: FakeClock,
    disk: Disk,
    store: SqliteStore,
    small_escrow: Callable[[], None],
) -> None:
    def fill_both() -> None:
        disk.fill()
        small_escrow()

    before = everything(store)
    provider.answers(a_long_grant(provider))
    provider.meanwhile(fill_both)
    with pytest.raises(PersistenceError, match=r"full|disk I/O"):
        installation.tokens.renew(SERVICE, ADMIN)
    # The transaction was rolled back as a whole, and the reply is where it was.
    assert everything(store) == before
    assert in_escrow(installation) == [".reply"]
    assert installation.label(SERVICE) == "Retrieved"
    # As long as there is no room it stays there, and the provider is not asked again.
    assert installation.tokens.recover() == 1
    with pytest.raises(PersistenceError, match=r"full|disk I/O"):
        installation.tokens.renew(ALERT, ADMIN)
    # The one in hand is served, as it has some life left.
    assert installation.access_token(ALERT).credential.issued_at < clock.now()
    assert in_escrow(installation) == [".reply"]
    assert provider.requests == ["refresh"]
    disk.make_room()
    small_escrow()
    assert installation.tokens.recover() == 1
    assert installation.access_token(SERVICE).credential.issued_at == clock.now()
    assert provider.requests == ["refresh"]
    whole(installation)


def test_a_sign_in_that_finds_the_disk_full_is_finished_when_there_is_room(
    installation: Services, provider: FakeProvider, disk: Disk, store: SqliteStore
) -> None:
    fax = "office-mfp/pop-internet-fax"
    installation.tokens.request(fax, None, ADMIN)
    token_id = installation.tokens.status(fax).profile.token_id
    provider.answers(a_long_grant(provider))
    provider.meanwhile(disk.fill)
    with pytest.raises(PersistenceError, match="full"):
        installation.tokens.poll(token_id)
    assert (installation.label(fax), in_escrow(installation)) == ("Waiting for authorisation", [".reply"])
    disk.make_room()
    assert installation.tokens.poll(token_id) is None
    assert installation.label(fax) == "Retrieved"
    assert provider.requests == ["device_code", "poll"]
    whole(installation)


def test_what_a_full_disk_leaves_can_be_read_by_the_next_run(
    installation: Services, provider: FakeProvider, clock: FakeClock, disk: Disk, store: SqliteStore
) -> None:
    provider.answers(a_long_grant(provider))
    provider.meanwhile(disk.fill)
    with pytest.raises(PersistenceError, match="full"):
        installation.tokens.renew(SERVICE, ADMIN)
    with sqlite3.connect(store.path) as another:
        assert another.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    another.close()
    disk.make_room()
    again = installation.restart()
    assert again.tokens.recover() == 1
    assert again.access_token(SERVICE).credential.issued_at == clock.now()
    assert provider.requests == ["refresh"]
    whole(again)
