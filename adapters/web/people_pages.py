"""Clients and Administrators: which programs hold keys, and who may sign in. A key or a link is shown once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from adapters.bootstrap import Service
from adapters.http.callers import ADMINISTRATOR
from adapters.http.identity import expiry
from adapters.http.listener import setup_url
from adapters.http.naming import Name
from adapters.web.visits import Configuring, Posted, Visit, page_router, said, see
from domain.administrator import ROLES
from domain.errors import InvalidValue, NotFound, Refused

CLIENTS_ON_A_PAGE = 25
_OFFERED = 500
"""Of a large fleet not every profile is offered while one types; any can be typed."""


def people_pages(service: Service) -> APIRouter:
    """Both lists, with what can be done there."""
    router = page_router()
    _clients(router, service)
    _administrators(router, service)
    return router


def _clients(router: APIRouter, service: Service) -> None:
    clients = service.clients

    @router.get("/clients")
    def list_clients(visit: Configuring, page: Annotated[int, Query(ge=1)] = 1) -> Response:
        return clients_page(visit, page)

    def clients_page(visit: Visit, page: int = 1, **context: Any) -> Response:
        frame: dict[str, Any] = {"typed": {}, "problem": None, "key": None, "key_of": None}
        listed = clients.clients()
        pages = max(1, -(-len(listed) // CLIENTS_ON_A_PAGE))
        begin = (min(page, pages) - 1) * CLIENTS_ON_A_PAGE
        return visit.page(
            "clients.html",
            clients=listed[begin : begin + CLIENTS_ON_A_PAGE],
            page=min(page, pages),
            pages=pages,
            profiles=service.settings.some_profile_names(_OFFERED),
            now=service.clock.now(),
            **{**frame, **context},
        )

    @router.post("/clients")
    def add(visit: Configuring, form: Posted) -> Response:
        try:
            name = form.get("name", "")
            key = clients.add(name, _names(form), expiry(form.get("expires") or None), visit.by(ADMINISTRATOR))
        except (InvalidValue, NotFound, Refused) as error:
            return clients_page(visit, typed=form, problem=said(error))
        return clients_page(visit, key=key.reveal(), key_of=name)

    @router.post("/clients/{name}/key")
    def new_key(name: Name, visit: Configuring, form: Posted) -> Response:
        key = clients.new_key(name, expiry(form.get("expires") or None), visit.by(ADMINISTRATOR))
        return clients_page(visit, key=key.reveal(), key_of=name)

    @router.post("/clients/{name}/grant")
    def grant(name: Name, visit: Configuring, form: Posted) -> Response:
        clients.grant(name, _names(form), visit.by(ADMINISTRATOR))
        return see("/clients", "granted")

    @router.post("/clients/{name}/revoke")
    def revoke(name: Name, visit: Configuring, form: Posted) -> Response:
        clients.revoke(name, _names(form), visit.by(ADMINISTRATOR))
        return see("/clients", "granted")

    _removal(router, "client", clients.remove)


def _administrators(router: APIRouter, service: Service) -> None:
    administrators = service.administrators

    @router.get("/administrators")
    def list_administrators(visit: Configuring) -> Response:
        return administrators_page(visit)

    def administrators_page(visit: Visit, **context: Any) -> Response:
        frame: dict[str, Any] = {
            "typed": {},
            "chosen": set(ROLES[1:]),
            "problem": None,
            "link": None,
            "link_of": None,
        }
        return visit.page(
            "administrators.html",
            administrators=administrators.administrators(),
            roles=ROLES,
            now=service.clock.now(),
            **{**frame, **context},
        )

    def link_page(visit: Visit, name: str) -> Response:
        made = administrators.link(name, visit.by(ADMINISTRATOR))
        address = setup_url(service.config, made)
        return administrators_page(visit, link=address, link_of=name, link_ends=made.expires_at)

    @router.post("/administrators")
    def add(visit: Configuring, form: Posted) -> Response:
        name = form.get("name", "")
        try:
            administrators.add(name, _roles(form), None, visit.by(ADMINISTRATOR))
        except (InvalidValue, Refused) as error:
            return administrators_page(visit, typed=form, chosen=set(_roles(form)), problem=said(error))
        return link_page(visit, name)

    @router.post("/administrators/{name}/link")
    def link(name: Name, visit: Configuring) -> Response:
        return link_page(visit, name)

    @router.post("/administrators/{name}/roles")
    def set_roles(name: Name, visit: Configuring, form: Posted) -> Response:
        administrators.set_roles(name, _roles(form), visit.by(ADMINISTRATOR))
        return see("/administrators", "roles")

    _removal(router, "administrator", administrators.remove)


def _removal(router: APIRouter, kind: str, remove: Callable[[str, str], None]) -> None:
    """The question whether to remove one of this kind, and what is done then: `remove` takes a name and who does it."""
    listed = f"/{kind}s"

    @router.get(f"{listed}/{{name}}/remove")
    def asking(name: Name, visit: Configuring) -> Response:
        return visit.page("person_remove.html", kind=kind, name=name, back=listed)

    @router.post(f"{listed}/{{name}}/remove")
    def removing(name: Name, visit: Configuring) -> Response:
        remove(name, visit.by(ADMINISTRATOR))
        return see(listed, f"{kind}_removed")


def _names(form: dict[str, str]) -> list[str]:
    return form.get("profiles", "").replace(",", " ").split()


def _roles(form: dict[str, str]) -> list[str]:
    return [role for role in ROLES if role in form]
