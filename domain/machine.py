"""A machine: a device whose mail settings are kept here. Its catalogue lists the settings it has."""

from __future__ import annotations

import re
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

    def remove(self, *, by: str, now: datetime) -> None:
        """Remove the machine. The caller has removed its profiles before."""
        self.record(self.Removed, by=by, now=now)
