"""The API of the relay: how it lets clients in, and how an administrator says whom."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, SecretStr

from adapters.http.callers import ADMINISTRATOR, RELAY, acting_as
from domain.catalogue import Protocol
from domain.secret import Secret
from infrastructure.clock import instant_text
from infrastructure.relay_users import Admission, ListedUser, RelayUsers

Administrator = Annotated[str, Depends(acting_as(ADMINISTRATOR))]
Relay = Annotated[str, Depends(acting_as(RELAY))]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewUser(_Body):
    """A relay user to add, with a password, networks or both."""

    name: str
    profiles: list[str]
    networks: list[str] = []
    password: SecretStr | None = None


class NewPassword(_Body):
    """The password to have from now on."""

    password: SecretStr


class Profiles(_Body):
    """The profiles to send and receive as, and no others."""

    profiles: list[str]


class Networks(_Body):
    """The networks from which no sign-in is needed, and no others."""

    networks: list[str]


class SignIn(_Body):
    """A client at `address` (an IP address) that wants in; by its network if user and password are null."""

    protocol: Protocol
    address: str
    user: str | None = None
    password: SecretStr | None = None


class Rejection(_Body):
    """The mail server rejected the access token of this generation."""

    user: str
    protocol: Protocol
    profile: str
    generation: int


def router(users: RelayUsers) -> APIRouter:
    """The routes below `/api/v1/relay`."""
    router = APIRouter(prefix="/api/v1/relay")

    @router.get("/users")
    def list_users(_: Administrator) -> list[dict[str, Any]]:
        return [_user_json(user) for user in users.users()]

    @router.post("/users", status_code=204)
    def add(body: NewUser, by: Administrator) -> None:
        users.add(body.name, body.profiles, body.networks, _secret(body.password), by)

    @router.delete("/users/{name}", status_code=204)
    def remove(name: str, by: Administrator) -> None:
        users.remove(name, by)

    @router.put("/users/{name}/password", status_code=204)
    def set_password(name: str, body: NewPassword, by: Administrator) -> None:
        users.set_password(name, Secret(body.password.get_secret_value()), by)

    @router.put("/users/{name}/profiles", status_code=204)
    def map_profiles(name: str, body: Profiles, by: Administrator) -> None:
        users.map(name, body.profiles, by)

    @router.put("/users/{name}/networks", status_code=204)
    def set_networks(name: str, body: Networks, by: Administrator) -> None:
        users.set_networks(name, body.networks, by)

    @router.post("/admissions")
    def admit(body: SignIn, _: Relay, response: Response) -> dict[str, Any]:
        response.headers["Cache-Control"] = "no-store"
        return _admission_json(users.admit(body.protocol, body.address, body.user, _secret(body.password)))

    @router.post("/renewals")
    def renew(body: Rejection, _: Relay, response: Response) -> dict[str, Any]:
        response.headers["Cache-Control"] = "no-store"
        return _admission_json(users.renewed(body.user, body.protocol, body.profile, body.generation))

    @router.get("/servers")
    def servers(_: Relay) -> list[dict[str, Any]]:
        return [
            {"server": one.server, "port": one.port, "tls": one.tls, "protocol": one.protocol.value}
            for one in users.servers()
        ]

    return router


def _secret(value: SecretStr | None) -> Secret | None:
    return Secret(value.get_secret_value()) if value is not None else None


def _user_json(user: ListedUser) -> dict[str, Any]:
    return {
        "name": user.name,
        "profiles": {protocol.value: profile for protocol, profile in user.profiles.items()},
        "networks": list(user.networks),
        "password": user.has_password,
    }


def _admission_json(admission: Admission) -> dict[str, Any]:
    settings, token = admission.profile.settings, admission.token
    return {
        "user": admission.user,
        "profile": admission.profile.name,
        "protocol": admission.profile.protocol.value,
        "server": admission.server,
        "port": admission.profile.port,
        "tls": settings.tls,
        "timeout": settings.timeout,
        "mailbox": token.mailbox,
        "sender_address": settings.sender_address,
        "access_token": token.credential.access_token.reveal(),
        "expires_at": instant_text(token.credential.expires_at),
        "generation": token.generation,
    }
