"""The page of all machines: searched, filtered and sorted by its address, one row a machine."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from adapters.http.web.page_route import Reading, address, page_router
from adapters.http.web.view_models import STATES
from infrastructure.queries.machine_filter import ANY_CAUSE, MachineFilter, Place, Sort
from infrastructure.queries.settings_page import NEEDS_ATTENTION
from infrastructure.service import Service

_MOST_TAGS = 100


class MachineLinks:
    """Addresses of the list that keep its present filter and order."""

    def __init__(self, wanted: MachineFilter, sort: Sort) -> None:
        self._query = {**wanted.as_texts(), "sort": sort.value if sort is not Sort.NAME else ""}

    def to(self, **changes: object) -> str:
        """The address with these parameters changed."""
        return address("/machines", {**self._query, **changes})


def wanted_of(request: Request) -> MachineFilter:
    """The filter that a page's address asks for.

    Raises:
        InvalidValue: no state is called so.
    """
    return MachineFilter.of({name: text[:200] for name, text in request.query_params.items()})


def _earlier(wanted: MachineFilter) -> str:
    """The address of the list that can show an earlier instant, with the same search and state."""
    show = NEEDS_ATTENTION if wanted.cause == ANY_CAUSE else wanted.state
    return address("/settings", {"q": wanted.q, "show": show})


def machine_list_page(service: Service) -> APIRouter:
    """The route of the page."""
    router = page_router()

    @router.get("/machines")
    def machines(
        page_request: Reading,
        sort: Sort = Sort.NAME,
        after: Annotated[str, Query(max_length=500)] = "",
        before: Annotated[str, Query(max_length=500)] = "",
    ) -> Response:
        wanted, scope = wanted_of(page_request.request), page_request.reads
        inside = wanted.within(scope, service.settings.machine_names)
        place = Place.of(after or before, sort, backwards=not after) if after or before else None
        found = service.machines.page(inside, sort, place)
        links = MachineLinks(wanted, sort)
        return page_request.render(
            "machines.html",
            has_providers=bool(service.providers),
            page=found,
            wanted=wanted,
            sort=sort,
            sorts=list(Sort),
            links=links,
            states=STATES,
            providers=sorted(service.providers),
            tags=[tag for tag, _ in service.machines.tags(_MOST_TAGS, scope)],
            any_cause=ANY_CAUSE,
            earlier=_earlier(wanted),
            previous=found.before and links.to(before=found.before.text(sort)),
            next=found.after and links.to(after=found.after.text(sort)),
            now=service.clock.now(),
        )

    return router
