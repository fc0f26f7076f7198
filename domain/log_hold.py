"""A hold of the log: a restored store begins with it, and until an administrator lifts it no provider is asked.

The backup may be older than the last renewals, and the lost service may still run. Then a renewal would make a provider
that rotates refresh tokens revoke the grant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from domain import aggregate
from domain.errors import Refused

RESTORED = "restored"
"""The reason of a hold that began with the restoration of a backup."""


@dataclass(frozen=True, slots=True)
class LogHoldState:
    """The state that the events of a hold add up to. `backup_made_at` is the instant of the restored backup."""

    reason: str
    since: datetime
    backup_made_at: datetime
    lifted: bool = False


class LogHold(aggregate.Aggregate[LogHoldState]):
    """A hold, from its beginning to the word of an administrator that lifts it."""

    TOPIC = "mailtoken.Log.v1"

    class Event(aggregate.Event[LogHoldState]):
        """A change of a hold, and its author."""

    class Created(Event, aggregate.Created[LogHoldState]):
        """The store was restored from a backup of `events` events, and is on hold."""

        TOPIC = "mailtoken.Log.Restored.v1"
        backup_made_at: datetime
        events: int

        def begin(self) -> LogHoldState:
            return LogHoldState(RESTORED, self.timestamp, self.backup_made_at)

    class Resumed(Event):
        """An administrator lifted the hold; `because` is their reason, or None."""

        TOPIC = "mailtoken.Log.Resumed.v1"
        because: str | None

        def evolve(self, state: LogHoldState) -> LogHoldState:
            return replace(state, lifted=True)

    @classmethod
    def after_restore(cls, id: UUID, *, backup_made_at: datetime, events: int, by: str, now: datetime) -> LogHold:
        """Begin the hold of a restored store."""
        return cls.start(id, cls.Created, now=now, backup_made_at=backup_made_at, events=events, by=by)

    def resume(self, because: str | None, *, by: str, now: datetime) -> None:
        """Lift the hold.

        Raises:
            Refused: it is lifted already.
        """
        if self.state.lifted:
            raise Refused("not_on_hold")
        self.record(self.Resumed, because=because, by=by, now=now)
