"""The pages of the whole fleet: Settings, and Attention; and the button that lifts the hold of a restored store.

Settings shows an earlier instant, which Machines can't: that list is sorted and paged by rows as of now. Each leads to
the other with the same search and state.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response

from adapters.http.principal import ADMINISTRATOR
from adapters.http.web.page_route import AsOf, Configuring, Posted, Reading, address, page_router, redirect
from adapters.http.web.view_models import machine_views, token_view
from infrastructure.queries.machine_filter import ANY_CAUSE
from infrastructure.queries.settings_page import FILTERS, NEEDS_ATTENTION, SettingsFilter, SettingsPage
from infrastructure.service import Service


class _Links:
    """Addresses of the Settings page that keep its present search, filter and instant."""

    def __init__(self, settings_filter: SettingsFilter, as_of: datetime | None) -> None:
        self._query = {
            "q": settings_filter.search,
            "show": settings_filter.state or "",
            "as_of": as_of.isoformat() if as_of else "",
        }

    def to(self, **changes: object) -> str:
        """The address with these parameters changed."""
        return address("/settings", {**self._query, **changes})

    @property
    def machines(self) -> str:
        """The address of the list of machines as of now."""
        show = self._query["show"]
        state = {"cause": ANY_CAUSE} if show == NEEDS_ATTENTION else {"state": show}
        return address("/machines", {"q": self._query["q"], **state})


def fleet_pages(service: Service) -> APIRouter:
    """The routes of the Settings and Attention pages, and of the button."""
    router = page_router()

    @router.get("/settings")
    def settings(
        page_request: Reading,
        as_of: AsOf,
        q: Annotated[str, Query(max_length=200)] = "",
        show: str = "",
        page: Annotated[int, Query(ge=1)] = 1,
    ) -> Response:
        settings_filter = SettingsFilter(q.strip(), show if show in FILTERS else None, page, page_request.reads)
        found: SettingsPage = (
            service.settings_page.page_as_of(settings_filter, as_of)
            if as_of
            else service.settings_page.page(settings_filter)
        )
        return page_request.render(
            "settings.html",
            has_providers=bool(service.providers),
            machines=machine_views(found),
            page=found,
            settings_filter=settings_filter,
            links=_Links(settings_filter, as_of),
            now=as_of or service.clock.now(),
            as_of=as_of,
        )

    @router.get("/attention")
    def attention(page_request: Reading, as_of: AsOf, page: Annotated[int, Query(ge=1)] = 1) -> Response:
        query, scope = service.attention_query, page_request.reads
        found = query.page_as_of(page, as_of, scope) if as_of else query.page(page, scope)
        return page_request.render(
            "attention.html",
            page=found,
            items=[(item, token_view(item.first)) for item in found.items],
            now=as_of or service.clock.now(),
            as_of=as_of,
        )

    @router.post("/resume")
    def resume(page_request: Configuring, form: Posted) -> Response:
        service.tokens.holds.resume(form.get("because") or None, page_request.actor(ADMINISTRATOR))
        return redirect("/attention", "resumed")

    return router
