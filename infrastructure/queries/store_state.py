"""The state of the store as a whole: whether it is on hold, and how old the last backup is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from domain.log_hold import LogHoldState
from domain.ports import Clock
from infrastructure.clock import instant_text
from infrastructure.store.open import read_last_backup
from infrastructure.store.query import Query
from infrastructure.store.rows import log_hold_state
from infrastructure.store.store import Store

ON_HOLD = "on_hold"
BACKUP_OLD = "backup_old"


def read_hold(query: Query) -> LogHoldState | None:
    """The newest hold that no administrator has lifted; None if the store is not on hold."""
    rows = query.rows("SELECT * FROM log_hold ORDER BY since DESC LIMIT 1")
    return log_hold_state(rows[0]) if rows else None


def read_providers_left(query: Query, configured: Collection[str]) -> Mapping[str, int]:
    """The providers of live tokens that are not among the `configured` ones, with the number of settings of each."""
    statement = (
        "SELECT token.provider AS provider, count(*) AS settings FROM token JOIN profile ON profile.token_id = token.id"
        " WHERE token.generation IS NOT NULL AND token.dead IS NULL GROUP BY token.provider ORDER BY token.provider"
    )
    return {row["provider"]: row["settings"] for row in query.rows(statement) if row["provider"] not in configured}


@dataclass(frozen=True)
class StoreState:
    """The hold, and the instant of the last backup. `attention` has the codes of what needs a person."""

    hold: LogHoldState | None
    last_backup_at: datetime | None
    attention: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The state in JSON."""
        hold = self.hold and {
            "reason": self.hold.reason,
            "since": instant_text(self.hold.since),
            "backup_made_at": instant_text(self.hold.backup_made_at),
        }
        last = self.last_backup_at and instant_text(self.last_backup_at)
        return {"hold": hold, "last_backup_at": last, "attention": list(self.attention)}


class StoreStateQuery:
    """Reads the state of the store. A backup older than `backup_age` needs attention; no backup at all does not."""

    def __init__(self, store: Store, clock: Clock, backup_age: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._backup_age = backup_age

    def now(self) -> StoreState:
        """The state as of now."""
        with self._store.reading() as query:
            hold, last = read_hold(query), read_last_backup(query)
        is_old = last is not None and self._clock.now() - last > self._backup_age
        codes = ((ON_HOLD, hold is not None), (BACKUP_OLD, is_old))
        return StoreState(hold, last, tuple(code for code, is_so in codes if is_so))
