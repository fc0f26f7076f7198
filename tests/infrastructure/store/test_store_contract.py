"""The contract of `infrastructure.store.store.Store`, kept by each engine: what is true together is one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from another_process import add_events
from fakes import SCANNER, START
from freezegun import freeze_time
from store_examples import (
    ADMIN,
    PERSON,
    a_credential,
    a_pending,
    a_profile,
    a_token,
    another_process,
    ask,
    change,
    everything,
    history,
    some_claim_key,
)

from domain.errors import Conflict, NotFound, StoreRefused
from domain.machine import Machine
from domain.outcomes import Granted
from domain.profile import Profile
from domain.smtp_group import SmtpGroup
from domain.token import Token
from infrastructure.clock import SystemClock
from infrastructure.encryption.envelope import Sealer
from infrastructure.queries.audit import Audit
from infrastructure.store.event_log import EventLog
from infrastructure.store.open import create_store, open_store
from infrastructure.store.query import Query
from infrastructure.store.store import Store, UnitOfWork
from infrastructure.store.vault import Vault, VaultRow
from infrastructure.tokens.claims import Claims

WRITERS = 8
TIMES = 10


@pytest.fixture
def vault(sealer: Sealer, store_id: str) -> Vault:
    return Vault(sealer, store_id)


@pytest.fixture
def token(event_log: EventLog, vault: Vault) -> Token:
    """A token that is Waiting, with its profile and its sealed device code."""
    token = a_token()
    ask(token)
    sealed = vault.seal_device_code(token.id, 1, a_pending())
    event_log.save(token, a_profile(token), unit_of_work=UnitOfWork(put=[sealed]))
    return event_log.token(token.id)


def retrieve(token: Token, vault: Vault) -> VaultRow:
    """The token's attempt succeeds; the sealed row that belongs to it."""
    token.retrieve("attempt-1", Granted(a_credential(), PERSON), PERSON, by="worker", now=START)
    return vault.seal_credential(token.id, token.state.generations, a_credential())


# One transaction


def test_a_save_stores_events_rows_hashes_and_sealed_rows_and_ends_the_claim(
    store: Store, event_log: EventLog, vault: Vault, token: Token
) -> None:
    claim_key = some_claim_key(token.id, "acquisition")
    assert Claims(store).take(claim_key)
    event_log.save(token, unit_of_work=UnitOfWork(put=[retrieve(token, vault)], release=[claim_key]))
    stored = everything(store)
    assert [(row["status"], row["account"]) for row in stored["token"]] == [("Retrieved", SCANNER)]
    assert [(row["kind"], row["generation"]) for row in stored["vault"]] == [("credential", 1)]
    assert stored["claim"] == []
    assert len(stored["chain"]) == len(stored["stored_events"]) == 4
    assert Audit(event_log).verify().findings == ()


def _a_sealed_row_that_is_there(store: Store, row: VaultRow) -> Any:
    return {"put": [row, row]}


def _a_group_that_changed(store: Store, row: VaultRow) -> Any:
    return {"put": [row], "expects": {row.subject_id: 1}}


def _an_aggregate_that_is_not_there(store: Store, row: VaultRow) -> Any:
    return {"put": [row], "expects": {uuid4(): 1}}


def _a_hash_in_the_way(store: Store, row: VaultRow) -> Any:
    with store.reading() as query:
        positions = [position for position, _ in query.events(0, 1000)]
    for ahead in range(1, 20):
        number = len(positions) + ahead
        change(store, "INSERT INTO chain VALUES (?, ?, ?)", number, positions[-1] + ahead, b"\1" * 36)
    return {"put": [row]}


@pytest.mark.parametrize(
    "obstacle",
    [_a_sealed_row_that_is_there, _a_group_that_changed, _an_aggregate_that_is_not_there, _a_hash_in_the_way],
)
def test_if_one_part_of_a_save_cant_be_stored_nothing_is(
    store: Store, event_log: EventLog, vault: Vault, token: Token, obstacle: Callable[[Store, VaultRow], Any]
) -> None:
    claim_key = some_claim_key(token.id, "acquisition")
    assert Claims(store).take(claim_key)
    unit_of_work = UnitOfWork(**obstacle(store, retrieve(token, vault)), release=[claim_key])
    before = everything(store)
    with pytest.raises(Conflict, match="changed_meanwhile"):
        event_log.save(token, unit_of_work=unit_of_work)
    assert everything(store) == before


