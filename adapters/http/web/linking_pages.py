"""The pages that link a setting into an SMTP group and take it out: what will change is said before it is."""

from __future__ import annotations

from fastapi import APIRouter, Query, Response

from adapters.http.api.path_names import ProfileName
from adapters.http.principal import ADMINISTRATOR
from adapters.http.web.page_route import Configuring, PageRequest, Posted, page_router, redirect, setting_path
from adapters.http.web.suggestions import SUGGESTED
from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain.errors import InvalidValue, Refused
from infrastructure.service import Service


def linking_pages(service: Service) -> APIRouter:
    """The routes of both pages."""
    router, settings = page_router(), service.settings

    @router.get("/settings/{machine}/{setting}/link")
    def choose(name: ProfileName, page_request: Configuring, group: str = Query("", max_length=255)) -> Response:
        return _link_page(service, page_request, name, group.strip())

    @router.post("/settings/{machine}/{setting}/link")
    def link(name: ProfileName, page_request: Configuring, form: Posted) -> Response:
        group = form.get("group", "")
        try:
            settings.link(group, [name], page_request.actor(ADMINISTRATOR))
        except (InvalidValue, Refused) as error:
            return _link_page(service, page_request, name, group, problem=error_text(error, Surface.PAGE))
        return redirect(setting_path(name), "linked")

    @router.get("/settings/{machine}/{setting}/unlink")
    def leaving(name: ProfileName, page_request: Configuring) -> Response:
        status = service.tokens.status(name)
        group = settings.group(status.group) if status.group else None
        rest = [one for one in group.members if one.profile.name != name] if group else []
        return page_request.render(
            "unlink.html", profile=status.profile, group=group, rest=rest, path=setting_path(name)
        )

    @router.post("/settings/{machine}/{setting}/unlink")
    def unlink(name: ProfileName, page_request: Configuring) -> Response:
        settings.unlink(name, page_request.actor(ADMINISTRATOR))
        return redirect(setting_path(name), "unlinked")

    return router


def _link_page(
    service: Service, page_request: PageRequest, name: str, group_name: str, *, problem: str | None = None
) -> Response:
    status = service.tokens.status(name)
    return page_request.render(
        "link.html",
        profile=status.profile,
        current=status.group,
        groups=service.settings.some_group_names(SUGGESTED),
        group_name=group_name,
        group=service.settings.group(group_name) if group_name else None,
        problem=problem,
        path=setting_path(name),
    )
