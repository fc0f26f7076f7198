"""The table `chain`: a hash for each event of the log, over the event and the hash before it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from infrastructure.store.query import Query

GENESIS = b"\0" * 32


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


def extend_chain(query: Query, positions: Sequence[int], events: Sequence[StoredEvent]) -> None:
    """Store the hashes of these events, which are at these positions, behind the last hash."""
    last = query.rows("SELECT hash FROM chain ORDER BY position DESC LIMIT 1")
    previous = bytes(last[0]["hash"]) if last else GENESIS
    links = []
    for position, event in zip(positions, events, strict=True):
        previous = link_hash(previous, position, event)
        links.append((position, previous))
    query.run_many("INSERT INTO chain (position, hash) VALUES (?, ?)", links)


def read_chain(query: Query) -> dict[int, bytes]:
    """Every hash, by the position of its event."""
    return {row["position"]: bytes(row["hash"]) for row in query.rows("SELECT position, hash FROM chain")}


def last_position(query: Query) -> int:
    """The position of the log's last event; 0 if it has none."""
    return int(query.rows("SELECT max(position) AS last FROM chain")[0]["last"] or 0)


def _id_bytes(id: UUID | str) -> bytes:
    return id.bytes if isinstance(id, UUID) else UUID(id).bytes
