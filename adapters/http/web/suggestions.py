"""Names for a field that asks for one, by what is typed so far. Without JavaScript the field has the first ones."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from adapters.http.web.page_route import Configuring, page_router
from infrastructure.service import Service

SUGGESTED = 500
"""The most names that a page holds; any other name can be typed."""
_ANSWERED = 20


def suggestions(service: Service) -> APIRouter:
    """The routes of both kinds of names, in JSON, for those who may read the pages with the forms."""
    router, settings = page_router(), service.settings

    @router.get("/suggestions/settings")
    def setting_names(_: Configuring, q: Annotated[str, Query(max_length=200)] = "") -> list[str]:
        return settings.some_profile_names(_ANSWERED, q)

    @router.get("/suggestions/groups")
    def group_names(_: Configuring, q: Annotated[str, Query(max_length=200)] = "") -> list[str]:
        return settings.some_group_names(_ANSWERED, q)

    return router
