"""Connection tests, and messages that go out through a setting."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from adapters.bootstrap import Service
from adapters.http import models
from adapters.http.callers import AnyCaller, Caller, Operator
from adapters.http.models import PROFILE, Text
from adapters.http.naming import ProfileName
from domain.errors import InvalidValue, Refused
from domain.outcomes import MailReport

_MAX_MESSAGE_BYTES = 150 * 1024 * 1024

Through = Annotated[Text | None, Query(description="The setting to send through.", examples=[PROFILE])]
Sender = Annotated[Text | None, Query(description="Who the message is from.", examples=["scan@contoso.com"])]


async def _message(request: Request) -> bytes:
    message = bytearray()
    async for chunk in request.stream():
        message += chunk
        if len(message) > _MAX_MESSAGE_BYTES:
            raise InvalidValue("message", f"larger than {_MAX_MESSAGE_BYTES // 1024**2} MiB")
    return bytes(message)


def router(service: Service) -> APIRouter:
    """The routes of mail."""
    router = APIRouter(prefix="/api/v1", tags=["mail"])

    def chosen(caller: Caller, profile: str | None) -> str | None:
        """Who may not choose among all profiles and names none, means the configuration's."""
        return profile or (service.config.send.profile if caller.profiles is not None else None)

    @router.post("/profiles/{machine}/{setting}/test", response_model=models.Report)
    def test(name: ProfileName, body: models.ConnectionTest, by: Operator) -> dict[str, Any]:
        """Try the connection to the mail server, step by step; with `to` a message is delivered."""
        return _report_json(name, service.mail.test(name, body.to, by))

    @router.get("/send", response_model=models.Sending)
    def sending(caller: AnyCaller, profile: Through = None, sender: Sender = None) -> dict[str, Any]:
        """The setting a message would go out through."""
        name = chosen(caller, profile)
        _sending(caller, name)
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
        caller: AnyCaller,
        message: Annotated[bytes, Depends(_message)],
        recipient: Annotated[list[Text] | None, Query(examples=[["admin@contoso.com"]])] = None,
        profile: Through = None,
        sender: Sender = None,
    ) -> dict[str, Any]:
        """Send a message."""
        name = chosen(caller, profile)
        by = _sending(caller, name)
        used, report = service.mail.send(name, sender, recipient or [], message, by)
        return _report_json(used, report)

    return router


_MESSAGE = "From: scan@contoso.com\r\nTo: admin@contoso.com\r\nSubject: a scan\r\n\r\nHere it is.\r\n"


def _sending(caller: Caller, profile: str | None) -> str:
    """Who sends: whoever may read the profile's token. Choosing among all profiles needs a client of all of them."""
    if caller.profiles is not None and profile is None:
        raise Refused("name the setting to send through: --profile")
    return caller.reading_token_of(profile or "any profile")


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
