"""Clients: programs with a key that may read the access tokens of the settings they were granted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from adapters.http.api.models.common import Instant, Text, with_example
from adapters.http.api.openapi import api_router
from adapters.http.api.path_names import Name
from adapters.http.principal import AccessReaderRole, AccessReaderScope, AdministratorRole
from domain.secret import Secret
from infrastructure.access.api_clients import ListedClient, read_expiry
from infrastructure.clock import instant_text
from infrastructure.service import Service

_UNTIL = "2027-11-22T09:30:00.000000+00:00"
_PROFILES = ["office-mfp/smtp-service"]


class NewClient(BaseModel):
    """A client to add, the profiles whose tokens it may read, and the end of its key (a day or an instant)."""

    model_config = with_example(name="backup", profiles=_PROFILES, expires="2027-11-22")
    name: Text
    profiles: list[Text] = []
    expires: Text | None = None


class NewKey(BaseModel):
    """The end of the new key (a day or an instant); null means never."""

    model_config = with_example(expires="2027-11-22")
    expires: Text | None = None


class Grants(BaseModel):
    """The profiles to grant to a client, or to revoke."""

    model_config = with_example(profiles=_PROFILES)
    profiles: list[Text]


class ClientOut(BaseModel):
    """A client: its key's id (null: no key yet), its grants, the end of its key, its last use to the minute."""

    model_config = with_example(
        name="backup", key_id="mfrggzdfmztwq2lk", profiles=_PROFILES, expires_at=_UNTIL, used_at=None
    )
    name: str
    key_id: str | None
    profiles: list[str]
    expires_at: Instant | None
    used_at: Instant | None


class Key(BaseModel):
    """A client's key, which is shown only in this answer."""

    model_config = with_example(name="backup", key="mfrggzdfmztwq2lk.2hY0ckqXpA0e7vI1fFzJmJ0l3l8gq0aE0b1uYv7bYQk")
    name: str
    key: str


def router(service: Service) -> APIRouter:
    """The routes of clients and their keys."""
    router = api_router(prefix="/api/v1")
    clients = service.clients

    @router.get("/clients", tags=["clients"], response_model=list[ClientOut])
    def list_clients(_: AccessReaderRole, scope: AccessReaderScope) -> list[dict[str, Any]]:
        """The programs that hold keys."""
        listed = clients.clients()
        if scope.is_all:
            return [_client_json(one) for one in listed]
        inside = (replace(one, profiles=tuple(filter(scope.has_profile, one.profiles))) for one in listed)
        return [_client_json(one) for one in inside if one.profiles]

    @router.post("/clients", tags=["clients"], status_code=201, response_model=Key)
    def add_client(body: NewClient, by: AdministratorRole) -> dict[str, Any]:
        """Add a client. Only this answer shows its key."""
        return _key_json(body.name, clients.add(body.name, body.profiles, read_expiry(body.expires), by))

    @router.post("/clients/{name}/key", tags=["clients"], status_code=201, response_model=Key)
    def new_key(name: Name, body: NewKey, by: AdministratorRole) -> dict[str, Any]:
        """Give a client a new key in place of its old key. Only this answer shows the key."""
        return _key_json(name, clients.new_key(name, read_expiry(body.expires), by))

    @router.post("/clients/{name}/grants", tags=["clients"], status_code=204)
    def grant(name: Name, body: Grants, by: AdministratorRole) -> None:
        """Let a client read the access tokens of these profiles too."""
        clients.grant(name, body.profiles, by)

    @router.post("/clients/{name}/revocations", tags=["clients"], status_code=204)
    def revoke(name: Name, body: Grants, by: AdministratorRole) -> None:
        """Revoke a client's right to read the access tokens of these profiles."""
        clients.revoke(name, body.profiles, by)

    @router.delete("/clients/{name}", tags=["clients"], status_code=204)
    def remove_client(name: Name, by: AdministratorRole) -> None:
        """Remove a client with its key."""
        clients.remove(name, by)

    return router


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
