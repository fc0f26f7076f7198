"""Records: events of the log as they are read, and the settings that each of them concerns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from domain.api_client import ApiClientState
from domain.disclosure import DisclosureState
from domain.machine import MachineState
from domain.profile import ProfileState
from domain.relay_user import RelayUserState
from domain.smtp_group import SmtpGroupState
from infrastructure.clock import instant_text
from infrastructure.store.event_log import EventLog, LoggedEvent
from infrastructure.store.fold import Fold

_BOOKKEEPING = ("originator_id", "originator_version", "originator_topic", "timestamp")


@dataclass(frozen=True)
class Record:
    """One event as a person or a program reads it, without bookkeeping. Events hold no secrets."""

    position: int
    at: datetime
    aggregate: str
    id: UUID
    version: int
    name: str
    by: str
    facts: dict[str, Any]
    profile: str | None = None

    def as_json(self) -> dict[str, Any]:
        """One line of an export."""
        return {
            "position": self.position,
            "at": instant_text(self.at),
            "aggregate": self.aggregate,
            "id": str(self.id),
            "version": self.version,
            "event": self.name,
            "by": self.by,
            "profile": self.profile,
            "facts": self.facts,
        }


LINKS_NOTHING = ("mailtoken.Token.", "mailtoken.Reader.HandedOut.", "mailtoken.Session.", "mailtoken.Link.")
"""How the topics of nearly all events begin. They don't change which profiles later events concern."""


class Concerned:
    """Finds the profiles that an event concerns: by their id, token or group, or as those of a relay user or client."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._fold = Fold()
        self._users: dict[UUID, set[UUID]] = {}

    def apply(self, position: int, stored: StoredEvent) -> set[str]:
        """Take the next event; returns the names of the profiles it concerns, before or after it."""
        id = stored.originator_id
        assert isinstance(id, UUID)
        before = self._names(id)
        if stored.topic.startswith(LINKS_NOTHING):
            return before
        event: Any = self._log.decode(position, stored).event
        was = self._fold.states.get(id)
        self._fold.apply(event)
        now = self._fold.states[id]
        if isinstance(now, ProfileState):
            if isinstance(was, ProfileState):
                self._users[was.token_id].discard(id)
            if not now.removed:
                self._users.setdefault(now.token_id, set()).add(id)
        return before | self._names(id)

    def machines_of(self, stored: StoredEvent, profiles: set[str]) -> set[str]:
        """The machines that an event concerns, which was applied and concerns these profiles."""
        assert isinstance(stored.originator_id, UUID)
        state = self._fold.states.get(stored.originator_id)
        if isinstance(state, MachineState):
            return {state.name}
        return {name.partition("/")[0] for name in profiles}

    def _names(self, id: UUID) -> set[str]:
        state = self._fold.states.get(id)
        if isinstance(state, ProfileState):
            return {state.name}
        profiles = (self._fold.states.get(member) for member in self._members(id, state))
        return {profile.name for profile in profiles if isinstance(profile, ProfileState)}

    def _members(self, id: UUID, state: Any) -> Iterable[UUID]:
        match state:
            case SmtpGroupState():
                return state.members
            case RelayUserState():
                return state.profiles.values()
            case ApiClientState():
                return state.profiles
            case DisclosureState():
                return self._users.get(state.token_id, ())
        return self._users.get(id, ())


def record_of(logged: LoggedEvent, profile: str | None) -> Record:
    """The record of an event, with the profile that the event is about."""
    event = logged.event
    facts = {name: _plain(value) for name, value in vars(event).items() if name not in (*_BOOKKEEPING, "by")}
    aggregate, name = event.names()
    return Record(
        logged.position,
        event.timestamp,
        aggregate,
        event.originator_id,
        event.originator_version,
        name,
        event.by,
        facts,
        profile,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return instant_text(value)
    return str(value) if isinstance(value, UUID) else value
