"""A machine: a device whose mail settings are kept here. Its catalogue lists the settings it has."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from domain import aggregate
from domain.errors import InvalidValue, Refused

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)


def valid_name(field: str, name: str) -> str:
    """Return `name` if it is valid for a machine or a group.

    Raises:
        InvalidValue: the name is not 1 to 63 ASCII letters, digits, dots, hyphens or underscores.
    """
    if not _NAME.fullmatch(name):
        raise InvalidValue(field, "not_a_name", value=name)
    return name


_TAG = re.compile(r"[^\W_](?:[\w.:-]{0,30}[^\W_])?")
MOST_TAGS = 20
"""The most tags of one machine."""


def valid_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags as they are stored: in lower case (Unicode case folding, form NFKC), each once, sorted.

    Raises:
        InvalidValue: a tag is not a word of 1 to 32 letters, digits, dots, colons, hyphens or underscores, or there are
            more than `MOST_TAGS`.
    """
    words = {unicodedata.normalize("NFKC", tag.strip().casefold()): tag for tag in tags}
    for word, tag in words.items():
        if not _TAG.fullmatch(word):
            raise InvalidValue("tags", "not_a_tag", value=tag)
    if len(words) > MOST_TAGS:
        raise InvalidValue("tags", "too_many_tags", most=MOST_TAGS)
    return tuple(sorted(words))


def check_name_is_free(name: str, *, machine_exists: bool, group_exists: bool) -> None:
    """Check that a machine can have this name: machines and groups share their names.

    Raises:
        Refused: a machine or a group has the name.
    """
    if machine_exists or group_exists:
        raise Refused("name_taken", name=name, kind="machine" if machine_exists else "group")


@dataclass(frozen=True, slots=True)
class MachineState:
    """The state that the events of a machine add up to."""

    name: str
    catalogue: str
    removed: bool = False
    tags: tuple[str, ...] = ()


class Machine(aggregate.Aggregate[MachineState]):
    """A printer, server or script that sends and receives mail."""

    TOPIC = "mailtoken.Machine.v1"

    class Event(aggregate.Event[MachineState]):
        """A change of a machine, and its author."""

    class Created(Event, aggregate.Created[MachineState]):
        """The machine was added."""

        TOPIC = "mailtoken.Machine.Created.v1"
        name: str
        catalogue: str

        def begin(self) -> MachineState:
            return MachineState(self.name, self.catalogue)

    class Renamed(Event):
        """The machine got another name; another machine may take the name before, `previous`."""

        TOPIC = "mailtoken.Machine.Renamed.v1"
        name: str
        previous: str

        def evolve(self, state: MachineState) -> MachineState:
            return replace(state, name=self.name)

    class Tagged(Event):
        """The machine has these tags now, and no others."""

        TOPIC = "mailtoken.Machine.Tagged.v1"
        tags: list[str]

        def evolve(self, state: MachineState) -> MachineState:
            return replace(state, tags=tuple(self.tags))

    class Removed(Event):
        """The machine and its settings were removed; another machine may take the name."""

        TOPIC = "mailtoken.Machine.Removed.v1"

        def evolve(self, state: MachineState) -> MachineState:
            return replace(state, removed=True)

    @classmethod
    def add(cls, id: UUID, name: str, catalogue: str, *, by: str, now: datetime) -> Machine:
        """Make a machine called `name`.

        Raises:
            InvalidValue: `name` is not a valid name.
        """
        valid_name("machine", name)
        return cls.start(id, cls.Created, now=now, name=name, catalogue=catalogue, by=by)

    def rename(self, name: str, *, by: str, now: datetime) -> None:
        """Give the machine another name. The caller renames its profiles and its group in the same transaction.

        Raises:
            InvalidValue: `name` is not a valid name.
        """
        valid_name("machine", name)
        self.record(self.Renamed, name=name, previous=self.state.name, by=by, now=now)

    def tag(self, tags: Iterable[str], *, by: str, now: datetime) -> None:
        """Give the machine these tags in place of those that it has.

        Raises:
            InvalidValue: as `valid_tags`.
        """
        wanted = valid_tags(tags)
        if wanted != self.state.tags:
            self.record(self.Tagged, tags=list(wanted), by=by, now=now)

    def change_tags(self, add: Collection[str], remove: Collection[str], *, by: str, now: datetime) -> None:
        """Add some tags and take others away; a tag in both is added.

        Raises:
            InvalidValue: as `valid_tags`.
        """
        left = set(self.state.tags) - set(valid_tags(remove))
        self.tag(left | set(valid_tags(add)), by=by, now=now)

    def remove(self, *, by: str, now: datetime) -> None:
        """Remove the machine. The caller has removed its profiles before."""
        self.record(self.Removed, by=by, now=now)
