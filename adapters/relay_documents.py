"""What the relay and the API say to each other. One writes it and the other reads it, so the models belong to neither.

The relay ignores members that a newer service adds.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class RelayAdmission(BaseModel):
    """The relay user and profile of a client, and the mailbox and access token to use; `generation` numbers the tokens.

    `timeout` is in seconds; `mailbox` is the SASL user. `position` is the id of the last change taken into account, 0
    if the service does not say. `sender` and `normalize` change the user's messages.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user": "printers",
                    "profile": "press/smtp",
                    "protocol": "smtp",
                    "server": "smtp.office365.com",
                    "port": 587,
                    "tls": "starttls",
                    "timeout": 20,
                    "mailbox": "scan@contoso.com",
                    "sender_address": "scan@contoso.com",
                    "access_token": "EwBAA8l6BAAU",
                    "expires_at": "2026-11-22T10:30:00.000000+00:00",
                    "generation": 1,
                    "position": 17,
                }
            ]
        }
    )
    user: str
    profile: str
    protocol: str
    server: str
    port: int
    tls: str
    timeout: int
    mailbox: str
    sender_address: str | None
    access_token: str
    expires_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    generation: int
    position: int = 0
    sender: str | None = None
    normalize: str | None = None


class RelayServer(BaseModel):
    """A mail server of a relay user."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"server": "smtp.office365.com", "port": 587, "tls": "starttls", "protocol": "smtp"}]
        }
    )
    server: str
    port: int
    tls: str
    protocol: str


_MAIL_COUNT: dict[str, JsonValue] = {
    "profile": "press/smtp",
    "day": "2026-11-22",
    "messages": 12,
    "octets": 3400000,
    "refusals": 1,
}


class RelayMailCount(BaseModel):
    """A relay's count of the mail of a setting on one day (UTC) since the relay's start."""

    model_config = ConfigDict(json_schema_extra={"examples": [_MAIL_COUNT]})
    profile: Annotated[str, Field(max_length=200)]
    day: date
    messages: Annotated[int, Field(ge=0, lt=2**63)]
    octets: Annotated[int, Field(ge=0, lt=2**63)]
    refusals: Annotated[int, Field(ge=0, lt=2**63)]


class RelayMailCounts(BaseModel):
    """The counts of a relay that have changed since its last report."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"counts": [_MAIL_COUNT]}]})
    counts: list[RelayMailCount]


class RelayRefusal(BaseModel):
    """A client that the relay refused: what it said, and why it was refused.

    `commands` are its last commands, without passwords and without content of messages; `cause` is a code.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "at": "2026-11-22T10:30:00.000000+00:00",
                    "address": "192.0.2.7",
                    "protocol": "smtp",
                    "user": "printers",
                    "profile": "press/smtp",
                    "commands": ["EHLO printer", "MAIL FROM:<printer@local>"],
                    "cause": "sender",
                    "why": "550 5.7.60 not allowed to send as this sender",
                }
            ]
        }
    )
    at: Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})]
    address: Annotated[str, Field(max_length=64)]
    protocol: Annotated[str, Field(max_length=16)]
    user: Annotated[str | None, Field(max_length=1024)] = None
    profile: Annotated[str | None, Field(max_length=1024)] = None
    commands: Annotated[list[Annotated[str, Field(max_length=400)]], Field(max_length=50)]
    cause: Annotated[str, Field(max_length=64)]
    why: Annotated[str, Field(max_length=2000)]


class RelayRefusals(BaseModel):
    """Refusals that the relay reports, the oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"refusals": []}]})
    refusals: Annotated[list[RelayRefusal], Field(max_length=1000)]
