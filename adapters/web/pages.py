"""All the pages, as one router for the service's application."""

from __future__ import annotations

from fastapi import APIRouter, Response

from adapters.bootstrap import Service
from adapters.web.fleet_pages import fleet_pages
from adapters.web.history_pages import history_pages
from adapters.web.people_pages import people_pages
from adapters.web.provider_pages import provider_pages
from adapters.web.rendering import static_files
from adapters.web.setting_pages import setting_pages
from adapters.web.token_pages import token_pages
from adapters.web.visits import Reading, page_router, see

_FOR_EVER = "public, max-age=31536000, immutable"


def web_pages(service: Service) -> APIRouter:
    """The administrator's pages, and the files they are made of."""
    router = page_router()

    @router.get("/")
    def start(_: Reading) -> Response:
        return see("/settings")

    @router.get("/static/{name}")
    def static(name: str) -> Response:
        file = static_files().get(name)
        if file is None:
            return Response(status_code=404)
        return Response(file.body, media_type=file.media_type, headers={"Cache-Control": _FOR_EVER})

    for pages in (fleet_pages, setting_pages, token_pages, history_pages, provider_pages, people_pages):
        router.include_router(pages(service))
    return router
