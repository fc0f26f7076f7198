"""The event log: everything that happened, and who did it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from adapters.http.api.models import audit as models
from adapters.http.api.models.common import PROFILE, Text
from adapters.http.api.openapi import api_router
from adapters.http.api.pagination import Limit, link_next
from adapters.http.principal import AuditorRole
from infrastructure.queries.history import History


def router(history: History) -> APIRouter:
    """The routes of the audit."""
    router = api_router(prefix="/api/v1", tags=["audit"])

    @router.get("/audit/log", response_model=list[models.Record])
    def log(
        _: AuditorRole,
        request: Request,
        response: Response,
        profile: Annotated[
            Text | None, Query(description="Events that concern this setting.", examples=[PROFILE])
        ] = None,
        limit: Limit = None,
        after: Annotated[int, Query(ge=0, description="Events after this position.", examples=[17])] = 0,
    ) -> list[dict[str, Any]]:
        """The events of the log in their order: all of them, or those that touched one setting."""
        found = history.records(profile, after, limit and limit + 1)
        page = found[:limit]
        if len(found) > len(page):
            link_next(request, response, page[-1].position)
        return [record.as_json() for record in page]

    return router
