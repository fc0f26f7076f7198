"""The event log: everything that happened, and who did it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from adapters.history_export import MEDIA_TYPES, exported
from adapters.http.api.models import audit as models
from adapters.http.api.models.common import PROFILE, Text
from adapters.http.api.openapi import api_router
from adapters.http.api.pagination import Limit, link_next
from adapters.http.principal import AuditorRole, AuditorScope, UnlimitedAuditorRole
from adapters.texts.audit_findings import finding_text
from infrastructure.clock import instant_text
from infrastructure.queries.history import History, Place
from infrastructure.queries.history_filter import EventKind, HistoryFilter
from infrastructure.queries.verifier import Verifier, VerifierRun

_FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": list[models.Record],
        "content": {"text/csv": {"schema": {"type": "string"}}},
        "description": "The events, in the order of the log.",
    }
}


def _wanted(
    profile: Annotated[
        Text,
        Query(description="Events that concern this setting, or this machine and its settings.", examples=[PROFILE]),
    ] = "",
    q: Annotated[
        Text,
        Query(
            max_length=200,
            description="Words that all must be in one name that the event concerns: of a setting, machine, group,"
            " relay user, client, administrator or provider.",
            examples=["office smtp"],
        ),
    ] = "",
    kind: Annotated[Text, Query(description=f"The kind of event: {', '.join(EventKind)}.", examples=["renewal"])] = "",
    who: Annotated[
        Text, Query(max_length=200, description="Words of the author's name and role.", examples=["root"])
    ] = "",
    since: Annotated[
        Text, Query(alias="from", description="Events from this instant on.", examples=["2026-11-22T09:30:00+00:00"])
    ] = "",
    until: Annotated[
        Text, Query(alias="to", description="Events up to this instant.", examples=["2036-11-22T09:30:00+00:00"])
    ] = "",
) -> HistoryFilter:
    texts = {"profile": profile, "q": q, "kind": kind, "who": who, "from": since, "to": until}
    return HistoryFilter.of(texts)


Wanted = Annotated[HistoryFilter, Depends(_wanted)]


def router(history: History, verifier: Verifier) -> APIRouter:
    """The routes of the audit."""
    router = api_router(prefix="/api/v1", tags=["audit"])

    @router.get("/audit/log", response_model=list[models.Record])
    def log(
        _: AuditorRole,
        scope: AuditorScope,
        request: Request,
        response: Response,
        wanted: Wanted,
        limit: Limit = None,
        after: Annotated[int, Query(ge=0, le=2**53, description="Events after this position.", examples=[17])] = 0,
    ) -> list[dict[str, Any]]:
        """The events of the log in their order: all of them, or those that are selected.

        With a limit a request looks at so many events that its time has a bound. So a page may have fewer records than
        the limit, or none, although Link leads to more.
        """
        if limit is None:
            parts = history.stretches(wanted, scope, after)
            return [record.as_json() for part in parts for record in part.records]
        page = history.stretch(wanted, scope, Place(after), limit)
        if page.reached is not None:
            link_next(request, response, page.reached)
        return [record.as_json() for record in page.records]

    @router.get("/audit/export", response_class=StreamingResponse, responses=_FILES)
    def export(
        _: AuditorRole,
        scope: AuditorScope,
        wanted: Wanted,
        file_format: Annotated[Literal["csv", "json"], Query(alias="format", description="The format.")] = "json",
    ) -> StreamingResponse:
        """The events that are selected as a file: JSON with a record a line, or CSV with what happened in words."""
        pieces = exported(history, wanted, scope, file_format)
        return StreamingResponse(pieces, media_type=MEDIA_TYPES[file_format])

    @router.post("/audit/verification", response_model=models.VerificationRun, status_code=202)
    def begin(by: UnlimitedAuditorRole) -> dict[str, Any]:
        """Begin to verify the log and what is stored beside it, unless that is under way."""
        return _run_json(verifier.begin(by))

    @router.get("/audit/verification", response_model=models.VerificationRun | None)
    def verification(_: UnlimitedAuditorRole) -> dict[str, Any] | None:
        """The verification under way or the last one since the service began; null if there was none."""
        return _run_json(verifier.last) if verifier.last else None

    return router


def _run_json(run: VerifierRun) -> dict[str, Any]:
    findings = run.result.findings if run.result else ()
    return {
        "begun_at": instant_text(run.begun_at),
        "by": run.by,
        "events": run.events,
        "ended_at": instant_text(run.ended_at) if run.ended_at else None,
        "whole": not findings if run.result else None,
        "findings": [{"event": one.index, "code": one.code, "text": finding_text(one)} for one in findings],
    }
