"""A reader: one client of one token, and the newest generation it was handed.

An aggregate of its own, so that recording who got a token conflicts neither with its renewal nor with another client.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from eventsourcing.domain import Aggregate


@dataclass(frozen=True, slots=True)
class ReaderState:
    """What the events of a reader add up to. `client` is who reads, as the record names them: `client:backup`."""

    client: str
    token_id: UUID
    generation: int


class Reader(Aggregate):
    """A client that was handed the access token of a token."""

    TOPIC = "mailtoken.Reader.v1"

    if TYPE_CHECKING:
        state: ReaderState

    class Event(Aggregate.Event):
        """A generation was handed to this client for the first time, through `profile`."""

        by: str
        profile: str
        generation: int

        def evolve(self, state: ReaderState) -> ReaderState:
            """The state after this event."""
            raise NotImplementedError

        def apply(self, reader: Reader) -> None:
            """Fold this event into the aggregate."""
            reader.state = self.evolve(reader.state)

    class Created(Event, Aggregate.Created):
        """The first generation this client ever got of this token."""

        TOPIC = "mailtoken.Reader.Created.v1"
        token_id: UUID

        def begin(self) -> ReaderState:
            """It has this one."""
            return ReaderState(self.by, self.token_id, self.generation)

        def apply(self, reader: Reader) -> None:
            """Begin."""
            reader.state = self.begin()

    class HandedOut(Event):
        """Another generation."""

        TOPIC = "mailtoken.Reader.HandedOut.v1"

        def evolve(self, state: ReaderState) -> ReaderState:
            """It has the newer one."""
            return replace(state, generation=self.generation)

    @staticmethod
    def id_of(token_id: UUID, client: str) -> UUID:
        """The id of this client as a reader of this token; `client` is what makes it another one."""
        return uuid5(token_id, client)

    @classmethod
    def begin(cls, id: UUID, token_id: UUID, generation: int, profile: str, *, by: str, now: datetime) -> Reader:
        """A client that gets a generation of this token for the first time."""
        return cls._create(
            cls.Created, id=id, timestamp=now, token_id=token_id, generation=generation, profile=profile, by=by
        )

    def hand_out(self, generation: int, profile: str, *, by: str, now: datetime) -> None:
        """Get a generation; one it has had, or an older one, changes nothing."""
        if generation > self.state.generation:
            self.trigger_event(self.HandedOut, generation=generation, profile=profile, by=by, timestamp=now)
