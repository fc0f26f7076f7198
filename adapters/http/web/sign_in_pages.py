"""The pages to sign in and out, and the page of a set-up link, on which a person chooses a password.

The template `sign_in.html` has `next` (the path to go on to), `name`, `provider` (the organisation's, or None) and
`trouble` (a sentence, or None); its form posts `name`, `password` and `next` to /sign-in. `code.html` has `state` (of
the sign-in that goes on with a code of the second factor), `next` and `trouble`; its form posts `state`, `code` and
`next` to /sign-in/code. `setup.html` has `code`, `name` (the administrator's, or None to choose one) and `trouble`; its
form posts `code`, `name`, `password` and `repeated` to /setup.
"""

from __future__ import annotations

import re
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from adapters.error_kinds import status_of
from adapters.http.middleware.authentication import cookie
from adapters.http.middleware.forwarded import Forwarded
from adapters.http.problems import waiting
from adapters.http.public_url import FIRST_LINK_FILE, public_url
from adapters.http.session_cookie import COOKIE, browser_session
from adapters.http.web.organisation_sign_in import OrganisationSignIn
from adapters.http.web.rendering import render
from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain.errors import InvalidValue, MailtokenError, NotPermitted
from domain.password_policy import LONGEST_PASSWORD, SHORTEST_PASSWORD
from domain.secret import Secret
from infrastructure.access.administrators import CodeNeeded
from infrastructure.service import Service

_OIDC_COOKIE = "__Host-mailtoken-sign-in"
_OIDC_LIFE = timedelta(minutes=15)
_FIELDS_LIMIT = 20
# A path of this service: `//host` and `/\host` are another host's (WHATWG URL, scheme-relative special URLs). A cookie
# may hold the path, and browsers keep 4096 octets of one (RFC 6265 section 6.1).
_OUR_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]{0,500}")


async def _posted(request: Request) -> dict[str, str]:
    """The fields of a form, the first of each name."""
    try:
        fields = parse_qs((await request.body()).decode(), keep_blank_values=True, max_num_fields=_FIELDS_LIMIT)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


Posted = Annotated[dict[str, str], Depends(_posted)]


def router(service: Service) -> APIRouter:
    """The routes of signing in."""
    router = APIRouter(include_in_schema=False)
    pages = _Pages(service)
    router.get("/sign-in")(pages.show_sign_in)
    router.post("/sign-in")(pages.sign_in)
    router.post("/sign-in/code")(pages.sign_in_with_code)
    router.post("/sign-out")(pages.sign_out)
    router.get("/setup")(pages.show_setup)
    router.post("/setup")(pages.set_up)
    router.get("/sign-in/oidc")(pages.begin_at_organisation)
    router.get("/sign-in/oidc/callback")(pages.come_back)
    return router


