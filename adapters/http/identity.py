"""The API of identity: who may sign in, and which programs hold keys."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, SecretStr

from adapters.bootstrap import Service
from adapters.http.callers import Administrator, SeesClients
from adapters.http.listener import setup_url
from adapters.http.models import Instant, Text, with_example
from adapters.http.naming import Name
from domain.errors import InvalidValue, Refused
from domain.secret import Secret
from infrastructure.clients import ListedClient
from infrastructure.clock import instant_text, read_instant

_UNTIL = "2027-11-22T09:30:00.000000+00:00"
_EXAMPLE = "correct horse battery"
_PROFILES = ["office-mfp/smtp-service"]


class NewAdministrator(BaseModel):
    """An administrator to add; without a password they need a link to choose one."""

    model_config = with_example(name="anna", roles=["administrator", "operator"], password=_EXAMPLE)
    name: Text
    roles: list[Text]
    password: SecretStr | None = None


class Roles(BaseModel):
    """The roles to hold, and no others."""

    model_config = with_example(roles=["operator", "auditor"])
    roles: list[Text]


class NewPassword(BaseModel):
    """The password to have from now on."""

    model_config = with_example(password=_EXAMPLE)
    password: SecretStr


class WhoseLink(BaseModel):
    """Whose password the link sets; without a name it makes the first administrator."""

    model_config = with_example(name="anna")
    name: Text | None = None


class NewClient(BaseModel):
    """A client to add, the profiles it may read the tokens of, and when its key ends (a day or an instant)."""

    model_config = with_example(name="backup", profiles=_PROFILES, expires="2027-11-22")
    name: Text
    profiles: list[Text] = []
    expires: Text | None = None


class NewKey(BaseModel):
    """When the new key ends (a day or an instant); null is never."""

    model_config = with_example(expires="2027-11-22")
    expires: Text | None = None


class Grants(BaseModel):
    """The profiles a client may read the tokens of, or not any more."""

    model_config = with_example(profiles=_PROFILES)
    profiles: list[Text]


class AdministratorOut(BaseModel):
    """An administrator, their roles, and whether they have chosen a password."""

    model_config = with_example(name="anna", roles=["administrator", "operator"], password=True)
    name: str
    roles: list[str]
    password: bool


class Link(BaseModel):
    """A link that is good once, and until when."""

    model_config = with_example(url="https://mailtoken.contoso.com/setup?code=1HnG", expires_at=_UNTIL)
    url: str
    expires_at: Instant


class ClientOut(BaseModel):
    """A client: its key's id (null: no key yet), what it may read, when the key ends, its last use to the minute."""

    model_config = with_example(
        name="backup", key_id="mfrggzdfmztwq2lk", profiles=_PROFILES, expires_at=_UNTIL, used_at=None
    )
    name: str
    key_id: str | None
    profiles: list[str]
    expires_at: Instant | None
    used_at: Instant | None


class Key(BaseModel):
    """A client's key; it is shown this once."""

    model_config = with_example(name="backup", key="mfrggzdfmztwq2lk.2hY0ckqXpA0e7vI1fFzJmJ0l3l8gq0aE0b1uYv7bYQk")
    name: str
    key: str


def router(service: Service) -> APIRouter:
    """The routes of administrators and clients."""
    router = APIRouter(prefix="/api/v1")
    _administrators(router, service)
    _clients(router, service)
    return router


