"""The page of a machine, and the pages that add and remove machines."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Response

from adapters.error_kinds import status_of
from adapters.http.api.path_names import Name
from adapters.http.principal import ADMINISTRATOR
from adapters.http.web.page_route import Configuring, PageRequest, Posted, Reading, machine_path, page_router, redirect
from adapters.http.web.view_models import machine_view
from adapters.texts.errors import error_text, text_at_field
from adapters.texts.wording import Surface
from domain.catalogue import CATALOGUES
from domain.errors import InvalidValue, MailtokenError, Refused
from infrastructure.service import Service


def machine_pages(service: Service) -> APIRouter:
    """The routes of one machine: its page, its tags, adding and removing it."""
    router, settings = page_router(), service.settings

    @router.get("/machines/add")
    def adding(page_request: Configuring) -> Response:
        return _machine_form(page_request)

    @router.post("/machines")
    def add(page_request: Configuring, form: Posted) -> Response:
        name = form.get("name", "")
        try:
            settings.add_machine(name, form.get("catalogue", ""), page_request.actor(ADMINISTRATOR))
        except (InvalidValue, Refused) as error:
            return _machine_form(page_request, form, error)
        service.polling_worker.wake()
        return redirect(machine_path(name))

    @router.get("/machines/{name}/panel")
    def panel(name: Name, page_request: Reading) -> Response:
        return _panel(service, page_request, name)

    @router.post("/machines/{name}/tags")
    def tag(name: Name, page_request: Configuring, form: Posted) -> Response:
        typed = form.get("tags", "")
        try:
            settings.set_tags(name, typed.split(), page_request.actor(ADMINISTRATOR))
        except InvalidValue as error:
            problem = text_at_field(error, Surface.PAGE)
            return _panel(service, page_request, name, typed=typed, problem=problem)
        return redirect(machine_path(name), "tagged")

    @router.get("/machines/{name}/remove")
    def removing(name: Name, page_request: Configuring) -> Response:
        settings.check_machine(name)
        return page_request.render("machine_remove.html", name=name, profiles=settings.profile_names(name))

    @router.post("/machines/{name}/remove")
    def remove(name: Name, page_request: Configuring) -> Response:
        settings.remove_machine(name, page_request.actor(ADMINISTRATOR))
        return redirect("/machines", "machine_removed")

    return router


def _panel(
    service: Service, page_request: PageRequest, name: str, *, typed: str = "", problem: str | None = None
) -> Response:
    machine, uses = service.settings_page.machine(name, page_request.reads)
    return page_request.render(
        "machine.html",
        machine=machine_view(machine, uses),
        tags=service.settings.tags_of(name),
        typed=typed,
        problem=problem,
        now=service.clock.now(),
    )


def _machine_form(
    page_request: PageRequest, typed: Mapping[str, str] | None = None, error: MailtokenError | None = None
) -> Response:
    return page_request.render(
        "machine_add.html",
        catalogues=CATALOGUES.values(),
        typed=typed or {},
        problem=error_text(error, Surface.PAGE) if error else None,
        status=status_of(error) if error else None,
    )
