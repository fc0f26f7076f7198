"""A backup is one consistent file of either engine; what is restored from it is all there, and on hold."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes import START, FakeClock, FakeProvider, Services
from postgres import PostgresServer
from store_examples import change, everything

from domain.errors import InvalidValue, MailtokenError, Refused, Unreachable
from domain.outcomes import Reason
from infrastructure.encryption.envelope import Sealer
from infrastructure.queries.store_state import StoreStateQuery
from infrastructure.store.migrations import SCHEMA_VERSION
from infrastructure.store.open import create_store, open_store, read_last_backup
from infrastructure.store.postgres import PostgresStore
from infrastructure.store.sqlite import SqliteStore
from infrastructure.store.store import Store
from infrastructure.upkeep import backup
from infrastructure.upkeep.backup import (
    BackupContent,
    ConfigurationFile,
    check_empty,
    note_backup,
    read_configuration,
    restore_backup,
    verify_backup,
    write_backup,
)
from infrastructure.upkeep.backup_file import FORMAT, BackupReader

CONFIGURATION = ConfigurationFile(b'[store]\npath = "mailtoken.db"\n', 0o640, "mailtoken.key")
ADMIN = "administrator:root"
LATER = START + timedelta(hours=2)
SMTP, POP = "office-mfp/smtp-service", "office-mfp/pop-internet-fax"


@pytest.fixture(params=["into sqlite", "into postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store without tables, of each engine."""
    with other_store(request.param, request, tmp_path) as store:
        yield store


