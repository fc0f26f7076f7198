"""Routes of pages: the request of a person who is signed in, the roles it needs, and the page that answers it.

A request without a session is redirected to the sign-in page. An error of the domain becomes a page with its sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from eventsourcing.persistence import PersistenceError
from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from markupsafe import Markup

from adapters.error_kinds import status_of
from adapters.http.principal import ADMINISTRATOR, AUDITOR, OPERATOR, READERS, PrincipalKind, check_scope
from adapters.http.problems import storage_error, waiting
from adapters.http.session_cookie import BrowserSession, browser_session
from adapters.http.web.rendering import render
from adapters.http.web.texts import TEXTS, text
from adapters.texts.errors import error_text, text_at_field
from adapters.texts.store_attention import StoreSentence, store_sentences
from adapters.texts.wording import Surface
from domain.errors import InvalidValue, MailtokenError, NotFound, Unreachable
from domain.scope import Scope
from domain.store_attention import HOLDS
from infrastructure.clock import read_as_of


class _NotSignedIn(Exception):
    """The request has no session."""


class _NotEnrolled(Exception):
    """The person has to set up a second factor first."""


@dataclass(frozen=True)
class PageRequest:
    """One request of a person who is signed in."""

    request: Request
    session: BrowserSession

    def may(self, *roles: str) -> bool:
        """Whether the person holds one of these roles."""
        return bool(self.session.principal.roles.intersection(roles))

    def actor(self, *roles: str) -> str:
        """The person and the role they act in, as events record it in `by`.

        Raises:
            NotPermitted: the person holds none of these roles.
        """
        return self.session.principal.require_role(*roles)

    def scope(self, *roles: str) -> Scope:
        """The machines on which the person may act in one of these roles."""
        return self.session.principal.scope(*roles)

    @property
    def reads(self) -> Scope:
        """The machines that the person may see."""
        return self.scope(*READERS)

    def render(self, template: str, *, status: int | None = None, **context: Any) -> HTMLResponse:
        """The page of this template. Without a `status` it is 422 if a field has a problem, else 200."""
        has_problem = context.get("problem") or self._as_of_problem
        fitting = HTTPStatus.UNPROCESSABLE_ENTITY if has_problem else HTTPStatus.OK
        return HTMLResponse(self.render_part(template, **context), status or fitting)

    def render_part(self, template: str, **context: Any) -> str:
        """The text of this template, which may be a part of a page."""
        done = self.request.query_params.get("done", "")
        frame = {
            "page_request": self,
            "here": self.request.url.path,
            "done": text(f"done.{done}") if f"done.{done}" in TEXTS else None,
            "as_of": None,
            "as_of_problem": self._as_of_problem,
            "store_attention": self._store_attention(),
            "holds": HOLDS,
            "csrf": self._csrf,
        }
        return render(template, **{**frame, **context})

    @property
    def _as_of_problem(self) -> str | None:
        """Why the page is not shown as of the instant that was asked for."""
        problem: str | None = getattr(self.request.state, "as_of_problem", None)
        return problem

    def _store_attention(self) -> Sequence[StoreSentence]:
        """What needs a person about the installation as a whole; nothing if the store can't be read."""
        if self.enrols:
            return ()
        try:
            state = self.request.app.state.store_state.now().within(self.reads).as_json()
        except PersistenceError:
            return ()
        return store_sentences(state, Surface.PAGE)

    def _csrf(self) -> Markup:
        """The hidden field with the CSRF token, which every form has."""
        return Markup('<input type="hidden" name="csrf" value="{}">').format(self.session.csrf_token)

    @property
    def enrols(self) -> bool:
        """Whether the person has to set up a second factor before anything else."""
        return self.session.principal.kind is PrincipalKind.ENROLLING

    @property
    def operates(self) -> bool:
        """Whether the person may get and delete tokens."""
        return self.may(OPERATOR)

    @property
    def configures(self) -> bool:
        """Whether the person may change machines and settings."""
        return self.may(ADMINISTRATOR)

    @property
    def audits(self) -> bool:
        """Whether the person may read the history."""
        return self.may(AUDITOR)


# Asynchronous, because the framework would run a synchronous dependency in a thread. None depends on another: the
# framework analyses each dependency of a dependency for every route.
async def _signed_in(request: Request) -> PageRequest:
    session = browser_session(request)
    if session is None:
        raise _NotSignedIn
    return PageRequest(request, session)


def require_role(*roles: str) -> Callable[[Request], Awaitable[PageRequest]]:
    """A dependency that gives the request of a person with one of these roles, and raises NotPermitted for any other.

    It also refuses a person who is limited to other machines, where the path names a setting.
    """

    async def page_request_of(request: Request) -> PageRequest:
        page_request = await _signed_in(request)
        if page_request.enrols:
            raise _NotEnrolled
        page_request.actor(*roles)
        await check_scope(request, page_request.session.principal, roles)
        return page_request

    return page_request_of


