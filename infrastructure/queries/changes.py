"""Changes in the order of the event log: of the settings' status, for live pages, and of admissions, for the relay."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, Protocol

from domain.profile import Profile
from domain.relay_user import RelayUser
from domain.scope import Scope
from domain.token import Token
from infrastructure.clock import instant_text
from infrastructure.queries.attention import Attention, StatusWithAttention
from infrastructure.queries.setting_status import read_statuses_about
from infrastructure.queries.store_state import read_hold_code
from infrastructure.store.event_log import EventLog, LoggedEvent
from infrastructure.store.hash_chain import last_position
from infrastructure.store.query import Query

_PAGE = 200
# The events after which an admission's token may not be used any more.
_ENDING = (Token.Retrieved, Token.GrantFoundDead, Token.Deleted, Token.Retired)


class Change(Protocol):
    """A change that an event made, as listeners get it."""

    kind: ClassVar[str]

    @property
    def position(self) -> int:
        """The event's position in the log."""
        ...

    def as_json(self) -> dict[str, Any]:
        """The change as a JSON object."""
        ...

    def within(self, scope: Scope) -> Change | None:
        """The part of the change that is about machines of this scope; None if there is none."""
        ...


@dataclass(frozen=True)
class StatusChange:
    """An event, the current status of the settings it concerns, and the name of the setting it removed, if any."""

    kind: ClassVar[str] = "status"

    position: int
    at: datetime
    event: str
    with_attention: tuple[StatusWithAttention, ...]
    removed: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The change as a JSON object."""
        return {
            "at": instant_text(self.at),
            "event": self.event,
            "statuses": [one.as_json() for one in self.with_attention],
            "removed": list(self.removed),
        }

    def within(self, scope: Scope) -> StatusChange | None:
        """The part of the change that is about machines of this scope; None if there is none."""
        inside = tuple(one for one in self.with_attention if scope.has_machine(one.status.profile.machine))
        removed = tuple(filter(scope.has_profile, self.removed))
        return replace(self, with_attention=inside, removed=removed) if inside or removed else None


@dataclass(frozen=True)
class RelayChange:
    """The admissions that an event concerns: those of these relay users, and those that use these settings."""

    kind: ClassVar[str] = "changed"

    position: int
    users: tuple[str, ...]
    profiles: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The change as a JSON object."""
        return {"users": list(self.users), "profiles": list(self.profiles)}

    def within(self, scope: Scope) -> RelayChange | None:
        """The change, which only the relay listens to: its role has no limit."""
        return self if scope.is_all else None


@dataclass(frozen=True)
class Stretch:
    """The changes found behind a position, and the position up to which the log has been read."""

    changes: Sequence[Change]
    position: int


class Changes(ABC):
    """Reads changes from the log, up to a page of events at a time."""

    def __init__(self, events: EventLog) -> None:
        self.events = events

    def position(self) -> int:
        """The position of the log's last event; 0 for an empty log."""
        with self.events.store.reading() as query:
            return last_position(query)

    def behind(self, position: int) -> Stretch:
        """The next changes behind this position; the stretch ends at `position` again if the log has no newer event."""
        with self.events.store.reading() as query:
            logged = [self.events.decode(at, stored) for at, stored in query.events(position, _PAGE)]
            found = tuple(change for one in logged if (change := self._change(query, one)))
        return Stretch(found, logged[-1].position if logged else position)

    @abstractmethod
    def _change(self, query: Query, logged: LoggedEvent) -> Change | None:
        """The change that an event made for these listeners; None if the event does not concern them."""

    def _removed(self, event: Token.Event | Profile.Event) -> tuple[str, ...]:
        """The names that no setting has any more after the event."""
        if not isinstance(event, Profile.Removed | Profile.MachineRenamed):
            return ()
        state = self.events.load(Profile, event.originator_id).state
        return (f"{event.previous}/{state.setting}" if isinstance(event, Profile.MachineRenamed) else state.name,)


class StatusChanges(Changes):
    """Changes of the settings' status."""

    def __init__(self, events: EventLog, attention: Attention) -> None:
        super().__init__(events)
        self._attention = attention

    def _change(self, query: Query, logged: LoggedEvent) -> StatusChange | None:
        event = logged.event
        if not isinstance(event, Token.Event | Profile.Event):
            return None
        statuses = read_statuses_about(query, event.originator_id, self._attention.now())
        return StatusChange(
            logged.position,
            event.timestamp,
            ".".join(event.names()),
            tuple(self._attention.of_all(statuses, read_hold_code(query))),
            self._removed(event),
        )


class RelayChanges(Changes):
    """Changes that may end admissions of the relay."""

    def _change(self, query: Query, logged: LoggedEvent) -> RelayChange | None:
        event = logged.event
        if isinstance(event, RelayUser.Event):
            return RelayChange(logged.position, (self.events.load(RelayUser, event.originator_id).state.name,), ())
        if not isinstance(event, (*_ENDING, Profile.Event)):
            return None
        about = str(event.originator_id)
        rows = query.rows("SELECT name FROM profile WHERE token_id = ? OR id = ?", (about, about))
        names = (row["name"] for row in rows)
        return RelayChange(logged.position, (), (*names, *self._removed(event)))
