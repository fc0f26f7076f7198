"""The state of the installation as a whole: its hold, the age of the last backup, and the ends of certificates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from domain.log_hold import LogHoldState
from domain.ports import Clock
from domain.store_attention import CertificateExpiry, StoreAttention
from infrastructure.clock import instant_text
from infrastructure.config.certificates import last_expiries
from infrastructure.config.tables import Config
from infrastructure.store.open import read_last_backup
from infrastructure.store.query import Query
from infrastructure.store.rows import log_hold_state
from infrastructure.store.store import Store


def read_hold(query: Query) -> LogHoldState | None:
    """The newest hold that no administrator has lifted; None if the store is not on hold."""
    rows = query.rows("SELECT * FROM log_hold ORDER BY since DESC LIMIT 1")
    return log_hold_state(rows[0]) if rows else None


def read_hold_code(query: Query) -> str | None:
    """The code of the reason why the store is on hold; None if it is not."""
    hold = read_hold(query)
    return hold.attention.value if hold else None


def read_providers_left(query: Query, configured: Collection[str]) -> Mapping[str, int]:
    """The providers of live tokens that are not among the `configured` ones, with the number of settings of each."""
    statement = (
        "SELECT token.provider AS provider, count(*) AS settings FROM token JOIN profile ON profile.token_id = token.id"
        " WHERE token.generation IS NOT NULL AND token.dead IS NULL GROUP BY token.provider ORDER BY token.provider"
    )
    return {row["provider"]: row["settings"] for row in query.rows(statement) if row["provider"] not in configured}


@dataclass(frozen=True)
class StoreState:
    """The hold, the instant of the last backup, whether it is old, and the end of each certificate, as of `at`."""

    hold: LogHoldState | None
    last_backup_at: datetime | None
    backup_is_old: bool
    certificates: Sequence[CertificateExpiry]
    at: datetime

    @property
    def attention(self) -> tuple[StoreAttention, ...]:
        """The codes of what needs a person, each once."""
        found = {self.hold.attention if self.hold else None, *(one.attention(self.at) for one in self.certificates)}
        if self.backup_is_old:
            found.add(StoreAttention.BACKUP_OLD)
        return tuple(code for code in StoreAttention if code in found)

    def as_json(self) -> dict[str, Any]:
        """The state in JSON."""
        hold = self.hold and {
            "reason": self.hold.reason,
            "since": instant_text(self.hold.since),
            "backup_made_at": instant_text(self.hold.backup_made_at),
        }
        last = self.last_backup_at and instant_text(self.last_backup_at)
        certificates = [
            {"table": one.table, "ends_at": instant_text(one.at), "attention": one.attention(self.at)}
            for one in self.certificates
        ]
        attention = list(self.attention)
        return {"hold": hold, "last_backup_at": last, "certificates": certificates, "attention": attention}


class StoreStateQuery:
    """Reads the state. A backup older than `backup_age` needs attention; no backup at all does not.

    `certificates` reads the end of each certificate from its file.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        backup_age: timedelta,
        certificates: Callable[[], Sequence[CertificateExpiry]] = tuple,
    ) -> None:
        self._store = store
        self._clock = clock
        self._backup_age = backup_age
        self._certificates = certificates

    @classmethod
    def of(cls, config: Config, store: Store, clock: Clock) -> StoreStateQuery:
        """The query for the store and the certificates of this configuration."""
        return cls(store, clock, config.store.backup_age, partial(last_expiries, config))

    def now(self) -> StoreState:
        """The state as of now."""
        with self._store.reading() as query:
            hold, last = read_hold(query), read_last_backup(query)
        now = self._clock.now()
        is_old = last is not None and now - last > self._backup_age
        return StoreState(hold, last, is_old, self._certificates(), now)
