"""The base of every aggregate: a frozen state that events evolve, and events that name their author and instant.

An aggregate class has an event class for each thing that can happen to it: `Created`, whose `begin` gives the first
state, and others, whose `evolve` gives the state after them. Replay calls these methods too, so they do no I/O
and accept every event that a command has recorded. The `TOPIC` of a class is stored with each event and never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, dataclass_transform
from uuid import UUID

from eventsourcing.domain import Aggregate as LibraryAggregate

from domain.errors import IllegalHistory

TState = TypeVar("TState")


@dataclass_transform(frozen_default=True)
@dataclass(frozen=True)
class Event(LibraryAggregate.Event, Generic[TState]):
    """A change of an aggregate. `by` names its author: an administrator, a client or a worker."""

    TOPIC: ClassVar[str]
    by: str

    def __post_init__(self) -> None:
        """Leave a field out of the stored event while it has the default of its class.

        Only fields that came after the first release have a default, so an event without them is stored as ever.
        """
        for name in [name for name, value in vars(self).items() if vars(type(self)).get(name, self) == value]:
            del vars(self)[name]

    @classmethod
    def names(cls) -> tuple[str, str]:
        """The stored names of aggregate and event: "Token" and "Retrieved" of "mailtoken.Token.Retrieved.v1"."""
        _, aggregate, event, _ = cls.TOPIC.split(".")
        return aggregate, event

    def evolve(self, state: TState) -> TState:
        """The state after this event.

        Raises:
            IllegalHistory: the event is not legal in this state.
        """
        raise NotImplementedError

    def apply(self, aggregate: Any) -> None:
        """Set the aggregate's state.

        Raises:
            IllegalHistory: as `evolve`, with the event's place in the log.
        """
        try:
            aggregate.state = self.evolve(aggregate.state)
        except IllegalHistory as illegal:
            illegal.fields |= {
                "event": ".".join(self.names()),
                "version": self.originator_version,
                "id": str(self.originator_id),
            }
            raise


class Created(Event[TState], LibraryAggregate.Created):
    """The first event of an aggregate."""

    def begin(self) -> TState:
        """The first state."""
        raise NotImplementedError

    def apply(self, aggregate: Any) -> None:
        """Set the aggregate's first state."""
        aggregate.state = self.begin()


class Aggregate(LibraryAggregate, Generic[TState]):
    """A state and its events; a subclass adds the commands that decide which event comes next."""

    if TYPE_CHECKING:  # an annotation that runs would make the library write an __init__ that asks for it
        state: TState

        def collect_events(self) -> Sequence[Event[TState]]:
            """The events since the last call."""

    @classmethod
    def start(cls, id: UUID, created: type[Created[Any]], *, by: str, now: datetime, **facts: Any) -> Self:
        """Make a new aggregate with its first event."""
        return cls._create(created, id=id, timestamp=now, by=by, **facts)

    def record(self, event: type[Event[Any]], *, by: str, now: datetime, **facts: Any) -> None:
        """Add the next event and apply it to the state."""
        self.trigger_event(event, timestamp=now, by=by, **facts)
