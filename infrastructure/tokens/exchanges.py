"""The exchanges of this process that are under way, so that its end can wait for them.

A provider that rotates refresh tokens has spent one when it sends its reply: a process that ends before the reply is
stored loses the grant.
"""

from __future__ import annotations

import threading

from domain.errors import Unreachable
from infrastructure.store.claim_rows import ClaimKey


class Exchanges:
    """The exchanges under way, by claim. Safe to share between threads."""

    def __init__(self) -> None:
        self._under_way: set[ClaimKey] = set()
        self._changed = threading.Condition()
        self._ends = False

    def begin(self, claim_key: ClaimKey) -> None:
        """Note an exchange before its claim.

        Raises:
            Unreachable: this process is about to end.
        """
        with self._changed:
            if self._ends:
                raise Unreachable("stopping")
            self._under_way.add(claim_key)

    def end(self, claim_key: ClaimKey) -> None:
        """Note the end of an exchange; a no-op for any other claim."""
        with self._changed:
            self._under_way.discard(claim_key)
            self._changed.notify_all()

    def let_none_begin(self) -> None:
        """Refuse every further exchange."""
        with self._changed:
            self._ends = True

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the end of the exchanges that are under way now; False if one goes on after this time."""
        with self._changed:
            now = set(self._under_way)
            return self._changed.wait_for(lambda: not now & self._under_way, timeout_seconds)
