"""History: what happened, when and by whom, of one setting or of everything, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Query, Response

from adapters import texts
from adapters.bootstrap import Service
from adapters.web.diagram import ARROWS, BOXES, HEIGHT, WIDTH
from adapters.web.visits import AsOf, Auditing, page_router, setting_path
from domain.errors import NotFound
from infrastructure.audit import Record
from infrastructure.status import named

RECORDS_ON_A_PAGE = 100
_OF_OTHERS = ("RelayUser", "Client")
"""Their events show with the profiles they concern, but are about them."""


@dataclass(frozen=True)
class Moment:
    """One event as a line of the time line."""

    at: datetime
    role: str
    who: str
    about: str
    path: str | None
    what: str
    kind: str


def history_pages(service: Service) -> APIRouter:
    """The time line."""
    router = page_router()

    @router.get("/history")
    def history(
        visit: Auditing,
        as_of: AsOf,
        profile: Annotated[str, Query(max_length=200)] = "",
        page: Annotated[int, Query(ge=1)] = 1,
    ) -> Response:
        found = service.timeline.page(profile or None, as_of, (page - 1) * RECORDS_ON_A_PAGE, RECORDS_ON_A_PAGE)
        if profile and not found.total and not service.timeline.page(profile, None, 0, 1).total:
            raise NotFound(f"no event is about {profile!r}")
        names = texts.names_in(record.as_json() for record in found.created)
        moments = [_moment(one, names) for one in found.records]
        return visit.page(
            "history.html",
            days=[(day, list(ones)) for day, ones in groupby(moments, lambda moment: moment.at.date())],
            profile=profile,
            page=page,
            pages=max(1, -(-found.total // RECORDS_ON_A_PAGE)),
            label=label_of(profile, as_of) if profile else None,
            boxes=BOXES,
            arrows=ARROWS,
            size=(WIDTH, HEIGHT),
            now=as_of or service.clock.now(),
            as_of=as_of,
        )

    def label_of(profile: str, as_of: datetime | None) -> str | None:
        """What the setting displays; None if it is gone, or was not there yet."""
        try:
            if as_of:
                return named(service.audit.statuses_as_of(as_of), profile).token.status
            return service.tokens.status(profile).token.status
        except NotFound:
            return None

    return router


def _moment(record: Record, names: dict[str, str]) -> Moment:
    profile = record.profile if record.aggregate not in _OF_OTHERS else None
    role, _, who = record.by.partition(":")
    return Moment(
        record.at,
        role,
        who,
        profile or names.get(str(record.id)) or f"{record.aggregate} {str(record.id)[:8]}",
        setting_path(profile) if profile else None,
        texts.event_text(record.as_json(), names),
        f"{record.aggregate}.{record.name}".lower().replace(".", "-"),
    )
