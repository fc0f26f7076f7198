"""The SMTP group: linked settings that share one authorization, and what one acquisition means for each of them.

"When OAuth 2.0 authentication is received for any one of them, they are updated in concert" (the manual).
A POP or IMAP profile is independent: its token has one profile, and the same policy then changes just that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from eventsourcing.domain import Aggregate

from domain.errors import about
from domain.machine import valid_name
from domain.profile import Profile
from domain.token import Token


@dataclass(frozen=True, slots=True)
class SmtpGroupState:
    """What the events of a group add up to. `members` are profile ids in the order they joined."""

    name: str
    token_id: UUID
    members: tuple[UUID, ...] = ()
    dissolved: bool = False


class SmtpGroup(Aggregate):
    """Which SMTP profiles share a token. Its version guards every change that reads the membership."""

    TOPIC = "mailtoken.SmtpGroup.v1"

    if TYPE_CHECKING:
        state: SmtpGroupState

    class Event(Aggregate.Event):
        """Something that happened to a group, and who did it."""

        by: str

        def evolve(self, state: SmtpGroupState) -> SmtpGroupState:
            """The state after this event."""
            raise NotImplementedError

        def apply(self, group: SmtpGroup) -> None:
            """Fold this event into the aggregate."""
            group.state = self.evolve(group.state)

    class Created(Event, Aggregate.Created):
        """The group is there, with a token of its own."""

        TOPIC = "mailtoken.SmtpGroup.Created.v1"
        name: str
        token_id: UUID

        def begin(self) -> SmtpGroupState:
            """Nobody linked."""
            return SmtpGroupState(self.name, self.token_id)

        def apply(self, group: SmtpGroup) -> None:
            """Begin."""
            group.state = self.begin()

    class ProfileLinked(Event):
        """A profile joined."""

        TOPIC = "mailtoken.SmtpGroup.ProfileLinked.v1"
        profile_id: UUID

        def evolve(self, state: SmtpGroupState) -> SmtpGroupState:
            """One more."""
            return replace(state, members=(*state.members, self.profile_id))

    class ProfileUnlinked(Event):
        """A profile left."""

        TOPIC = "mailtoken.SmtpGroup.ProfileUnlinked.v1"
        profile_id: UUID

        def evolve(self, state: SmtpGroupState) -> SmtpGroupState:
            """One less."""
            return replace(state, members=tuple(m for m in state.members if m != self.profile_id))

    class Dissolved(Event):
        """The last profile left; the name is free."""

        TOPIC = "mailtoken.SmtpGroup.Dissolved.v1"

        def evolve(self, state: SmtpGroupState) -> SmtpGroupState:
            """Dissolved."""
            return replace(state, dissolved=True)

    @classmethod
    def create(cls, id: UUID, name: str, token_id: UUID, *, by: str, now: datetime) -> SmtpGroup:
        """A group called `name`.

        Raises:
            InvalidValue: not a name.
        """
        valid_name("group", name)
        return cls._create(cls.Created, id=id, timestamp=now, name=name, token_id=token_id, by=by)

    def link(self, profile_id: UUID, *, by: str, now: datetime) -> None:
        """Take a profile in."""
        self.trigger_event(self.ProfileLinked, profile_id=profile_id, by=by, timestamp=now)

    def unlink(self, profile_id: UUID, *, by: str, now: datetime) -> None:
        """Let a profile go; without any left the group dissolves."""
        self.trigger_event(self.ProfileUnlinked, profile_id=profile_id, by=by, timestamp=now)
        if not self.state.members:
            self.trigger_event(self.Dissolved, by=by, timestamp=now)


def leave(profile: Profile, group: SmtpGroup | None, token: Token, *, by: str, now: datetime) -> None:
    """Let a profile go from its group and its token; a token whose last profile leaves is retired.

    Raises:
        Refused: it is the last one, and the token is held or under way.
    """
    if group:
        group.unlink(profile.id, by=by, now=now)
    if group is None or group.state.dissolved:
        with about(profile.state.name):
            token.retire(by=by, now=now)


def update_in_concert(event: Token.Event, linked: Sequence[Profile]) -> Sequence[Profile]:
    """Apply the manual's rule: one acquisition, and one deletion, reaches every linked profile.

    Returns the profiles that changed. Other token events (an attempt, a renewal) show through the token itself.
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