def test_if_a_name_is_taken_nothing_is_stored(store: Store, event_log: EventLog, token: Token) -> None:
    before = everything(store)
    other = a_token()
    with pytest.raises(Conflict):
        event_log.save(other, a_profile(other))
    machine = Machine.add(uuid4(), "office-mfp", "sharp-bp", by=ADMIN, now=START)
    twin = Machine.add(uuid4(), "office-mfp", "sharp-bp", by=ADMIN, now=START)
    with pytest.raises(Conflict):
        event_log.save(machine, twin)
    group = SmtpGroup.create(uuid4(), "scanners", other.id, by=ADMIN, now=START)
    twins = SmtpGroup.create(uuid4(), "scanners", other.id, by=ADMIN, now=START)
    with pytest.raises(Conflict):
        event_log.save(group, twins)
    assert everything(store) == before


@pytest.mark.parametrize("table", ["claim", "vault", "chain", "token"])
def test_if_a_table_is_missing_nothing_is_stored_in_the_others(
    store: Store, event_log: EventLog, vault: Vault, token: Token, table: str
) -> None:
    claim_key = some_claim_key(token.id, "acquisition")
    assert Claims(store).take(claim_key)
    before = everything(store)
    change(store, f"ALTER TABLE {table} RENAME TO elsewhere")
    with pytest.raises(Exception, match=table):
        event_log.save(token, unit_of_work=UnitOfWork(put=[retrieve(token, vault)], release=[claim_key]))
    change(store, f"ALTER TABLE elsewhere RENAME TO {table}")
    assert everything(store) == before


def test_a_name_that_was_given_up_can_be_taken_in_the_same_transaction(event_log: EventLog, token: Token) -> None:
    with event_log.store.reading() as query:
        (row,) = query.rows("SELECT id FROM profile")
    leaving = event_log.load(Profile, UUID(row["id"]))
    leaving.remove(by=ADMIN, now=START)
    event_log.save(a_profile(token), leaving)
    assert Audit(event_log).verify().findings == ()


# Who is first


def test_of_two_that_change_the_same_version_the_second_must_look_again(event_log: EventLog, token: Token) -> None:
    first, second = event_log.token(token.id), event_log.token(token.id)
    first.cancel(by="first", now=START)
    second.cancel(by="second", now=START)
    event_log.save(first)
    with pytest.raises(Conflict):
        event_log.save(second)
    assert [logged.event.by for logged in history(event_log, [token.id])][2:] == ["first"]


def test_a_decision_holds_only_if_what_it_was_made_on_is_as_it_was(event_log: EventLog, token: Token) -> None:
    group = SmtpGroup.create(uuid4(), "scanners", token.id, by=ADMIN, now=START)
    event_log.save(group)
    token.cancel(by=ADMIN, now=START)
    joined = event_log.load(SmtpGroup, group.id)
    joined.link(uuid4(), by=ADMIN, now=START)
    event_log.save(joined)
    with pytest.raises(Conflict):
        event_log.save(token, unit_of_work=UnitOfWork(expects={group.id: 1}))
    again = event_log.token(token.id)
    again.cancel(by=ADMIN, now=START)
    event_log.save(again, unit_of_work=UnitOfWork(expects={group.id: 2}))


def test_writers_in_threads_keep_the_order_and_the_chain(event_log: EventLog) -> None:
    token = a_token()
    event_log.save(token)
    with ThreadPoolExecutor(WRITERS) as pool:
        for done in [pool.submit(add_events, event_log, token.id, f"w{n}", TIMES) for n in range(WRITERS)]:
            done.result()
    _check_order(event_log, token, WRITERS * TIMES)


def test_writers_in_processes_keep_the_order_and_the_chain(event_log: EventLog, store_address: str) -> None:
    token = a_token()
    event_log.save(token)
    writers = [another_process("write", store_address, token.id, f"w{n}", TIMES) for n in range(4)]
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    _check_order(event_log, token, 4 * TIMES)


