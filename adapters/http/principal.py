"""The principal of a request, and the roles a route requires.

On the Unix socket the peer's uid decides (unix(7), SO_PEERCRED), on TCP a session or a client's key. Root and the
service's own uid hold every role; another uid holds the roles that the configuration grants it.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from domain.errors import NotFound, NotPermitted
from domain.scope import EVERY_MACHINE, NO_MACHINE, Scope, scopes_of
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

    `profiles` limits the role client; None is every profile. `scopes` has the machines that a role is limited to; a
    role that is not in it is not limited. `id` is the id of an API client, because a new client can take the name of a
    removed one.
    """

    name: str
    roles: frozenset[str]
    profiles: frozenset[str] | None = None
    kind: PrincipalKind = PrincipalKind.UNIX_USER
    id: str | None = None
    scopes: Mapping[str, Scope] = field(default_factory=dict)

    def scope(self, *roles: str) -> Scope:
        """The machines on which the principal may act in one of these roles."""
        scope = NO_MACHINE
        for role in self.roles.intersection(roles):
            scope |= self.scopes.get(role, EVERY_MACHINE)
        return scope

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

    def require_every_machine(self, role: str) -> str:
        """The actor in this role, for what is about all machines together.

        Raises:
            NotPermitted: the principal does not hold the role, or is limited to machines in it.
        """
        actor = self.require_role(role)
        if not self.scope(role).is_all:
            raise NotPermitted("of_every_machine", name=self.name)
        return actor

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
    profiles = frozenset(profile for grant in grants for profile in grant.profiles)
    scopes = scopes_of((grant.roles, grant.machines or ()) for grant in grants)
    return Principal(name, roles, profiles, scopes=scopes)


# Asynchronous, because the framework would run a synchronous dependency in a thread. None depends on another: the
# framework analyses each dependency of a dependency for every route.
async def _principal(request: Request) -> Principal:
    return _principal_of(request)


def _principal_of(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal


CurrentPrincipal = Annotated[Principal, Depends(_principal)]


async def check_scope(request: Request, principal: Principal, roles: Sequence[str]) -> None:
    """Check that the setting that a request's path names is of a machine on which the principal may act.

    A setting outside is not found, like one that does not exist. An operator acts on a token, so every machine that
    shares the token has to be inside.

    Raises:
        NotFound: it is outside.
        NotPermitted: its token is shared with a machine that is outside.
    """
    scope, path = principal.scope(*roles), request.path_params
    if scope.is_all or "machine" not in path:
        return
    name = f"{path['machine']}/{path['setting']}"
    if not scope.has_machine(path["machine"]):
        raise NotFound("profile_not_found", profile=name)
    if roles == (OPERATOR,):
        sharing = await run_in_threadpool(request.app.state.profiles_sharing, name)
        if sharing and not all(map(scope.has_profile, sharing)):
            raise NotPermitted("token_shared_outside", name=principal.name, profile=name)


def require_role(*roles: str) -> Callable[[Request], Awaitable[str]]:
    """A dependency that gives the actor of a request, and refuses a principal that holds none of `roles`.

    It also refuses a principal that is limited to other machines, where the path names a setting.
    """

    async def actor(request: Request) -> str:
        principal = _principal_of(request)
        by = principal.require_role(*roles)
        await check_scope(request, principal, roles)
        return by

    return actor


def scope_of(*roles: str) -> Callable[[Request], Awaitable[Scope]]:
    """A dependency that gives the machines a list may show to a principal in one of `roles`."""

    async def scope(request: Request) -> Scope:
        return _principal_of(request).scope(*roles)

    return scope


async def _unlimited_auditor(request: Request) -> str:
    return _principal_of(request).require_every_machine(AUDITOR)


AdministratorRole = Annotated[str, Depends(require_role(ADMINISTRATOR))]
OperatorRole = Annotated[str, Depends(require_role(OPERATOR))]
ReaderRole = Annotated[str, Depends(require_role(*READERS))]
AuditorRole = Annotated[str, Depends(require_role(AUDITOR))]
UnlimitedAuditorRole = Annotated[str, Depends(_unlimited_auditor)]
"""An auditor who is not limited to machines."""
RelayRole = Annotated[str, Depends(require_role(RELAY))]
AccessReaderRole = Annotated[str, Depends(require_role(AUDITOR, ADMINISTRATOR))]
"""A role that may read the lists of administrators, API clients and relay users."""
ReaderScope = Annotated[Scope, Depends(scope_of(*READERS))]
OperatorScope = Annotated[Scope, Depends(scope_of(OPERATOR))]
AuditorScope = Annotated[Scope, Depends(scope_of(AUDITOR))]
AccessReaderScope = Annotated[Scope, Depends(scope_of(AUDITOR, ADMINISTRATOR))]
"""The machines that the role of the same name may see."""
