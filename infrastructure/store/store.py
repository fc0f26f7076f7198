"""The store of either engine: the event log, its hash chain, the vault, the claims and the read model.

A `UnitOfWork` is stored in the transaction of its events. The two engines, `sqlite` and `postgres`, differ in how a
transaction begins and how a parameter is written; `store_unit_of_work` has the rules that hold for both.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from eventsourcing.persistence import ApplicationRecorder, IntegrityError, StoredEvent

from infrastructure.encryption.envelope import Sealer
from infrastructure.encryption.integrity_keys import IntegrityKeys
from infrastructure.store.claim_rows import ClaimKey, release_claim
from infrastructure.store.hash_chain import Head, NewerKey, extend_chain, read_head
from infrastructure.store.integrity_rows import read_integrity_keys
from infrastructure.store.log_index import Stream, extend_log_index
from infrastructure.store.machine_list import Listed, write_machine_list
from infrastructure.store.query import Query
from infrastructure.store.row_macs import RowChecks, view_with_mac
from infrastructure.store.rows import View, write_statements
from infrastructure.store.schema import create_statements
from infrastructure.store.vault import VaultRow, delete_vault_rows, insert_vault_rows


@dataclass(frozen=True)
class UnitOfWork:
    """The changes that are stored in the same transaction as the events.

    `drop` names vault rows by subject and kind. `statements` store and delete working rows, each with its parameters.
    `expects` has the aggregates that were read for the decision, and the versions that they must still have. `streams`
    and `instants`, which are those of the events, go into the index of the log. `listed` is what the list of machines
    shows of them.
    """

    views: Sequence[View] = ()
    put: Sequence[VaultRow] = ()
    drop: Sequence[tuple[UUID, str]] = ()
    release: Sequence[ClaimKey] = ()
    streams: Sequence[Stream] = ()
    instants: Sequence[datetime] = ()
    expects: Mapping[UUID, int] = field(default_factory=dict)
    statements: Sequence[tuple[str, Sequence[Any]]] = ()
    listed: Listed = field(default_factory=Listed)

    @property
    def leaving(self) -> Set[str]:
        """The ids of the profiles that are to be removed."""
        return {str(view.id) for view in self.views if view.table == "profile" and view.row is None}


@dataclass(frozen=True)
class Found:
    """What a transaction reads before it writes, while no other one writes events.

    `versions` are those of the aggregates that the unit of work expects; `relay_users` are read if profiles leave.
    """

    head: Head | None
    versions: Mapping[UUID, int | None]
    relay_users: Sequence[Mapping[str, Any]]


RELAY_USERS = "SELECT name, profiles FROM relay_user"
"""Reads the relay users and the profiles that each is mapped to."""


TResult = TypeVar("TResult")


class _TakenBack(Exception):
    """Leaves a transaction that must not commit."""


class Store(ABC):
    """A store of one engine. A process opens it when it starts and closes it when it ends."""

    recorder: ApplicationRecorder
    shared_by_nodes: bool
    bytes_type: ClassVar[str]
    integer_type: ClassVar[str]
    integrity: IntegrityKeys
    """Set when the store is created or opened with its key."""
    wal_is_missing = False
    """Whether the file stood without its write-ahead log when this process came: after a clean end, or as a copy."""

    def load_integrity(self, query: Query, sealer: Sealer, store_id: str) -> None:
        """Read the integrity keys of the store, which has this id.

        Raises:
            StoreRefused: one of them is missing or was damaged.
        """
        self._opened_with = (sealer, store_id)
        self.integrity = read_integrity_keys(query, sealer, store_id)

    def reload_integrity(self) -> None:
        """Read the integrity keys again, as a rotation in another process adds newer ones.

        Raises:
            StoreRefused: one of them is missing or was damaged.
        """
        with self.reading() as query:
            self.load_integrity(query, *self._opened_with)

    def with_newest_keys(self, save: Callable[[], TResult]) -> TResult:
        """Call `save`, and once more if another process has added newer integrity keys."""
        try:
            return save()
        except NewerKey:
            self.reload_integrity()
            return save()

    @property
    def has_keys(self) -> bool:
        """Whether the store was created or opened with its key."""
        return "integrity" in vars(self)

    @cached_property
    def row_checks(self) -> RowChecks:
        """The checks of the rows that give a right or a token."""
        return RowChecks(lambda: self.integrity.rows, self.reload_integrity)

    @abstractmethod
    def create_tables(self) -> None:
        """Create the tables that are missing, all of them or none.

        Raises:
            StoreRefused: this program may not create tables there.
        """

    @classmethod
    def create_statements(cls) -> Iterator[str]:
        """The statements that create the tables except that of the event log, with the types of this engine."""
        return create_statements(bytes_type=cls.bytes_type, integer_type=cls.integer_type)

    @abstractmethod
    def tables(self) -> Set[str]:
        """The names of all tables where the store is or would be, those of other programs included."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Query]:
        """A transaction that reads one consistent snapshot."""

    @abstractmethod
    def writing(self, *, alone: bool = False) -> AbstractContextManager[Query]:
        """A transaction that commits unless an exception leaves it; with `alone`, no other one writes events."""

    def check_writes(self) -> None:
        """Write a row and take the change back.

        Raises:
            PersistenceError: the store takes no writes now.
        """
        with suppress(_TakenBack), self.writing() as query:
            query.run("UPDATE meta SET value = value WHERE name = 'store_id'")
            raise _TakenBack

    @abstractmethod
    def now_seconds(self, query: Query) -> float:
        """The clock of the claims, in seconds: the database's time, or the time since this machine's boot.

        A change of this machine's wall clock does not move it.
        """

    @abstractmethod
    def forget(self) -> bool:
        """Erase the bytes of deleted rows, as far as the engine can; False if a reader prevents it now."""

    @abstractmethod
    def has_room(self) -> bool:
        """Whether there is room to store the reply to a request."""

    @abstractmethod
    def back_up(self, suffix: str) -> str | None:
        """Copy the store into a file beside it, whose name ends with `suffix`; None if the engine can't copy it.

        Raises:
            StoreRefused: there is no room for it.
        """

    @abstractmethod
    def close(self) -> None:
        """Close every connection."""


