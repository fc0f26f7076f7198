"""The hold of the log, which keeps this service from asking any provider until an administrator lifts it."""

from __future__ import annotations

from uuid import UUID

from domain.errors import Refused
from domain.log_hold import LogHold
from domain.ports import Clock
from infrastructure.clock import instant_text
from infrastructure.queries.store_state import read_hold
from infrastructure.store.event_log import EventLog


class LogHolds:
    """Reads the hold and lifts it. The hold is a row of the store, so every node sees the same."""

    def __init__(self, events: EventLog, clock: Clock) -> None:
        self._events = events
        self._clock = clock

    def is_on(self) -> bool:
        """Whether the store is on hold."""
        with self._events.store.reading() as query:
            return read_hold(query) is not None

    def check(self) -> None:
        """Check that a provider may be asked.

        Raises:
            Refused: the store is on hold.
        """
        with self._events.store.reading() as query:
            hold = read_hold(query)
        if hold:
            raise Refused("on_hold", since=instant_text(hold.since), backup_made_at=instant_text(hold.backup_made_at))

    def resume(self, because: str | None, by: str) -> None:
        """Lift the hold, so that tokens are renewed again.

        Raises:
            Refused: the store is not on hold.
            Conflict: another administrator lifted it at the same moment.
        """
        with self._events.store.reading() as query:
            ids = [UUID(row["id"]) for row in query.rows("SELECT id FROM log_hold")]
        if not ids:
            raise Refused("not_on_hold")
        holds = [self._events.load(LogHold, id) for id in ids]
        for hold in holds:
            hold.resume(because, by=by, now=self._clock.now())
        self._events.save(*holds)
