"""The state of the installation as a whole: its hold, the age of the last backup, and the ends of certificates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from domain.log_hold import RESTORED, LogHoldState
from domain.ports import Clock
from domain.scope import Scope
from domain.store_attention import CertificateExpiry, ProviderNeed, StoreAttention
from infrastructure.clock import instant_text
from infrastructure.config.certificates import last_expiries
from infrastructure.config.tables import Config
from infrastructure.store.open import read_last_backup
from infrastructure.store.query import Query
from infrastructure.store.row_macs import UNREADABLE, AlteredRow
from infrastructure.store.rows import log_hold_state
from infrastructure.store.store import Store
from infrastructure.store.stored_provider_rows import read_stored_states
from infrastructure.upkeep.row_scan import altered_rows

_UNKNOWN = datetime.fromtimestamp(0, UTC)


def read_hold(query: Query) -> LogHoldState | None:
    """The newest hold that no administrator has lifted; None if the store is not on hold."""
    rows = query.rows("SELECT * FROM log_hold ORDER BY since DESC LIMIT 1")
    if not rows:
        return None
    try:
        return log_hold_state(rows[0])
    except UNREADABLE:
        # Somebody altered the row, and the hold goes on.
        return LogHoldState(RESTORED, _UNKNOWN, _UNKNOWN)


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
    """The hold, the instant of the last backup, whether it is old, and the end of each certificate, as of `at`.

    `altered` are the rows that something else than this program altered, `providers` the stored providers that need a
    person.
    """

    hold: LogHoldState | None
    last_backup_at: datetime | None
    backup_is_old: bool
    certificates: Sequence[CertificateExpiry]
    at: datetime
    altered: Sequence[AlteredRow] = ()
    providers: Sequence[ProviderNeed] = ()

    @property
    def attention(self) -> tuple[StoreAttention, ...]:
        """The codes of what needs a person, each once."""
        found = {self.hold.attention if self.hold else None, *(one.attention(self.at) for one in self.certificates)}
        found.update(one.attention for one in self.providers)
        if self.backup_is_old:
            found.add(StoreAttention.BACKUP_OLD)
        if self.altered:
            found.add(StoreAttention.ROW_ALTERED)
        return tuple(code for code in StoreAttention if code in found)

    def within(self, scope: Scope) -> StoreState:
        """The state for somebody who sees the machines of this scope alone: rows that were altered may be of others."""
        return self if scope.is_all else replace(self, altered=())

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
        altered = [{"table": row.table, "id": row.id, "name": row.name} for row in self.altered]
        return {
            "hold": hold,
            "last_backup_at": last,
            "certificates": certificates,
            "altered_rows": altered,
            "providers": [
                {"name": one.name, "attention": one.attention, "secrets": list(one.secrets)} for one in self.providers
            ],
            "attention": attention,
        }


class StoreStateQuery:
    """Reads the state. A backup older than `backup_age` needs attention; no backup at all does not.

    `certificates` reads the end of each certificate from its file. With `looks` the rows that were altered are looked
    for; without, they are those that the running service knows of. `of_file` are the names of the providers in the
    configuration file, and `unusable` gives those of stored providers that the running service can't use.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        backup_age: timedelta,
        certificates: Callable[[], Sequence[CertificateExpiry]] = tuple,
        *,
        looks: bool = False,
        of_file: Collection[str] = (),
        unusable: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._store = store
        self._clock = clock
        self._backup_age = backup_age
        self._certificates = certificates
        self._looks = looks
        self._of_file = of_file
        self._unusable = unusable

    @classmethod
    def of(
        cls,
        config: Config,
        store: Store,
        clock: Clock,
        *,
        looks: bool = False,
        unusable: Callable[[], Collection[str]] = tuple,
    ) -> StoreStateQuery:
        """The query for the store, the certificates and the providers of this configuration."""
        certificates, of_file = partial(last_expiries, config), config.providers
        age = config.store.backup_age
        return cls(store, clock, age, certificates, looks=looks, of_file=of_file, unusable=unusable)

    def now(self) -> StoreState:
        """The state as of now."""
        with self._store.reading() as query:
            hold, last, checks = read_hold(query), read_last_backup(query), self._store.row_checks
            altered = list(altered_rows(query, checks)) if self._looks else checks.altered
            providers = list(self._providers_in_need(query))
        now = self._clock.now()
        is_old = last is not None and now - last > self._backup_age
        return StoreState(hold, last, is_old, self._certificates(), now, altered, providers)

    def _providers_in_need(self, query: Query) -> Iterator[ProviderNeed]:
        unusable = self._unusable()
        for state in read_stored_states(query):
            if state.name in self._of_file:
                yield ProviderNeed(state.name, StoreAttention.PROVIDER_CLASH)
            elif state.name in unusable:
                yield ProviderNeed(state.name, StoreAttention.PROVIDER_UNUSABLE)
            elif state.awaited:
                yield ProviderNeed(state.name, StoreAttention.PROVIDER_SECRET_MISSING, state.awaited)
