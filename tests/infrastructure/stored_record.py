"""The stored record, as an attacker with the database's password sees and changes it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from eventsourcing.persistence import StoredEvent
from store_examples import change

from infrastructure.queries.audit import Audit, Finding
from infrastructure.store.event_log import EventLog
from infrastructure.store.store import Store

PAST_THE_LOG = 10_000


class Record:
    """The stored record, as somebody sees it who can write rows."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._position = "notification_id" if store.shared_by_nodes else "rowid"

    def events(self) -> list[tuple[int, StoredEvent]]:
        with self.store.reading() as query:
            return query.events(0, PAST_THE_LOG)

    def find(self, topic: str, nth: int = 0) -> tuple[int, StoredEvent]:
        return [(position, event) for position, event in self.events() if topic in event.topic][nth]

    def write(self, position: int, **columns: object) -> None:
        for column, value in columns.items():
            statement = f"UPDATE stored_events SET {column} = ? WHERE {self._position} = ?"
            assert change(self.store, statement, value, position) == 1

    def remove(self, position: int) -> None:
        assert change(self.store, f"DELETE FROM stored_events WHERE {self._position} = ?", position) == 1

    def move(self, position: int, to: int) -> None:
        statement = f"UPDATE stored_events SET {self._position} = ? WHERE {self._position} = ?"
        assert change(self.store, statement, to, position) == 1

    def insert(self, event: StoredEvent, at: int) -> None:
        id = event.originator_id if self.store.shared_by_nodes else UUID(str(event.originator_id)).hex
        columns = f"originator_id, originator_version, topic, state, {self._position}"
        values = (id, event.originator_version, event.topic, event.state, at)
        assert change(self.store, f"INSERT INTO stored_events ({columns}) VALUES (?, ?, ?, ?, ?)", *values) == 1

    def index(self, position: int) -> int:
        """The number of an event in the chain."""
        with self.store.reading() as query:
            return int(query.rows("SELECT number FROM chain WHERE position = ?", (position,))[0]["number"])

    def findings(self) -> tuple[Finding, ...]:
        return Audit(EventLog(self.store)).verify().findings

    def blamed(self, *codes: str) -> list[Any]:
        """The positions of the events that a finding with one of these codes is about."""
        return [finding.fields["position"] for finding in self.findings() if finding.code in codes]
