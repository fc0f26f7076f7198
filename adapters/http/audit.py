"""What happened, and who did it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from adapters.http import models
from adapters.http.callers import Auditor
from adapters.http.models import PROFILE, Text
from adapters.http.paging import Limit, link_next
from infrastructure.audit import Audit


def router(audit: Audit) -> APIRouter:
    """The routes of the audit."""
    router = APIRouter(prefix="/api/v1", tags=["audit"])

    @router.get("/audit/log", response_model=list[models.Record])
    def log(
        _: Auditor,
        request: Request,
        response: Response,
        profile: Annotated[Text | None, Query(description="What concerns one setting.", examples=[PROFILE])] = None,
        limit: Limit = None,
        after: Annotated[int, Query(ge=0, description="Behind the one at this position.", examples=[17])] = 0,
    ) -> list[dict[str, Any]]:
        """The events of the log in their order: all of them, or those that touched one setting."""
        found = audit.records(profile, after, limit and limit + 1)
        shown = found[:limit]
        if len(found) > len(shown):
            link_next(request, response, shown[-1].position)
        return [record.as_json() for record in shown]

    return router
