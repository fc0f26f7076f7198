"""The table `chain`: a hash for each event of the log, over the event and the hash before it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from infrastructure.store.query import Query

GENESIS = b"\0" * 32
LAST_LINK = "SELECT hash FROM chain ORDER BY position DESC LIMIT 1"
"""Reads the last hash."""


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


def extend_chain(query: Query, previous: bytes, positions: Sequence[int], events: Sequence[StoredEvent]) -> None:
    """Store the hashes of these events, which are at these positions, behind the last hash, `previous`."""
    links = []
    for position, event in zip(positions, events, strict=True):
        previous = link_hash(previous, position, event)
        links.append((position, previous))
    query.run_many("INSERT INTO chain (position, hash) VALUES (?, ?)", links)


def last_hash(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The hash in the row that `LAST_LINK` reads; that of a log without events, if it reads none."""
    return bytes(rows[0]["hash"]) if rows else GENESIS


def read_chain(query: Query) -> dict[int, bytes]:
    """Every hash, by the position of its event."""
    return {row["position"]: bytes(row["hash"]) for row in query.rows("SELECT position, hash FROM chain")}


def last_position(query: Query) -> int:
    """The position of the log's last event; 0 if it has none."""
    return int(query.rows("SELECT max(position) AS last FROM chain")[0]["last"] or 0)


def count_events(query: Query, until: int) -> int:
    """The number of the log's events up to the position `until`."""
    return int(query.rows("SELECT count(*) AS number FROM chain WHERE position <= ?", (until,))[0]["number"])


def position_before_last(query: Query, until: int, count: int) -> int:
    """The position of the event before the last `count` events up to the position `until`; 0 if there is none."""
    statement = "SELECT position FROM chain WHERE position <= ? ORDER BY position DESC LIMIT 1 OFFSET ?"
    rows = query.rows(statement, (until, count))
    return int(rows[0]["position"]) if rows else 0


def _id_bytes(id: UUID | str) -> bytes:
    return id.bytes if isinstance(id, UUID) else UUID(id).bytes