def store_unit_of_work(
    query: Query,
    events: Sequence[StoredEvent],
    insert: Callable[[], Sequence[int]],
    keys: IntegrityKeys,
    unit_of_work: UnitOfWork,
    found: Found | None = None,
) -> Sequence[int]:
    """Store events and their unit of work in the transaction of `query`; returns the positions of the events.

    With `found` nothing is read, so a caller need not wait for the answer to any of the statements.

    Raises:
        IntegrityError: an aggregate that was read for the decision has changed since, or a relay user uses a profile
            that is to be removed.
        NewerKey: the head of the chain has a newer key than these, or was altered.
        Refused: the head of the chain was altered.
    """
    found = found or _find(query, unit_of_work)
    _check_expectations(found.versions, unit_of_work.expects)
    _check_mappings(found.relay_users, unit_of_work.leaving)
    positions = insert()
    extend_chain(query, keys.chain, found.head, positions, events)
    extend_log_index(query, unit_of_work.streams, positions, unit_of_work.instants)
    for statement, parameters in write_statements(view_with_mac(keys.rows, view) for view in unit_of_work.views):
        query.run_many(statement, parameters)
    write_machine_list(query, unit_of_work.listed)
    for subject_id, kind in unit_of_work.drop:
        delete_vault_rows(query, subject_id, kind)
    insert_vault_rows(query, unit_of_work.put)
    for statement, values in unit_of_work.statements:
        query.run(statement, values)
    for claim_key in unit_of_work.release:
        release_claim(query, claim_key)
    return positions


def _find(query: Query, unit_of_work: UnitOfWork) -> Found:
    return Found(
        read_head(query),
        {id: query.version_of(id) for id in unit_of_work.expects},
        query.rows(RELAY_USERS) if unit_of_work.leaving else (),
    )


def _check_expectations(versions: Mapping[UUID, int | None], expects: Mapping[UUID, int]) -> None:
    for id, expected in expects.items():
        version = versions[id]
        if version != expected:
            raise IntegrityError(f"{id} is at version {version}, not {expected}")


def _check_mappings(relay_users: Sequence[Mapping[str, Any]], leaving: Set[str]) -> None:
    for user in relay_users:
        if not leaving.isdisjoint(json.loads(user["profiles"]).values()):
            raise IntegrityError(f"relay user {user['name']} is mapped to a profile that is to be removed")
