"""Records: events of the log as they are read, and the settings, machines and other things that each concerns."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from domain.administrator import AdministratorState
from domain.api_client import ApiClientState
from domain.disclosure import DisclosureState
from domain.machine import MachineState
from domain.profile import ProfileState
from domain.relay_user import RelayUserState
from domain.smtp_group import SmtpGroupState
from domain.stored_provider import StoredProviderState
from infrastructure.clock import instant_text
from infrastructure.store.event_log import EventLog, LoggedEvent
from infrastructure.store.fold import Fold

_NAMED = (SmtpGroupState, RelayUserState, AdministratorState, ApiClientState, StoredProviderState)
"""The states that have a name, besides those of settings and machines."""
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
    machine: str | None = None

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
            "machine": self.machine,
            "facts": self.facts,
        }


LINKS_NOTHING = (
    "mailtoken.Token.",
    "mailtoken.Profile.Configured.",
    "mailtoken.Profile.TokenDeleted.",
    "mailtoken.Machine.Tagged.",
    "mailtoken.Reader.HandedOut.",
    "mailtoken.Session.",
    "mailtoken.Link.",
)
"""How the topics of nearly all events begin. They don't change what later events concern."""

_NOBODY = frozenset[str]()


@dataclass(frozen=True)
class Concern:
    """What an event concerns, before or after it: settings, the machine that it is an event of, or another thing.

    All are names.
    """

    profiles: frozenset[str] = _NOBODY
    machine: frozenset[str] = _NOBODY
    other: frozenset[str] = _NOBODY

    def __or__(self, also: Concern) -> Concern:
        """Both together."""
        return Concern(self.profiles | also.profiles, self.machine | also.machine, self.other | also.other)

    @property
    def machines(self) -> frozenset[str]:
        """The machine that it is an event of, and those of the settings."""
        return self.machine | {name.partition("/")[0] for name in self.profiles}

    def about(self, name: str | None) -> frozenset[str]:
        """The settings, or those of them that have this name or are of the machine of this name."""
        if name is None:
            return self.profiles
        return frozenset(one for one in self.profiles if name in (one, one.partition("/")[0]))

    def has_words(self, words: Iterable[str]) -> bool:
        """Whether one of the names has all of these words, which are in lower case."""
        names = (name.casefold() for name in self.profiles | self.machine | self.other)
        return any(all(word in name for word in words) for name in names)


class Concerned:
    """Finds what an event concerns: profiles by their id, token or group, or as those of a relay user or client."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._fold = Fold()
        self._users: dict[UUID, set[UUID]] = {}

    def apply(self, position: int, stored: StoredEvent) -> Concern:
        """Take the next event; returns what it concerns, before or after it."""
        id = stored.originator_id
        assert isinstance(id, UUID)
        before = self._concern(id)
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
        return before | self._concern(id)

    def _concern(self, id: UUID) -> Concern:
        state = self._fold.states.get(id)
        match state:
            case ProfileState():
                return Concern(profiles=frozenset((state.name,)))
            case MachineState():
                return Concern(machine=frozenset((state.name,)))
        members = (self._fold.states.get(member) for member in self._members(id, state))
        profiles = frozenset(one.name for one in members if isinstance(one, ProfileState))
        return Concern(profiles, other=frozenset((state.name,)) if isinstance(state, _NAMED) else _NOBODY)

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


def record_of(logged: LoggedEvent, concern: Concern, subject: str | None = None) -> Record:
    """The record of an event, with the one profile and the one machine that it concerns.

    With a subject, the name of a setting or machine, only settings of that name or machine count.
    """
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
        _single(concern.about(subject)),
        _single(concern.machine or {one.partition("/")[0] for one in concern.about(subject)}),
    )


def _single(names: Collection[str]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return instant_text(value)
    return str(value) if isinstance(value, UUID) else value
