"""The History page: the events of a setting, a machine or all, that are searched and filtered by the page's address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from adapters.history_export import MEDIA_TYPES, exported
from adapters.http.principal import AUDITOR
from adapters.http.web.lifecycle_diagram import ARROWS, BOXES, HEIGHT, WIDTH
from adapters.http.web.page_route import AsOf, Auditing, address, machine_path, page_router, setting_path
from adapters.texts import events
from adapters.texts.errors import sentence
from adapters.texts.wording import Surface
from domain.errors import InvalidValue, NotFound
from domain.scope import Scope
from infrastructure.queries.history import HistoryPage, Place
from infrastructure.queries.history_filter import EventKind, HistoryFilter
from infrastructure.queries.records import Record
from infrastructure.queries.state_times import StateTimes
from infrastructure.service import Service

RECORDS_PER_PAGE = 100
_FIELDS = ("profile", "q", "kind", "who", "from", "to")
_Position = Annotated[int | None, Query(ge=0, le=2**53)]


@dataclass(frozen=True)
class HistoryLine:
    """The view model of one event. `path` is that of the setting or machine that it is about."""

    at: datetime
    role: str
    who: str
    about: str
    path: str | None
    what: str
    kind: str


class HistoryLinks:
    """Addresses of the page that keep its present filter and instant."""

    def __init__(self, wanted: HistoryFilter, as_of: datetime | None) -> None:
        self._wanted = wanted
        self._as_of = as_of

    def to(self, **changes: object) -> str:
        """The address with these parameters changed."""
        as_of = self._as_of.isoformat() if self._as_of else ""
        return address("/history", {**self._wanted.as_texts(), "as_of": as_of, **changes})

    def place(self, place: Place) -> str:
        """The address of the page at this place."""
        return self.to(**{"before" if place.backwards else "after": place.position})

    def export(self, file_format: str) -> str:
        """The address of the file of all that the page and the pages behind it show."""
        ends = [one for one in (self._wanted.until, self._as_of) if one]
        until = min(ends).isoformat() if ends else ""
        return address(f"/history/export/{file_format}", {**self._wanted.as_texts(), "to": until})


def history_pages(service: Service) -> APIRouter:
    """The routes of the History page, and of its files."""
    router = page_router()

    @router.get("/history")
    def history(page_request: Auditing, as_of: AsOf, before: _Position = None, after: _Position = None) -> Response:
        typed, scope = _typed(page_request.request), page_request.scope(AUDITOR)
        try:
            wanted = HistoryFilter.of(typed)
        except InvalidValue as error:
            problem = {error.field: sentence(error.code, error.fields, Surface.PAGE)}
            nothing, wanted = HistoryPage((), (), None, None, None), HistoryFilter(typed["profile"] or None)
            return page_request.render("history.html", problem=problem, **_frame(typed, wanted, as_of, nothing))
        place = Place(before, backwards=True) if before is not None else Place(after) if after is not None else None
        found = service.history.page(wanted, as_of, place, RECORDS_PER_PAGE, scope)
        if wanted.profile and not found.records and not service.history.has(wanted.profile, scope):
            raise NotFound("no_events_about", name=wanted.profile)
        now = as_of or service.clock.now()
        life = _life(service, wanted.profile, now, scope)
        frame = _frame(typed, wanted, as_of, found)
        return page_request.render(
            "history.html",
            problem=None,
            **{**frame, "life": life, "now": now, "forwards": before is None and after is not None},
        )

    @router.get("/history/export/{file_format}")
    def export(file_format: Literal["csv", "json"], page_request: Auditing) -> Response:
        wanted, scope = HistoryFilter.of(_typed(page_request.request)), page_request.scope(AUDITOR)
        return StreamingResponse(
            exported(service.history, wanted, scope, file_format),
            media_type=MEDIA_TYPES[file_format],
            headers={"Content-Disposition": f'attachment; filename="mailtoken-history.{file_format}"'},
        )

    return router


def _typed(request: Request) -> dict[str, str]:
    return {name: request.query_params.get(name, "").strip()[:200] for name in _FIELDS}


def _frame(
    typed: Mapping[str, str], wanted: HistoryFilter, as_of: datetime | None, page: HistoryPage
) -> dict[str, Any]:
    names = events.names_in(record.as_json() for record in page.created)
    profile, links = wanted.profile or "", HistoryLinks(wanted, as_of)
    return {
        "typed": typed,
        "wanted": wanted,
        "is_filtered": wanted != HistoryFilter(wanted.profile),
        "links": links,
        "kinds": list(EventKind),
        "formats": list(MEDIA_TYPES),
        "lines": [_line(one, names) for one in page.records],
        "page": page,
        "newer": page.newer and links.place(page.newer),
        "older": page.older and links.place(page.older),
        "profile": profile,
        "path": setting_path(profile) if "/" in profile else machine_path(profile),
        "forwards": False,
        "life": None,
        "now": None,
        "boxes": BOXES,
        "arrows": ARROWS,
        "size": (WIDTH, HEIGHT),
        "as_of": as_of,
    }


def _life(service: Service, profile: str | None, now: datetime, scope: Scope) -> StateTimes | None:
    """The life of the setting's token; None if the setting did not exist then."""
    if profile is None or "/" not in profile or not scope.has_profile(profile):
        return None
    try:
        return service.history.state_times(profile, now)
    except NotFound:
        return None


def _line(record: Record, names: dict[str, str]) -> HistoryLine:
    told = record.as_json()
    profile, machine = events.profile_of(told), events.machine_of(told)
    role, who = events.author_of(record.by)
    return HistoryLine(
        record.at,
        role,
        who,
        events.subject_of(told, names),
        setting_path(profile) if profile else machine_path(machine) if machine else None,
        events.event_text(told, names, Surface.PAGE),
        f"{record.aggregate}.{record.name}".lower().replace(".", "-"),
    )
