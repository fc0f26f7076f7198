"""The principal of a request, and the roles a route requires.

On the Unix socket the peer's uid decides (unix(7), SO_PEERCRED), on TCP a session or a client's key. Root and the
service's own uid hold every role; another uid holds the roles that the configuration grants it.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import Depends, Request

from domain.errors import NotPermitted
from infrastructure.config.tables import SocketTable

ADMINISTRATOR, OPERATOR, AUDITOR, CLIENT, RELAY = ROLES = ("administrator", "operator", "auditor", "client", "relay")
READERS = (AUDITOR, OPERATOR, ADMINISTRATOR)
"""The roles that may read the settings and their status."""


class PrincipalKind(StrEnum):
    """How a principal was identified; a person who is enrolling has to set up a second factor before anything else."""

    UNIX_USER = "unix_user"
    PERSON = "person"
    ENROLLING = "enrolling"
    CLIENT = "client"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class Principal:
    """The user or program that sent a request.

    `profiles` limits the role client; None is every profile. `id` is the id of an API client, because a new client can
    take the name of a removed one.
    """

    name: str
    roles: frozenset[str]
    profiles: frozenset[str] | None = None
    kind: PrincipalKind = PrincipalKind.UNIX_USER
    id: str | None = None

    def is_administrator(self, name: str) -> bool:
        """Whether the principal is the local administrator of this name, signed in by password."""
        return self.kind is PrincipalKind.PERSON and self.name == name

    def require_role(self, *roles: str) -> str:
        """The actor for an event, as `role:name`: the first of `roles` that the principal holds.

        Raises:
            NotPermitted: the principal holds none of them.
        """
        for role in roles:
            if role in self.roles:
                return f"{role}:{self.name}"
        raise NotPermitted(f"{self.kind}_without_role", name=self.name, role=" or ".join(roles))

    def require_token(self, profile: str) -> str:
        """The actor that reads this profile's access token.

        Raises:
            NotPermitted: the principal has no grant for this profile; the same error as for an unknown profile.
        """
        actor = self.require_role(CLIENT)
        if self.profiles is not None and profile not in self.profiles:
            raise NotPermitted("token_not_granted", name=self.name, profile=profile)
        return actor


ANONYMOUS = Principal("a caller without a key or a session", frozenset(), frozenset(), PrincipalKind.ANONYMOUS)
"""The principal of a request over TCP with neither a key nor a session."""


def principal_of_uid(uid: int, table: SocketTable) -> Principal:
    """The principal of a uid of this machine, with the roles that the configuration grants."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    if uid in (0, os.geteuid()):
        return Principal(name, frozenset(ROLES))
    grants = [grant for grant in table.grants if grant.uid == uid]
    roles = frozenset(role for grant in grants for role in grant.roles)
    return Principal(name, roles, frozenset(profile for grant in grants for profile in grant.profiles))


# Asynchronous, because the framework would run a synchronous dependency in a thread.
async def _principal(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal


CurrentPrincipal = Annotated[Principal, Depends(_principal)]


def require_role(*roles: str) -> Callable[[CurrentPrincipal], Awaitable[str]]:
    """A dependency that gives the actor of a request, and refuses a principal that holds none of `roles`."""

    async def actor(principal: CurrentPrincipal) -> str:
        return principal.require_role(*roles)

    return actor


AdministratorRole = Annotated[str, Depends(require_role(ADMINISTRATOR))]
OperatorRole = Annotated[str, Depends(require_role(OPERATOR))]
ReaderRole = Annotated[str, Depends(require_role(*READERS))]
AuditorRole = Annotated[str, Depends(require_role(AUDITOR))]
RelayRole = Annotated[str, Depends(require_role(RELAY))]
AccessReaderRole = Annotated[str, Depends(require_role(AUDITOR, ADMINISTRATOR))]
"""A role that may read the lists of administrators, API clients and relay users."""
