"""A disclosure: the record that an API client was given generations of a token's access token.

Each pair of client and token has an aggregate of its own, so that recording a disclosure conflicts neither with the
token's renewal nor with another client. The stored topics still have the aggregate's earlier name, `Reader`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID, uuid5

from domain import aggregate


@dataclass(frozen=True, slots=True)
class DisclosureState:
    """The newest generation that `client` was given; `client` is written as in the event log: `client:backup`."""

    client: str
    token_id: UUID
    generation: int


class Disclosure(aggregate.Aggregate[DisclosureState]):
    """The record of the generations of a token that a client was given."""

    TOPIC = "mailtoken.Reader.v1"

    class Event(aggregate.Event[DisclosureState]):
        """This client was given a generation for the first time, through `profile`."""

        profile: str
        generation: int

    class Created(Event, aggregate.Created[DisclosureState]):
        """The client was given its first generation of this token."""

        TOPIC = "mailtoken.Reader.Created.v1"
        token_id: UUID

        def begin(self) -> DisclosureState:
            return DisclosureState(self.by, self.token_id, self.generation)

    class HandedOut(Event):
        """The client was given a newer generation."""

        TOPIC = "mailtoken.Reader.HandedOut.v1"

        def evolve(self, state: DisclosureState) -> DisclosureState:
            return replace(state, generation=self.generation)

    @staticmethod
    def id_of(token_id: UUID, client: str) -> UUID:
        """The id of the disclosure of this token to this client; `client` is the client's id, or a name."""
        return uuid5(token_id, client)

    @classmethod
    def first(cls, id: UUID, token_id: UUID, generation: int, profile: str, *, by: str, now: datetime) -> Disclosure:
        """Record that a client was given a token for the first time."""
        return cls.start(id, cls.Created, now=now, token_id=token_id, generation=generation, profile=profile, by=by)

    def disclose(self, generation: int, profile: str, *, by: str, now: datetime) -> None:
        """Record a generation; a no-op unless it is newer than the recorded generation."""
        if generation > self.state.generation:
            self.record(self.HandedOut, generation=generation, profile=profile, by=by, now=now)