async def _posted(request: Request) -> dict[str, str]:
    # The middleware has checked the CSRF token before this.
    form = await request.form(max_files=0, max_fields=100)
    posted = {name: value.strip() for name, value in form.items() if isinstance(value, str) and name != "csrf"}
    for name, value in posted.items():
        if "\0" in value:
            raise InvalidValue(name, "nul_character")
    return posted


def _as_of(request: Request, as_of: str = "") -> datetime | None:
    if not as_of:
        return None
    try:
        return read_as_of(as_of, request.app.state.clock.now())
    except InvalidValue as error:
        # The page is shown as of now, with the problem at its field.
        shown = {"value": text("as_of.this")} if error.code == "instant_in_the_future" else {}
        request.state.as_of_problem = text_at_field(error, Surface.PAGE, **shown)
        return None


SignedIn = Annotated[PageRequest, Depends(_signed_in)]
"""The request of a person who may have no more rights than to set up a second factor."""
Reading = Annotated[PageRequest, Depends(require_role(*READERS))]
Operating = Annotated[PageRequest, Depends(require_role(OPERATOR))]
Configuring = Annotated[PageRequest, Depends(require_role(ADMINISTRATOR))]
Auditing = Annotated[PageRequest, Depends(require_role(AUDITOR))]
Posted = Annotated[dict[str, str], Depends(_posted)]
AsOf = Annotated[datetime | None, Depends(_as_of)]


class _PageRoute(APIRoute):
    """A route that answers an error with a page instead of a problem document."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except _NotSignedIn:
                return to_sign_in(request)
            except _NotEnrolled:
                return _to_page(request, "/account/second-factor")
            except (MailtokenError, PersistenceError, RequestValidationError) as error:
                return _error_page(request, error)
            except asyncio.CancelledError:
                # The server stops, and has waited for this request. What it began goes on in its thread.
                if browser_session(request) is None:
                    raise
                return _error_page(request, Unreachable("stopping"))

        return answer


def page_router() -> APIRouter:
    """A router for pages, which are not in the OpenAPI document."""
    return APIRouter(route_class=_PageRoute, include_in_schema=False)


def redirect(path: str, done: str | None = None) -> RedirectResponse:
    """A redirect to a page (303, RFC 9110 section 15.4.4), which shows the text `done.DONE`."""
    return RedirectResponse(f"{path}?done={done}" if done else path, HTTPStatus.SEE_OTHER)


def address(path: str, parameters: Mapping[str, object]) -> str:
    """A path with those of the parameters that have a value."""
    query = {name: value for name, value in parameters.items() if value not in ("", None)}
    return f"{path}?{urlencode(query)}" if query else path


def machine_path(name: str) -> str:
    """The path of the page of a machine."""
    return f"/machines/{quote(name)}/panel"


def provider_path(name: str) -> str:
    """The path of the page of a stored provider."""
    return f"/providers/{quote(name)}"


def setting_path(profile: str) -> str:
    """The path of the page of `machine/setting`."""
    return f"/settings/{quote(profile)}"


def _to_page(request: Request, path: str) -> Response:
    if "hx-request" in request.headers:
        # A part of the open page would be replaced by the answer, so the browser loads the whole page again.
        return Response(headers={"HX-Refresh": "true"})
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)


def to_sign_in(request: Request) -> Response:
    """The way to the sign-in page, and from there back."""
    query = f"?{request.url.query}" if request.url.query else ""
    came_for = f"{request.url.path}{query}" if request.method == "GET" else "/"
    return _to_page(request, f"/sign-in?next={quote(came_for, safe='/')}")


def _error_page(request: Request, error: Exception) -> Response:
    session = browser_session(request)
    assert session is not None, "only who is signed in gets so far"
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    said = text("error.request")
    headers: dict[str, str] = {}
    if isinstance(error, PersistenceError):
        error = storage_error(error)
        status, said, headers = HTTPStatus.SERVICE_UNAVAILABLE, text("error.store"), waiting(error)
    elif isinstance(error, MailtokenError):
        status, said, headers = HTTPStatus(status_of(error)), error_text(error, Surface.PAGE), waiting(error)
    path = request.path_params
    has_page = "setting" in path and not isinstance(error, NotFound)
    back = f"/settings/{quote(path['machine'])}/{quote(path['setting'])}" if has_page else "/home"
    page_request = PageRequest(request, session)
    page = page_request.render("error.html", status=status, title=text(f"error.{status}"), sentence=said, back=back)
    page.headers.update(headers)
    return page
