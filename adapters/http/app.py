"""The API: each route lets a use case decide and shows what it gave."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from adapters.bootstrap import Service, provider_settings
from adapters.http import problems
from adapters.http.callers import ADMINISTRATOR, AUDITOR, OPERATOR, AnyCaller, Caller, acting_as
from domain.catalogue import CATALOGUES, catalogue
from domain.errors import InvalidValue, NotFound, Refused
from domain.outcomes import MailReport
from domain.profile import ProfileState
from infrastructure.clock import instant_text, read_instant
from infrastructure.status import SettingStatus, named
from infrastructure.token_service import AuthorizationStarted

Administrator = Annotated[str, Depends(acting_as(ADMINISTRATOR))]
Operator = Annotated[str, Depends(acting_as(OPERATOR))]
Reader = Annotated[str, Depends(acting_as(AUDITOR, OPERATOR, ADMINISTRATOR))]
Auditor = Annotated[str, Depends(acting_as(AUDITOR))]

_MAX_MESSAGE_BYTES = 150 * 1024 * 1024


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewMachine(_Body):
    """A machine to add."""

    name: str
    catalogue: str = "generic"


class Linking(_Body):
    """The profiles to link."""

    profiles: list[str]


class GetToken(_Body):
    """How to get a token; by default as the provider does it. A browser comes back to `redirect_uri`."""

    flow: str | None = None
    redirect_uri: str | None = None


class Redirect(_Body):
    """The whole URL that a browser was sent back to. It holds a code, so it is never part of our own URL."""

    redirected_to: str


class ConnectionTest(_Body):
    """Where to send a test message, if anywhere."""

    to: str | None = None


def create_app(service: Service) -> FastAPI:
    """The API of this service."""
    app = FastAPI(title="Mailtoken", version="1", openapi_url="/api/v1/openapi.json", docs_url=None, redoc_url=None)
    problems.install(app)
    for router in (_health(service), _settings(service), _tokens(service), _mail(service), _audit(service)):
        app.include_router(router)
    return app


def _health(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz")
    def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @router.get("/readyz")
    def readyz() -> dict[str, str]:
        """Whether the store answers."""
        with service.events.store.reading() as query:
            query.rows("SELECT 1 AS one")
        return {"status": "ready"}

    return router


def _settings(service: Service) -> APIRouter:
    router, settings = APIRouter(prefix="/api/v1"), service.settings

    @router.get("/machines")
    def machines(_: Reader) -> list[dict[str, Any]]:
        return [dict(machine) for machine in settings.machines()]

    @router.post("/machines", status_code=201)
    def add_machine(body: NewMachine, by: Administrator) -> dict[str, Any]:
        profiles = settings.add_machine(body.name, body.catalogue, by)
        service.worker.wake()
        return {"name": body.name, "catalogue": body.catalogue, "profiles": profiles}

    @router.delete("/machines/{name}", status_code=204)
    def remove_machine(name: str, by: Administrator) -> None:
        settings.remove_machine(name, by)

    @router.get("/catalogues")
    def catalogues(_: Reader) -> list[dict[str, Any]]:
        return [
            {
                "name": one.name,
                "settings": [
                    {"name": s.name, "protocol": s.protocol.value, "menu_path": s.menu_path, "linked": s.linked}
                    for s in one.settings
                ],
            }
            for one in CATALOGUES.values()
        ]

    @router.get("/profiles")
    def profiles(_: Reader) -> list[dict[str, Any]]:
        catalogues = {machine["name"]: machine["catalogue"] for machine in settings.machines()}
        return [_profile_json(s.profile, s.group, catalogues) for s in service.tokens.statuses()]

    @router.get("/profiles/{machine}/{setting}")
    def profile(machine: str, setting: str, _: Reader) -> dict[str, Any]:
        status = service.tokens.status(f"{machine}/{setting}")
        catalogues = {one["name"]: one["catalogue"] for one in settings.machines()}
        return _profile_json(status.profile, status.group, catalogues)

    @router.patch("/profiles/{machine}/{setting}")
    def set_profile(machine: str, setting: str, changes: dict[str, str], by: Administrator) -> dict[str, Any]:
        settings.set_profile(f"{machine}/{setting}", changes, by)
        return profile(machine, setting, by)

    @router.delete("/profiles/{machine}/{setting}", status_code=204)
    def remove_profile(machine: str, setting: str, by: Administrator) -> None:
        settings.remove_profile(f"{machine}/{setting}", by)

    @router.get("/groups")
    def groups(_: Reader) -> list[dict[str, Any]]:
        return [
            {
                "name": group.name,
                "token": group.members[0].token.status.value,
                "profiles": [status.profile.name for status in group.members],
            }
            for group in settings.groups()
        ]

    @router.post("/groups/{name}/profiles", status_code=204)
    def link(name: str, body: Linking, by: Administrator) -> None:
        settings.link(name, body.profiles, by)

    @router.delete("/profiles/{machine}/{setting}/group", status_code=204)
    def unlink(machine: str, setting: str, by: Administrator) -> None:
        settings.unlink(f"{machine}/{setting}", by)

    @router.get("/providers")
    def providers(_: Reader) -> list[dict[str, Any]]:
        faults = service.tokens.client_faults()
        return [
            {
                "name": name,
                "kind": table.kind,
                "authority": table.issuer or table.tenant,
                "client_id": table.client_id,
                "flows": service.tokens.flows(name),
                "refused": faults[name],
                "callback": service.config.server.callback and service.config.server.callback.url,
            }
            for name, table in sorted(service.config.providers.items())
        ]

    @router.post("/providers/{name}/check")
    def check(name: str, _: Operator) -> dict[str, Any]:
        from adapters.providers.check import check_provider

        table = service.config.providers.get(name)
        if table is None:
            known = ", ".join(service.config.providers) or "none"
            raise NotFound(f"no provider is called {name!r}; the configuration has: {known}")
        mailboxes = {p.mailbox for p in settings.profiles() if p.settings.provider == name and p.mailbox}
        report = check_provider(provider_settings(service.config, name, table), service.clock, sorted(mailboxes))
        return {**asdict(report), "ok": report.ok}

    return router


def _tokens(service: Service) -> APIRouter:
    router, tokens = APIRouter(prefix="/api/v1"), service.tokens

    def status_json(status: SettingStatus) -> dict[str, Any]:
        return service.attention.of(status).as_json()

    @router.get("/status")
    def statuses(_: Reader, as_of: str | None = None) -> list[dict[str, Any]]:
        if as_of is None:
            return [attended.as_json() for attended in service.attention.statuses()]
        return [status.as_json() for status in service.audit.statuses_as_of(_instant(as_of))]

    @router.get("/profiles/{machine}/{setting}/status")
    def status(machine: str, setting: str, _: Reader, as_of: str | None = None) -> dict[str, Any]:
        name = f"{machine}/{setting}"
        if as_of is None:
            return status_json(tokens.status(name))
        return named(service.audit.statuses_as_of(_instant(as_of)), name).as_json()

    @router.post("/profiles/{machine}/{setting}/token", status_code=202)
    def get_token(machine: str, setting: str, body: GetToken, by: Operator) -> dict[str, Any]:
        callback = service.config.server.callback
        redirect_uri = body.redirect_uri or (callback.url if callback else None)
        started = tokens.request(f"{machine}/{setting}", body.flow, by, redirect_uri)
        service.worker.wake()
        return _started_json(started)

    @router.get("/profiles/{machine}/{setting}/token/attempt")
    def attempt(machine: str, setting: str, _: Operator) -> dict[str, Any]:
        return _started_json(tokens.under_way(f"{machine}/{setting}"))

    @router.post("/profiles/{machine}/{setting}/token/redirect")
    def redirect(machine: str, setting: str, body: Redirect, _: Operator) -> dict[str, Any]:
        tokens.complete(f"{machine}/{setting}", body.redirected_to)
        return status_json(tokens.status(f"{machine}/{setting}"))

    @router.delete("/profiles/{machine}/{setting}/token")
    def delete_token(machine: str, setting: str, by: Operator) -> dict[str, Any]:
        deletion = tokens.delete(f"{machine}/{setting}", by)
        return {"profiles": deletion.profiles, "revoked": deletion.revoked}

    @router.get("/profiles/{machine}/{setting}/token/deletion")
    def preview_deletion(machine: str, setting: str, _: Operator) -> dict[str, Any]:
        preview = tokens.preview_deletion(f"{machine}/{setting}")
        return {"profiles": preview.profiles, "spared": preview.spared}

    @router.post("/profiles/{machine}/{setting}/token/renew")
    def renew(machine: str, setting: str, by: Operator) -> dict[str, Any]:
        return status_json(tokens.renew(f"{machine}/{setting}", by))

    @router.post("/profiles/{machine}/{setting}/token/cancel")
    def cancel(machine: str, setting: str, by: Operator) -> dict[str, Any]:
        tokens.cancel(f"{machine}/{setting}", by)
        return status_json(tokens.status(f"{machine}/{setting}"))

    @router.get("/profiles/{machine}/{setting}/access-token")
    def access_token(
        machine: str,
        setting: str,
        caller: AnyCaller,
        response: Response,
        min_ttl: Annotated[int | None, Query(ge=0)] = None,
    ) -> dict[str, Any]:
        name = f"{machine}/{setting}"
        handed = tokens.access_token(name, min_ttl, caller.reading_token_of(name))
        response.headers["Cache-Control"] = "no-store"
        return {
            "access_token": handed.credential.access_token.reveal(),
            "expires_at": instant_text(handed.credential.expires_at),
            "account": handed.account,
            "mailbox": handed.mailbox,
            "sasl": ["XOAUTH2", "OAUTHBEARER"],
        }

    return router


def _mail(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/v1")

    @router.post("/profiles/{machine}/{setting}/test")
    def test(machine: str, setting: str, body: ConnectionTest, by: Operator) -> dict[str, Any]:
        name = f"{machine}/{setting}"
        return _report_json(name, service.mail.test(name, body.to, by))

    @router.post("/send")
    def send(
        caller: AnyCaller,
        message: Annotated[bytes, Depends(_message)],
        recipient: Annotated[list[str] | None, Query()] = None,
        profile: str | None = None,
        sender: str | None = None,
    ) -> dict[str, Any]:
        by = _sending(caller, profile)
        used, report = service.mail.send(profile, sender, recipient or [], message, by)
        return _report_json(used, report)

    return router


def _audit(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/v1")

    @router.get("/audit/log")
    def log(_: Auditor, profile: str | None = None) -> list[dict[str, Any]]:
        return [record.as_json() for record in service.audit.records(profile)]

    return router


def _sending(caller: Caller, profile: str | None) -> str:
    """Who sends: whoever may read the profile's token. Choosing among all profiles needs a client of all of them."""
    if caller.profiles is not None and profile is None:
        raise Refused("name the setting to send through: --profile")
    return caller.reading_token_of(profile or "any profile")


