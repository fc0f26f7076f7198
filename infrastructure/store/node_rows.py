"""The table `node`: each service of the store, when it was last alive, and which keys it has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from infrastructure.store.query import Query

ALIVE_SECONDS = 150.0
"""The age of a report after which its node counts as down: five times that between two reports."""


@dataclass(frozen=True)
class NodeRow:
    """A service: its host and the place of its escrow, the names of its keys, and when it said so.

    `replies` has the number of replies in its escrow by the name of the key that opens them. `seen_at` is in seconds of
    the store's clock.
    """

    name: str
    key_in_use: str
    keys: tuple[str, ...]
    replies: Mapping[str, int]
    seen_at: float

    def is_alive(self, now: float) -> bool:
        """Whether it reported lately, by the store's clock; that of SQLite begins anew when the machine does."""
        return 0 <= now - self.seen_at < ALIVE_SECONDS


def write_node(query: Query, node: NodeRow) -> None:
    """Store the row of a node in place of the one before."""
    query.run(
        "INSERT INTO node (name, key_in_use, keys, replies, seen_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET key_in_use = excluded.key_in_use, keys = excluded.keys,"
        " replies = excluded.replies, seen_at = excluded.seen_at",
        (node.name, node.key_in_use, " ".join(node.keys), json.dumps(node.replies), node.seen_at),
    )


def read_nodes(query: Query) -> list[NodeRow]:
    """Every node that was ever seen and not forgotten, by name."""
    rows = query.rows("SELECT name, key_in_use, keys, replies, seen_at FROM node ORDER BY name")
    return [
        NodeRow(row["name"], row["key_in_use"], tuple(row["keys"].split()), json.loads(row["replies"]), row["seen_at"])
        for row in rows
    ]


def forget_other_nodes(query: Query, name: str) -> None:
    """Delete the rows of all nodes but this one."""
    query.run("DELETE FROM node WHERE name <> ?", (name,))
