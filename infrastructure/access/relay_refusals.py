"""The last refusals of the relay's clients, by address; in memory only, so a restart of the service forgets them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from cachetools import LRUCache

_ADDRESSES = 1000
_PER_ADDRESS = 10


@dataclass(frozen=True)
class ClientRefusal:
    """A client that the relay refused at the instant `at`; `commands` are its last commands, and `cause` is a code."""

    at: str
    address: str
    protocol: str
    user: str | None
    profile: str | None
    commands: tuple[str, ...]
    cause: str
    why: str


class RelayRefusals:
    """The last ten refusals of each of the thousand addresses that were refused last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_address: LRUCache[str, deque[ClientRefusal]] = LRUCache(_ADDRESSES)

    def add(self, refusals: Iterable[ClientRefusal]) -> None:
        """Keep refusals, the oldest first."""
        with self._lock:
            for refusal in refusals:
                kept = self._by_address.get(refusal.address) or deque(maxlen=_PER_ADDRESS)
                kept.append(refusal)
                self._by_address[refusal.address] = kept

    def last(self, address: str | None = None) -> list[ClientRefusal]:
        """The refusals of one address, or of all, the newest first."""
        with self._lock:
            kept = [refusal for refusals in self._by_address.values() for refusal in refusals]
        found = [refusal for refusal in kept if address in (None, refusal.address)]
        return sorted(found, key=lambda refusal: refusal.at, reverse=True)