async def _message(request: Request) -> bytes:
    message = bytearray()
    async for chunk in request.stream():
        message += chunk
        if len(message) > _MAX_MESSAGE_BYTES:
            raise InvalidValue("message", f"larger than {_MAX_MESSAGE_BYTES // 1024**2} MiB")
    return bytes(message)


def _instant(text: str) -> datetime:
    try:
        return read_instant(text)
    except ValueError:
        raise InvalidValue("as_of", f"{text!r} is not an instant like 2026-11-22T09:30:00+00:00") from None


def _started_json(started: AuthorizationStarted) -> dict[str, Any]:
    return {
        "profile": started.profile,
        "flow": started.flow,
        "attempt_id": started.attempt_id,
        "user_code": started.user_code,
        "verification_uri": started.verification_uri,
        "verification_uri_complete": started.verification_uri_complete,
        "authorization_uri": started.authorization_uri,
        "expires_at": instant_text(started.expires_at),
    }


def _profile_json(profile: ProfileState, group: str | None, catalogues: dict[str, str]) -> dict[str, Any]:
    settings = profile.settings
    return {
        "profile": profile.name,
        "machine": profile.machine,
        "setting": profile.setting,
        "protocol": profile.protocol.value,
        "menu_path": catalogue(catalogues[profile.machine]).setting(profile.setting).menu_path,
        "group": group,
        "server": settings.server,
        "port": profile.port,
        "tls": settings.tls,
        "timeout": settings.timeout,
        "sender_name": settings.sender_name,
        "sender_address": settings.sender_address,
        "check_interval": settings.check_interval,
        "authentication": settings.authentication,
        "provider": settings.provider,
        "account": settings.account,
        "mailbox": profile.mailbox,
    }


def _report_json(name: str, report: MailReport) -> dict[str, Any]:
    return {
        "profile": name,
        "ok": report.ok,
        "fault": report.fault.value,
        "verdict": report.verdict,
        "reply": report.reply,
        "steps": [
            {"name": step.name, "ok": step.ok, "seconds": step.seconds, "detail": step.detail} for step in report.steps
        ],
    }
