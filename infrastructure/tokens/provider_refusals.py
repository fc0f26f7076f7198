"""The providers' own words about their last refusal of each token. They are in memory only, and no event has them."""

from __future__ import annotations

import threading
from uuid import UUID

from cachetools import LRUCache

from domain.outcomes import ProviderReply

_TOKENS = 10_000


class ProviderRefusals:
    """The last refusal that had words, of the tokens that were refused last. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_token: LRUCache[UUID, ProviderReply] = LRUCache(_TOKENS)

    def add(self, token_id: UUID, reply: ProviderReply) -> None:
        """Remember the reply in place of the token's reply before, unless it has no words and no ids."""
        if reply.facts:
            with self._lock:
                self._by_token[token_id] = reply

    def of(self, token_id: UUID) -> ProviderReply | None:
        """The last refusal of this token in this run; None if there was none, or the token was retrieved since."""
        with self._lock:
            return self._by_token.get(token_id)

    def forget(self, token_id: UUID) -> None:
        """Forget the refusal, as the token is retrieved or deleted."""
        with self._lock:
            self._by_token.pop(token_id, None)
