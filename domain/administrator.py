"""An administrator: a person of this service's own who signs in with a password, and the roles they hold.

People of the organisation's OpenID provider are none of these: their roles come with each sign-in. As an account there
has an `@` and a name here has none, whoever is named in the record is one of them and not the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from eventsourcing.domain import Aggregate

from domain.errors import InvalidValue
from domain.machine import valid_name

ROLES = ("administrator", "operator", "auditor")
"""What a person may be: configures; gets, renews, cancels, deletes and tests; reads status and history."""


def valid_roles(roles: Iterable[str]) -> tuple[str, ...]:
    """The roles, each once, in the order of `ROLES`.

    Raises:
        InvalidValue: none, or not a role of people.
    """
    wanted = set(roles)
    if not wanted or not wanted <= set(ROLES):
        said = ", ".join(sorted(wanted)) or "there is none"
        raise InvalidValue("roles", f"{said}: a person is one or more of {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in wanted)


@dataclass(frozen=True, slots=True)
class AdministratorState:
    """What the events of an administrator add up to.

    `password` counts the passwords there were; it names the sealed row of the one that holds, 0 is none.
    """

    name: str
    roles: tuple[str, ...]
    password: int = 0
    removed: bool = False


class Administrator(Aggregate):
    """Somebody who may sign in."""

    TOPIC = "mailtoken.Administrator.v1"

    if TYPE_CHECKING:
        state: AdministratorState

    class Event(Aggregate.Event):
        """Something that happened to an administrator, and who did it."""

        by: str

        def evolve(self, state: AdministratorState) -> AdministratorState:
            """The state after this event."""
            raise NotImplementedError

        def apply(self, administrator: Administrator) -> None:
            """Fold this event into the aggregate."""
            administrator.state = self.evolve(administrator.state)

    class Created(Event, Aggregate.Created):
        """The administrator was added."""

        TOPIC = "mailtoken.Administrator.Created.v1"
        name: str
        roles: list[str]

        def begin(self) -> AdministratorState:
            """Without a password nobody signs in yet."""
            return AdministratorState(self.name, tuple(self.roles))

        def apply(self, administrator: Administrator) -> None:
            """Begin."""
            administrator.state = self.begin()

    class RolesChanged(Event):
        """They hold these roles and no others."""

        TOPIC = "mailtoken.Administrator.RolesChanged.v1"
        roles: list[str]

        def evolve(self, state: AdministratorState) -> AdministratorState:
            """The new ones."""
            return replace(state, roles=tuple(self.roles))

    class PasswordChanged(Event):
        """They have a new password; the hash of it is sealed under this number."""

        TOPIC = "mailtoken.Administrator.PasswordChanged.v1"
        password: int

        def evolve(self, state: AdministratorState) -> AdministratorState:
            """The one before is no good any more."""
            return replace(state, password=self.password)

    class Removed(Event):
        """They are gone; the name is free."""

        TOPIC = "mailtoken.Administrator.Removed.v1"

        def evolve(self, state: AdministratorState) -> AdministratorState:
            """Removed."""
            return replace(state, removed=True)

    @classmethod
    def add(cls, id: UUID, name: str, roles: Iterable[str], *, by: str, now: datetime) -> Administrator:
        """An administrator without a password.

        Raises:
            InvalidValue: not a name, or not roles.
        """
        return cls._create(
            cls.Created,
            id=id,
            timestamp=now,
            name=valid_name("administrator", name),
            roles=list(valid_roles(roles)),
            by=by,
        )

    def set_roles(self, roles: Iterable[str], *, by: str, now: datetime) -> None:
        """Hold these roles and no others.

        Raises:
            InvalidValue: not roles.
        """
        wanted = valid_roles(roles)
        if wanted != self.state.roles:
            self.trigger_event(self.RolesChanged, roles=list(wanted), by=by, timestamp=now)

    def change_password(self, *, by: str, now: datetime) -> None:
        """Have a new password; its hash goes into the vault under the number in the state."""
        self.trigger_event(self.PasswordChanged, password=self.state.password + 1, by=by, timestamp=now)

    def remove(self, *, by: str, now: datetime) -> None:
        """Go."""
        self.trigger_event(self.Removed, by=by, timestamp=now)
