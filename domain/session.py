"""A session: the record that a person signed in, and that the sign-in is over.

The events name no secret. A session has two events at most, however often it is used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from domain import aggregate


class SessionEnd(StrEnum):
    """Why a session is over."""

    SIGNED_OUT = "signed_out"
    EXPIRED = "expired"
    SECOND_FACTOR_CHANGED = "second_factor_changed"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a reason
    REMOVED = "removed"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class SessionState:
    """The state of a session; `name` is the administrator's, or the account of a member of the organisation."""

    name: str
    roles: tuple[str, ...]
    administrator_id: UUID | None
    address: str | None = None
    ended: bool = False
    machines: dict[str, list[str]] | None = None


class Session(aggregate.Aggregate[SessionState]):
    """A person's sign-in in one browser."""

    TOPIC = "mailtoken.Session.v1"

    class Event(aggregate.Event[SessionState]):
        """A change of a session, and its author."""

    class Created(Event, aggregate.Created[SessionState]):
        """The person signed in from `address`. A member of the organisation has no `administrator_id`.

        `machines` has the patterns of the machines that a member is limited to, by role.
        """

        TOPIC = "mailtoken.Session.Begun.v1"
        name: str
        roles: list[str]
        administrator_id: UUID | None
        address: str | None
        machines: dict[str, list[str]] | None = None

        def begin(self) -> SessionState:
            roles = tuple(self.roles)
            return SessionState(self.name, roles, self.administrator_id, self.address, machines=self.machines)

    class Ended(Event):
        """The session is over."""

        TOPIC = "mailtoken.Session.Ended.v1"
        reason: str

        def evolve(self, state: SessionState) -> SessionState:
            return replace(state, ended=True)

    @classmethod
    def sign_in(
        cls,
        id: UUID,
        name: str,
        roles: tuple[str, ...],
        administrator_id: UUID | None,
        address: str | None,
        *,
        machines: dict[str, list[str]] | None = None,
        now: datetime,
    ) -> Session:
        """Begin a session. Its author is the person, in the first of their roles."""
        facts: dict[str, Any] = {
            "name": name,
            "roles": list(roles),
            "administrator_id": administrator_id,
            "address": address,
        }
        if machines:
            facts["machines"] = machines
        return cls.start(id, cls.Created, by=f"{roles[0]}:{name}", now=now, **facts)

    @property
    def person(self) -> str:
        """The person as the author of an event."""
        return f"{self.state.roles[0]}:{self.state.name}"

    def end(self, reason: SessionEnd, *, by: str, now: datetime) -> None:
        """End the session; a no-op if it is over already."""
        if not self.state.ended:
            self.record(self.Ended, reason=reason.value, by=by, now=now)
