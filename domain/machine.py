"""A machine: a device whose mail settings are kept here, and the catalogue that says which it has."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from eventsourcing.domain import Aggregate

from domain.errors import InvalidValue

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)


def valid_name(field: str, name: str) -> str:
    """`name` if it can name a machine or a group.

    Raises:
        InvalidValue: it is not 1 to 63 ASCII letters, digits, dots, hyphens or underscores.
    """
    if not _NAME.fullmatch(name):
        raise InvalidValue(
            field, f"{name!r} is not a name: 1 to 63 letters, digits, '.', '-' or '_', no sign at either end"
        )
    return name


@dataclass(frozen=True, slots=True)
class MachineState:
    """What the events of a machine add up to."""

    name: str
    catalogue: str
    removed: bool = False


class Machine(Aggregate):
    """A printer, server or script that sends and receives mail."""

    TOPIC = "mailtoken.Machine.v1"

    if TYPE_CHECKING:
        state: MachineState

    class Event(Aggregate.Event):
        """Something that happened to a machine, and who did it."""

        by: str

        def evolve(self, state: MachineState) -> MachineState:
            """The state after this event."""
            raise NotImplementedError

        def apply(self, machine: Machine) -> None:
            """Fold this event into the aggregate."""
            machine.state = self.evolve(machine.state)

    class Created(Event, Aggregate.Created):
        """The machine was added."""

        TOPIC = "mailtoken.Machine.Created.v1"
        name: str
        catalogue: str

        def begin(self) -> MachineState:
            """The first state."""
            return MachineState(self.name, self.catalogue)

        def apply(self, machine: Machine) -> None:
            """Begin."""
            machine.state = self.begin()

    class Removed(Event):
        """The machine and its settings are gone; its name is free."""

        TOPIC = "mailtoken.Machine.Removed.v1"

        def evolve(self, state: MachineState) -> MachineState:
            """Removed."""
            return replace(state, removed=True)

    @classmethod
    def add(cls, id: UUID, name: str, catalogue: str, *, by: str, now: datetime) -> Machine:
        """A machine called `name`.

        Raises:
            InvalidValue: not a name.
        """
        valid_name("machine", name)
        return cls._create(cls.Created, id=id, timestamp=now, name=name, catalogue=catalogue, by=by)

    def remove(self, *, by: str, now: datetime) -> None:
        """Go, once its profiles have gone."""
        self.trigger_event(self.Removed, by=by, timestamp=now)
