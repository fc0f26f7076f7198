"""The keyed chain, attacked by somebody who writes any row on either engine, and has no key."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import StoredEvent
from fakes import SCANNER, START, Services
from store_examples import ADMIN, change
from stored_record import PAST_THE_LOG, Record

from domain.errors import Refused
from domain.machine import Machine
from infrastructure.encryption.integrity_keys import MAC_BYTES
from infrastructure.store.hash_chain import link_message
from infrastructure.store.store import Store
from infrastructure.upkeep.keyed_chain_marker import KeyedChainMarker


@pytest.fixture
def record(service: Services) -> Record:
    """A log of some length, whose last event no row of the read model shows as well."""
    scanner, *_ = service.add_machine()
    service.get_token(scanner)
    for number in range(3):
        service.access_token_cache.fetch(scanner, None, f"client:reader-{number}")
    record = Record(service.store)
    assert record.findings() == ()
    return record


def kinds(record: Record) -> list[tuple[int | None, str]]:
    """What `audit verify` finds in events, links and head: the index and the kind."""
    return [
        (finding.index, finding.code)
        for finding in record.findings()
        if finding.code.startswith(("event", "link", "head")) and finding.code != "event_not_legal"
    ]


def chain_of(record: Record) -> list[dict[str, Any]]:
    with record.store.reading() as query:
        return [dict(row) for row in query.rows("SELECT number, position, link FROM chain ORDER BY number")]


def head_of(record: Record) -> dict[str, Any]:
    with record.store.reading() as query:
        return dict(query.rows("SELECT * FROM chain_head")[0])


def put_head(record: Record, head: Mapping[str, Any]) -> None:
    statement = "UPDATE chain_head SET number = ?, position = ?, link = ?, mac = ?"
    change(record.store, statement, head["number"], head["position"], head["link"], head["mac"])


def add_event(record: Record, name: str) -> None:
    from infrastructure.store.event_log import EventLog

    EventLog(record.store).save(Machine.add(uuid4(), name, "generic", by=ADMIN, now=START))


@pytest.mark.parametrize("nth", [0, 5, -1])
def test_an_event_that_was_changed_is_named_by_its_index(record: Record, nth: int) -> None:
    position, event = record.events()[nth]
    record.write(position, state=event.state.replace(b'"by":', b'"by": ', 1))
    assert kinds(record) == [(record.index(position), "event_hash_differs")]


@pytest.mark.parametrize("nth", [0, 5, -1])
def test_an_event_that_was_removed_is_named_by_its_index_and_no_other_is_blamed(record: Record, nth: int) -> None:
    position, _ = record.events()[nth]
    record.remove(position)
    assert kinds(record) == [(record.index(position), "event_removed")]


@pytest.mark.parametrize("nth", [0, 5])
def test_an_event_that_was_removed_with_its_link_is_found_and_the_next_is_not_believed(
    record: Record, nth: int
) -> None:
    position, _ = record.events()[nth]
    record.remove(position)
    change(record.store, "DELETE FROM chain WHERE number = ?", nth + 1)
    assert kinds(record) == [(nth + 1, "link_removed"), (nth + 2, "event_unproven")]


def test_events_that_were_moved_up_over_a_removed_one_are_found(record: Record) -> None:
    events = record.events()
    position, _ = events[5]
    record.remove(position)
    change(record.store, "DELETE FROM chain WHERE number = 6")
    for number in range(7, len(events) + 1):
        change(record.store, "UPDATE chain SET number = ? WHERE number = ?", number - 1, number)
    change(record.store, "UPDATE chain_head SET number = number - 1")
    assert (6, "event_hash_differs") in kinds(record)
    assert "head_altered" in [kind for _, kind in kinds(record)]


def test_a_log_whose_tail_was_cut_off_is_found(record: Record) -> None:
    for position, _ in record.events()[-2:]:
        record.remove(position)
        change(record.store, "DELETE FROM chain WHERE position = ?", position)
    last = len(record.events())
    assert kinds(record) == [(last + 1, "event_cut_off")]
    (cut,) = [finding for finding in record.findings() if finding.code == "event_cut_off"]
    assert cut.fields == {"count": 2}


def test_a_tail_that_was_cut_off_with_its_head_is_found_and_nothing_is_stored_behind_it(record: Record) -> None:
    position, _ = record.events()[-1]
    record.remove(position)
    change(record.store, "DELETE FROM chain WHERE position = ?", position)
    last = chain_of(record)[-1]
    put_head(record, {**last, "mac": head_of(record)["mac"]})
    assert kinds(record) == [(last["number"], "head_altered")]
    with pytest.raises(Refused, match="chain_head_altered"):
        add_event(record, "behind")
    assert kinds(record) == [(last["number"], "head_altered")]


def test_an_older_head_that_was_put_back_is_found(record: Record) -> None:
    older = head_of(record)
    add_event(record, "press")
    put_head(record, older)
    assert kinds(record) == [(older["number"], "head_older")]


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("DELETE FROM chain_head", "head_missing"),
        ("INSERT INTO chain_head SELECT 2, number, position, link, mac FROM chain_head", "head_added"),
        ("UPDATE chain_head SET position = position + 1", "head_altered"),
        ("UPDATE chain_head SET number = 4611686018427387904", "head_altered"),
        ("UPDATE chain_head SET mac = link", "head_altered"),
    ],
)
def test_a_head_that_was_changed_is_found(record: Record, statement: str, kind: str) -> None:
    change(record.store, statement)
    assert [code for _, code in kinds(record)] == [kind]


def test_without_its_head_nothing_is_stored(record: Record) -> None:
    change(record.store, "DELETE FROM chain_head")
    with pytest.raises(Refused, match="chain_head_altered"):
        add_event(record, "behind")


def test_two_events_that_changed_places_are_found(record: Record) -> None:
    one, other = record.find("Profile.Configured", 0)[0], record.find("Profile.Configured", 1)[0]
    wanted = [(record.index(position), "event_hash_differs") for position in (one, other)]
    record.move(one, PAST_THE_LOG)
    record.move(other, one)
    record.move(PAST_THE_LOG, other)
    assert kinds(record) == wanted


def test_an_event_that_moved_with_its_link_is_found(record: Record) -> None:
    position, _ = record.events()[-1]
    record.move(position, position + 5)
    change(record.store, "UPDATE chain SET position = ? WHERE position = ?", position + 5, position)
    assert (len(record.events()), "event_hash_differs") in kinds(record)


def test_an_event_that_was_inserted_with_a_link_is_found(record: Record) -> None:
    at, template = record.events()[-1]
    event = StoredEvent(uuid4(), 1, template.topic, template.state)
    record.insert(event, at + 1)
    number = len(record.events())
    link = chain_of(record)[-1]["link"]
    change(record.store, "INSERT INTO chain (number, position, link) VALUES (?, ?, ?)", number, at + 1, bytes(link))
    assert (number, "event_hash_differs") in kinds(record)


def test_a_link_that_was_changed_or_added_is_found(record: Record) -> None:
    change(record.store, "UPDATE chain SET link = ? WHERE number = 4", bytes(MAC_BYTES))
    change(record.store, "INSERT INTO chain (number, position, link) VALUES (-3, 0, ?)", bytes(MAC_BYTES))
    assert {(-3, "link_added"), (4, "event_hash_differs")} <= set(kinds(record))


def test_a_log_that_was_chained_anew_with_the_public_algorithm_is_found(record: Record) -> None:
    """The attacker has read our source, and takes a key of their own."""
    position, event = record.find("Token.Retrieved")
    record.write(position, state=event.state.replace(SCANNER.encode(), b"evil@contoso.com"))
    link = bytes(MAC_BYTES)
    for number, (at, stored) in enumerate(record.events(), 1):
        link = bytes([0, 0, 0, 1]) + hashlib.sha256(link_message(number, link, at, stored)).digest()
        change(record.store, "UPDATE chain SET link = ? WHERE number = ?", link, number)
    change(record.store, "UPDATE chain_head SET link = ?, mac = ?", link, link)
    found = kinds(record)
    assert [kind for _, kind in found] == [*["event_hash_differs"] * len(record.events()), "head_altered"]


def test_links_of_another_store_are_no_links_of_this_one(record: Record, service: Services) -> None:
    keys = service.store.integrity.chain
    other = type(keys)({1: bytes(32)})
    link = bytes(MAC_BYTES)
    for number, (at, stored) in enumerate(record.events(), 1):
        link = other.mac(link_message(number, link, at, stored))
        change(record.store, "UPDATE chain SET link = ? WHERE number = ?", link, number)
    assert (1, "event_hash_differs") in kinds(record)


def test_any_change_of_a_row_is_found(record: Record) -> None:
    """A hundred random changes to events, links and head, each alone, each taken back."""
    chance = random.Random(15)
    for _ in range(100):
        undo = _attack(record, chance)
        assert kinds(record), undo
        for statement, *parameters in undo:
            change(record.store, statement, *parameters)
    assert record.findings() == ()


def _attack(record: Record, chance: random.Random) -> list[tuple[Any, ...]]:
    """Change one row at random; returns the statements that take it back."""
    position_column = "notification_id" if record.store.shared_by_nodes else "rowid"
    position, event = chance.choice(record.events())
    link = chance.choice(chain_of(record))
    head = head_of(record)
    id = event.originator_id if record.store.shared_by_nodes else UUID(str(event.originator_id)).hex
    columns = f"{position_column}, originator_id, originator_version, topic, state"
    values = (position, id, event.originator_version, event.topic, event.state)
    insert = f"INSERT INTO stored_events ({columns}) VALUES (?, ?, ?, ?, ?)"
    which = f"WHERE {position_column} = ?"
    state = bytearray(event.state)
    state[chance.randrange(len(state))] ^= 1
    broken = bytearray(link["link"])
    broken[chance.randrange(len(broken))] ^= 1
    attacks: list[tuple[tuple[Any, ...], list[tuple[Any, ...]]]] = [
        (
            (f"UPDATE stored_events SET state = ? {which}", bytes(state), position),
            [(f"UPDATE stored_events SET state = ? {which}", event.state, position)],
        ),
        ((f"DELETE FROM stored_events {which}", position), [(insert, *values)]),
        (
            (insert, PAST_THE_LOG, *values[1:2], 999, *values[3:]),
            [(f"DELETE FROM stored_events {which}", PAST_THE_LOG)],
        ),
        (
            (f"UPDATE stored_events SET originator_version = 999 {which}", position),
            [(f"UPDATE stored_events SET originator_version = ? {which}", event.originator_version, position)],
        ),
        (
            ("UPDATE chain SET link = ? WHERE number = ?", bytes(broken), link["number"]),
            [("UPDATE chain SET link = ? WHERE number = ?", bytes(link["link"]), link["number"])],
        ),
        (
            ("DELETE FROM chain WHERE number = ?", link["number"]),
            [("INSERT INTO chain VALUES (?, ?, ?)", link["number"], link["position"], bytes(link["link"]))],
        ),
        (
            ("UPDATE chain SET number = ? WHERE number = ?", PAST_THE_LOG, link["number"]),
            [("UPDATE chain SET number = ? WHERE number = ?", link["number"], PAST_THE_LOG)],
        ),
        (
            ("UPDATE chain_head SET number = ?", chance.randrange(head["number"])),
            [("UPDATE chain_head SET number = ?", head["number"])],
        ),
    ]
    (statement, *parameters), undo = chance.choice(attacks)
    assert change(record.store, statement, *parameters) == 1
    return undo


def test_positions_may_have_gaps(store: Store, service: Services, engine: str) -> None:
    if engine == "postgresql":
        with store.writing() as query:
            query.rows("SELECT nextval(pg_get_serial_sequence('stored_events', 'notification_id'))")
    record = Record(store)
    add_event(record, "press")
    if engine == "postgresql":
        with store.writing() as query:
            query.rows("SELECT nextval(pg_get_serial_sequence('stored_events', 'notification_id'))")
    add_event(record, "scanner")
    assert [link["number"] for link in chain_of(record)] == [1, 2]
    assert record.findings() == ()


def test_a_node_remembers_the_stores_whose_keyed_chain_it_has_seen(tmp_path: Any) -> None:
    marker = KeyedChainMarker(tmp_path / "escrow")
    assert not marker.names("a-store")
    marker.note("a-store")
    marker.note("another")
    marker.note("a-store")
    assert marker.names("a-store")
    assert marker.names("another")
    assert not marker.names("store")
    assert marker.path.read_text() == "a-store\nanother\n"
