"""The pages of the whole fleet: Settings, and Attention."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from adapters.bootstrap import Service
from adapters.web.shown import shown_machines, shown_token
from adapters.web.visits import AsOf, Reading, page_router
from infrastructure.fleet import SHOWN, FleetPage, Wanted


class _Links:
    """Addresses of the Settings page that keep what else is wanted."""

    def __init__(self, wanted: Wanted, as_of: datetime | None) -> None:
        self._query = {"q": wanted.search, "show": wanted.show or "", "as_of": as_of.isoformat() if as_of else ""}

    def to(self, **changes: object) -> str:
        """The page with these parameters changed."""
        query = {name: value for name, value in {**self._query, **changes}.items() if value}
        return f"/settings?{urlencode(query)}" if query else "/settings"


def fleet_pages(service: Service) -> APIRouter:
    """Settings and Attention."""
    router = page_router()

    @router.get("/settings")
    def settings(
        visit: Reading,
        as_of: AsOf,
        q: Annotated[str, Query(max_length=200)] = "",
        show: str = "",
        page: Annotated[int, Query(ge=1)] = 1,
    ) -> Response:
        wanted = Wanted(q.strip(), show if show in SHOWN else None, page)
        found: FleetPage = service.fleet.page_as_of(wanted, as_of) if as_of else service.fleet.page(wanted)
        return visit.page(
            "settings.html",
            machines=shown_machines(found),
            found=found,
            wanted=wanted,
            links=_Links(wanted, as_of),
            now=as_of or service.clock.now(),
            as_of=as_of,
        )

    @router.get("/attention")
    def attention(visit: Reading, as_of: AsOf, page: Annotated[int, Query(ge=1)] = 1) -> Response:
        found = service.needs.page_as_of(page, as_of) if as_of else service.needs.page(page)
        return visit.page(
            "attention.html",
            found=found,
            needs=[(need, shown_token(need.first)) for need in found.needs],
            now=as_of or service.clock.now(),
            as_of=as_of,
        )

    return router
