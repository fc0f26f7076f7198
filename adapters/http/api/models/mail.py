"""Models of connection tests and sent messages."""

from __future__ import annotations

from datetime import date
from typing import Any

from pydantic import BaseModel, ConfigDict

from adapters.http.api.models.common import PROFILE, Text, with_example


class ConnectionTest(BaseModel):
    """The address to send a test message to, if any."""

    model_config = with_example(to="admin@contoso.com")
    to: Text | None = None


class Step(BaseModel):
    """One step of a conversation with a mail server, with the server's answer."""

    model_config = ConfigDict(extra="forbid")
    name: str
    ok: bool
    seconds: float
    detail: str


class Report(BaseModel):
    """A conversation step by step and its verdict; `reply` is the server's last reply when it refused."""

    model_config = with_example(
        profile=PROFILE,
        ok=True,
        fault="none",
        code="token_accepted",
        fields={"mailbox": "scan@contoso.com"},
        verdict="The server accepted the token for scan@contoso.com.",
        reply=None,
        steps=[{"name": "connect", "ok": True, "seconds": 0.012, "detail": "smtp.office365.com:587"}],
    )
    profile: str
    ok: bool
    fault: str
    code: str
    fields: dict[str, Any]
    verdict: str
    reply: str | None
    steps: list[Step]


class MailCount(BaseModel):
    """The mail of a setting on one day (UTC), and how often its mail server refused."""

    model_config = with_example(profile=PROFILE, day="2026-11-22", messages=12, octets=3400000, refusals=1)
    profile: str
    day: date
    messages: int
    octets: int
    refusals: int


class Sending(BaseModel):
    """The setting that a message would go out through."""

    model_config = with_example(
        profile=PROFILE, sender_address="scan@contoso.com", sender_name="Scanner", local_mail_to=["admin@contoso.com"]
    )
    profile: str
    sender_address: str | None
    sender_name: str | None
    local_mail_to: list[str]
