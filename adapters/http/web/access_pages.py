"""The pages Clients and Administrators: programs with a key, and people who sign in. A key or a link is shown once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Response

from adapters.http.api.path_names import Name
from adapters.http.principal import ADMINISTRATOR
from adapters.http.public_url import setup_url
from adapters.http.web.faulty_form import NO_FORM, FaultyForm, NotAccepted, accept, faulty
from adapters.http.web.forms import words_in
from adapters.http.web.page_route import Configuring, PageRequest, Posted, page_router, redirect
from adapters.http.web.suggestions import SUGGESTED
from domain.administrator import ROLES, valid_roles
from domain.scope import check_limitable, valid_patterns
from infrastructure.access.api_clients import read_expiry
from infrastructure.service import Service

CLIENTS_ON_A_PAGE = 25
CLIENTS, ADMINISTRATORS = "/clients", "/administrators"


def people_pages(service: Service) -> APIRouter:
    """The routes of both pages."""
    router = page_router()
    _clients(router, service)
    _changes_of_clients(router, service)
    _administrators(router, service)
    _changes_of_administrators(router, service)
    return router


def _clients(router: APIRouter, service: Service) -> None:
    clients = service.clients

    @router.get(CLIENTS)
    def list_clients(page_request: Configuring, page: Annotated[int, Query(ge=1)] = 1) -> Response:
        return _clients_page(service, page_request, page)

    @router.post(CLIENTS)
    def add(page_request: Configuring, form: Posted) -> Response:
        name, profiles = form.get("name", ""), words_in(form, "profiles")
        try:
            key = accept(
                {
                    "name": lambda: clients.check_new_name(name),
                    "profiles": lambda: clients.check_profiles(profiles),
                    "expires": lambda: clients.check_expiry(_expiry(form)),
                },
                lambda: clients.add(name, profiles, _expiry(form), page_request.actor(ADMINISTRATOR)),
            )
        except NotAccepted as refused:
            return _clients_page(service, page_request, wrong=FaultyForm.of(CLIENTS, form, refused))
        return _clients_page(service, page_request, key=key.reveal(), key_of=name)


def _changes_of_clients(router: APIRouter, service: Service) -> None:
    clients = service.clients

    def again(page_request: PageRequest, name: str, wrong: FaultyForm) -> Response:
        return _clients_page(service, page_request, _page_of(service, name), wrong=wrong)

    @router.post(f"{CLIENTS}/{{name}}/key")
    def new_key(name: Name, page_request: Configuring, form: Posted) -> Response:
        by = page_request.actor(ADMINISTRATOR)
        try:
            key = accept({}, lambda: clients.new_key(name, _expiry(form), by))
        except NotAccepted as refused:
            return again(page_request, name, FaultyForm.of(_path(CLIENTS, name, "key"), form, refused))
        return _clients_page(service, page_request, _page_of(service, name), key=key.reveal(), key_of=name)

    # Both buttons are of one form.
    @router.post(f"{CLIENTS}/{{name}}/grant")
    def grant(name: Name, page_request: Configuring, form: Posted) -> Response:
        by, profiles = page_request.actor(ADMINISTRATOR), words_in(form, "profiles")
        wrong = faulty(_path(CLIENTS, name, "grant"), form, lambda: clients.grant(name, profiles, by))
        return again(page_request, name, wrong) if wrong else redirect(CLIENTS, "granted")

    @router.post(f"{CLIENTS}/{{name}}/revoke")
    def revoke(name: Name, page_request: Configuring, form: Posted) -> Response:
        by, profiles = page_request.actor(ADMINISTRATOR), words_in(form, "profiles")
        wrong = faulty(_path(CLIENTS, name, "grant"), form, lambda: clients.revoke(name, profiles, by))
        return again(page_request, name, wrong) if wrong else redirect(CLIENTS, "granted")

    add_removal(router, CLIENTS, "client", find=clients.check_is_there, remove=clients.remove)


def _path(listed: str, name: str, action: str) -> str:
    return f"{listed}/{quote(name)}/{action}"


def _expiry(form: Mapping[str, str]) -> datetime | None:
    return read_expiry(form.get("expires") or None)


def _page_of(service: Service, client: str) -> int:
    names = [one.name for one in service.clients.clients()]
    return names.index(client) // CLIENTS_ON_A_PAGE + 1 if client in names else 1


def _clients_page(
    service: Service, page_request: PageRequest, page: int = 1, *, wrong: FaultyForm = NO_FORM, **context: Any
) -> Response:
    frame: dict[str, Any] = {"key": None, "key_of": None}
    listed = service.clients.clients()
    pages = max(1, -(-len(listed) // CLIENTS_ON_A_PAGE))
    begin = (min(page, pages) - 1) * CLIENTS_ON_A_PAGE
    return page_request.render(
        "clients.html",
        clients=listed[begin : begin + CLIENTS_ON_A_PAGE],
        page=min(page, pages),
        pages=pages,
        profiles=service.settings.some_profile_names(SUGGESTED),
        now=service.clock.now(),
        wrong=wrong,
        status=wrong.status,
        **{**frame, **context},
    )


def _administrators(router: APIRouter, service: Service) -> None:
    administrators = service.administrators

    @router.get(ADMINISTRATORS)
    def list_administrators(page_request: Configuring) -> Response:
        return _administrators_page(service, page_request)

    @router.post(ADMINISTRATORS)
    def add(page_request: Configuring, form: Posted) -> Response:
        name, roles, machines = form.get("name", ""), _roles(form), words_in(form, "machines")
        by = page_request.actor(ADMINISTRATOR)
        try:
            accept(
                {
                    "name": lambda: administrators.check_new_name(name),
                    "roles": lambda: valid_roles(roles),
                    "machines": lambda: check_limitable(roles, valid_patterns(machines)),
                },
                lambda: administrators.add(name, roles, None, by, machines),
            )
        except NotAccepted as refused:
            return _administrators_page(service, page_request, wrong=FaultyForm.of(ADMINISTRATORS, form, refused))
        return link_page(page_request, name)

    @router.post(f"{ADMINISTRATORS}/{{name}}/link")
    def link(name: Name, page_request: Configuring) -> Response:
        return link_page(page_request, name)

    def link_page(page_request: PageRequest, name: str) -> Response:
        made = administrators.link(name, page_request.actor(ADMINISTRATOR))
        address = setup_url(service.config, made)
        return _administrators_page(service, page_request, link=address, link_of=name, link_ends=made.expires_at)


def _administrators_page(
    service: Service, page_request: PageRequest, *, wrong: FaultyForm = NO_FORM, **context: Any
) -> Response:
    frame: dict[str, Any] = {"link": None, "link_of": None}
    return page_request.render(
        "administrators.html",
        administrators=service.administrators.administrators(),
        roles=ROLES,
        now=service.clock.now(),
        wrong=wrong,
        status=wrong.status,
        **{**frame, **context},
    )


def _changes_of_administrators(router: APIRouter, service: Service) -> None:
    administrators = service.administrators

    @router.post(f"{ADMINISTRATORS}/{{name}}/roles")
    def set_roles(name: Name, page_request: Configuring, form: Posted) -> Response:
        by, roles = page_request.actor(ADMINISTRATOR), _roles(form)
        wrong = faulty(_path(ADMINISTRATORS, name, "roles"), form, lambda: administrators.set_roles(name, roles, by))
        return again(page_request, wrong) if wrong else redirect(ADMINISTRATORS, "roles")

    @router.post(f"{ADMINISTRATORS}/{{name}}/machines")
    def limit(name: Name, page_request: Configuring, form: Posted) -> Response:
        by, machines = page_request.actor(ADMINISTRATOR), words_in(form, "machines")
        wrong = faulty(_path(ADMINISTRATORS, name, "machines"), form, lambda: administrators.limit(name, machines, by))
        return again(page_request, wrong) if wrong else redirect(ADMINISTRATORS, "limited")

    def again(page_request: PageRequest, wrong: FaultyForm) -> Response:
        return _administrators_page(service, page_request, wrong=wrong)

    @router.get(f"{ADMINISTRATORS}/{{name}}/second-factor")
    def confirm_reset(name: Name, page_request: Configuring) -> Response:
        administrators.administrator(name)
        return page_request.render("second_factor_reset.html", name=name)

    @router.post(f"{ADMINISTRATORS}/{{name}}/second-factor")
    def reset_second_factor(name: Name, page_request: Configuring) -> Response:
        is_own = page_request.session.principal.is_administrator(name)
        administrators.second_factors.reset(name, page_request.actor(ADMINISTRATOR), is_own=is_own)
        return redirect(ADMINISTRATORS, "second_factor_reset")

    find, remove = administrators.administrator, administrators.remove
    add_removal(router, ADMINISTRATORS, "administrator", find=find, remove=remove)


def add_removal(
    router: APIRouter,
    listed: str,
    kind: str,
    *,
    find: Callable[[str], object],
    remove: Callable[[str, str], None],
) -> None:
    """Add the page that asks before a removal, and the removal: `remove` takes a name and the actor.

    `listed` is the path of the list, and `kind` the word in the names of the texts. `find` raises NotFound if there is
    nothing of this name.
    """

    @router.get(f"{listed}/{{name}}/remove")
    def confirm(name: Name, page_request: Configuring) -> Response:
        find(name)
        return page_request.render("person_remove.html", kind=kind, name=name, back=listed)

    @router.post(f"{listed}/{{name}}/remove")
    def removing(name: Name, page_request: Configuring) -> Response:
        remove(name, page_request.actor(ADMINISTRATOR))
        return redirect(listed, f"{kind}_removed")


def _roles(form: dict[str, str]) -> list[str]:
    return [role for role in ROLES if role in form]
