"""An API client: a program that may, with its key, read the access tokens of the profiles granted to it.

The key is `id.secret`. Events name the id; the hash of the secret is sealed in the vault.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from domain import aggregate
from domain.errors import InvalidValue
from domain.machine import valid_name
from domain.profile import Profile


@dataclass(frozen=True, slots=True)
class ApiClientState:
    """The state of a client. `profiles` are the ids of the profiles whose tokens it may read.

    `key` numbers the current key and names the sealed row of its hash; 0 means no key and no `key_id`.
    """

    name: str
    key: int = 0
    key_id: str | None = None
    expires_at: datetime | None = None
    profiles: tuple[UUID, ...] = ()
    removed: bool = False

    def is_expired(self, now: datetime) -> bool:
        """Whether the key has expired."""
        return self.expires_at is not None and self.expires_at <= now


def check_expiry(expires_at: datetime | None, now: datetime) -> None:
    """Check that a key may expire then.

    Raises:
        InvalidValue: the instant is over.
    """
    if expires_at is not None and expires_at <= now:
        raise InvalidValue("expires", "expiry_in_the_past", at=f"{expires_at:%Y-%m-%d %H:%M} UTC")


class ApiClient(aggregate.Aggregate[ApiClientState]):
    """A program that reads access tokens."""

    TOPIC = "mailtoken.Client.v1"

    class Event(aggregate.Event[ApiClientState]):
        """A change of a client, and its author."""

    class Created(Event, aggregate.Created[ApiClientState]):
        """The client was added."""

        TOPIC = "mailtoken.Client.Created.v1"
        name: str

        def begin(self) -> ApiClientState:
            return ApiClientState(self.name)

    class KeyIssued(Event):
        """The client has a new key, which replaces its earlier key. A key without `expires_at` never expires."""

        TOPIC = "mailtoken.Client.KeyIssued.v1"
        key: int
        key_id: str
        expires_at: datetime | None

        def evolve(self, state: ApiClientState) -> ApiClientState:
            return replace(state, key=self.key, key_id=self.key_id, expires_at=self.expires_at)

    class Granted(Event):
        """The client may read the access token of this profile."""

        TOPIC = "mailtoken.Client.Granted.v1"
        profile_id: UUID

        def evolve(self, state: ApiClientState) -> ApiClientState:
            return replace(state, profiles=(*state.profiles, self.profile_id))

    class Revoked(Event):
        """The client may no longer read the access token of this profile."""

        TOPIC = "mailtoken.Client.Revoked.v1"
        profile_id: UUID

        def evolve(self, state: ApiClientState) -> ApiClientState:
            return replace(state, profiles=tuple(id for id in state.profiles if id != self.profile_id))

    class Removed(Event):
        """The client and its key were removed; another client may take the name."""

        TOPIC = "mailtoken.Client.Removed.v1"

        def evolve(self, state: ApiClientState) -> ApiClientState:
            return replace(state, removed=True)

    @classmethod
    def add(cls, id: UUID, name: str, *, by: str, now: datetime) -> ApiClient:
        """Make a client that has no key and no profile yet.

        Raises:
            InvalidValue: `name` is not a valid name.
        """
        return cls.start(id, cls.Created, now=now, name=valid_name("client", name), by=by)

    def issue_key(self, key_id: str, expires_at: datetime | None, *, by: str, now: datetime) -> None:
        """Record a new key, which replaces the earlier key.

        Raises:
            InvalidValue: `expires_at` is already over.
        """
        check_expiry(expires_at, now)
        self.record(self.KeyIssued, key=self.state.key + 1, key_id=key_id, expires_at=expires_at, by=by, now=now)

    def grant(self, profiles: Iterable[Profile], *, by: str, now: datetime) -> None:
        """Let the client read the access tokens of these profiles too."""
        for profile in profiles:
            if profile.id not in self.state.profiles:
                self.record(self.Granted, profile_id=profile.id, by=by, now=now)

    def revoke(self, profiles: Iterable[Profile], *, by: str, now: datetime) -> None:
        """Withdraw the client's permission to read the access tokens of these profiles."""
        for profile in profiles:
            if profile.id in self.state.profiles:
                self.record(self.Revoked, profile_id=profile.id, by=by, now=now)

    def remove(self, *, by: str, now: datetime) -> None:
        self.record(self.Removed, by=by, now=now)
