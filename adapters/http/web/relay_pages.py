"""The page Relay users: who may use the relay and as which settings, what to type at a printer's panel, and refusals.

A password is shown once, on the sheet for the panel.
"""

from __future__ import annotations

import socket
from typing import Any

from fastapi import APIRouter, Response

from adapters.http.api.path_names import Name
from adapters.http.principal import ADMINISTRATOR
from adapters.http.web.access_pages import add_removal
from adapters.http.web.forms import SUGGESTED, words_in
from adapters.http.web.page_route import Configuring, PageRequest, Posted, page_router, redirect
from adapters.http.web.qr import qr_code
from adapters.http.web.relay_panel import panels, sheet_text
from adapters.http.web.texts import text
from adapters.texts.errors import error_text
from adapters.texts.relay_refusals import refusal_text
from adapters.texts.wording import Surface
from domain.errors import InvalidValue, NotFound, Refused
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
        return users_page(page_request)

    def users_page(page_request: PageRequest, **context: Any) -> Response:
        refusals = service.relay_refusals.last()[:_REFUSALS]
        frame: dict[str, Any] = {"typed": {}, "problem": None}
        return page_request.render(
            "relay_users.html",
            users=users.users(),
            refusals=[(one, read_instant(one.at), refusal_text(one.cause, Surface.PAGE)) for one in refusals],
            now=service.clock.now(),
            profiles=service.settings.some_profile_names(SUGGESTED),
            **{**frame, **context},
        )

    @router.post(USERS)
    def add(page_request: Configuring, form: Posted) -> Response:
        name, by = form.get("name", ""), page_request.actor(ADMINISTRATOR)
        password = generated_password() if form.get("sign_in") != "network" else None
        try:
            users.add(name, words_in(form, "profiles"), words_in(form, "networks"), password, by)
        except (InvalidValue, NotFound, Refused) as error:
            return users_page(page_request, typed=form, problem=error_text(error, Surface.PAGE))
        return _sheet_page(service, page_request, name, password)


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

    @router.post(f"{USERS}/{{name}}/settings")
    def set_profiles(name: Name, page_request: Configuring, form: Posted) -> Response:
        users.map(name, words_in(form, "profiles"), page_request.actor(ADMINISTRATOR))
        return redirect(USERS, "relay_user")

    @router.post(f"{USERS}/{{name}}/networks")
    def set_networks(name: Name, page_request: Configuring, form: Posted) -> Response:
        users.set_networks(name, words_in(form, "networks"), page_request.actor(ADMINISTRATOR))
        return redirect(USERS, "relay_user")

    @router.post(f"{USERS}/{{name}}/messages")
    def set_messages(name: Name, page_request: Configuring, form: Posted) -> Response:
        changes = {"sender": form.get("sender") or None, "normalize": form.get("normalize") or None}
        users.change_messages(name, changes, page_request.actor(ADMINISTRATOR))
        return redirect(USERS, "relay_user")

    add_removal(router, USERS, "relay_user", users.remove)
