"""The worker that says in the store that this node is alive, and which keys it has, and takes up the key in use."""

from __future__ import annotations

from pathlib import Path

from infrastructure.encryption.envelope import Sealer, key_id
from infrastructure.store.node_rows import NodeRow, write_node
from infrastructure.store.open import check_canary, read_meta
from infrastructure.store.store import Store
from infrastructure.ticker import Ticker
from infrastructure.tokens.claims import node_name
from infrastructure.tokens.escrow import replies_by_key

_EVERY_SECONDS = 30.0


class NodeReports:
    """A thread that reports every half minute; `escrow` is the place of this node's escrow."""

    def __init__(self, store: Store, sealer: Sealer, escrow: Path) -> None:
        self._store = store
        self._sealer = sealer
        self._escrow = escrow
        self._ticker = Ticker("nodes", self.report, lambda: _EVERY_SECONDS)
        self.tickers = (self._ticker,)

    def start(self) -> None:
        """Start the thread."""
        self._ticker.start()

    def stop(self) -> None:
        """Stop; returns when the report under way is over."""
        self._ticker.stop()

    def report(self) -> None:
        """Take up the key in use, and store this node's row.

        Raises:
            StoreRefused: this node does not have the key in use.
        """
        replies = dict(replies_by_key(self._escrow))
        with self._store.writing() as query:
            meta = read_meta(query)
            check_canary(meta.canary, meta.store_id, self._sealer)
            keys = tuple(map(key_id, self._sealer.keys))
            now = self._store.now_seconds(query)
            write_node(query, NodeRow(node_name(self._escrow), self._sealer.key_id, keys, replies, now))
