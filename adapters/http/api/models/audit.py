"""Models of the event log."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from adapters.http.api.models.common import AT, PROFILE, Instant, with_example


class Record(BaseModel):
    """One event of the log: what happened to which aggregate, when, and who did it. No secret is in `facts`."""

    model_config = with_example(
        position=17,
        at=AT,
        aggregate="Profile",
        id="3d6f0a86-4c39-4a6e-8b7e-1f3f9c1c2b55",
        version=2,
        event="Configured",
        by="administrator:root",
        profile=PROFILE,
        machine=PROFILE.partition("/")[0],
        facts={"changes": {"port": 587}},
    )
    position: int
    at: Instant
    aggregate: str
    id: str
    version: int
    event: str
    by: str
    profile: str | None
    machine: str | None
    facts: dict[str, Any]


class VerificationFinding(BaseModel):
    """A difference between the log and what is stored; `event` is the number of the event that it is about."""

    event: int | None
    code: str
    text: str


class VerificationRun(BaseModel):
    """A verification of the log: `events` read so far, and once it has ended whether everything is as it was written.

    `whole` is null while it runs, and if it could not be finished.
    """

    model_config = with_example(begun_at=AT, by="auditor:anna", events=1200, ended_at=AT, whole=True, findings=[])
    begun_at: Instant
    by: str
    events: int
    ended_at: Instant | None
    whole: bool | None
    findings: list[VerificationFinding]
