"""What a store is, whichever engine keeps it: the log, its hash chain, the vault, the claims and the read model.

`Alongside` is what goes into the events' transaction beside them. The two engines, `sqlite` and `postgres`, differ in
how a transaction begins and how a parameter is written; everything that has to be true is here, once.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol
from uuid import UUID

from eventsourcing.persistence import ApplicationRecorder, IntegrityError, StoredEvent

from infrastructure.escrow import Work
from infrastructure.rows import View, create_statements, write_statements
from infrastructure.sealing import Sealed

GENESIS = b"\0" * 32
_VALUES_AT_ONCE = 500


@dataclass(frozen=True)
class VaultRow:
    """A sealed value and where it is kept."""

    token_id: UUID
    kind: str
    generation: int
    sealed: Sealed


@dataclass(frozen=True)
class Alongside:
    """What is stored in the same transaction as the events.

    `expects` are aggregates that were read for the decision and must still have the version they had then.
    """

    views: Sequence[View] = ()
    put: Sequence[VaultRow] = ()
    drop: Sequence[tuple[UUID, str]] = ()
    release: Sequence[Work] = ()
    expects: Mapping[UUID, int] = field(default_factory=dict)


class Query(Protocol):
    """A transaction under way. Parameters are `?`, rows are mappings by column."""

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Mapping[str, Any]]:
        """Run a statement and fetch what it gives."""
        ...

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement; returns how many rows it changed."""
        ...

    def run_many(self, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each set of parameters."""
        ...

    def events(self, after: int, limit: int) -> list[tuple[int, StoredEvent]]:
        """The next events of the log behind position `after`, with their positions."""
        ...

    def version_of(self, id: UUID) -> int | None:
        """How many events the log has of this aggregate."""
        ...


class Store(ABC):
    """One store: opened by the process that runs, closed at its end."""

    recorder: ApplicationRecorder
    shared_by_nodes: bool
    bytes_type: ClassVar[str]
    integer_type: ClassVar[str]

    @abstractmethod
    def create_tables(self) -> None:
        """Make what is missing."""

    @classmethod
    def create_statements(cls) -> Iterator[str]:
        """The statements that make the tables which are missing, but for the log's own."""
        return create_statements(bytes_type=cls.bytes_type, integer_type=cls.integer_type)

    @abstractmethod
    def has_tables(self) -> bool:
        """Whether there is a store; nothing is made."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Query]:
        """One consistent snapshot."""

    @abstractmethod
    def writing(self, *, alone: bool = False) -> AbstractContextManager[Query]:
        """One transaction, if asked `alone` of all that write events; commits unless an exception leaves it."""

    @abstractmethod
    def now_seconds(self, query: Query) -> float:
        """A clock for claims that no wall-clock step moves: database time, or time since this machine's boot."""

    @abstractmethod
    def forget(self) -> bool:
        """Make the engine forget what was dropped, as far as it can; False if readers are in the way now."""

    @abstractmethod
    def has_room(self) -> bool:
        """Whether there is room to store what a request to a provider would bring."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""


def link_hash(previous: bytes, position: int, event: StoredEvent) -> bytes:
    """The hash that chains an event to all before it: SHA-256 over the previous hash and every stored field."""
    digest = hashlib.sha256(previous)
    digest.update(position.to_bytes(8, "big"))
    digest.update(_id_bytes(event.originator_id))
    digest.update(event.originator_version.to_bytes(8, "big"))
    for part in (event.topic.encode(), event.state):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _id_bytes(id: UUID | str) -> bytes:
    return id.bytes if isinstance(id, UUID) else UUID(id).bytes


def store_alongside(
    query: Query,
    events: Sequence[StoredEvent],
    insert: Callable[[], Sequence[int]],
    beside: Alongside,
) -> Sequence[int]:
    """Store events and everything that goes with them, within the transaction that `query` is.

    Raises:
        IntegrityError: an aggregate that was read for the decision has changed since, or a relay user was mapped to a
            profile that is to be removed.
    """
    _check_expectations(query, beside.expects)
    _check_mappings(query, beside.views)
    positions = insert()
    _extend_chain(query, positions, events)
    for statement, parameters in write_statements(beside.views):
        query.run_many(statement, parameters)
    for token_id, kind in beside.drop:
        query.run("DELETE FROM vault WHERE token_id = ? AND kind = ?", (str(token_id), kind))
    put_vault_rows(query, beside.put)
    for work in beside.release:
        release_claim(query, work)
    return positions


def _check_expectations(query: Query, expects: Mapping[UUID, int]) -> None:
    for id, expected in expects.items():
        version = query.version_of(id)
        if version != expected:
            raise IntegrityError(f"{id} is at version {version}, not {expected}")


def _check_mappings(query: Query, views: Sequence[View]) -> None:
    leaving = {str(view.id) for view in views if view.table == "profile" and view.row is None}
    for user in query.rows("SELECT name, profiles FROM relay_user") if leaving else ():
        if leaving.intersection(json.loads(user["profiles"]).values()):
            raise IntegrityError(f"relay user {user['name']} is mapped to a profile that is to be removed")


def _extend_chain(query: Query, positions: Sequence[int], events: Sequence[StoredEvent]) -> None:
    last = query.rows("SELECT hash FROM chain ORDER BY position DESC LIMIT 1")
    previous = bytes(last[0]["hash"]) if last else GENESIS
    links = []
    for position, event in zip(positions, events, strict=True):
        previous = link_hash(previous, position, event)
        links.append((position, previous))
    query.run_many("INSERT INTO chain VALUES (?, ?)", links)


def rows_in(query: Query, statement: str, values: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The rows of a statement that ends with `IN`, for any number of values: an engine takes only so many at once."""
    for begin in range(0, len(values), _VALUES_AT_ONCE):
        some = values[begin : begin + _VALUES_AT_ONCE]
        yield from query.rows(f"{statement} ({', '.join('?' * len(some))})", some)


def put_vault_rows(query: Query, rows: Iterable[VaultRow]) -> None:
    """Store sealed values."""
    for row in rows:
        sealed = row.sealed
        query.run(
            "INSERT INTO vault VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                str(row.token_id),
                row.kind,
                row.generation,
                sealed.algorithm,
                sealed.key_id,
                sealed.wrapped,
                sealed.body,
            ),
        )


def replace_vault_row(query: Query, row: VaultRow) -> None:
    """Store a sealed value in the place of the one it names; no-op if that is gone."""
    sealed, key = row.sealed, (str(row.token_id), row.kind, row.generation)
    query.run(
        "UPDATE vault SET algorithm = ?, key_id = ?, wrapped = ?, body = ? "
        "WHERE token_id = ? AND kind = ? AND generation = ?",
        (sealed.algorithm, sealed.key_id, sealed.wrapped, sealed.body, *key),
    )


def release_claim(query: Query, work: Work) -> None:
    """Drop the claim of this work, if it is still this attempt's."""
    query.run(
        "DELETE FROM claim WHERE token_id = ? AND kind = ? AND generation = ? AND attempt_id = ?",
        (str(work.token_id), work.kind, work.generation, work.attempt_id),
    )
