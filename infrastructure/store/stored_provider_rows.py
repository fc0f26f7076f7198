"""Reads the rows of stored providers, which decide where secrets are sent: an altered row is never used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.stored_provider import StoredProviderState
from infrastructure.store.query import Query
from infrastructure.store.row_macs import RowChecks, readable
from infrastructure.store.rows import stored_provider_state


@dataclass(frozen=True)
class StoredProviderRow:
    """A stored provider, and the version of its aggregate."""

    id: UUID
    version: int
    state: StoredProviderState

    @property
    def edition(self) -> str:
        """The entity tag of this version (RFC 9110 section 8.8.3)."""
        return f"{self.id.hex}.{self.version}"


def read_stored_providers(query: Query, checks: RowChecks) -> Sequence[StoredProviderRow]:
    """Every stored provider whose row is believed, in the order of their names."""
    rows = query.rows(f"SELECT *, {query.last_version('id')} AS events FROM provider ORDER BY name")  # noqa: S608
    believed = [row for row in rows if checks.is_right("provider", row, row["events"])]
    return [StoredProviderRow(UUID(row["id"]), row["version"], stored_provider_state(row)) for row in believed]


def read_stored_states(query: Query) -> list[StoredProviderState]:
    """The states in the rows for a list, but not of an altered row from which none can be read."""
    return list(readable(stored_provider_state, query.rows("SELECT * FROM provider ORDER BY name")))
