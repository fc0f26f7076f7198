"""The pages Clients and Administrators: programs with a key, and people who sign in. A key or a link is shown once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from adapters.http.api.path_names import Name
from adapters.http.principal import ADMINISTRATOR
from adapters.http.public_url import setup_url
from adapters.http.web.forms import SUGGESTED, words_in
from adapters.http.web.page_route import Configuring, PageRequest, Posted, page_router, redirect
from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain.administrator import ROLES
from domain.errors import InvalidValue, NotFound, Refused
from infrastructure.access.api_clients import read_expiry
from infrastructure.service import Service

CLIENTS_ON_A_PAGE = 25


def people_pages(service: Service) -> APIRouter:
    """The routes of both pages."""
    router = page_router()
    _clients(router, service)
    _administrators(router, service)
    _changes_of_administrators(router, service)
    return router


def _clients(router: APIRouter, service: Service) -> None:
    clients = service.clients

    @router.get("/clients")
    def list_clients(page_request: Configuring, page: Annotated[int, Query(ge=1)] = 1) -> Response:
        return clients_page(page_request, page)

    def clients_page(page_request: PageRequest, page: int = 1, **context: Any) -> Response:
        frame: dict[str, Any] = {"typed": {}, "problem": None, "key": None, "key_of": None}
        listed = clients.clients()
        pages = max(1, -(-len(listed) // CLIENTS_ON_A_PAGE))
        begin = (min(page, pages) - 1) * CLIENTS_ON_A_PAGE
        return page_request.render(
            "clients.html",
            clients=listed[begin : begin + CLIENTS_ON_A_PAGE],
            page=min(page, pages),
            pages=pages,
            profiles=service.settings.some_profile_names(SUGGESTED),
            now=service.clock.now(),
            **{**frame, **context},
        )

    @router.post("/clients")
    def add(page_request: Configuring, form: Posted) -> Response:
        try:
            name = form.get("name", "")
            key = clients.add(
                name,
                words_in(form, "profiles"),
                read_expiry(form.get("expires") or None),
                page_request.actor(ADMINISTRATOR),
            )
        except (InvalidValue, NotFound, Refused) as error:
            return clients_page(page_request, typed=form, problem=error_text(error, Surface.PAGE))
        return clients_page(page_request, key=key.reveal(), key_of=name)

    @router.post("/clients/{name}/key")
    def new_key(name: Name, page_request: Configuring, form: Posted) -> Response:
        key = clients.new_key(name, read_expiry(form.get("expires") or None), page_request.actor(ADMINISTRATOR))
        return clients_page(page_request, key=key.reveal(), key_of=name)

    @router.post("/clients/{name}/grant")
    def grant(name: Name, page_request: Configuring, form: Posted) -> Response:
        clients.grant(name, words_in(form, "profiles"), page_request.actor(ADMINISTRATOR))
        return redirect("/clients", "granted")

    @router.post("/clients/{name}/revoke")
    def revoke(name: Name, page_request: Configuring, form: Posted) -> Response:
        clients.revoke(name, words_in(form, "profiles"), page_request.actor(ADMINISTRATOR))
        return redirect("/clients", "granted")

    add_removal(router, "/clients", "client", clients.remove)


def _administrators(router: APIRouter, service: Service) -> None:
    administrators = service.administrators

    @router.get("/administrators")
    def list_administrators(page_request: Configuring) -> Response:
        return administrators_page(page_request)

    def administrators_page(page_request: PageRequest, **context: Any) -> Response:
        frame: dict[str, Any] = {
            "typed": {},
            "chosen": set(ROLES[1:]),
            "problem": None,
            "link": None,
            "link_of": None,
        }
        return page_request.render(
            "administrators.html",
            administrators=administrators.administrators(),
            roles=ROLES,
            now=service.clock.now(),
            **{**frame, **context},
        )

    def link_page(page_request: PageRequest, name: str) -> Response:
        made = administrators.link(name, page_request.actor(ADMINISTRATOR))
        address = setup_url(service.config, made)
        return administrators_page(page_request, link=address, link_of=name, link_ends=made.expires_at)

    @router.post("/administrators")
    def add(page_request: Configuring, form: Posted) -> Response:
        name = form.get("name", "")
        try:
            administrators.add(name, _roles(form), None, page_request.actor(ADMINISTRATOR), words_in(form, "machines"))
        except (InvalidValue, Refused) as error:
            return administrators_page(
                page_request, typed=form, chosen=set(_roles(form)), problem=error_text(error, Surface.PAGE)
            )
        return link_page(page_request, name)

    @router.post("/administrators/{name}/link")
    def link(name: Name, page_request: Configuring) -> Response:
        return link_page(page_request, name)


def _changes_of_administrators(router: APIRouter, service: Service) -> None:
    administrators = service.administrators

    @router.post("/administrators/{name}/roles")
    def set_roles(name: Name, page_request: Configuring, form: Posted) -> Response:
        administrators.set_roles(name, _roles(form), page_request.actor(ADMINISTRATOR))
        return redirect("/administrators", "roles")

    @router.post("/administrators/{name}/machines")
    def limit(name: Name, page_request: Configuring, form: Posted) -> Response:
        administrators.limit(name, words_in(form, "machines"), page_request.actor(ADMINISTRATOR))
        return redirect("/administrators", "limited")

    @router.get("/administrators/{name}/second-factor")
    def confirm_reset(name: Name, page_request: Configuring) -> Response:
        return page_request.render("second_factor_reset.html", name=name)

    @router.post("/administrators/{name}/second-factor")
    def reset_second_factor(name: Name, page_request: Configuring) -> Response:
        is_own = page_request.session.principal.is_administrator(name)
        administrators.second_factors.reset(name, page_request.actor(ADMINISTRATOR), is_own=is_own)
        return redirect("/administrators", "second_factor_reset")

    add_removal(router, "/administrators", "administrator", administrators.remove)


def add_removal(router: APIRouter, listed: str, kind: str, remove: Callable[[str, str], None]) -> None:
    """Add the page that asks before a removal, and the removal: `remove` takes a name and the actor.

    `listed` is the path of the list, and `kind` the word in the names of the texts.
    """

    @router.get(f"{listed}/{{name}}/remove")
    def confirm(name: Name, page_request: Configuring) -> Response:
        return page_request.render("person_remove.html", kind=kind, name=name, back=listed)

    @router.post(f"{listed}/{{name}}/remove")
    def removing(name: Name, page_request: Configuring) -> Response:
        remove(name, page_request.actor(ADMINISTRATOR))
        return redirect(listed, f"{kind}_removed")


def _roles(form: dict[str, str]) -> list[str]:
    return [role for role in ROLES if role in form]