def _administrators(router: APIRouter, service: Service) -> None:
    administrators = service.administrators

    @router.get("/administrators", tags=["administrators"], response_model=list[AdministratorOut])
    def list_administrators(_: SeesClients) -> list[dict[str, Any]]:
        """Who may sign in with a password of this service's own."""
        return [
            {"name": one.name, "roles": list(one.roles), "password": one.has_password}
            for one in administrators.administrators()
        ]

    @router.post("/administrators", tags=["administrators"], status_code=204)
    def add_administrator(body: NewAdministrator, by: Administrator) -> None:
        """Add an administrator."""
        administrators.add(body.name, body.roles, _secret(body.password) if body.password else None, by)

    @router.post("/administrators/link", tags=["administrators"], response_model=Link)
    def link(body: WhoseLink, by: Administrator) -> dict[str, Any]:
        """A link with which somebody chooses a password."""
        if not service.config.server.listen:
            raise Refused("there is no page to lead to: set listen in [server] of the configuration")
        made = administrators.link(body.name, by)
        return {"url": setup_url(service.config, made), "expires_at": instant_text(made.expires_at)}

    @router.put("/administrators/{name}/roles", tags=["administrators"], status_code=204)
    def set_roles(name: Name, body: Roles, by: Administrator) -> None:
        """Let an administrator hold these roles and no others."""
        administrators.set_roles(name, body.roles, by)

    @router.put("/administrators/{name}/password", tags=["administrators"], status_code=204)
    def set_password(name: Name, body: NewPassword, by: Administrator) -> None:
        """Give an administrator a new password; it ends their sessions."""
        administrators.set_password(name, _secret(body.password), by)

    @router.delete("/administrators/{name}", tags=["administrators"], status_code=204)
    def remove_administrator(name: Name, by: Administrator) -> None:
        """Remove an administrator; it ends their sessions."""
        administrators.remove(name, by)


def _clients(router: APIRouter, service: Service) -> None:
    clients = service.clients

    @router.get("/clients", tags=["clients"], response_model=list[ClientOut])
    def list_clients(_: SeesClients) -> list[dict[str, Any]]:
        """The programs that hold keys."""
        return [_client_json(one) for one in clients.clients()]

    @router.post("/clients", tags=["clients"], status_code=201, response_model=Key)
    def add_client(body: NewClient, by: Administrator) -> dict[str, Any]:
        """Add a client; its key is in this answer alone."""
        return _key_json(body.name, clients.add(body.name, body.profiles, expiry(body.expires), by))

    @router.post("/clients/{name}/key", tags=["clients"], status_code=201, response_model=Key)
    def new_key(name: Name, body: NewKey, by: Administrator) -> dict[str, Any]:
        """Give a client a new key, which is in this answer alone; the one before, if any, is no good any more."""
        return _key_json(name, clients.new_key(name, expiry(body.expires), by))

    @router.post("/clients/{name}/grants", tags=["clients"], status_code=204)
    def grant(name: Name, body: Grants, by: Administrator) -> None:
        """Let a client read the access tokens of these profiles too."""
        clients.grant(name, body.profiles, by)

    @router.post("/clients/{name}/revocations", tags=["clients"], status_code=204)
    def revoke(name: Name, body: Grants, by: Administrator) -> None:
        """Let a client not read the access tokens of these profiles any more."""
        clients.revoke(name, body.profiles, by)

    @router.delete("/clients/{name}", tags=["clients"], status_code=204)
    def remove_client(name: Name, by: Administrator) -> None:
        """Remove a client with its key."""
        clients.remove(name, by)


def _secret(value: SecretStr) -> Secret:
    return Secret(value.get_secret_value())


def expiry(text: str | None) -> datetime | None:
    """When a key ends: an instant, or the end of a day in UTC."""
    if text is None:
        return None
    try:
        return _end_of(date.fromisoformat(text)) if len(text) <= len("2027-11-22") else read_instant(text)
    except (ValueError, OverflowError):
        raise InvalidValue("expires", f"{text!r} is not a day like 2027-11-22") from None


def _end_of(day: date) -> datetime:
    return read_instant((day + timedelta(days=1)).isoformat())


def _client_json(client: ListedClient) -> dict[str, Any]:
    return {
        "name": client.name,
        "key_id": client.key_id,
        "profiles": list(client.profiles),
        "expires_at": client.expires_at and instant_text(client.expires_at),
        "used_at": client.used_at and instant_text(client.used_at),
    }


def _key_json(name: str, key: Secret) -> dict[str, Any]:
    return {"name": name, "key": key.reveal()}
