"""The page Relay users: who may use the relay and as which settings, what to type at a printer's panel, and refusals.

A password is shown once, on the sheet for the panel.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from urllib.parse import quote

from fastapi import APIRouter, Response

from adapters.http.api.path_names import Name
from adapters.http.principal import ADMINISTRATOR
from adapters.http.web.access_pages import add_removal
from adapters.http.web.faulty_form import NO_FORM, FaultyForm, NotAccepted, accept, faulty
from adapters.http.web.forms import words_in
from adapters.http.web.page_route import Configuring, PageRequest, Posted, page_router, redirect
from adapters.http.web.qr import qr_code
from adapters.http.web.relay_panel import panels, sheet_text
from adapters.http.web.suggestions import SUGGESTED
from adapters.http.web.texts import text
from adapters.texts.relay_refusals import refusal_text
from adapters.texts.wording import Surface
from domain.networks import read_networks
from domain.secret import Secret
from infrastructure.access.relay_users import generated_password
from infrastructure.clock import read_instant
from infrastructure.service import Service

USERS = "/relay-users"
_REFUSALS = 20


def relay_pages(service: Service) -> APIRouter:
    """The routes of the page, of the sheet, and of what is changed there."""
    router = page_router()
    _list_and_add(router, service)
    _sheet(router, service)
    _changes(router, service)
    return router


def _list_and_add(router: APIRouter, service: Service) -> None:
    users = service.relay_users

    @router.get(USERS)
    def list_users(page_request: Configuring) -> Response:
        return _users_page(service, page_request)

    @router.post(USERS)
    def add(page_request: Configuring, form: Posted) -> Response:
        name, by = form.get("name", ""), page_request.actor(ADMINISTRATOR)
        profiles, networks = words_in(form, "profiles"), words_in(form, "networks")
        password = generated_password() if form.get("sign_in") != "network" else None
        try:
            accept(
                {
                    "name": lambda: users.check_new_name(name),
                    "profiles": lambda: users.check_profiles(profiles),
                    "networks": lambda: read_networks(networks),
                },
                lambda: users.add(name, profiles, networks, password, by),
            )
        except NotAccepted as refused:
            return _users_page(service, page_request, FaultyForm.of(USERS, form, refused))
        return _sheet_page(service, page_request, name, password)


def _users_page(service: Service, page_request: PageRequest, wrong: FaultyForm = NO_FORM) -> Response:
    refusals = service.relay_refusals.last()[:_REFUSALS]
    return page_request.render(
        "relay_users.html",
        users=service.relay_users.users(),
        refusals=[(one, read_instant(one.at), refusal_text(one.cause, Surface.PAGE)) for one in refusals],
        now=service.clock.now(),
        profiles=service.settings.some_profile_names(SUGGESTED),
        wrong=wrong,
        status=wrong.status,
    )


def _sheet(router: APIRouter, service: Service) -> None:
    @router.get(f"{USERS}/{{name}}/sheet")
    def sheet(name: Name, page_request: Configuring) -> Response:
        return _sheet_page(service, page_request, name, None)

    @router.post(f"{USERS}/{{name}}/password")
    def new_password(name: Name, page_request: Configuring) -> Response:
        password = generated_password()
        service.relay_users.set_password(name, password, page_request.actor(ADMINISTRATOR))
        return _sheet_page(service, page_request, name, password)


def _sheet_page(service: Service, page_request: PageRequest, name: str, password: Secret | None) -> Response:
    user = service.relay_users.find(name)
    profiles = [service.tokens.status(profile).profile for profile in user.profiles.values()]
    shown = panels(user, profiles, service.config.relay, socket.gethostname(), password)
    page = page_request.render(
        "relay_sheet.html",
        user=user,
        panels=shown,
        password=password,
        qr=qr_code(sheet_text(user, shown), text("relay_sheet.qr")),
    )
    page.headers["Cache-Control"] = "no-store"
    return page


def _changes(router: APIRouter, service: Service) -> None:
    users = service.relay_users

    def answer(
        page_request: PageRequest, name: str, action: str, form: Mapping[str, str], do: Callable[[], object]
    ) -> Response:
        wrong = faulty(f"{USERS}/{quote(name)}/{action}", form, do)
        return _users_page(service, page_request, wrong) if wrong else redirect(USERS, "relay_user")

    @router.post(f"{USERS}/{{name}}/settings")
    def set_profiles(name: Name, page_request: Configuring, form: Posted) -> Response:
        by, profiles = page_request.actor(ADMINISTRATOR), words_in(form, "profiles")
        return answer(page_request, name, "settings", form, lambda: users.map(name, profiles, by))

    @router.post(f"{USERS}/{{name}}/networks")
    def set_networks(name: Name, page_request: Configuring, form: Posted) -> Response:
        by, networks = page_request.actor(ADMINISTRATOR), words_in(form, "networks")
        return answer(page_request, name, "networks", form, lambda: users.set_networks(name, networks, by))

    @router.post(f"{USERS}/{{name}}/messages")
    def set_messages(name: Name, page_request: Configuring, form: Posted) -> Response:
        by = page_request.actor(ADMINISTRATOR)
        changes = {"sender": form.get("sender") or None, "normalize": form.get("normalize") or None}
        return answer(page_request, name, "messages", form, lambda: users.change_messages(name, changes, by))

    add_removal(router, USERS, "relay_user", find=users.find, remove=users.remove)
