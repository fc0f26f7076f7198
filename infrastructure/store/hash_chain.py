"""The tables `chain` and `chain_head`: a keyed hash for each event of the log, and the last of them.

A link is a MAC over its number, the link before it, and the event. Numbers are dense and begin with 1; positions are
the database's own and may have gaps. The head has a MAC too, so that nobody without the key can cut the log and go on.
A link begins with the number of its key; a newer key never makes way for an older one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from domain.errors import Refused, StoreRefused
from infrastructure.encryption.integrity_keys import MAC_BYTES, MacKeys, key_number
from infrastructure.store.query import Query

GENESIS = bytes(MAC_BYTES)
READ_HEAD = "SELECT number, position, link, mac FROM chain_head WHERE id = 1"
"""Reads the head."""
UNKEYED_CHAIN = "CREATE TABLE unkeyed_chain (position {integer} PRIMARY KEY, hash {bytes} NOT NULL)"
"""Creates the table of an older store's chain."""
_PAGE = 2000


class NewerKey(Refused):
    """The head says that a newer key made its MAC. Unless that key can be loaded, the head was altered."""


@dataclass(frozen=True)
class Head:
    """The last link: its number, which is the number of events, the position of its event, and the MAC of all that."""

    number: int
    position: int
    link: bytes
    mac: bytes

    @classmethod
    def of(cls, keys: MacKeys, number: int, position: int, link: bytes) -> Head:
        """A head with a new MAC."""
        return cls(number, position, link, keys.mac(_head_message(number, position, link)))

    def is_valid(self, keys: MacKeys) -> bool:
        """Whether the key in use made the MAC."""
        return keys.is_valid(_head_message(self.number, self.position, self.link), self.mac, newest=True)


def create_head(query: Query, keys: MacKeys) -> None:
    """Store the head of a log without events, or of one whose links are written next."""
    head = Head.of(keys, 0, 0, GENESIS)
    statement = "INSERT INTO chain_head (id, number, position, link, mac) VALUES (1, ?, ?, ?, ?)"
    query.run(statement, (head.number, head.position, head.link, head.mac))


def write_head_mac(query: Query, head: Head) -> None:
    """Store the MAC of the head, which is otherwise the one that is stored."""
    query.run("UPDATE chain_head SET mac = ? WHERE id = 1", (head.mac,))


def head_of(rows: Sequence[Mapping[str, Any]]) -> Head | None:
    """The head in the row that `READ_HEAD` reads; None without it."""
    if not rows:
        return None
    row = rows[0]
    return Head(row["number"], row["position"], bytes(row["link"]), bytes(row["mac"]))


def read_head(query: Query) -> Head | None:
    """The head; None if its row is gone."""
    return head_of(query.rows(READ_HEAD))


def extend_chain(
    query: Query, keys: MacKeys, head: Head | None, positions: Sequence[int], events: Sequence[StoredEvent]
) -> Head:
    """Store the links of these events, which are at these positions, behind `head`; returns the new head.

    Raises:
        NewerKey: the head has a newer key than these.
        Refused: the head was altered. A link behind it would make it look right again.
    """
    if head and key_number(head.mac) > keys.newest:
        raise NewerKey("chain_head_altered")
    if head is None or not head.is_valid(keys):
        raise Refused("chain_head_altered")
    number, position, link = head.number, head.position, head.link
    links = []
    for position, event in zip(positions, events, strict=True):
        number += 1
        link = keys.mac(link_message(number, link, position, event))
        links.append((number, position, link))
    new = Head.of(keys, number, position, link)
    query.write_chain(links, (new.number, new.position, new.link, new.mac))
    return new


def link_message(number: int, previous: bytes, position: int, event: StoredEvent) -> bytes:
    """The octets that a link authenticates: its number, the link before it, and every stored field of the event."""
    topic = event.topic.encode()
    return b"".join(
        (
            b"mailtoken link\0",
            number.to_bytes(8, "big"),
            previous,
            position.to_bytes(8, "big"),
            _id_bytes(event.originator_id),
            event.originator_version.to_bytes(8, "big"),
            len(topic).to_bytes(8, "big"),
            topic,
            event.state,
        )
    )


def last_position(query: Query) -> int:
    """The position of the log's last event; 0 if it has none."""
    rows = query.rows("SELECT position FROM chain_head WHERE id = 1")
    return int(rows[0]["position"]) if rows else 0


def seal_unkeyed_chain(query: Query, keys: MacKeys) -> Head:
    """Verify the chain of an older store, which is in the table `unkeyed_chain`, and make the keyed one in its place.

    Raises:
        StoreRefused: the older chain is not whole.
    """
    create_head(query, keys)
    head, previous, after = read_head(query), bytes(32), 0
    while page := query.events(after, _PAGE):
        hashes = {
            row["position"]: bytes(row["hash"])
            for row in query.rows(
                "SELECT position, hash FROM unkeyed_chain WHERE position > ? AND position <= ?", (after, page[-1][0])
            )
        }
        for position, event in page:
            previous = _unkeyed_hash(previous, position, event)
            if hashes.pop(position, None) != previous:
                raise StoreRefused("unkeyed_chain_not_whole", position=position)
        if hashes:
            raise StoreRefused("unkeyed_chain_not_whole", position=min(hashes))
        head = extend_chain(query, keys, head, [position for position, _ in page], [event for _, event in page])
        after = head.position
    rows = query.rows("SELECT min(position) AS position FROM unkeyed_chain WHERE position > ?", (after,))
    if rows[0]["position"] is not None:
        raise StoreRefused("unkeyed_chain_not_whole", position=rows[0]["position"])
    query.run("DROP TABLE unkeyed_chain")
    assert head
    return head


def _unkeyed_hash(previous: bytes, position: int, event: StoredEvent) -> bytes:
    """The link of the older chain, which anybody can compute."""
    digest = hashlib.sha256(previous)
    digest.update(position.to_bytes(8, "big"))
    digest.update(_id_bytes(event.originator_id))
    digest.update(event.originator_version.to_bytes(8, "big"))
    for part in (event.topic.encode(), event.state):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _head_message(number: int, position: int, link: bytes) -> bytes:
    return b"mailtoken head\0" + number.to_bytes(8, "big") + position.to_bytes(8, "big") + link


def _id_bytes(id: UUID | str) -> bytes:
    return id.bytes if isinstance(id, UUID) else UUID(id).bytes
