"""Each name of the eventsourcing library that is used beyond its documented interface is still there."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from eventsourcing.domain import BaseAggregate, Snapshot
from eventsourcing.persistence import JSONTranscoder
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from eventsourcing.sqlite import (
    SQLiteApplicationRecorder,
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteCursor,
    SQLiteDatastore,
    SQLiteTransaction,
)
from store_examples import a_token

import domain
from domain.token import Token
from infrastructure.store.eventsourcing_internals import aggregate_in_state

ROOT = Path(domain.__file__).parent.parent

METHODS = {
    (BaseAggregate, "_create"): ["event_class", "id", "kwargs"],
    (JSONTranscoder, "_encode_obj"): ["self", "o"],
    (SQLiteConnectionPool, "_create_connection"): ["self"],
    (SQLiteConnection, "__init__"): ["self", "sqlite_conn", "max_age"],
    (SQLiteConnection, "transaction"): ["self", "commit"],
    (SQLiteTransaction, "__init__"): ["self", "connection", "commit"],
    (SQLiteApplicationRecorder, "_insert_events"): ["self", "c", "stored_events", "_"],
    (PostgresApplicationRecorder, "_lock_table"): ["self", "curs"],
    (PostgresApplicationRecorder, "_notify_channel"): ["self", "curs"],
    (Snapshot, "mutate"): ["self", "_"],
}
ATTRIBUTES = {
    (SQLiteConnection, "_sqlite_conn"),
    (SQLiteCursor, "sqlite_cursor"),
    (SQLiteConnectionPool, "max_age"),
    (SQLiteDatastore, "pool"),
    (SQLiteTransaction, "connection"),
    (SQLiteTransaction, "commit"),
    (PostgresDatastore, "pool"),
}


def in_words(value: object) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("owner", "name"), METHODS, ids=in_words)
def test_a_method_that_is_used_takes_what_it_took(owner: type, name: str) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == METHODS[owner, name]


@pytest.mark.parametrize(
    ("owner", "name"), sorted(ATTRIBUTES, key=repr), ids=lambda value: getattr(value, "__name__", value)
)
def test_an_attribute_that_is_used_is_set(owner: type, name: str) -> None:
    classes = [inspect.getsource(base) for base in owner.__mro__ if base.__module__.startswith("eventsourcing")]
    assert any(f"self.{name}" in source for source in classes) or hasattr(owner, name)


def test_an_aggregate_is_made_in_a_state_without_its_events() -> None:
    token, now = a_token(), datetime(2026, 3, 2, tzinfo=UTC)
    made = aggregate_in_state(token.id, 7, Token.TOPIC, token.state, now)
    assert (type(made), made.id, made.version, made.state) == (Token, token.id, 7, token.state)
    assert (made.created_on, made.modified_on, made.pending_events) == (now, now, [])


def test_no_other_module_of_the_store_asks_for_private_names_of_the_library() -> None:
    names = {name for owner, name in (*METHODS, *ATTRIBUTES) if name.startswith("_") and not name.startswith("__")}
    allowed = {"infrastructure/store/eventsourcing_internals.py", "domain/aggregate.py"}
    using = {
        str(path.relative_to(ROOT))
        for top in ("domain", "infrastructure", "adapters")
        for path in (ROOT / top).rglob("*.py")
        if "eventsourcing" in path.read_text()  # another library may have a name that is the same
        and any(re.search(rf"\.{name}\b|def {name}\(", path.read_text()) for name in names)
    }
    assert using == allowed
