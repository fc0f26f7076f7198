"""The API of the relay: how it lets clients in, and how an administrator says whom."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import SecretStr

from adapters.http import models
from adapters.http.callers import Administrator, Relay
from adapters.http.models import Text
from domain.secret import Secret
from infrastructure.clock import instant_text
from infrastructure.relay_users import Admission, ListedUser, RelayUsers

UserName = Annotated[Text, Path(examples=["printers"])]


def router(users: RelayUsers) -> APIRouter:
    """The routes below `/api/v1/relay`."""
    router = APIRouter(prefix="/api/v1/relay", tags=["relay"])
    _users(router, users)
    _doors(router, users)
    return router


def _users(router: APIRouter, users: RelayUsers) -> None:
    @router.get("/users", response_model=list[models.RelayUser])
    def list_users(_: Administrator) -> list[dict[str, Any]]:
        """Every relay user."""
        return [_user_json(user) for user in users.users()]

    @router.post("/users", status_code=204)
    def add(body: models.NewRelayUser, by: Administrator) -> None:
        """Add a relay user with a password, with networks, or with both."""
        users.add(body.name, body.profiles, body.networks, _secret(body.password), by)

    @router.delete("/users/{name}", status_code=204)
    def remove(name: UserName, by: Administrator) -> None:
        """Remove a relay user; whoever is signed in as one has to go, at the end of a message that is being sent."""
        users.remove(name, by)

    @router.put("/users/{name}/password", status_code=204)
    def set_password(name: UserName, body: models.RelayPassword, by: Administrator) -> None:
        """Give a relay user a new password; the one before is no good any more."""
        users.set_password(name, Secret(body.password.get_secret_value()), by)

    @router.put("/users/{name}/profiles", status_code=204)
    def map_profiles(name: UserName, body: models.RelayProfiles, by: Administrator) -> None:
        """Let a relay user send and receive as these profiles and no others."""
        users.map(name, body.profiles, by)

    @router.put("/users/{name}/networks", status_code=204)
    def set_networks(name: UserName, body: models.RelayNetworks, by: Administrator) -> None:
        """Let a relay user's SMTP clients in without a sign-in from these networks and no others."""
        users.set_networks(name, body.networks, by)


def _doors(router: APIRouter, users: RelayUsers) -> None:
    @router.post("/admissions", response_model=models.RelayAdmission)
    def admit(body: models.RelaySignIn, _: Relay, response: Response) -> dict[str, Any]:
        """Let a client in: where its mail goes, and the access token for there. What was wrong is never said."""
        response.headers["Cache-Control"] = "no-store"
        return _admission_json(users.admit(body.protocol, body.address, body.user, _secret(body.password)))

    @router.post("/renewals", response_model=models.RelayAdmission)
    def renew(body: models.RelayRejection, _: Relay, response: Response) -> dict[str, Any]:
        """The same admission with a newer access token, after the mail server rejected the one it had."""
        response.headers["Cache-Control"] = "no-store"
        return _admission_json(users.renewed(body.user, body.protocol, body.profile, body.generation))

    @router.get("/servers", response_model=list[models.RelayServer])
    def servers(_: Relay) -> list[dict[str, Any]]:
        """The mail servers that mail of relay users goes to."""
        return [
            {"server": one.server, "port": one.port, "tls": one.tls, "protocol": one.protocol.value}
            for one in users.servers()
        ]


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
