"""The providers that this node knows now: those of the configuration file, and those in the store.

A name in the file wins. A look-up takes what is in memory, since callers look up within transactions of their own. The
memory changes with each change on this node, and follows the changes of other nodes every second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import structlog
from eventsourcing.persistence import PersistenceError

from domain.errors import InvalidValue, MailtokenError, VaultDamaged
from domain.ports import Provider
from domain.renewal import GrantLimits
from domain.secret import Secret
from domain.stored_provider import AWAITED, StoredProvider, StoredProviderState
from infrastructure.config.tables import INACTIVITY_DAYS, ProviderTable
from infrastructure.store.event_log import AnyAggregate, EventLog
from infrastructure.store.query import Query
from infrastructure.store.stored_provider_rows import StoredProviderRow, read_stored_providers
from infrastructure.store.vault import Vault
from infrastructure.ticker import Ticker

log = structlog.get_logger("mailtoken")

Build = Callable[[StoredProviderState, Mapping[str, Secret]], Provider]
"""Makes the provider of a state and its secrets; raises InvalidValue with the name of a field or secret."""

TValue = TypeVar("TValue")
_FOLLOW_SECONDS = 1.0


@dataclass(frozen=True)
class _Built:
    """A stored provider with its object, or with the reason why there is none."""

    row: StoredProviderRow
    provider: Provider | None
    fault: MailtokenError | None = None


@dataclass(frozen=True)
class _Known:
    """What is in memory: the providers in use by name, and everything that is stored by name."""

    in_use: Mapping[str, Provider]
    stored: Mapping[str, _Built] = field(default_factory=dict)


class _Live(Mapping[str, TValue]):
    """A mapping that is read anew at each use."""

    def __init__(self, read: Callable[[], Mapping[str, TValue]]) -> None:
        self._read = read

    def __getitem__(self, name: str) -> TValue:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


class KnownProviders(Mapping[str, Provider]):
    """The providers in use, by name. `of_file` are the objects of the configuration's `tables`."""

    def __init__(
        self,
        events: EventLog,
        vault: Vault,
        of_file: Mapping[str, Provider],
        tables: Mapping[str, ProviderTable],
        build: Build,
    ) -> None:
        self._events = events
        self._vault = vault
        self._of_file = dict(of_file)
        self._tables = tables
        self._build = build
        self._known = _Known(self._of_file)
        self._reading = threading.Lock()
        self.limits: Mapping[str, GrantLimits] = _Live(self._limits)
        """The limits of the grants of each provider."""
        self.kinds: Mapping[str, str] = _Live(self._kinds)
        """The kind of each provider."""
        self.client_secrets_expire_at: Mapping[str, datetime | None] = _Live(self._expiries)
        """When the client secret of each provider expires, as somebody said."""
        self.tickers = (Ticker("providers", self.refresh, lambda: _FOLLOW_SECONDS),)
        self.refresh()
        events.listeners.append(self._follow)

    def __getitem__(self, name: str) -> Provider:
        return self._known.in_use[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known.in_use)

    def __len__(self) -> int:
        return len(self._known.in_use)

    @property
    def stored(self) -> Sequence[StoredProviderRow]:
        """Every stored provider, those whose name the file has too included."""
        return [built.row for built in self._known.stored.values()]

    def is_in_use(self, name: str) -> bool:
        """Whether the provider in use under this name is a stored one."""
        return name in self._known.in_use and not self.is_of_file(name)

    def is_of_file(self, name: str) -> bool:
        """Whether the configuration file has this name."""
        return name in self._of_file or name in self._tables

    @property
    def faults(self) -> Mapping[str, MailtokenError]:
        """Why a stored provider can't be used, by its name."""
        return {name: built.fault for name, built in self._known.stored.items() if built.fault}

    def start(self) -> None:
        """Follow the changes of other nodes, if there can be others."""
        if self._events.store.shared_by_nodes:
            self.tickers[0].start()

    def stop(self) -> None:
        """Stop following."""
        self.tickers[0].stop()

    def refresh(self) -> None:
        """Read what is stored; a provider that has not changed keeps its object."""
        with self._reading:
            before = {built.row.edition: built for built in self._known.stored.values()}
            with self._events.store.reading() as query:
                rows = read_stored_providers(query, self._events.store.row_checks)
                stored = {row.state.name: before.get(row.edition) or self._built(query, row) for row in rows}
            usable = {name: built.provider for name, built in stored.items() if built.provider}
            self._known = _Known({**usable, **self._of_file}, stored)

    def _built(self, query: Query, row: StoredProviderRow) -> _Built:
        try:
            return _Built(row, self._build(row.state, read_secrets(self._vault, query, row.id, row.state)))
        except (InvalidValue, VaultDamaged) as fault:
            log.error("provider_not_usable", provider=row.state.name, error=str(fault))
            return _Built(row, None, fault)

    def _follow(self, changed: Sequence[AnyAggregate]) -> None:
        if any(isinstance(one, StoredProvider) for one in changed):
            try:
                self.refresh()
            except PersistenceError as error:
                # The change itself may be stored, and its caller must learn of that; the memory is behind until later.
                log.error("providers_not_read", error=str(error))
                self.tickers[0].wake()

    def _kinds(self) -> Mapping[str, str]:
        stored = {name: built.row.state.kind for name, built in self._known.stored.items()}
        return {**stored, **{name: table.kind for name, table in self._tables.items()}}

    def _limits(self) -> Mapping[str, GrantLimits]:
        stored = {name: limits_of(built.row.state) for name, built in self._known.stored.items()}
        return {**stored, **{name: table.limits for name, table in self._tables.items()}}

    def _expiries(self) -> Mapping[str, datetime | None]:
        stored = {name: secret_expiry_of(built.row.state) for name, built in self._known.stored.items()}
        return {**stored, **{name: table.client_secret_expires_at for name, table in self._tables.items()}}


def limits_of(state: StoredProviderState) -> GrantLimits:
    """The limits of a stored provider's grants."""
    days = int(state.fields.get("inactivity_days") or INACTIVITY_DAYS[state.kind])
    return GrantLimits(timedelta(days=days))


def secret_expiry_of(state: StoredProviderState) -> datetime | None:
    """When a stored provider's client secret expires: when the day in its field begins, in UTC."""
    day = state.fields.get("client_secret_expires")
    return datetime.fromisoformat(day).replace(tzinfo=UTC) if day else None


def read_secrets(vault: Vault, query: Query, id: UUID, state: StoredProviderState) -> Mapping[str, Secret]:
    """The uploaded secrets of a stored provider, by name.

    Raises:
        VaultDamaged: a sealed row is missing or does not open.
    """
    uploaded = {name: number for name, number in state.secrets.items() if number != AWAITED}
    return {name: vault.provider_secret(query, id, name, number) for name, number in uploaded.items()}
