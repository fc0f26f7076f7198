"""A one-time link: the record that a link was made which sets an administrator's password, and that it is over.

The events name no secret.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain import aggregate
from domain.errors import NotPermitted


class LinkEnd(StrEnum):
    """Why a link that nobody used is over."""

    REPLACED = "replaced"
    EXPIRED = "expired"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class OneTimeLinkState:
    """The state of a link. A link without `administrator_id` makes the first administrator."""

    administrator_id: UUID | None
    expires_at: datetime
    ended: bool = False


class OneTimeLink(aggregate.Aggregate[OneTimeLinkState]):
    """A link that works once."""

    TOPIC = "mailtoken.Link.v1"

    class Event(aggregate.Event[OneTimeLinkState]):
        """A change of a link, and its author."""

    class Created(Event, aggregate.Created[OneTimeLinkState]):
        """The link was made."""

        TOPIC = "mailtoken.Link.Made.v1"
        administrator_id: UUID | None
        expires_at: datetime

        def begin(self) -> OneTimeLinkState:
            return OneTimeLinkState(self.administrator_id, self.expires_at)

    class Used(Event):
        """The link was used: a password was chosen with it."""

        TOPIC = "mailtoken.Link.Used.v1"
        name: str

        def evolve(self, state: OneTimeLinkState) -> OneTimeLinkState:
            return replace(state, ended=True)

    class Ended(Event):
        """The link is over, and nobody used it."""

        TOPIC = "mailtoken.Link.Ended.v1"
        reason: str

        def evolve(self, state: OneTimeLinkState) -> OneTimeLinkState:
            return replace(state, ended=True)

    @classmethod
    def make(
        cls, id: UUID, administrator_id: UUID | None, expires_at: datetime, *, by: str, now: datetime
    ) -> OneTimeLink:
        """Make a link; without `administrator_id`, the link of the first administrator."""
        return cls.start(id, cls.Created, administrator_id=administrator_id, expires_at=expires_at, by=by, now=now)

    def use(self, name: str, *, by: str, now: datetime) -> None:
        """Use the link for the administrator `name`.

        Raises:
            NotPermitted: it is over already.
        """
        if self.state.ended:
            raise NotPermitted("set_up_link_over")
        self.record(self.Used, name=name, by=by, now=now)

    def end(self, reason: LinkEnd, *, by: str, now: datetime) -> None:
        """End the link; a no-op if it is over already."""
        if not self.state.ended:
            self.record(self.Ended, reason=reason.value, by=by, now=now)
