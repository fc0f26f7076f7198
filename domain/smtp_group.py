"""The SMTP group: linked settings that share an authorization, and the effect of an acquisition on each of them.

"When OAuth 2.0 authentication is received for any one of them, they are updated in concert" (the manual).
A POP or IMAP profile is independent: its token has a single profile, and the same rule changes only that profile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from domain import aggregate
from domain.catalogue import Protocol
from domain.errors import InvalidValue, about
from domain.machine import valid_name
from domain.profile import Profile
from domain.token import Token


@dataclass(frozen=True, slots=True)
class SmtpGroupState:
    """The state that the events of a group add up to. `members` are profile ids in the order of joining."""

    name: str
    token_id: UUID
    members: tuple[UUID, ...] = ()
    dissolved: bool = False


class SmtpGroup(aggregate.Aggregate[SmtpGroupState]):
    """The SMTP profiles that share a token. A change that depends on the members also checks the group's version."""

    TOPIC = "mailtoken.SmtpGroup.v1"

    class Event(aggregate.Event[SmtpGroupState]):
        """A change of a group, and its author."""

    class Created(Event, aggregate.Created[SmtpGroupState]):
        """The group was made, with a token of its own."""

        TOPIC = "mailtoken.SmtpGroup.Created.v1"
        name: str
        token_id: UUID

        def begin(self) -> SmtpGroupState:
            return SmtpGroupState(self.name, self.token_id)

    class ProfileLinked(Event):
        """A profile joined the group."""

        TOPIC = "mailtoken.SmtpGroup.ProfileLinked.v1"
        profile_id: UUID

        def evolve(self, state: SmtpGroupState) -> SmtpGroupState:
            return replace(state, members=(*state.members, self.profile_id))

    class ProfileUnlinked(Event):
        """A profile left the group."""

        TOPIC = "mailtoken.SmtpGroup.ProfileUnlinked.v1"
        profile_id: UUID

        def evolve(self, state: SmtpGroupState) -> SmtpGroupState:
            return replace(state, members=tuple(m for m in state.members if m != self.profile_id))

    class Renamed(Event):
        """The group followed the new name of its machine."""

        TOPIC = "mailtoken.SmtpGroup.Renamed.v1"
        name: str

        def evolve(self, state: SmtpGroupState) -> SmtpGroupState:
            return replace(state, name=self.name)

    class Dissolved(Event):
        """The last profile left the group; another group may take the name."""

        TOPIC = "mailtoken.SmtpGroup.Dissolved.v1"

        def evolve(self, state: SmtpGroupState) -> SmtpGroupState:
            return replace(state, dissolved=True)

    @classmethod
    def create(cls, id: UUID, name: str, token_id: UUID, *, by: str, now: datetime) -> SmtpGroup:
        """Make a group called `name`.

        Raises:
            InvalidValue: `name` is not a valid name.
        """
        valid_name("group", name)
        return cls.start(id, cls.Created, now=now, name=name, token_id=token_id, by=by)

    def rename(self, name: str, *, by: str, now: datetime) -> None:
        """Follow the machine's new name."""
        self.record(self.Renamed, name=name, by=by, now=now)

    def link(self, profile_id: UUID, *, by: str, now: datetime) -> None:
        """Add a profile to the group."""
        self.record(self.ProfileLinked, profile_id=profile_id, by=by, now=now)

    def unlink(self, profile_id: UUID, *, by: str, now: datetime) -> None:
        """Remove a profile from the group; the group dissolves after its last profile."""
        self.record(self.ProfileUnlinked, profile_id=profile_id, by=by, now=now)
        if not self.state.members:
            self.record(self.Dissolved, by=by, now=now)


def check_linkable(name: str, protocol: Protocol) -> None:
    """Check that a profile can be in a group.

    Raises:
        InvalidValue: it is not an SMTP setting.
    """
    if protocol is not Protocol.SMTP:
        raise InvalidValue(name, "not_an_smtp_setting")


def join(profile: Profile, group: SmtpGroup, token: Token, *, by: str, now: datetime) -> None:
    """Let a profile that has left its own token join a group; `token` is the group's."""
    provider, account = token.state.authorization
    profile.link(group_id=group.id, token_id=token.id, provider=provider, account=account, by=by, now=now)
    group.link(profile.id, by=by, now=now)


def leave(profile: Profile, group: SmtpGroup | None, token: Token, *, by: str, now: datetime) -> None:
    """Separate a profile from its group and its token; a token whose last profile leaves is retired.

    Raises:
        Refused: the profile is the token's last, and the token is held or an attempt is under way.
    """
    if group:
        group.unlink(profile.id, by=by, now=now)
    if group is None or group.state.dissolved:
        with about(profile.state.name):
            token.retire(by=by, now=now)


def update_in_concert(event: Token.Event, linked: Sequence[Profile]) -> Sequence[Profile]:
    """Apply the manual's rule: an acquisition or a deletion changes every linked profile.

    Returns the profiles that changed. Other token events (an attempt, a renewal) change only the token.
    """
    if isinstance(event, Token.Retrieved):
        for profile in linked:
            profile.receive_token(
                event.generation, provider=event.provider, account=event.account, by=event.by, now=event.timestamp
            )
        return linked
    if isinstance(event, Token.Deleted):
        for profile in linked:
            profile.lose_token(by=event.by, now=event.timestamp)
        return linked
    return ()
