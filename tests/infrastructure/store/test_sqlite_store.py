"""What the SQLite engine promises besides the contract."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from eventsourcing.persistence import PersistenceError
from fakes import START, FakeClock, FakeProvider, Services
from store_examples import a_token, everything, some_claim_key
from waiting import in_background, wait_until

from domain.errors import StorageFull
from infrastructure.store import sqlite
from infrastructure.store.event_log import EventLog
from infrastructure.store.store import Store
from infrastructure.tokens.claims import Claims


@pytest.fixture
def engine() -> str:
    return "sqlite"


def test_what_is_committed_is_durable_and_what_is_deleted_is_overwritten(store: Store) -> None:
    with store.reading() as query:
        found = {
            name: query.rows(f"SELECT * FROM pragma_{name}")[0][name]
            for name in ("synchronous", "secure_delete", "journal_mode")
        }
    assert found == {"synchronous": 2, "secure_delete": 1, "journal_mode": "wal"}


def test_the_files_can_be_read_by_their_owner_alone(event_log: EventLog, tmp_path: Path) -> None:
    event_log.save(a_token())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("mailtoken.db*")}
    assert modes == {"mailtoken.db": 0o600, "mailtoken.db-wal": 0o600, "mailtoken.db-shm": 0o600}


def test_a_database_that_somebody_else_locks_is_an_error_of_the_store(
    store: Store, open_again: Callable[[], Store], store_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_LOCK_TIMEOUT_SECONDS", 0.1)
    events = EventLog(open_again())
    with closing(sqlite3.connect(store_address, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(PersistenceError, match="database is locked"):
            events.save(a_token())
        with pytest.raises(PersistenceError, match="database is locked"):
            Claims(events.store).take(some_claim_key())
        assert everything(store)["stored_events"] == []


def test_a_file_that_is_no_database_is_an_error_of_the_store(
    open_again: Callable[[], Store], store_address: str
) -> None:
    Path(store_address).write_bytes(b"this is a letter, not a database" * 64)
    with pytest.raises(PersistenceError, match="not a database"):
        open_again().tables()
    assert Path(store_address).read_bytes().startswith(b"this is a letter")


def test_a_reader_in_the_way_is_no_reason_to_fail_but_to_forget_later(store: Store) -> None:
    EventLog(store).save(a_token())
    with store.reading() as query:
        query.events(0, 1)
        EventLog(store).save(a_token())
        assert not store.forget()
    assert store.forget()
    assert Path(f"{store.path}-wal").stat().st_size == 0  # type: ignore[attr-defined]


def test_without_room_the_provider_is_not_asked(
    service: Services, provider: FakeProvider, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanner, *_ = service.add_machine()
    service.get_token(scanner)
    clock.step(minutes=55)
    monkeypatch.setattr(sqlite, "_ROOM_BYTES", 2**62)
    assert service.access_token(scanner).credential.issued_at == START
    with pytest.raises(StorageFull) as full:
        service.tokens.renew(scanner, "administrator")
    assert full.value.code == "no_space_in_store"
    assert provider.requests == ["device_code", "poll"]
    assert list((service.directory / "escrow").iterdir()) == []


def test_a_store_is_closed_behind_the_reads_of_other_threads(open_again: Callable[[], Store]) -> None:
    store = open_again()
    with store.reading() as query:
        query.rows("SELECT 1")
        closer = in_background(store.close)
        wait_until(lambda: _is_over(store), "no further transaction begins")
        assert not closer.done()
        assert query.rows("SELECT 2 AS two")[0]["two"] == 2
    closer.result(60)


def _is_over(store: Store) -> bool:
    try:
        with store.reading():
            return False
    except PersistenceError as error:
        return "closed" in str(error)
