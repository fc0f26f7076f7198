"""Who calls, and what they may do. On the Unix socket the peer's uid decides (unix(7), SO_PEERCRED), on TCP a session
or a client's key.

Root and the service's own uid hold every role; other uids only what the configuration grants; nobody else anything.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from domain.errors import NotPermitted
from infrastructure.config import SocketTable

ADMINISTRATOR, OPERATOR, AUDITOR, CLIENT, RELAY = ROLES = ("administrator", "operator", "auditor", "client", "relay")


@dataclass(frozen=True)
class Caller:
    """Somebody at the other end of the socket. `profiles` limits the role client; None is every profile.

    `granted_by` is where it says what they may; `id` what makes a client another one than the next of its name.
    """

    name: str
    roles: frozenset[str]
    profiles: frozenset[str] | None = None
    granted_by: str = "the configuration's [[socket.grants]]"
    id: str | None = None

    def acting_as(self, *roles: str) -> str:
        """Who did it, for an event: the first of `roles` the caller holds, and their name.

        Raises:
            NotPermitted: they hold none of them.
        """
        for role in roles:
            if role in self.roles:
                return f"{role}:{self.name}"
        raise NotPermitted(f"{self.name} is not {' or '.join(roles)}: {self.granted_by} says who is")

    def reading_token_of(self, profile: str) -> str:
        """Who reads an access token.

        Raises:
            NotPermitted: not a client, or not granted this profile; the same whether or not it exists.
        """
        actor = self.acting_as(CLIENT)
        if self.profiles is not None and profile not in self.profiles:
            raise NotPermitted(f"{self.name} may not read the access token of {profile}")
        return actor


ANYBODY = Caller("a caller without a key or a session", frozenset(), frozenset(), "mailtoken client list")
"""Who has come by TCP and shown nothing."""


def caller_of(uid: int, table: SocketTable) -> Caller:
    """What a uid of this machine may do."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    if uid in (0, os.geteuid()):
        return Caller(name, frozenset(ROLES))
    grants = [grant for grant in table.grants if grant.uid == uid]
    roles = frozenset(role for grant in grants for role in grant.roles)
    return Caller(name, roles, frozenset(profile for grant in grants for profile in grant.profiles))


# Asynchronous, though they wait for nothing: the framework would have a thread run each of them otherwise.
async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


AnyCaller = Annotated[Caller, Depends(_caller)]


def acting_as(*roles: str) -> Callable[[AnyCaller], Awaitable[str]]:
    """A dependency that gives who acts, and refuses everybody who holds none of `roles`."""

    async def actor(caller: AnyCaller) -> str:
        return caller.acting_as(*roles)

    return actor


Administrator = Annotated[str, Depends(acting_as(ADMINISTRATOR))]
Operator = Annotated[str, Depends(acting_as(OPERATOR))]
Reader = Annotated[str, Depends(acting_as(AUDITOR, OPERATOR, ADMINISTRATOR))]
Auditor = Annotated[str, Depends(acting_as(AUDITOR))]
Relay = Annotated[str, Depends(acting_as(RELAY))]
SeesClients = Annotated[str, Depends(acting_as(AUDITOR, ADMINISTRATOR))]
"""Who may see people and programs too."""
