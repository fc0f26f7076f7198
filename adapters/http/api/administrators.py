"""Administrators: the people who may sign in with a password of this service's own."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, SecretStr

from adapters.http.api.models.common import Instant, Text, with_example
from adapters.http.api.openapi import api_router
from adapters.http.api.path_names import Name
from adapters.http.principal import AccessReaderRole, AdministratorRole, CurrentPrincipal
from adapters.http.public_url import setup_url
from domain.errors import Refused
from domain.secret import Secret
from infrastructure.clock import instant_text
from infrastructure.service import Service

_UNTIL = "2027-11-22T09:30:00.000000+00:00"
_EXAMPLE = "correct horse battery"


class NewAdministrator(BaseModel):
    """An administrator to add. Without a password they choose one with a link.

    `machines` are the patterns of the machines that an operator or auditor is limited to.
    """

    model_config = with_example(name="anna", roles=["administrator", "operator"], password=_EXAMPLE)
    name: Text
    roles: list[Text]
    password: SecretStr | None = None
    machines: list[Text] = []


class Roles(BaseModel):
    """The administrator's roles from now on."""

    model_config = with_example(roles=["operator", "auditor"])
    roles: list[Text]


class Limit(BaseModel):
    """The patterns of the machines that the administrator is limited to from now on; without patterns, no limit."""

    model_config = with_example(machines=["hamburg-*"])
    machines: list[Text]


class NewPassword(BaseModel):
    """The administrator's password from now on."""

    model_config = with_example(password=_EXAMPLE)
    password: SecretStr


class WhoseLink(BaseModel):
    """The administrator whose password the link sets; without a name it makes the first administrator."""

    model_config = with_example(name="anna")
    name: Text | None = None


class AdministratorOut(BaseModel):
    """An administrator, their roles, whether they have chosen a password, and whether they have a second factor.

    `machines` are the patterns of the machines that they are limited to; without patterns, they are not limited.
    """

    model_config = with_example(
        name="anna", roles=["administrator", "operator"], password=True, second_factor=True, machines=[]
    )
    name: str
    roles: list[str]
    password: bool
    second_factor: bool
    machines: list[str]


class Link(BaseModel):
    """A link that works once, until `expires_at`."""

    model_config = with_example(url="https://mailtoken.contoso.com/setup?code=1HnG", expires_at=_UNTIL)
    url: str
    expires_at: Instant


def router(service: Service) -> APIRouter:
    """The routes of administrators and of the links with which they choose a password."""
    router = api_router(prefix="/api/v1")
    administrators = service.administrators

    @router.get("/administrators", tags=["administrators"], response_model=list[AdministratorOut])
    def list_administrators(_: AccessReaderRole) -> list[dict[str, Any]]:
        """The people who may sign in with a password of this service's own."""
        return [
            {
                "name": one.name,
                "roles": list(one.roles),
                "password": one.has_password,
                "second_factor": one.has_second_factor,
                "machines": list(one.machines),
            }
            for one in administrators.administrators()
        ]

    @router.post("/administrators", tags=["administrators"], status_code=204)
    def add_administrator(body: NewAdministrator, by: AdministratorRole) -> None:
        """Add an administrator."""
        password = _secret(body.password) if body.password else None
        administrators.add(body.name, body.roles, password, by, body.machines)

    @router.post("/administrators/link", tags=["administrators"], response_model=Link)
    def link(body: WhoseLink, by: AdministratorRole) -> dict[str, Any]:
        """Make a link with which a person chooses a password."""
        if not service.config.server.listen:
            raise Refused("no_pages")
        made = administrators.link(body.name, by)
        return {"url": setup_url(service.config, made), "expires_at": instant_text(made.expires_at)}

    @router.put("/administrators/{name}/roles", tags=["administrators"], status_code=204)
    def set_roles(name: Name, body: Roles, by: AdministratorRole) -> None:
        """Give an administrator these roles and no others."""
        administrators.set_roles(name, body.roles, by)

    @router.put("/administrators/{name}/machines", tags=["administrators"], status_code=204)
    def limit(name: Name, body: Limit, by: AdministratorRole) -> None:
        """Limit an operator or auditor to the machines of these patterns; without patterns, end the limit."""
        administrators.limit(name, body.machines, by)

    @router.put("/administrators/{name}/password", tags=["administrators"], status_code=204)
    def set_password(name: Name, body: NewPassword, by: AdministratorRole) -> None:
        """Give an administrator a new password; it ends their sessions."""
        administrators.set_password(name, _secret(body.password), by)

    @router.delete("/administrators/{name}/second-factor", tags=["administrators"], status_code=204)
    def reset_second_factor(name: Name, principal: CurrentPrincipal, by: AdministratorRole) -> None:
        """Remove the second factor of an administrator who has lost it; it ends their sessions."""
        administrators.second_factors.reset(name, by, is_own=principal.is_administrator(name))

    @router.delete("/administrators/{name}", tags=["administrators"], status_code=204)
    def remove_administrator(name: Name, by: AdministratorRole) -> None:
        """Remove an administrator; it ends their sessions."""
        administrators.remove(name, by)

    return router


def _secret(value: SecretStr) -> Secret:
    return Secret(value.get_secret_value())
