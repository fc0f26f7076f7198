"""The router of all pages."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from adapters.http.session_cookie import browser_session
from adapters.http.web.access_pages import people_pages
from adapters.http.web.account_pages import account_pages
from adapters.http.web.coming_back import come_back, is_coming_back
from adapters.http.web.fleet_pages import fleet_pages
from adapters.http.web.history_pages import history_pages
from adapters.http.web.home_page import home_page
from adapters.http.web.job_pages import job_pages
from adapters.http.web.linking_pages import linking_pages
from adapters.http.web.machine_list_page import machine_list_page
from adapters.http.web.machine_pages import machine_pages
from adapters.http.web.page_route import page_router, redirect, to_sign_in
from adapters.http.web.provider_pages import provider_pages
from adapters.http.web.provider_wizard import provider_wizard
from adapters.http.web.relay_pages import relay_pages
from adapters.http.web.rendering import static_files
from adapters.http.web.setting_pages import setting_pages
from adapters.http.web.suggestions import suggestions
from adapters.http.web.token_pages import token_pages
from adapters.http.web.transfer_pages import transfer_pages
from adapters.http.web.verify_page import verify_page
from infrastructure.service import Service

_FOR_EVER = "public, max-age=31536000, immutable"


def web_pages(service: Service) -> APIRouter:
    """The routes of the pages and of their static files."""
    router = page_router()

    @router.get("/")
    def start(request: Request) -> Response:
        if is_coming_back(request):
            return come_back(service, request)
        return redirect("/home") if browser_session(request) else to_sign_in(request)

    @router.get("/static/{name}")
    def static(name: str) -> Response:
        file = static_files().get(name)
        if file is None:
            return Response(status_code=404)
        return Response(file.body, media_type=file.media_type, headers={"Cache-Control": _FOR_EVER})

    for pages in (
        fleet_pages,
        setting_pages,
        suggestions,
        home_page,
        job_pages,
        machine_list_page,
        machine_pages,
        token_pages,
        history_pages,
        provider_pages,
        provider_wizard,
        people_pages,
        account_pages,
        relay_pages,
        verify_page,
        linking_pages,
        transfer_pages,
    ):
        router.routes.extend(pages(service).routes)
    return router
