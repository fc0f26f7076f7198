"""The pages of a person's own account, where an administrator sets up and removes a second factor.

The key of an app and the recovery codes are on one page each, which no browser keeps; they are in no URL.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from adapters.http.middleware.authentication import cookie
from adapters.http.session_cookie import COOKIE
from adapters.http.web.page_route import PageRequest, Posted, SignedIn, page_router, redirect
from adapters.http.web.qr import qr_code
from adapters.http.web.sign_in_pages import address_of
from adapters.http.web.texts import text
from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain.administrator import ROLES
from domain.errors import NotPermitted, TooManyRequests
from domain.secret import Secret
from infrastructure.access.second_factors import Enrolment
from infrastructure.service import Service

_KEY_PART = 4


def account_pages(service: Service) -> APIRouter:
    """The routes of one's own account."""
    router = page_router()
    administrators, second_factors = service.administrators, service.administrators.second_factors

    @router.get("/account")
    def show(page_request: SignedIn) -> Response:
        return account_page(page_request)

    def account_page(page_request: PageRequest, problem: str | None = None) -> Response:
        scopes = page_request.session.principal.scopes
        limits = [(role, scopes[role].patterns) for role in ROLES if role in scopes]
        context: dict[str, Any] = {"roles": [role for role in ROLES if page_request.may(role)], "limits": limits}
        if not page_request.session.is_member:
            own = administrators.administrator(page_request.session.principal.name)
            context |= {"roles": own.roles, "has_second_factor": own.has_second_factor}
        return page_request.render("account.html", problem=problem, **context)

    @router.get("/account/second-factor")
    def begin(page_request: SignedIn) -> Response:
        return _enrolment_page(page_request, second_factors.begin(_own_name(page_request)))

    @router.post("/account/second-factor")
    def enrol(request: Request, page_request: SignedIn, form: Posted) -> Response:
        name, state = _own_name(page_request), Secret(form.get("state", ""))
        try:
            codes = second_factors.enrol(name, state, form.get("code", ""), _session_token(request))
        except NotPermitted as error:
            is_over = error.code == "enrolment_over"
            enrolment = second_factors.begin(name) if is_over else second_factors.again(name, state)
            return _enrolment_page(page_request, enrolment, error_text(error, Surface.PAGE))
        return page_request.render("recovery_codes.html", codes=[code.reveal() for code in codes])

    @router.post("/account/second-factor/remove")
    def remove(request: Request, page_request: SignedIn, form: Posted) -> Response:
        try:
            second_factors.remove(_own_name(page_request), form.get("code", ""), address_of(request))
        except (NotPermitted, TooManyRequests) as error:
            return account_page(page_request, error_text(error, Surface.PAGE))
        return redirect("/account", "second_factor_removed")

    return router


def _own_name(page_request: PageRequest) -> str:
    """The name of the local administrator who asks.

    Raises:
        NotPermitted: a member of the organisation asks.
    """
    if page_request.session.is_member:
        raise NotPermitted("second_factor_of_member")
    return page_request.session.principal.name


def _enrolment_page(page_request: PageRequest, enrolment: Enrolment, problem: str | None = None) -> Response:
    key = enrolment.key.reveal()
    return page_request.render(
        "second_factor.html",
        enrolment=enrolment,
        key=" ".join(key[begin : begin + _KEY_PART] for begin in range(0, len(key), _KEY_PART)),
        qr=qr_code(enrolment.uri.reveal(), text("second_factor.qr")),
        problem=problem,
    )


def _session_token(request: Request) -> Secret:
    token = cookie(", ".join(request.headers.getlist("cookie")), COOKIE)
    assert token, "only who is signed in gets so far"
    return token
