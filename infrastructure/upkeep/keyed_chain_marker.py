"""A file of this node beside the escrow: the ids of the stores whose keyed chain the node has seen.

Somebody who writes rows could put an unkeyed chain in the place of the keyed one, and wait for an upgrade to seal it.
They can't write the files of a node.
"""

from __future__ import annotations

import os
from pathlib import Path

from infrastructure.new_file import sync


class KeyedChainMarker:
    """The file beside the escrow in `escrow`."""

    def __init__(self, escrow: Path) -> None:
        self.path = escrow.with_name(f"{escrow.name}.keyed")

    def names(self, store_id: str) -> bool:
        """Whether the node has seen the keyed chain of this store."""
        try:
            return store_id in self.path.read_text().split()
        except FileNotFoundError:
            return False

    def note(self, store_id: str) -> None:
        """Record that the node has seen the keyed chain of this store."""
        if self.names(store_id):
            return
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{store_id}\n")
            file.flush()
            os.fsync(file.fileno())
        sync(self.path.parent)
