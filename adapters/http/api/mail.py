"""Connection tests, and messages that go out through a setting."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from adapters.http.api.models import mail as models
from adapters.http.api.models.common import PROFILE, Text
from adapters.http.api.openapi import api_router
from adapters.http.api.path_names import ProfileName
from adapters.http.principal import CurrentPrincipal, OperatorRole, Principal, ReaderRole, ReaderScope
from adapters.texts.verdicts import detail_text, verdict_facts, verdict_text
from adapters.texts.wording import Surface
from domain.errors import InvalidValue, Refused
from domain.mail_report import MailReport
from infrastructure.service import Service

_MAX_MESSAGE_BYTES = 150 * 1024 * 1024

_DAYS = timedelta(days=29)

Day = Annotated[date | None, Query(description="A day in UTC, which is included.", examples=["2026-11-22"])]
Counted = Annotated[Text | None, Query(description="The only setting to show.", examples=[PROFILE])]
Through = Annotated[Text | None, Query(description="The setting to send through.", examples=[PROFILE])]
Sender = Annotated[Text | None, Query(description="The sender's address.", examples=["scan@contoso.com"])]


async def _message(request: Request) -> bytes:
    message = bytearray()
    async for chunk in request.stream():
        message += chunk
        if len(message) > _MAX_MESSAGE_BYTES:
            raise InvalidValue("message", "message_too_big", mebibytes=_MAX_MESSAGE_BYTES // 1024**2)
    return bytes(message)


def router(service: Service) -> APIRouter:
    """The routes of mail."""
    router = api_router(prefix="/api/v1", tags=["mail"])
    _mail_counts(router, service)

    def chosen(principal: Principal, profile: str | None) -> str | None:
        """The named profile; without a name, the configuration's for a principal that is limited to some profiles."""
        return profile or (service.config.send.profile if principal.profiles is not None else None)

    @router.post("/profiles/{machine}/{setting}/test", response_model=models.Report)
    def test(name: ProfileName, body: models.ConnectionTest, by: OperatorRole) -> dict[str, Any]:
        """Try the connection to the mail server, step by step; with `to` a message is delivered."""
        return _report_json(name, service.mail.test(name, body.to, by))

    @router.get("/send", response_model=models.Sending)
    def sending(principal: CurrentPrincipal, profile: Through = None, sender: Sender = None) -> dict[str, Any]:
        """The setting that a message would go out through."""
        name = chosen(principal, profile)
        _sending(principal, name)
        found = service.mail.sending(name, sender)
        return {
            "profile": found.name,
            "sender_address": found.settings.sender_address or found.mailbox,
            "sender_name": found.settings.sender_name,
            "local_mail_to": list(service.config.send.local_mail_to),
        }

    @router.post(
        "/send",
        response_model=models.Report,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"message/rfc822": {"schema": {"type": "string"}, "example": _MESSAGE}},
            }
        },
    )
    def send(
        principal: CurrentPrincipal,
        message: Annotated[bytes, Depends(_message)],
        recipient: Annotated[list[Text] | None, Query(examples=[["admin@contoso.com"]])] = None,
        profile: Through = None,
        sender: Sender = None,
    ) -> dict[str, Any]:
        """Send a message."""
        name = chosen(principal, profile)
        by = _sending(principal, name)
        used, report = service.mail.send(name, sender, recipient or [], message, by)
        return _report_json(used, report)

    return router


def _mail_counts(router: APIRouter, service: Service) -> None:
    @router.get("/mail-counts")
    def mail_counts(
        _: ReaderRole, scope: ReaderScope, since: Day = None, until: Day = None, profile: Counted = None
    ) -> list[models.MailCount]:
        """The mail of each setting on each day, of the last 30 days by default."""
        last = until or service.clock.now().date()
        first = since or last - min(_DAYS, last - date.min)
        counts = service.mail_counts.by_day(since=first, until=last, profile=profile)
        inside = (count for count in counts if scope.has_profile(count.profile))
        return [models.MailCount.model_validate(count, from_attributes=True) for count in inside]


_MESSAGE = "From: scan@contoso.com\r\nTo: admin@contoso.com\r\nSubject: a scan\r\n\r\nHere it is.\r\n"


def _sending(principal: Principal, profile: str | None) -> str:
    """The actor that sends; it may read the profile's token. Without a profile it must be a client of all profiles."""
    if principal.profiles is not None and profile is None:
        raise Refused("setting_not_named")
    return principal.require_token(profile or "any profile")


def _report_json(name: str, report: MailReport) -> dict[str, Any]:
    return {
        "profile": name,
        "ok": report.ok,
        "fault": report.fault.value,
        "code": report.verdict.code,
        "fields": verdict_facts(report.verdict, Surface.API),
        "verdict": verdict_text(report.verdict, Surface.API),
        "reply": report.reply,
        "steps": [
            {
                "name": step.name,
                "ok": step.ok,
                "seconds": step.seconds,
                "detail": detail_text(step.detail, Surface.API),
            }
            for step in report.steps
        ],
    }
