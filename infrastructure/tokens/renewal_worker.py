"""The renewal worker: renews the tokens that are due by `domain.renewal`, a few at a time, as the backoff allows.

The credentials and their instants are in the store; the instants of serving are not, so after a restart a token counts
as idle until it is served again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from domain.errors import MailtokenError
from domain.outcomes import Reason
from domain.ports import Clock
from domain.renewal import LONGEST_USE, GrantLimits, idle_since, next_renewal_at, next_revival_at
from domain.token_state import Generation, TokenState
from infrastructure.clock import instant_text
from infrastructure.store.event_log import EventLog
from infrastructure.store.query import Query
from infrastructure.store.row_macs import readable
from infrastructure.store.rows import token_state
from infrastructure.ticker import Ticker
from infrastructure.tokens.token_service import TokenService

log = structlog.get_logger("mailtoken")

_LOOK_EVERY_SECONDS = 15.0
_PACE_SECONDS = 1.0
_AT_ONCE = 8
"""For each provider: the most renewals under way at once, and the most that begin in a second."""
_PROVIDERS = 4
"""The number of providers that there are threads for at least: some may be added later."""
_RENEWABLE = "SELECT * FROM token WHERE renewable = 1"
_IDS = 500


@dataclass(frozen=True)
class Due:
    """A generation that is due for renewal since `at`."""

    at: datetime
    token_id: UUID
    provider: str
    generation: int


class RenewalWorker:
    """A thread that finds the tokens due, and a few threads that renew. `limits` are the grants' limits by provider."""

    def __init__(self, events: EventLog, tokens: TokenService, clock: Clock, limits: Mapping[str, GrantLimits]) -> None:
        self._events = events
        self._tokens = tokens
        self._clock = clock
        self._limits = limits
        self._ticker = Ticker("renewals", self.renew_what_is_due, self._seconds_to_next_look)
        self.tickers = (self._ticker,)
        self._pool = ThreadPoolExecutor(_AT_ONCE * max(_PROVIDERS, len(limits)), thread_name_prefix="renewal")
        self._under_way: dict[UUID, str] = {}
        self._tried_at: dict[UUID, datetime] = {}

    def start(self) -> None:
        """Start the thread that finds the tokens due."""
        self._ticker.start()

    def stop(self) -> None:
        """Finish the renewals under way and stop."""
        self._ticker.stop()
        self._pool.shutdown(wait=True)

    def due(self) -> list[Due]:
        """The generations to renew now, the most urgent first."""
        now = self._clock.now()
        with self._events.store.reading() as query:
            rows = {row["id"]: row for row in self._candidates(query, now)}
        found = [due for due in readable(lambda row: self._due(row, now), rows.values()) if due]
        return sorted(found, key=lambda due: due.at)

    def renew_what_is_due(self) -> list[Future[None]]:
        """Begin the renewals that are due and that the backoff allows, within the limits for each provider.

        On hold nothing is due.
        """
        begun = list[Future[None]]()
        if self._tokens.holds.is_on():
            return begun
        now, busy = self._clock.now(), Counter(list(self._under_way.values()))
        for due in self.due():
            has_room = busy[due.provider] < _AT_ONCE and due.token_id not in self._under_way
            if has_room and self._tokens.backoff.acquire(due.token_id, due.provider, now):
                busy[due.provider] += 1
                self._under_way[due.token_id] = due.provider
                self._tried_at[due.token_id] = now
                begun.append(self._pool.submit(self._renew, due))
        return begun

    def _candidates(self, query: Query, now: datetime) -> Iterator[Mapping[str, Any]]:
        """The rows that may be due, chosen by the database: a store may have thousands of idle tokens that are not."""
        wanted = ["dead = ?", "dead IS NULL AND grant_expires_at IS NOT NULL"]
        parameters = [Reason.ACCOUNT_NOT_AVAILABLE.value]
        for provider, limits in self._limits.items():
            if limits.inactivity:
                wanted.append("dead IS NULL AND provider = ? AND issued_at <= ?")
                parameters += [provider, instant_text(idle_since(limits.inactivity, now))]
        yield from query.rows(f"{_RENEWABLE} AND (({') OR ('.join(wanted)}))", parameters)
        in_use = [str(id) for id, at in dict(self._tokens.served_at).items() if now - at < LONGEST_USE]
        in_use += map(str, tuple(self._tokens.unproven))
        for ids in (in_use[at : at + _IDS] for at in range(0, len(in_use), _IDS)):
            yield from query.rows(f"{_RENEWABLE} AND dead IS NULL AND id IN ({', '.join('?' * len(ids))})", ids)

    def _due(self, row: Mapping[str, Any], now: datetime) -> Due | None:
        id, state = UUID(row["id"]), token_state(row)
        if state.credential is None:
            return None
        provider = state.provider or ""
        at = self._when(id, state, state.credential, now)
        return Due(at, id, provider, state.credential.number) if at and at <= now else None

    def _when(self, id: UUID, state: TokenState, credential: Generation, now: datetime) -> datetime | None:
        if state.dead:
            return next_revival_at(state, self._tried_at.get(id))
        if id in self._tokens.unproven:
            return credential.issued_at
        limits = self._limits.get(state.provider or "", GrantLimits())
        return next_renewal_at(id, credential, limits, self._tokens.served_at.get(id), now)

    def _seconds_to_next_look(self) -> float:
        """The seconds to the next look: few while renewals are under way, as more may be due than could begin."""
        return _PACE_SECONDS if self._under_way else _LOOK_EVERY_SECONDS

    def _renew(self, due: Due) -> None:
        try:
            self._tokens.renew_generation(due.token_id, due.generation)
        except MailtokenError as error:
            log.warning("renewal_failed", token=str(due.token_id), provider=due.provider, error=str(error))
            self._tokens.backoff.put_off(due.token_id, self._clock.now())
        except Exception:
            log.exception("renewal_failed", token=str(due.token_id), provider=due.provider)
            self._tokens.backoff.put_off(due.token_id, self._clock.now())
        finally:
            self._under_way.pop(due.token_id, None)
