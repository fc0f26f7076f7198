"""The API of the relay: relay users for administrators, and admissions for the relay."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import SecretStr

from adapters.http.api.models import relay as models
from adapters.http.api.models.common import Text
from adapters.http.api.openapi import api_router
from adapters.http.principal import AdministratorRole, RelayRole
from adapters.relay_documents import RelayAdmission, RelayMailCounts, RelayServer
from adapters.relay_documents import RelayRefusals as RelayRefusalReport
from adapters.texts.relay_refusals import refusal_text
from adapters.texts.wording import Surface
from domain.secret import Secret
from infrastructure.access.relay_refusals import ClientRefusal, RelayRefusals
from infrastructure.access.relay_users import Admission, ListedUser, RelayUsers
from infrastructure.clock import instant_text
from infrastructure.mail_counters import MailCount
from infrastructure.mail_counts import MailCounts

RunName = Annotated[Text, Path(description="The relay's random name for its run.", examples=["5a3f0c"])]
UserName = Annotated[Text, Path(examples=["printers"])]


def router(users: RelayUsers, mail_counts: MailCounts, refusals: RelayRefusals) -> APIRouter:
    """The routes below `/api/v1/relay`."""
    router = api_router(prefix="/api/v1/relay", tags=["relay"])
    _users(router, users)
    _admissions(router, users)
    _mail_counts(router, mail_counts)
    _refusals(router, refusals)
    return router


def _users(router: APIRouter, users: RelayUsers) -> None:
    @router.get("/users")
    def list_users(_: AdministratorRole) -> list[models.RelayUser]:
        """Every relay user."""
        return [_user(user) for user in users.users()]

    @router.post("/users", status_code=204)
    def add(body: models.NewRelayUser, by: AdministratorRole) -> None:
        """Add a relay user with a password, with networks, or with both."""
        users.add(body.name, body.profiles, body.networks, _secret(body.password), by)

    @router.delete("/users/{name}", status_code=204)
    def remove(name: UserName, by: AdministratorRole) -> None:
        """Remove a relay user, and end its sessions; a message that is being sent may be finished."""
        users.remove(name, by)

    @router.put("/users/{name}/password", status_code=204)
    def set_password(name: UserName, body: models.RelayPassword, by: AdministratorRole) -> None:
        """Give a relay user a new password in place of the old one."""
        users.set_password(name, Secret(body.password.get_secret_value()), by)

    @router.put("/users/{name}/profiles", status_code=204)
    def map_profiles(name: UserName, body: models.RelayProfiles, by: AdministratorRole) -> None:
        """Let a relay user send and receive as these profiles and no others."""
        users.map(name, body.profiles, by)

    @router.put("/users/{name}/networks", status_code=204)
    def set_networks(name: UserName, body: models.RelayNetworks, by: AdministratorRole) -> None:
        """Let a relay user's SMTP clients send without a sign-in from these networks and no others."""
        users.set_networks(name, body.networks, by)

    @router.patch("/users/{name}/messages", status_code=204)
    def change_messages(name: UserName, body: models.RelayMessages, by: AdministratorRole) -> None:
        """Have the relay put its client's sender or line ends right."""
        users.change_messages(name, body.model_dump(exclude_unset=True), by)


def _admissions(router: APIRouter, users: RelayUsers) -> None:
    @router.post("/admissions")
    def admit(body: models.RelaySignIn, _: RelayRole, response: Response) -> RelayAdmission:
        """Admit a client, with the access token of its mailbox. A refusal never tells its reason."""
        response.headers["Cache-Control"] = "no-store"
        return _admission(users.admit(body.protocol, body.address, body.user, _secret(body.password)))

    @router.post("/renewals")
    def renew(body: models.RelayRejection, _: RelayRole, response: Response) -> RelayAdmission:
        """The same admission with a newer access token, after the mail server rejected the previous one."""
        response.headers["Cache-Control"] = "no-store"
        return _admission(users.renewed(body.user, body.protocol, body.profile, body.generation))

    @router.get("/servers")
    def servers(_: RelayRole) -> list[RelayServer]:
        """The mail servers of all relay users."""
        return [
            RelayServer(server=address.server, port=address.port, tls=address.tls, protocol=address.protocol.value)
            for address in users.servers()
        ]


def _mail_counts(router: APIRouter, mail_counts: MailCounts) -> None:
    @router.put("/mail-counts/{name}", status_code=204)
    def put(name: RunName, body: RelayMailCounts, _: RelayRole) -> None:
        """Store a relay's own counts of mail, each in place of its earlier count of that setting and day."""
        mail_counts.put(
            name, [MailCount(one.profile, one.day, one.messages, one.octets, one.refusals) for one in body.counts]
        )


def _refusals(router: APIRouter, refusals: RelayRefusals) -> None:
    @router.post("/refusals", status_code=204)
    def report(body: RelayRefusalReport, _: RelayRole) -> None:
        """Report clients that the relay refused."""
        refusals.add(ClientRefusal(**{**one.model_dump(), "commands": tuple(one.commands)}) for one in body.refusals)

    @router.get("/refusals")
    def list_refusals(_: AdministratorRole, address: str | None = None) -> list[models.RefusalWithStep]:
        """The last refused clients, the newest first; `address` shows one of them alone."""
        return [
            models.RefusalWithStep(
                **{**asdict(one), "commands": list(one.commands)}, step=refusal_text(one.cause, Surface.API)
            )
            for one in refusals.last(address)
        ]


def _secret(value: SecretStr | None) -> Secret | None:
    return Secret(value.get_secret_value()) if value is not None else None


def _user(user: ListedUser) -> models.RelayUser:
    return models.RelayUser(
        name=user.name,
        profiles={protocol.value: profile for protocol, profile in user.profiles.items()},
        networks=list(user.networks),
        password=user.has_password,
        sender=user.sender,
        normalize=user.normalize,
    )


def _admission(admission: Admission) -> RelayAdmission:
    settings, token = admission.profile.settings, admission.token
    return RelayAdmission(
        user=admission.user,
        profile=admission.profile.name,
        protocol=admission.profile.protocol.value,
        server=admission.server,
        port=admission.profile.port,
        tls=settings.tls,
        timeout=settings.timeout,
        mailbox=token.mailbox,
        sender_address=settings.sender_address,
        access_token=token.credential.access_token.reveal(),
        expires_at=instant_text(token.credential.expires_at),
        generation=token.generation,
        position=admission.position,
        sender=admission.sender,
        normalize=admission.normalize,
    )
