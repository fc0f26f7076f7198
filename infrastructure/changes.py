"""What changes, in the order of the log: for listeners that show the settings' status live, and for the relay."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol

from domain.profile import Profile
from domain.relay_user import RelayUser
from domain.token import Token
from infrastructure.attention import Attended, Attention
from infrastructure.clock import instant_text
from infrastructure.log import EventLog, LoggedEvent
from infrastructure.status import read_statuses_about
from infrastructure.store import Query

_PAGE = 200
# After any other the token that is held may be used as before.
_ENDING = (Token.Retrieved, Token.GrantFoundDead, Token.Deleted, Token.Retired)


class Change(Protocol):
    """What a listener is told of one event of the log."""

    kind: ClassVar[str]

    @property
    def position(self) -> int:
        """Of the event."""
        ...

    def as_json(self) -> dict[str, Any]:
        """The change as a program reads it."""
        ...


@dataclass(frozen=True)
class StatusChange:
    """An event of the log, the settings it shows in as they are now, and the name of the one it removed."""

    kind: ClassVar[str] = "status"

    position: int
    at: datetime
    event: str
    attended: tuple[Attended, ...]
    removed: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The change as a program reads it."""
        return {
            "at": instant_text(self.at),
            "event": self.event,
            "statuses": [one.as_json() for one in self.attended],
            "removed": list(self.removed),
        }


@dataclass(frozen=True)
class RelayChange:
    """Of those the relay has let in, whom an event concerns: relay users, and whoever uses these settings."""

    kind: ClassVar[str] = "changed"

    position: int
    users: tuple[str, ...]
    profiles: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The change as a program reads it."""
        return {"users": list(self.users), "profiles": list(self.profiles)}


@dataclass(frozen=True)
class Stretch:
    """What was found behind a position, and up to where the log has been read now."""

    changes: Sequence[Change]
    position: int


class Changes(ABC):
    """Reads the log a stretch at a time."""

    def __init__(self, events: EventLog) -> None:
        self.events = events

    def position(self) -> int:
        """Where the log ends now."""
        with self.events.store.reading() as query:
            return int(query.rows("SELECT max(position) AS last FROM chain")[0]["last"] or 0)

    def behind(self, position: int) -> Stretch:
        """The next changes behind this position; the same position again if there is nothing yet."""
        with self.events.store.reading() as query:
            logged = [self.events.decode(at, stored) for at, stored in query.events(position, _PAGE)]
            found = tuple(change for one in logged if (change := self._change(query, one)))
        return Stretch(found, logged[-1].position if logged else position)

    @abstractmethod
    def _change(self, query: Query, logged: LoggedEvent) -> Change | None:
        """What listeners are told of an event; None if it is nothing to them."""

    def _removed(self, event: Token.Event | Profile.Event) -> tuple[str, ...]:
        return (
            (self.events.load(Profile, event.originator_id).state.name,) if isinstance(event, Profile.Removed) else ()
        )


class StatusChanges(Changes):
    """Where the status of settings changes."""

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
            type(event).__qualname__,
            tuple(self._attention.of_all(statuses)),
            self._removed(event),
        )


class RelayChanges(Changes):
    """Where what the relay has been told of relay users and their settings may not be true any more."""

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
