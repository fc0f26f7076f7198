"""Access tokens for API clients: the disclosure of a generation is recorded before the access token is returned.

An access token stays in memory until its token or profile changes, so that serving it again neither reads the store nor
writes to it. Nodes that share a store serve it from memory only while the store does not answer, and only to the client
that has it already: a deletion on another node must take effect here at once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from cachetools import FIFOCache
from eventsourcing.persistence import PersistenceError

from domain.disclosure import Disclosure
from domain.errors import Conflict
from domain.ports import Clock
from domain.profile import Profile
from domain.renewal import is_due
from domain.token import Token
from domain.token_state import Generation, served
from infrastructure.store.event_log import CONFLICTS, AnyAggregate, EventLog
from infrastructure.tokens.renewal import ServedAccessToken
from infrastructure.tokens.token_service import TokenService

_MOST = 10_000


@dataclass(frozen=True)
class _Entry:
    """An access token that was served to a client. It is served again until it is due for renewal."""

    profile_id: UUID
    generation: Generation
    token: ServedAccessToken


class AccessTokenCache:
    """Serves access tokens to API clients.

    `client` is the caller's name in the event log. `id` is the client's id: a removed client and a later client of the
    same name have different ids.
    """

    def __init__(self, events: EventLog, tokens: TokenService, clock: Clock) -> None:
        self._events = events
        self._tokens = tokens
        self._clock = clock
        self._entries: FIFOCache[tuple[str, str], _Entry] = FIFOCache(_MOST)
        self._changes = 0
        self._lock = threading.Lock()
        events.listeners.append(self._drop_changed)

    def cached(
        self, name: str, min_ttl_seconds: int | None, client: str, id: str | None = None
    ) -> ServedAccessToken | None:
        """The access token that was served to this client before, if it is in memory and not due for renewal.

        Raises:
            InvalidValue: `min_ttl_seconds` is more than the token's whole life.
            Refused: the store is on hold, and does not prove that the client may still have it.
        """
        with self._lock:
            entry = self._entries.get((id or client, name))
        if entry is None or self._events.store.shared_by_nodes:
            return None
        if id is not None:
            self._tokens.holds.check_clients()
        return self._served(entry, min_ttl_seconds)

    def _served(self, entry: _Entry, min_ttl_seconds: int | None) -> ServedAccessToken | None:
        now = self._clock.now()
        if is_due(entry.generation, now, min_ttl_seconds):
            return None
        self._tokens.served_at[entry.token.token_id] = now
        self._tokens.counters.token_served()
        return entry.token

    def fetch(self, name: str, min_ttl_seconds: int | None, client: str, id: str | None = None) -> ServedAccessToken:
        """The access token of a setting from the store, renewed first if too little of its life is left.

        Raises:
            as `TokenService.access_token` and `cached`; Conflict: the disclosure could not be recorded;
            PersistenceError: the store does not answer, and this client has no access token that is still good for
            long enough.
        """
        if id is not None:
            self._tokens.holds.check_clients()
        try:
            return self._fetch(name, min_ttl_seconds, client, id)
        except PersistenceError:
            with self._lock:
                entry = self._entries.get((id or client, name))
            token = self._served(entry, min_ttl_seconds) if entry else None
            if token is None:
                raise
            return token

    def _fetch(self, name: str, min_ttl_seconds: int | None, client: str, id: str | None) -> ServedAccessToken:
        changes = self._changes
        token = self._tokens.access_token(name, min_ttl_seconds, client)
        self._record(token, name, client, id)
        status = self._tokens.status(name)
        generation = served(status.token, self._clock.now())
        if generation.number == token.generation:
            self._keep((id or client, name), _Entry(status.profile_id, generation, token), changes)
        return token

    def _record(self, token: ServedAccessToken, name: str, client: str, id: str | None) -> None:
        """Record the disclosure of this generation to the client, unless it is recorded already.

        Raises:
            Conflict: another request of the same client came first at every try.
        """
        disclosure_id = Disclosure.id_of(token.token_id, id or client)
        for _ in range(CONFLICTS):
            now, disclosure = self._clock.now(), self._events.disclosure(disclosure_id)
            if disclosure is None:
                disclosure = Disclosure.first(disclosure_id, token.token_id, token.generation, name, by=client, now=now)
            else:
                disclosure.disclose(token.generation, name, by=client, now=now)
            if not disclosure.pending_events:
                return
            with suppress(Conflict):
                self._events.save(disclosure)
                return
        raise Conflict("disclosure_not_recorded", profile=name)

    def _keep(self, key: tuple[str, str], entry: _Entry, changes: int) -> None:
        with self._lock:
            # Any change after `changes` was read may concern this token.
            if changes == self._changes:
                self._entries[key] = entry

    def _drop_changed(self, changed: Sequence[AnyAggregate]) -> None:
        ids = {aggregate.id for aggregate in changed if isinstance(aggregate, Token | Profile)}
        if not ids:
            return
        with self._lock:
            self._changes += 1
            stale = [key for key, entry in self._entries.items() if {entry.token.token_id, entry.profile_id} & ids]
            for key in stale:
                del self._entries[key]