class _Pages:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._administrators = service.administrators
        table = service.config.server.sign_in
        self._organisation = OrganisationSignIn(service.config, table, service.clock) if table else None
        self._callback = f"{public_url(service.config)}/sign-in/oidc/callback"

    def show_sign_in(self, request: Request, next: str = "/") -> Response:  # noqa: A002 - the field's name
        if browser_session(request):
            return _go(next)
        return self._sign_in_page(next)

    def sign_in(self, request: Request, posted: Posted) -> Response:
        name, next_path = posted.get("name", "").strip(), posted.get("next", "/")
        try:
            result = self._administrators.sign_in(name, Secret(posted.get("password", "")), address_of(request))
        except MailtokenError as error:
            return self._sign_in_page(next_path, name, error)
        return self._goes_on(request, result, next_path)

    def sign_in_with_code(self, request: Request, posted: Posted) -> Response:
        state, next_path = Secret(posted.get("state", "")), posted.get("next", "/")
        try:
            token = self._administrators.sign_in_with_code(state, posted.get("code", ""), address_of(request))
        except MailtokenError as error:
            if error.code == "sign_in_over":
                return self._sign_in_page(next_path, "", error)
            return _code_page(state, next_path, error)
        return self._signed_in(request, token, next_path)

    def sign_out(self, request: Request) -> Response:
        self._end(request)
        answer = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
        _forget(answer, COOKIE)
        return answer

    def show_setup(self, code: str = "") -> Response:
        try:
            return _setup_page(code, self._administrators.whose_link(Secret(code)))
        except MailtokenError as error:
            return _setup_page("", None, error)

    def set_up(self, request: Request, posted: Posted) -> Response:
        code, whose = posted.get("code", ""), None
        try:
            whose = self._administrators.whose_link(Secret(code))
            if posted.get("password") != posted.get("repeated"):
                raise InvalidValue("password", "passwords_differ")
            result = self._administrators.use_link(
                Secret(code), posted.get("name", "").strip(), Secret(posted.get("password", "")), address_of(request)
            )
        except NotPermitted as error:
            return _setup_page("", None, error)
        except MailtokenError as error:
            return _setup_page(code, whose, error, posted.get("name", ""))
        return self._goes_on(request, result, "/")

    def begin_at_organisation(self, next: str = "/") -> Response:  # noqa: A002 - the field's name
        if self._organisation is None:
            return self._sign_in_page(next, "", NotPermitted("no_organisation_sign_in"))
        try:
            uri, begun = self._organisation.begin(self._callback)
        except MailtokenError as error:
            return self._sign_in_page(next, "", error)
        browser = self._service.pending_sign_ins.begin(begun, _our_path(next), _OIDC_LIFE)
        answer = RedirectResponse(uri, HTTPStatus.SEE_OTHER)
        _set(answer, _OIDC_COOKIE, browser, int(_OIDC_LIFE.total_seconds()))
        return answer

    def come_back(self, request: Request) -> Response:
        try:
            token, next_path = self._finish_at_organisation(request)
        except MailtokenError as error:
            return self._sign_in_page("/", "", error)
        answer = self._signed_in(request, token, next_path)
        _forget(answer, _OIDC_COOKIE)
        return answer

    def _finish_at_organisation(self, request: Request) -> tuple[Secret, str]:
        browser = _cookie(request, _OIDC_COOKIE)
        pending = self._service.pending_sign_ins.find(browser) if browser else None
        if self._organisation is None or not pending:
            raise NotPermitted("sign_in_over")
        code = self._organisation.read(pending.state, str(request.url))
        member = self._organisation.finish(pending.state, code)
        if not self._service.pending_sign_ins.finish(pending):
            raise NotPermitted("sign_in_finished")
        token = self._service.sessions.begin_for_member(
            member.account, member.roles, address_of(request), member.scopes
        )
        return token, pending.next_path

    def _sign_in_page(self, next_path: str, name: str = "", error: MailtokenError | None = None) -> Response:
        provider = self._organisation and self._organisation.name
        document = render(
            "sign_in.html",
            next=_our_path(next_path),
            name=name,
            provider=provider,
            first_link_file=None if self._administrators.has_any() else FIRST_LINK_FILE,
            trouble=error and error_text(error, Surface.PAGE),
        )
        return _page(document, error)

    def _goes_on(self, request: Request, result: Secret | CodeNeeded, next_path: str) -> Response:
        if isinstance(result, CodeNeeded):
            return _code_page(result.state, next_path)
        return self._signed_in(request, result, next_path)

    def _signed_in(self, request: Request, token: Secret, next_path: str) -> Response:
        self._end(request)
        answer = _go(next_path)
        _set(answer, COOKIE, token)
        return answer

    def _end(self, request: Request) -> None:
        if before := _cookie(request, COOKIE):
            self._service.sessions.end(before)


def _cookie(request: Request, name: str) -> Secret | None:
    return cookie(", ".join(request.headers.getlist("cookie")), name)


def _setup_page(code: str, name: str | None, error: MailtokenError | None = None, typed_name: str = "") -> Response:
    document = render(
        "setup.html",
        code=code,
        name=name,
        typed_name=typed_name,
        shortest=SHORTEST_PASSWORD,
        longest=LONGEST_PASSWORD,
        trouble=error and error_text(error, Surface.PAGE),
    )
    return _page(document, error)


def _code_page(state: Secret, next_path: str, error: MailtokenError | None = None) -> Response:
    trouble = error and error_text(error, Surface.PAGE)
    return _page(render("code.html", state=state.reveal(), next=_our_path(next_path), trouble=trouble), error)


def _page(document: str, error: MailtokenError | None) -> Response:
    if error is None:
        return HTMLResponse(document)
    return HTMLResponse(document, status_of(error), waiting(error))


def address_of(request: Request) -> str:
    """The address that a browser's request came from."""
    forwarded: Forwarded | None = getattr(request.state, "forwarded", None)
    return forwarded.address if forwarded else "the Unix socket"


def _our_path(path: str) -> str:
    return path if _OUR_PATH.fullmatch(path) else "/"


def _go(path: str) -> Response:
    return RedirectResponse(_our_path(path), HTTPStatus.SEE_OTHER)


def _set(answer: Response, name: str, value: Secret, max_age_seconds: int | None = None) -> None:
    # Secure also without TLS: the service is then on loopback, which browsers treat as a trustworthy origin.
    answer.set_cookie(name, value.reveal(), max_age=max_age_seconds, secure=True, httponly=True, samesite="lax")


def _forget(answer: Response, name: str) -> None:
    answer.delete_cookie(name, secure=True, httponly=True, samesite="lax")
