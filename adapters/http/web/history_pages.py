"""The History page: the events of a setting, a machine or all, with instant and author, the newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Response

from adapters.http.principal import AUDITOR
from adapters.http.web.lifecycle_diagram import ARROWS, BOXES, HEIGHT, WIDTH
from adapters.http.web.page_route import AsOf, Auditing, page_router, setting_path
from adapters.texts import events
from adapters.texts.wording import Surface
from domain.errors import NotFound
from infrastructure.queries.records import Record
from infrastructure.service import Service

RECORDS_PER_PAGE = 100
_OF_OTHERS = ("RelayUser", "Client")
"""Aggregates whose events concern profiles, but are listed under the aggregate's own name."""


@dataclass(frozen=True)
class HistoryLine:
    """The view model of one event."""

    at: datetime
    role: str
    who: str
    about: str
    path: str | None
    what: str
    kind: str


def history_pages(service: Service) -> APIRouter:
    """The route of the History page."""
    router = page_router()

    @router.get("/history")
    def history(
        page_request: Auditing,
        as_of: AsOf,
        profile: Annotated[str, Query(max_length=200)] = "",
        page: Annotated[int, Query(ge=1)] = 1,
    ) -> Response:
        scope = page_request.scope(AUDITOR)
        found = service.history.page(profile or None, as_of, (page - 1) * RECORDS_PER_PAGE, RECORDS_PER_PAGE, scope)
        if profile and not found.total and not service.history.page(profile, None, 0, 1, scope).total:
            raise NotFound("no_events_about", name=profile)
        names = events.names_in(record.as_json() for record in found.created)
        lines = [_line(one, names) for one in found.records]
        return page_request.render(
            "history.html",
            days=[(day, list(ones)) for day, ones in groupby(lines, lambda line: line.at.date())],
            profile=profile,
            path=setting_path(profile) if "/" in profile else f"/machines/{quote(profile)}/panel",
            page=page,
            pages=max(1, -(-found.total // RECORDS_PER_PAGE)),
            label=label_of(profile, as_of) if "/" in profile and scope.has_profile(profile) else None,
            boxes=BOXES,
            arrows=ARROWS,
            size=(WIDTH, HEIGHT),
            now=as_of or service.clock.now(),
            as_of=as_of,
        )

    def label_of(profile: str, as_of: datetime | None) -> str | None:
        """The label of the setting's token; None if the setting did not exist then."""
        try:
            if as_of:
                return service.history.status_as_of(profile, as_of).token.status
            return service.tokens.status(profile).token.status
        except NotFound:
            return None

    return router


def _line(record: Record, names: dict[str, str]) -> HistoryLine:
    profile = record.profile if record.aggregate not in _OF_OTHERS else None
    role, _, who = record.by.partition(":")
    return HistoryLine(
        record.at,
        role,
        who,
        profile or names.get(str(record.id)) or f"{record.aggregate} {str(record.id)[:8]}",
        setting_path(profile) if profile else None,
        events.event_text(record.as_json(), names, Surface.PAGE),
        f"{record.aggregate}.{record.name}".lower().replace(".", "-"),
    )