@contextmanager
def other_store(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if kind == "into sqlite":
        store: Store = SqliteStore(tmp_path / "target.db")
        yield store
        store.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.new_database() as url:
        store = PostgresStore(url)
        yield store
        store.close()


def backed_up(store: Store, sealer: Sealer) -> io.BytesIO:
    file = io.BytesIO()
    write_backup(store, sealer, file, CONFIGURATION, program="1.2.3", now=START)
    file.seek(0)
    return file


def restored(store: Store, sealer: Sealer, file: io.BytesIO) -> BackupContent:
    return restore_backup(store, sealer, file, "a.backup", by=ADMIN, now=LATER)


def fill(service: Services) -> None:
    """Tokens in several states, people and programs that sign in, and rows that no event gives."""
    service.add_machine()
    service.get_token(SMTP)
    service.tokens.request(POP, None, "administrator")
    service.clients.add("reader", (SMTP,), None, "administrator")
    change(service.store, "INSERT INTO client_use (client_id, used_at) VALUES ('a', 'b')")
    change(service.store, "INSERT INTO mail_count VALUES ('relay', 'p', '2026-03-02', 1, 2, 0)")
    change(service.store, "INSERT INTO notice VALUES ('t', 'webhook', NULL, '2026-03-02', 0)")
    change(service.store, "INSERT INTO session VALUES ('h', NULL, NULL, 'p', 'operator', 'b', 'u', '', NULL)")


def test_everything_but_sessions_and_claims_is_restored_into_either_engine(
    service: Services, sealer: Sealer, target: Store, tmp_path: Path
) -> None:
    fill(service)
    before = everything(service.store)
    content = restored(target, sealer, backed_up(service.store, sealer))
    after = everything(target)
    assert content == BackupContent(START, len(before["stored_events"]))
    for table in ("client_use", "mail_count", "notice", "machine", "profile", "smtp_group", "client"):
        assert after[table] == before[table] != []
    assert len(after["stored_events"]) == content.events + 2  # the sign-in that is over, and the hold
    assert [row for row in after["vault"] if row["kind"] != "device_code"] == [
        row for row in before["vault"] if row["kind"] != "device_code"
    ]
    assert after["session"] == after["claim"] == []
    assert open_store(target, sealer) == service.store_id
    again = Services(target, sealer, service.store_id, tmp_path / "new", service.clock, service.providers)
    assert again.audit.verify().findings == ()
    assert again.access_token(SMTP).credential == service.access_token(SMTP).credential


def test_the_restored_log_goes_on_where_the_backup_ended(
    service: Services, sealer: Sealer, target: Store, tmp_path: Path
) -> None:
    fill(service)
    restored(target, sealer, backed_up(service.store, sealer))
    again = Services(target, sealer, service.store_id, tmp_path / "new", service.clock, service.providers)
    again.tokens.holds.resume("rehearsed", ADMIN)
    again.add_machine("second-mfp")
    again.get_token("second-mfp/smtp-service")
    assert again.audit.verify().findings == ()
    names = [(record.aggregate, record.name) for record in again.history.records()]
    assert names.count(("Log", "Restored")) == names.count(("Log", "Resumed")) == 1


def test_a_sign_in_under_way_is_over_with_the_restore(
    service: Services, sealer: Sealer, target: Store, tmp_path: Path
) -> None:
    fill(service)
    restored(target, sealer, backed_up(service.store, sealer))
    again = Services(target, sealer, service.store_id, tmp_path / "new", service.clock, service.providers)
    token = again.tokens.status(POP).token
    assert (token.attempt, token.reason) == (None, Reason.RESTORED)
    assert again.tokens.waiting() == []


def test_on_hold_no_provider_is_asked_and_a_token_in_hand_is_served(
    service: Services, sealer: Sealer, target: Store, tmp_path: Path, provider: FakeProvider, clock: FakeClock
) -> None:
    fill(service)
    restored(target, sealer, backed_up(service.store, sealer))
    again = Services(target, sealer, service.store_id, tmp_path / "new", service.clock, service.providers)
    asked = list(provider.requests)
    asks: list[Callable[[], object]] = [
        lambda: again.tokens.request(POP, None, ADMIN),
        lambda: again.tokens.renew(SMTP, ADMIN),
        lambda: again.tokens.delete(SMTP, ADMIN),
        lambda: again.access_token(SMTP, 3590),
    ]
    clock.step(minutes=55)
    for ask in asks:
        with pytest.raises(Refused, match="on_hold"):
            ask()
    assert again.access_token(SMTP).credential.access_token.reveal()
    clock.step(minutes=10)
    with pytest.raises(Refused, match="on_hold"):
        again.access_token(SMTP)
    assert again.tokens.recover() == 0
    assert provider.requests == asked
    again.tokens.holds.resume(None, ADMIN)
    assert again.access_token(SMTP).generation == 2


def test_a_hold_is_lifted_once_and_the_log_says_why(
    service: Services, sealer: Sealer, target: Store, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="not_on_hold"):
        service.tokens.holds.resume(None, ADMIN)
    restored(target, sealer, backed_up(service.store, sealer))
    again = Services(target, sealer, service.store_id, tmp_path / "new", service.clock, service.providers)
    again.tokens.holds.resume("the old host is off", ADMIN)
    with pytest.raises(Refused, match="not_on_hold"):
        again.tokens.holds.resume(None, ADMIN)
    lifted = again.history.records()[-1]
    assert (lifted.name, lifted.by, lifted.facts) == ("Resumed", ADMIN, {"because": "the old host is off"})


def test_a_backup_of_a_store_on_hold_is_restored_and_resumed_like_any(
    service: Services, sealer: Sealer, target: Store, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    fill(service)
    restored(target, sealer, backed_up(service.store, sealer))
    (tmp_path / "third").mkdir()
    with other_store("into sqlite", request, tmp_path / "third") as third:
        restored(third, sealer, backed_up(target, sealer))
        again = Services(third, sealer, service.store_id, tmp_path / "new", service.clock, service.providers)
        again.tokens.holds.resume(None, ADMIN)
        assert not again.tokens.holds.is_on()
        assert again.audit.verify().findings == ()


@pytest.mark.parametrize("engine", ["sqlite"])
def test_a_store_that_was_made_and_never_used_takes_a_backup(service: Services, sealer: Sealer, target: Store) -> None:
    create_store(target, Sealer(bytes(32)))
    fill(service)
    restored(target, sealer, backed_up(service.store, sealer))
    assert open_store(target, sealer) == service.store_id


def test_a_store_in_use_takes_none_and_stays_as_it_is(service: Services, sealer: Sealer) -> None:
    fill(service)
    file, before = backed_up(service.store, sealer), everything(service.store)
    with pytest.raises(Refused, match="store_in_use"):
        check_empty(service.store)
    with pytest.raises(Refused, match="store_in_use"):
        restored(service.store, sealer, file)
    assert everything(service.store) == before


def test_an_error_in_the_middle_leaves_no_store_and_the_next_restore_works(
    service: Services, sealer: Sealer, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(service)
    file = backed_up(service.store, sealer)

    def fails(*_: object) -> None:
        raise Unreachable("store_unreachable", reason="power cut")

    monkeypatch.setattr(backup, "write_last_backup", fails)
    with pytest.raises(Unreachable):
        restored(target, sealer, file)
    monkeypatch.undo()
    file.seek(0)
    assert restored(target, sealer, file).events
    assert open_store(target, sealer) == service.store_id


def test_what_others_write_during_a_backup_is_not_in_it(service: Services, sealer: Sealer, tmp_path: Path) -> None:
    fill(service)
    events = len(everything(service.store)["stored_events"])

    numbers = itertools.count()

    class Busy(io.BytesIO):
        """Somebody adds a machine each time something is written."""

        def write(self, data: Any) -> int:
            service.settings.add_machine(f"meanwhile-{next(numbers)}", "generic", "administrator")
            return super().write(data)

    file = Busy()
    assert write_backup(service.store, sealer, file, CONFIGURATION, program="1", now=START).events == events
    assert len(everything(service.store)["stored_events"]) > events
    target = SqliteStore(tmp_path / "target.db")
    file.seek(0)
    assert restored(target, sealer, file).events == events
    again = Services(target, sealer, service.store_id, tmp_path / "new", service.clock, service.providers)
    assert again.audit.verify().findings == ()
    target.close()


# The file


@pytest.fixture
def whole(service: Services, sealer: Sealer) -> bytes:
    fill(service)
    return backed_up(service.store, sealer).getvalue()


def refusal(content: bytes, sealer: Sealer) -> MailtokenError:
    with pytest.raises(MailtokenError) as refused:
        verify_backup(io.BytesIO(content), "a.backup", sealer)
    return refused.value


def repacked(whole: bytes, change_line: Callable[[int, bytes], bytes]) -> bytes:
    lines = gzip.decompress(whole).splitlines(keepends=True)
    return gzip.compress(b"".join(change_line(number, line) for number, line in enumerate(lines)))


one_engine = pytest.mark.parametrize("engine", ["sqlite"])


@one_engine
def test_a_backup_verifies_and_has_the_configuration_sealed_and_no_key(whole: bytes, sealer: Sealer) -> None:
    plain = gzip.decompress(whole)
    assert verify_backup(io.BytesIO(whole), "a.backup", sealer).made_at == START
    for secret in (sealer.keys[0], sealer.keys[0].hex().encode(), CONFIGURATION.content):
        assert secret not in plain
    assert read_configuration(BackupReader(io.BytesIO(whole), "a.backup"), sealer) == CONFIGURATION.content


@one_engine
def test_another_key_is_refused(whole: bytes) -> None:
    refused = refusal(whole, Sealer(bytes(32)))
    assert (type(refused), refused.code) == (Refused, "backup_of_another_key")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"SQLite format 2\0",
        # Each worker of a run has to collect the same tests, and a compressed file has the time in it.
        *(gzip.compress(text, mtime=0) for text in (b"", b"{}\n", b"[" * 5000 + b"\n")),
    ],
)
def test_a_file_of_something_else_is_no_backup(content: bytes, sealer: Sealer) -> None:
    refused = refusal(content, sealer)
    assert (type(refused), refused.code) == (InvalidValue, "not_a_backup")


def test_a_copy_of_a_store_is_told_from_other_files(sealer: Sealer) -> None:
    refused = refusal(b"SQLite format 3\0" + bytes(84), sealer)
    assert (type(refused), refused.code) == (InvalidValue, "backup_is_a_store")


@one_engine
def test_a_backup_that_was_cut_anywhere_is_refused(whole: bytes, sealer: Sealer) -> None:
    for length in (*range(0, len(whole) - 1, len(whole) // 40), len(whole) - 9, len(whole) - 1):
        refused = refusal(whole[:length], sealer)
        assert isinstance(refused, InvalidValue)
        assert refused.code in ("not_a_backup", "backup_damaged")


@one_engine
def test_a_backup_without_some_line_or_with_one_twice_or_changed_is_refused(whole: bytes, sealer: Sealer) -> None:
    count = len(gzip.decompress(whole).splitlines())
    for changed in {1, count // 2, count - 2}:
        for damage in (
            lambda line: b"",
            lambda line: line * 2,
            lambda line: line.replace(b"[", b"[ ", 1),
            lambda line: b'["stored_events", 1]\n',
            lambda line: b"null\n",
            lambda line: b"[[]]\n",
        ):
            bad = repacked(whole, lambda number, line, at=changed, do=damage: do(line) if number == at else line)  # type: ignore[misc]
            assert refusal(bad, sealer).code == "backup_damaged"
    assert refusal(whole + gzip.compress(b"more\n"), sealer).code == "backup_damaged"


@one_engine
@pytest.mark.parametrize("change", [{"mailtoken_backup": FORMAT + 1}, {"schema_version": SCHEMA_VERSION + 1}])
def test_a_backup_of_a_newer_program_is_refused(whole: bytes, sealer: Sealer, change: dict[str, int]) -> None:
    def newer(number: int, line: bytes) -> bytes:
        return line if number else json.dumps({**json.loads(line), **change}).encode() + b"\n"

    refused = refusal(repacked(whole, newer), sealer)
    assert (type(refused), refused.code) == (Refused, "backup_newer")


@one_engine
def test_a_row_that_does_not_open_in_the_store_fails_the_check_of_its_backup(service: Services, sealer: Sealer) -> None:
    fill(service)
    change(service.store, "UPDATE vault SET generation = 7 WHERE kind = 'credential'")
    assert refusal(backed_up(service.store, sealer).getvalue(), sealer).code == "backup_row_damaged"


@one_engine
def test_the_memory_for_a_backup_does_not_grow_with_the_store(service: Services, sealer: Sealer) -> None:
    class Nowhere(io.RawIOBase):
        def write(self, data: Any) -> int:
            return len(data)

    def peak() -> int:
        tracemalloc.start()
        write_backup(service.store, sealer, Nowhere(), CONFIGURATION, program="1", now=START)  # type: ignore[arg-type]
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    row = "INSERT INTO vault VALUES (?, 'credential', 1, 'A', 'k', ?, ?)"

    def add(begin: int, end: int) -> None:
        with service.store.writing() as query:
            query.run_many(row, [(f"{number:08}", b"w" * 100, b"b" * 1000) for number in range(begin, end)])

    add(0, 1500)
    small = peak()
    add(1500, 6000)
    assert peak() < small + 2_000_000


# The last backup


def test_an_old_last_backup_needs_attention_and_none_at_all_does_not(service: Services, clock: FakeClock) -> None:
    state = StoreStateQuery(service.store, service.clock, timedelta(days=2))
    assert state.now().attention == ()
    note_backup(service.store, START)
    assert state.now().attention == ()
    clock.step(days=2, seconds=1)
    assert state.now().attention == ("backup_old",)
    note_backup(service.store, service.clock.now())
    with service.store.reading() as query:
        assert read_last_backup(query) == service.clock.now()
    assert state.now().attention == ()
    assert service.audit.verify().findings == ()
