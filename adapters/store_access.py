"""Opens the store of a configuration, with its owner's rights and under the lock of its only service."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from eventsourcing.persistence import PersistenceError

from domain.errors import InvalidValue, StoreRefused, Unreachable
from infrastructure.config.tables import Config
from infrastructure.encryption.envelope import Sealer
from infrastructure.store.event_log import EventLog
from infrastructure.store.open import open_store, open_without_key
from infrastructure.store.sqlite import SqliteStore
from infrastructure.store.store import Store


def check_store_path(path: Path) -> None:
    """Check that nothing is at the path of a SQLite store but a file.

    Raises:
        InvalidValue: something else is there.
    """
    if path.exists() and not path.is_file():
        raise InvalidValue("[store] path", "path_is_no_database", path=str(path))


def check_escrow_path(path: Path) -> None:
    """Check that nothing is at the escrow's path but a directory.

    Raises:
        InvalidValue: something else is there.
    """
    if path.exists() and not path.is_dir():
        raise InvalidValue("[store] escrow", "path_is_no_directory", path=str(path))


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn an error of the store's engine into one of this program.

    Raises:
        Unreachable: the store can't be read or written; the reason is the engine's own.
    """
    try:
        yield
    except PersistenceError as error:
        raise Unreachable("store_unreachable", reason=str(error).splitlines()[0]) from None


def new_store(config: Config) -> Store:
    """A store of the configured engine, which nothing has been read from yet.

    Raises:
        StoreRefused: the package for PostgreSQL is missing.
        InvalidValue: the path of the file or the address of the server is wrong.
    """
    if not config.store.url:
        path = config.path(config.store.path)
        check_store_path(path)
        return SqliteStore(path)
    try:
        from infrastructure.store.postgres import PostgresStore
    except ImportError:
        raise StoreRefused("postgres_package_missing") from None
    password = (
        config.secret("[store] password_file", config.store.password_file) if config.store.password_file else None
    )
    return PostgresStore(config.store.url, password)


@contextmanager
def opened_store(config: Config, sealer: Sealer | None) -> Iterator[tuple[EventLog, str]]:
    """Open the store that is there, without its key if `sealer` is None; gives its log and its id.

    Raises:
        StoreRefused: there is no store, the key is not its own, or it has another version.
    """
    store = new_store(config)
    try:
        store_id = open_store(store, sealer) if sealer else open_without_key(store)
        yield EventLog(store), store_id
    finally:
        store.close()


@contextmanager
def as_owner(config: Config) -> Iterator[None]:
    """Take the rights of the store's owner, if this process is root's: no file is left that the service can't open."""
    path = config.path(config.store.path)
    # A new store belongs to the owner of its directory.
    place = next(place for place in (path, *path.parents) if place.exists())
    owner = place.stat().st_uid if not config.store.url else os.geteuid()
    before = os.geteuid()
    if before != 0 or owner == before:
        yield
        return
    os.seteuid(owner)
    try:
        yield
    finally:
        os.seteuid(before)


@contextmanager
def only_service(config: Config) -> Iterator[None]:
    """Lock the escrow and the file of the store, which one service of a machine may use.

    Two services would read each other's replies. Nodes that share a database have an escrow each.
    """
    escrow = config.path(config.store.escrow)
    check_escrow_path(escrow)
    escrow.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as locked:
        if not config.store.url:
            file = config.path(config.store.path).resolve()
            # SQLite's own locks would end with a descriptor of the file itself.
            locked.enter_context(_locked(file.with_name(f"{file.name}.lock"), file.parent))
        locked.enter_context(_locked(escrow / "lock", escrow.parent))
        yield


@contextmanager
def _locked(path: Path, directory: Path) -> Iterator[None]:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreRefused("service_running", directory=str(directory)) from None
        yield
