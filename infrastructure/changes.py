"""What changes in the settings' status, in the order of the log: for listeners that show it live."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.profile import Profile
from domain.token import Token
from infrastructure.attention import Attended, Attention
from infrastructure.clock import instant_text
from infrastructure.log import EventLog, LoggedEvent
from infrastructure.status import read_statuses_about
from infrastructure.store import Query

_PAGE = 200


@dataclass(frozen=True)
class StatusChange:
    """An event of the log, the settings it shows in as they are now, and the name of the one it removed."""

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
class Stretch:
    """What was found behind a position, and up to where the log has been read now."""

    changes: tuple[StatusChange, ...]
    position: int


class Changes:
    """Reads the log a stretch at a time."""

    def __init__(self, events: EventLog, attention: Attention) -> None:
        self.events = events
        self._attention = attention

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

    def _change(self, query: Query, logged: LoggedEvent) -> StatusChange | None:
        event = logged.event
        if not isinstance(event, Token.Event | Profile.Event):
            return None
        statuses = read_statuses_about(query, event.originator_id, self._attention.now())
        gone = isinstance(event, Profile.Removed)
        return StatusChange(
            logged.position,
            event.timestamp,
            type(event).__qualname__,
            tuple(self._attention.of_all(statuses)),
            (self.events.profile(event.originator_id).state.name,) if gone else (),
        )
