"""The page of one setting, with the manual's form, and those that add and remove machines."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from adapters.bootstrap import Service
from adapters.http.callers import ADMINISTRATOR
from adapters.http.naming import Name, ProfileName
from adapters.web.forms import fields_of, typed_in
from adapters.web.shown import shown_setting, shown_token
from adapters.web.visits import AsOf, Configuring, Posted, Reading, Visit, page_router, said, see, setting_path
from domain.catalogue import CATALOGUES
from domain.errors import InvalidValue
from domain.lifecycle import TokenStatus


def setting_pages(service: Service) -> APIRouter:
    """A setting, its form, its token alone; adding and removing machines."""
    router, settings = page_router(), service.settings

    @router.get("/settings/{machine}/{setting}")
    def setting(name: ProfileName, visit: Reading, as_of: AsOf) -> Response:
        return page(visit, name, as_of=as_of)

    def page(
        visit: Visit,
        name: str,
        *,
        as_of: datetime | None = None,
        typed: Mapping[str, str] | None = None,
        problem: tuple[str, str] | None = None,
    ) -> Response:
        found = service.fleet.setting_as_of(name, as_of) if as_of else service.fleet.setting(name)
        profile = found.setting.status.profile
        fields = fields_of(
            profile,
            list(service.config.providers),
            may_change_account=found.setting.status.token.status is TokenStatus.NOT_RETRIEVED,
            typed=typed,
            problem=problem,
        )
        return visit.page(
            "setting.html",
            shown=shown_setting(profile, found.catalogues.get(profile.machine)),
            token=shown_token(found.setting),
            linked=[shown_setting(one.profile, found.catalogues.get(one.profile.machine)) for one in found.linked],
            fields=fields,
            problem=problem,
            as_of=as_of,
            now=as_of or service.clock.now(),
        )

    @router.post("/settings/{machine}/{setting}")
    def save(name: ProfileName, visit: Configuring, form: Posted) -> Response:
        typed = typed_in(service.tokens.status(name).profile, form)
        try:
            settings.set_profile(name, typed, visit.by(ADMINISTRATOR), {form["edition"]} if "edition" in form else None)
        except InvalidValue as error:
            return page(visit, name, typed=typed, problem=(error.field, said(error).partition(": ")[2]))
        return see(setting_path(name), "saved")

    @router.get("/settings/{machine}/{setting}/token")
    def token(name: ProfileName, visit: Reading, seen: str = "") -> Response:
        shown = shown_token(service.attention.of(service.tokens.status(name)))
        if shown.key == seen:
            # Nothing is put in its place then, so nobody is told again what they know.
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return HTMLResponse(visit.part("_token.html", token=shown, now=service.clock.now()))

    @router.get("/machines/add")
    def adding(visit: Configuring) -> Response:
        return visit.page("machine_add.html", catalogues=CATALOGUES.values(), typed={}, problem=None)

    @router.post("/machines")
    def add(visit: Configuring, form: Posted) -> Response:
        name = form.get("name", "")
        try:
            settings.add_machine(name, form.get("catalogue", ""), visit.by(ADMINISTRATOR))
        except InvalidValue as error:
            return visit.page(
                "machine_add.html",
                catalogues=CATALOGUES.values(),
                typed=form,
                problem=said(error),
            )
        service.worker.wake()
        return see(f"/settings?q={name}")

    @router.get("/machines/{name}/remove")
    def removing(name: Name, visit: Configuring) -> Response:
        return visit.page("machine_remove.html", name=name, profiles=settings.profile_names(name))

    @router.post("/machines/{name}/remove")
    def remove(name: Name, visit: Configuring) -> Response:
        settings.remove_machine(name, visit.by(ADMINISTRATOR))
        return see("/settings", "machine_removed")

    return router