def _check_order(event_log: EventLog, token: Token, times: int) -> None:
    """Each writer added `times` machines and as many events to the token, and nothing got lost or out of order."""
    with event_log.store.reading() as query:
        logged = list(event_log.read(query))
    positions = [one.position for one in logged]
    assert positions == sorted(set(positions))
    assert len(logged) == 1 + 2 * times
    events = history(event_log, [token.id])
    assert [one.event.originator_version for one in events] == list(range(1, times + 2))
    names = [one.event.attempt_id for one in events if isinstance(one.event, Token.LateReplyDiscarded)]
    for writer in {name.partition("-")[0] for name in names}:
        assert [name for name in names if name.startswith(f"{writer}-")] == [f"{writer}-{n}" for n in range(TIMES)]
    assert Audit(event_log).verify().findings == ()


def test_a_reader_sees_one_snapshot_while_somebody_writes(store: Store, event_log: EventLog, token: Token) -> None:
    def seen(query: Query) -> tuple[int, list[Any]]:
        return len(query.events(0, 100)), [row["status"] for row in query.rows("SELECT status FROM token")]

    def write() -> None:
        token.cancel(by=ADMIN, now=START)
        event_log.save(token)

    with store.reading() as query:
        before = seen(query)
        writer = threading.Thread(target=write)
        writer.start()
        writer.join()
        assert seen(query) == before == (3, ["Waiting for authorisation"])
    with store.reading() as query:
        assert seen(query) == (4, ["Not Retrieved"])


# What goes in comes out


def test_what_is_not_there_is_not_found(event_log: EventLog) -> None:
    id = uuid4()
    loads: dict[str, Callable[[], object]] = {
        "Token": lambda: event_log.load(Token, id),
        "Profile": lambda: event_log.load(Profile, id),
        "SmtpGroup": lambda: event_log.load(SmtpGroup, id),
        "Machine": lambda: event_log.load(Machine, id),
    }
    for kind, load in loads.items():
        with pytest.raises(NotFound, match=f"aggregate_not_found kind='{kind}' id='{id}'"):
            load()
    with pytest.raises(NotFound, match=str(id)):
        event_log.token(id)


def test_an_aggregate_is_the_same_after_it_was_stored(event_log: EventLog, token: Token, vault: Vault) -> None:
    row = retrieve(token, vault)
    event_log.save(token, unit_of_work=UnitOfWork(put=[row]))
    again = event_log.token(token.id)
    assert (again.state, again.version) == (token.state, token.version)
    assert history(event_log, []) == []


def test_a_frozen_clock_changes_nothing_about_what_is_stored(event_log: EventLog) -> None:
    with freeze_time("2026-03-29 00:59:59.123456+00:00"):
        now = SystemClock().now()
        machine = Machine.add(uuid4(), "office-mfp", "sharp-bp", by=ADMIN, now=now)
        event_log.save(machine)
    (logged,) = history(event_log, [machine.id])
    assert logged.event.timestamp.isoformat() == "2026-03-29T00:59:59.123456+00:00"
    assert type(logged.event.timestamp) is type(START)


def test_the_environment_of_the_process_says_nothing_about_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_ENABLE_DB_FUNCTIONS", "y")
    monkeypatch.setenv("PERSISTENCE_MODULE", "eventsourcing.popo")
    monkeypatch.setenv("CIPHER_TOPIC", "eventsourcing.cipher:AESCipher")
    monkeypatch.setenv("AGGREGATE_CACHE_MAXSIZE", "10")
    event_log = EventLog(store)
    token = a_token()
    event_log.save(token, a_profile(token))
    assert len(everything(store)["chain"]) == 2
    assert Audit(event_log).verify().findings == ()


# Making and opening


def test_a_store_that_is_not_there_is_not_made_by_looking_for_it(empty_store: Store, tmp_path: Path) -> None:
    assert not empty_store.tables()
    with pytest.raises(StoreRefused, match="store_missing"):
        open_store(empty_store, Sealer(bytes(32)))
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_was_made_opens(empty_store: Store, sealer: Sealer) -> None:
    store_id = create_store(empty_store, sealer)
    assert open_store(empty_store, sealer) == store_id
    assert everything(empty_store)["stored_events"] == []


def test_a_store_is_made_once(store: Store, store_id: str, sealer: Sealer) -> None:
    before = everything(store)
    with pytest.raises(StoreRefused, match="store_exists"):
        create_store(store, sealer)
    with pytest.raises(StoreRefused, match="store_exists"):
        create_store(store, Sealer(bytes(32)))
    assert everything(store) == before
    assert open_store(store, sealer) == store_id
