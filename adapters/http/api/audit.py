"""The event log: everything that happened, and who did it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from adapters.http.api.models import audit as models
from adapters.http.api.models.common import PROFILE, Text
from adapters.http.api.openapi import api_router
from adapters.http.api.pagination import Limit, link_next
from adapters.http.principal import AuditorRole, AuditorScope, UnlimitedAuditorRole
from adapters.texts.audit_findings import finding_text
from infrastructure.clock import instant_text
from infrastructure.queries.history import History
from infrastructure.queries.verifier import Verifier, VerifierRun


def router(history: History, verifier: Verifier) -> APIRouter:
    """The routes of the audit."""
    router = api_router(prefix="/api/v1", tags=["audit"])

    @router.get("/audit/log", response_model=list[models.Record])
    def log(
        _: AuditorRole,
        scope: AuditorScope,
        request: Request,
        response: Response,
        profile: Annotated[
            Text | None,
            Query(description="Events that concern this setting, or the settings of this machine.", examples=[PROFILE]),
        ] = None,
        limit: Limit = None,
        after: Annotated[int, Query(ge=0, description="Events after this position.", examples=[17])] = 0,
    ) -> list[dict[str, Any]]:
        """The events of the log in their order: all of them, or those that touched one setting or machine."""
        found = history.records(profile, after, limit and limit + 1, scope)
        page = found[:limit]
        if len(found) > len(page):
            link_next(request, response, page[-1].position)
        return [record.as_json() for record in page]

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
