"""A client: a program with a key that may read the access tokens of the profiles it was granted.

The key is `id.secret`. Events name the id; what the secret is compared with is sealed in the vault.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from eventsourcing.domain import Aggregate

from domain.errors import InvalidValue
from domain.machine import valid_name
from domain.profile import Profile


@dataclass(frozen=True, slots=True)
class ClientState:
    """What the events of a client add up to. `profiles` are the ids of those it may read the tokens of.

    `key` counts the keys there were; it names the sealed row of the one that holds, whose id is `key_id`. Before the
    first it is 0, and there is no id.
    """

    name: str
    key: int = 0
    key_id: str | None = None
    expires_at: datetime | None = None
    profiles: tuple[UUID, ...] = ()
    removed: bool = False

    def is_expired(self, now: datetime) -> bool:
        """Whether the key's time is over."""
        return self.expires_at is not None and self.expires_at <= now


class Client(Aggregate):
    """A program that reads access tokens."""

    TOPIC = "mailtoken.Client.v1"

    if TYPE_CHECKING:
        state: ClientState

    class Event(Aggregate.Event):
        """Something that happened to a client, and who did it."""

        by: str

        def evolve(self, state: ClientState) -> ClientState:
            """The state after this event."""
            raise NotImplementedError

        def apply(self, client: Client) -> None:
            """Fold this event into the aggregate."""
            client.state = self.evolve(client.state)

    class Created(Event, Aggregate.Created):
        """The client was added."""

        TOPIC = "mailtoken.Client.Created.v1"
        name: str

        def begin(self) -> ClientState:
            """It has no key and may read nothing yet."""
            return ClientState(self.name)

        def apply(self, client: Client) -> None:
            """Begin."""
            client.state = self.begin()

    class KeyIssued(Event):
        """It has a new key, for good if `expires_at` is None; the one before is no good any more."""

        TOPIC = "mailtoken.Client.KeyIssued.v1"
        key: int
        key_id: str
        expires_at: datetime | None

        def evolve(self, state: ClientState) -> ClientState:
            """The new one."""
            return replace(state, key=self.key, key_id=self.key_id, expires_at=self.expires_at)

    class Granted(Event):
        """It may read the access token of this profile."""

        TOPIC = "mailtoken.Client.Granted.v1"
        profile_id: UUID

        def evolve(self, state: ClientState) -> ClientState:
            """One more."""
            return replace(state, profiles=(*state.profiles, self.profile_id))

    class Revoked(Event):
        """It may not read the access token of this profile any more."""

        TOPIC = "mailtoken.Client.Revoked.v1"
        profile_id: UUID

        def evolve(self, state: ClientState) -> ClientState:
            """One less."""
            return replace(state, profiles=tuple(id for id in state.profiles if id != self.profile_id))

    class Removed(Event):
        """It is gone with its key; the name is free."""

        TOPIC = "mailtoken.Client.Removed.v1"

        def evolve(self, state: ClientState) -> ClientState:
            """Removed."""
            return replace(state, removed=True)

    @classmethod
    def add(cls, id: UUID, name: str, *, by: str, now: datetime) -> Client:
        """A client that has no key and may read nothing yet.

        Raises:
            InvalidValue: not a name.
        """
        return cls._create(cls.Created, id=id, timestamp=now, name=valid_name("client", name), by=by)

    def issue_key(self, key_id: str, expires_at: datetime | None, *, by: str, now: datetime) -> None:
        """Have a new key, in the place of the one before if there is one.

        Raises:
            InvalidValue: it would have expired already.
        """
        if expires_at is not None and expires_at <= now:
            raise InvalidValue("expires", f"{expires_at:%Y-%m-%d %H:%M} UTC is over: name a day to come")
        self.trigger_event(
            self.KeyIssued, key=self.state.key + 1, key_id=key_id, expires_at=expires_at, by=by, timestamp=now
        )

    def grant(self, profiles: Iterable[Profile], *, by: str, now: datetime) -> None:
        """May read the access tokens of these profiles too."""
        for profile in profiles:
            if profile.id not in self.state.profiles:
                self.trigger_event(self.Granted, profile_id=profile.id, by=by, timestamp=now)

    def revoke(self, profiles: Iterable[Profile], *, by: str, now: datetime) -> None:
        """May not read the access tokens of these profiles any more."""
        for profile in profiles:
            if profile.id in self.state.profiles:
                self.trigger_event(self.Revoked, profile_id=profile.id, by=by, timestamp=now)

    def remove(self, *, by: str, now: datetime) -> None:
        """Go."""
        self.trigger_event(self.Removed, by=by, timestamp=now)
