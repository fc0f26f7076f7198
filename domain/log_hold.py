"""A hold of the log: until an administrator lifts it no provider is asked.

A restored store begins with it, and so does a log that is not the one a node has seen: an older copy was put back. Such
a log may be older than the last renewals, and a lost service may still run. Then a renewal would make a provider that
rotates refresh tokens revoke the grant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from domain import aggregate
from domain.errors import InvalidValue, Refused
from domain.store_attention import StoreAttention

RESTORED = "restored"
"""The reason of a hold that began with the restoration of a backup."""
BEHIND = "behind"
"""The reason of a hold of a log that is shorter than a node has seen it."""
DIFFERS = "differs"
"""The reason of a hold of a log that is as long as a node has seen it, but not the same."""
_ATTENTION = {
    RESTORED: StoreAttention.ON_HOLD,
    BEHIND: StoreAttention.LOG_BEHIND,
    DIFFERS: StoreAttention.LOG_DIFFERS,
}


@dataclass(frozen=True, slots=True)
class LogHead:
    """The end of the log: the number of its last event, and the link of the hash chain there, in hexadecimal."""

    number: int
    link: str


@dataclass(frozen=True, slots=True)
class LogHoldState:
    """The state that the events of a hold add up to.

    `backup_made_at` is the instant of the restored backup, or that of the last event of the log that was put back.
    `known` is the end of the log that a node has seen and that this log does not have.
    """

    reason: str
    since: datetime
    backup_made_at: datetime
    lifted: bool = False
    known: LogHead | None = None

    @property
    def attention(self) -> StoreAttention:
        """The code of why a person is needed."""
        return _ATTENTION[self.reason]


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

    class FoundOther(Event, aggregate.Created[LogHoldState]):
        """A node has seen the log end with the event `known_number`, and it is shorter now, or `differs` there.

        It had `number` events when this was found, the last of `as_of`.
        """

        TOPIC = "mailtoken.Log.FoundOther.v1"
        known_number: int
        known_link: str
        number: int
        as_of: datetime
        differs: bool

        def begin(self) -> LogHoldState:
            known = LogHead(self.known_number, self.known_link)
            return LogHoldState(DIFFERS if self.differs else BEHIND, self.timestamp, self.as_of, known=known)

    class Resumed(Event):
        """An administrator lifted the hold; `because` is their reason, or None.

        `given_up_number` and `given_up_link` name the end of the log that a node had seen and that is given up.
        """

        TOPIC = "mailtoken.Log.Resumed.v1"
        because: str | None
        given_up_number: int | None = None
        given_up_link: str | None = None

        def evolve(self, state: LogHoldState) -> LogHoldState:
            return replace(state, lifted=True)

    @classmethod
    def after_restore(cls, id: UUID, *, backup_made_at: datetime, events: int, by: str, now: datetime) -> LogHold:
        """Begin the hold of a restored store."""
        return cls.start(id, cls.Created, now=now, backup_made_at=backup_made_at, events=events, by=by)

    @classmethod
    def of_other_log(
        cls, id: UUID, *, known: LogHead, number: int, as_of: datetime, differs: bool, by: str, now: datetime
    ) -> LogHold:
        """Begin the hold of a log that is not the one a node has seen."""
        return cls.start(
            id,
            cls.FoundOther,
            now=now,
            known_number=known.number,
            known_link=known.link,
            number=number,
            as_of=as_of,
            differs=differs,
            by=by,
        )

    def resume(self, because: str | None, *, by: str, now: datetime, given_up: LogHead | None = None) -> None:
        """Lift the hold. `given_up` is the end of the log that is given up, where the hold itself does not know it.

        Raises:
            Refused: it is lifted already.
            InvalidValue: the log differs from the one that a node has seen, and no reason is given.
        """
        if self.state.lifted:
            raise Refused("not_on_hold")
        if self.state.reason == DIFFERS and not (because or "").strip():
            raise InvalidValue("because", "reason_wanted")
        given_up = self.state.known or given_up
        self.record(
            self.Resumed,
            because=because,
            given_up_number=given_up.number if given_up else None,
            given_up_link=given_up.link if given_up else None,
            by=by,
            now=now,
        )
