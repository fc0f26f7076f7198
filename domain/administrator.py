"""An administrator: a person who signs in with a password that this service keeps, and the person's roles.

A person who signs in at the organisation's OpenID provider is not an administrator: the provider sends the roles with
each sign-in. An account there contains an `@` and an administrator's name never does, so the event log can't confuse
the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from domain import aggregate
from domain.errors import InvalidValue, NotPermitted, Refused
from domain.machine import valid_name
from domain.scope import check_limitable, valid_patterns

ROLES = ("administrator", "operator", "auditor")
"""The roles of people: an administrator configures, an operator gets, renews, cancels, deletes and tests tokens, and an
auditor reads the history. Every role reads the status."""


def valid_roles(roles: Iterable[str]) -> tuple[str, ...]:
    """The roles, each once, in the order of `ROLES`.

    Raises:
        InvalidValue: `roles` is empty, or contains a word that is not in `ROLES`.
    """
    wanted = set(roles)
    if not wanted:
        raise InvalidValue("roles", "roles_missing", accepted=ROLES)
    if unknown := wanted - set(ROLES):
        raise InvalidValue("roles", "unknown_role", values=sorted(unknown), accepted=ROLES)
    return tuple(role for role in ROLES if role in wanted)


@dataclass(frozen=True, slots=True)
class AdministratorState:
    """The state of an administrator.

    `password` numbers the current password and names the sealed row of its hash; 0 means that there is no password.
    `second_factor` does the same for the second factor. `second_factors` is the number of second factors so far, and
    `used_codes` has the numbers of the recovery codes of the current one that were used. `machines` are the patterns of
    the machines that the person is limited to; without patterns the person is not limited.
    """

    name: str
    roles: tuple[str, ...]
    password: int = 0
    removed: bool = False
    second_factor: int = 0
    second_factors: int = 0
    used_codes: tuple[int, ...] = ()
    machines: tuple[str, ...] = ()

    @property
    def administers(self) -> bool:
        """Whether the person is an administrator who can sign in."""
        return "administrator" in self.roles and self.password > 0 and not self.removed


class Administrator(aggregate.Aggregate[AdministratorState]):
    """A person who may sign in."""

    TOPIC = "mailtoken.Administrator.v1"

    class Event(aggregate.Event[AdministratorState]):
        """A change of an administrator, and its author."""

    class Created(Event, aggregate.Created[AdministratorState]):
        """The administrator was added."""

        TOPIC = "mailtoken.Administrator.Created.v1"
        name: str
        roles: list[str]

        def begin(self) -> AdministratorState:
            return AdministratorState(self.name, tuple(self.roles))

    class RolesChanged(Event):
        """The administrator's roles were replaced by these roles."""

        TOPIC = "mailtoken.Administrator.RolesChanged.v1"
        roles: list[str]

        def evolve(self, state: AdministratorState) -> AdministratorState:
            return replace(state, roles=tuple(self.roles))

    class PasswordChanged(Event):
        """The administrator has a new password; its number names the sealed row of its hash."""

        TOPIC = "mailtoken.Administrator.PasswordChanged.v1"
        password: int

        def evolve(self, state: AdministratorState) -> AdministratorState:
            return replace(state, password=self.password)

    class Removed(Event):
        """The administrator was removed; another administrator may take the name."""

        TOPIC = "mailtoken.Administrator.Removed.v1"

        def evolve(self, state: AdministratorState) -> AdministratorState:
            return replace(state, removed=True)

    class SecondFactorEnrolled(Event):
        """The administrator has a second factor; its number names the sealed row of its key and recovery codes."""

        TOPIC = "mailtoken.Administrator.SecondFactorEnrolled.v1"
        second_factor: int

        def evolve(self, state: AdministratorState) -> AdministratorState:
            number = self.second_factor
            return replace(state, second_factor=number, second_factors=number, used_codes=())

    class RecoveryCodeUsed(Event):
        """The administrator signed in with a recovery code in place of the second factor; `code` is its number."""

        TOPIC = "mailtoken.Administrator.RecoveryCodeUsed.v1"
        code: int

        def evolve(self, state: AdministratorState) -> AdministratorState:
            return replace(state, used_codes=(*state.used_codes, self.code))

    class SecondFactorRemoved(Event):
        """The administrator removed their own second factor."""

        TOPIC = "mailtoken.Administrator.SecondFactorRemoved.v1"

        def evolve(self, state: AdministratorState) -> AdministratorState:
            return replace(state, second_factor=0, used_codes=())

    class SecondFactorReset(Event):
        """Somebody else removed the administrator's second factor."""

        TOPIC = "mailtoken.Administrator.SecondFactorReset.v1"

        def evolve(self, state: AdministratorState) -> AdministratorState:
            return replace(state, second_factor=0, used_codes=())

    class MachinesLimited(Event):
        """The administrator is limited to the machines of these patterns; without patterns, not any more."""

        TOPIC = "mailtoken.Administrator.MachinesLimited.v1"
        machines: list[str]

        def evolve(self, state: AdministratorState) -> AdministratorState:
            return replace(state, machines=tuple(self.machines))

    @classmethod
    def add(cls, id: UUID, name: str, roles: Iterable[str], *, by: str, now: datetime) -> Administrator:
        """An administrator without a password.

        Raises:
            InvalidValue: the name or a role is not acceptable.
        """
        return cls.start(
            id,
            cls.Created,
            now=now,
            name=valid_name("administrator", name),
            roles=list(valid_roles(roles)),
            by=by,
        )

    def set_roles(self, roles: Iterable[str], *, others: Iterable[AdministratorState], by: str, now: datetime) -> None:
        """Replace the roles; `others` are the states of all other administrators.

        Raises:
            InvalidValue: as `valid_roles`, or somebody who is limited to machines would be administrator.
            Refused: nobody who can sign in would be an administrator any more.
        """
        wanted = valid_roles(roles)
        check_limitable(wanted, self.state.machines)
        if "administrator" not in wanted:
            self._check_not_last(others)
        if wanted != self.state.roles:
            self.record(self.RolesChanged, roles=list(wanted), by=by, now=now)

    def limit(self, machines: Iterable[str], *, by: str, now: datetime) -> None:
        """Limit the person to the machines of these patterns; without patterns, end the limit.

        Raises:
            InvalidValue: a pattern is not valid, or the person is an administrator.
        """
        wanted = valid_patterns(machines)
        check_limitable(self.state.roles, wanted)
        if wanted != self.state.machines:
            self.record(self.MachinesLimited, machines=list(wanted), by=by, now=now)

    def change_password(self, *, by: str, now: datetime) -> None:
        """Record a new password; the caller seals its hash in the vault under the number in the state."""
        self.record(self.PasswordChanged, password=self.state.password + 1, by=by, now=now)

    def check_no_second_factor(self) -> None:
        """Check that the administrator may enrol a second factor.

        Raises:
            Refused: there is one already.
        """
        if self.state.second_factor:
            raise Refused("second_factor_exists")

    def enrol_second_factor(self, *, by: str, now: datetime) -> None:
        """Record a second factor; the caller seals its key in the vault under the number in the state.

        Raises:
            Refused: there is one already.
        """
        self.check_no_second_factor()
        self.record(self.SecondFactorEnrolled, second_factor=self.state.second_factors + 1, by=by, now=now)

    def use_recovery_code(self, code: int, *, by: str, now: datetime) -> None:
        """Use the recovery code of this number.

        Raises:
            NotPermitted: it was used before.
        """
        if not self.state.second_factor or code in self.state.used_codes:
            raise NotPermitted("wrong_code")
        self.record(self.RecoveryCodeUsed, code=code, by=by, now=now)

    def remove_second_factor(self, *, by: str, now: datetime) -> None:
        """Remove one's own second factor; the caller has checked a code of it.

        Raises:
            Refused: there is none.
        """
        self.check_second_factor()
        self.record(self.SecondFactorRemoved, by=by, now=now)

    def reset_second_factor(self, *, is_own: bool, by: str, now: datetime) -> None:
        """Remove the second factor of somebody who has lost it.

        Raises:
            Refused: there is none, or it is the caller's own (`is_own`), whose removal needs a code.
        """
        self.check_second_factor()
        if is_own:
            raise Refused("second_factor_own")
        self.record(self.SecondFactorReset, by=by, now=now)

    def check_second_factor(self) -> None:
        """Check that the administrator has a second factor.

        Raises:
            Refused: there is none.
        """
        if not self.state.second_factor:
            raise Refused("second_factor_missing", name=self.state.name)

    def remove(self, *, others: Iterable[AdministratorState], by: str, now: datetime) -> None:
        """Remove the administrator; `others` are the states of all other administrators.

        Raises:
            Refused: nobody who can sign in would be an administrator any more.
        """
        self._check_not_last(others)
        self.record(self.Removed, by=by, now=now)

    def _check_not_last(self, others: Iterable[AdministratorState]) -> None:
        if self.state.administers and not any(other.administers for other in others):
            raise Refused("last_administrator", name=self.state.name)
