"""The pages that add and remove machines."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Response

from adapters.http.api.path_names import Name
from adapters.http.principal import ADMINISTRATOR
from adapters.http.web.page_route import Configuring, PageRequest, Posted, page_router, redirect
from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain.catalogue import CATALOGUES
from domain.errors import InvalidValue
from infrastructure.service import Service


def machine_pages(service: Service) -> APIRouter:
    """The routes that add and remove machines."""
    router, settings = page_router(), service.settings

    @router.get("/machines/add")
    def adding(page_request: Configuring) -> Response:
        return _machine_form(page_request)

    @router.post("/machines")
    def add(page_request: Configuring, form: Posted) -> Response:
        name = form.get("name", "")
        try:
            settings.add_machine(name, form.get("catalogue", ""), page_request.actor(ADMINISTRATOR))
        except InvalidValue as error:
            return _machine_form(page_request, typed=form, problem=error_text(error, Surface.PAGE))
        service.polling_worker.wake()
        return redirect(f"/settings?q={name}")

    @router.get("/machines/{name}/remove")
    def removing(name: Name, page_request: Configuring) -> Response:
        return page_request.render("machine_remove.html", name=name, profiles=settings.profile_names(name))

    @router.post("/machines/{name}/remove")
    def remove(name: Name, page_request: Configuring) -> Response:
        settings.remove_machine(name, page_request.actor(ADMINISTRATOR))
        return redirect("/settings", "machine_removed")

    return router


def _machine_form(
    page_request: PageRequest, typed: Mapping[str, str] | None = None, problem: str | None = None
) -> Response:
    return page_request.render("machine_add.html", catalogues=CATALOGUES.values(), typed=typed or {}, problem=problem)
