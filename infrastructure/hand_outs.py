"""Handing access tokens to clients: the first hand-out of each generation to each client is in the record.

What a client was handed is kept in memory until something of its token or profile changes, so that handing it out again
neither reads nor writes. Not so where several nodes share a store, for a deletion there must count here at once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from domain.errors import Conflict
from domain.ports import Clock
from domain.profile import Profile
from domain.reader import Reader
from domain.renewal import is_due
from domain.token import Generation, Token, served
from infrastructure.log import CONFLICTS, AnyAggregate, EventLog
from infrastructure.token_service import HandOut, TokenService

_MOST = 10_000


@dataclass(frozen=True)
class _Handed:
    """What a client has been handed: recorded, and good while it is not due for renewal."""

    token_id: UUID
    profile_id: UUID
    generation: Generation
    hand_out: HandOut


class HandOuts:
    """Access tokens for clients. `client` is who asks, for the record, and `id` what makes it another one."""

    def __init__(self, events: EventLog, tokens: TokenService, clock: Clock) -> None:
        self._events = events
        self._tokens = tokens
        self._clock = clock
        self._handed: dict[tuple[str, str], _Handed] = {}
        self._changes = 0
        self._lock = threading.Lock()
        events.listeners.append(self._notice)

    def again(self, name: str, min_ttl_seconds: int | None, client: str, id: str | None = None) -> HandOut | None:
        """What this client has been handed before, from memory; None if `first` has to look.

        Raises:
            InvalidValue: `min_ttl_seconds` is more than the token's whole life.
        """
        handed = self._handed.get((id or client, name))
        now = self._clock.now()
        if handed is None or is_due(handed.generation, now, min_ttl_seconds):
            return None
        self._tokens.served_at[handed.token_id] = now
        self._tokens.tally.handed_out()
        return handed.hand_out

    def first(self, name: str, min_ttl_seconds: int | None, client: str, id: str | None = None) -> HandOut:
        """The access token of a setting, renewed first if too little of its life is left; recorded before it leaves.

        Raises:
            as `TokenService.access_token`.
        """
        changes = self._changes
        hand_out = self._tokens.access_token(name, min_ttl_seconds, client)
        self._record(hand_out, name, client, id)
        status = self._tokens.status(name)
        generation = served(status.token, self._clock.now())
        if generation.number == hand_out.generation and not self._events.store.shared_by_nodes:
            handed = _Handed(status.profile.token_id, status.profile_id, generation, hand_out)
            self._remember((id or client, name), handed, changes)
        return hand_out

    def _record(self, hand_out: HandOut, name: str, client: str, id: str | None) -> None:
        """Store that the client got this generation, unless that is stored already.

        Raises:
            Conflict: others are always first; try again.
        """
        reader_id = Reader.id_of(hand_out.token_id, id or client)
        for _ in range(CONFLICTS):
            now, reader = self._clock.now(), self._events.reader(reader_id)
            if reader is None:
                reader = Reader.begin(reader_id, hand_out.token_id, hand_out.generation, name, by=client, now=now)
            else:
                reader.hand_out(hand_out.generation, name, by=client, now=now)
            if not reader.pending_events:
                return
            with suppress(Conflict):
                self._events.save(reader)
                return
        raise Conflict(f"{name}: the hand-out could not be recorded: try again")

    def _remember(self, key: tuple[str, str], handed: _Handed, changes: int) -> None:
        with self._lock:
            # What has changed since it was looked for may be this very token.
            if changes != self._changes:
                return
            self._handed.pop(key, None)
            self._handed[key] = handed
            if len(self._handed) > _MOST:
                del self._handed[next(iter(self._handed))]

    def _notice(self, changed: Sequence[AnyAggregate]) -> None:
        ids = {one.id for one in changed if isinstance(one, Token | Profile)}
        if not ids:
            return
        with self._lock:
            self._changes += 1
            gone = [key for key, one in self._handed.items() if one.token_id in ids or one.profile_id in ids]
            for key in gone:
                del self._handed[key]
