"""A rebuild of the read model: its rows were made anew from the log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain import aggregate


@dataclass(frozen=True, slots=True)
class RebuildState:
    """The state that the one event of a rebuild gives: the number of events that were replayed."""

    events: int


class Rebuild(aggregate.Aggregate[RebuildState]):
    """A rebuild, which is over when it is recorded."""

    TOPIC = "mailtoken.ReadModel.v1"

    class Event(aggregate.Event[RebuildState]):
        """An event of a rebuild, and its author."""

    class Created(Event, aggregate.Created[RebuildState]):
        """The rows were made anew from the `events` events before this one."""

        TOPIC = "mailtoken.ReadModel.Rebuilt.v1"
        events: int

        def begin(self) -> RebuildState:
            return RebuildState(self.events)

    @classmethod
    def of(cls, id: UUID, events: int, *, by: str, now: datetime) -> Rebuild:
        """Record a rebuild."""
        return cls.start(id, cls.Created, now=now, events=events, by=by)
