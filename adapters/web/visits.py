"""A visit: one request of somebody who is signed in, what they may do, and the page they get.

Whoever is not signed in is sent to the sign-in page. What a use case refuses becomes a page that says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

import structlog
from eventsourcing.persistence import PersistenceError
from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from markupsafe import Markup

from adapters.http.callers import ADMINISTRATOR, AUDITOR, OPERATOR
from adapters.http.problems import status_of
from adapters.http.sessions import Session, session_of
from adapters.web.rendering import render
from adapters.web.texts import TEXTS, text
from domain.errors import InvalidValue, MailtokenError
from infrastructure.clock import read_instant

log = structlog.get_logger("mailtoken")

READERS = (AUDITOR, OPERATOR, ADMINISTRATOR)
_COMMAND = re.compile(r"\s*\(mailtoken [^)]*\)|:? (?:see )?mailtoken [a-z]+ .*$")


class _NotSignedIn(Exception):
    """Nobody is signed in with this browser."""


@dataclass(frozen=True)
class Visit:
    """One request of a person who is signed in."""

    request: Request
    session: Session

    def may(self, *roles: str) -> bool:
        """Whether they hold one of these roles."""
        return bool(self.session.caller.roles.intersection(roles))

    def by(self, *roles: str) -> str:
        """Who does it, for an event.

        Raises:
            NotPermitted: they hold none of these roles.
        """
        return self.session.caller.acting_as(*roles)

    def page(self, template: str, *, status: int | None = None, **context: Any) -> HTMLResponse:
        """The page this template gives, in its frame. One with a `problem` answers that what was sent can't be so."""
        fitting = HTTPStatus.UNPROCESSABLE_ENTITY if context.get("problem") else HTTPStatus.OK
        return HTMLResponse(self.part(template, **context), status or fitting)

    def part(self, template: str, **context: Any) -> str:
        """The same as text; also for a part of a page."""
        done = self.request.query_params.get("done", "")
        frame = {
            "visit": self,
            "here": self.request.url.path,
            "done": text(f"done.{done}") if f"done.{done}" in TEXTS else None,
            "as_of": None,
            "csrf": self._csrf,
        }
        return render(template, **{**frame, **context})

    def _csrf(self) -> Markup:
        """The hidden field that every form has to have."""
        return Markup('<input type="hidden" name="csrf" value="{}">').format(self.session.csrf_token)

    @property
    def operates(self) -> bool:
        """Whether they may get and delete tokens."""
        return self.may(OPERATOR)

    @property
    def configures(self) -> bool:
        """Whether they may change machines and settings."""
        return self.may(ADMINISTRATOR)

    @property
    def audits(self) -> bool:
        """Whether they may read the history."""
        return self.may(AUDITOR)


def _visit(request: Request) -> Visit:
    session = session_of(request)
    if session is None:
        raise _NotSignedIn
    return Visit(request, session)


def _reading(visit: Annotated[Visit, Depends(_visit)]) -> Visit:
    visit.by(*READERS)
    return visit


def holding(role: str) -> Callable[..., Visit]:
    """A dependency that gives the visit of somebody who holds this role, and refuses everybody else."""

    def visit_of(visit: Annotated[Visit, Depends(_visit)]) -> Visit:
        visit.by(role)
        return visit

    return visit_of


async def _posted(request: Request) -> dict[str, str]:
    # The CSRF token has been looked at before this route was reached.
    form = await request.form(max_files=0, max_fields=100)
    posted = {name: value.strip() for name, value in form.items() if isinstance(value, str) and name != "csrf"}
    for name, value in posted.items():
        if "\0" in value:
            raise InvalidValue(name, text("error.nul"))
    return posted


def _as_of(as_of: str = "") -> datetime | None:
    if not as_of:
        return None
    try:
        return read_instant(as_of)
    except (ValueError, OverflowError):
        raise InvalidValue("as_of", text("error.instant", value=as_of)) from None


Reading = Annotated[Visit, Depends(_reading)]
Operating = Annotated[Visit, Depends(holding(OPERATOR))]
Configuring = Annotated[Visit, Depends(holding(ADMINISTRATOR))]
Auditing = Annotated[Visit, Depends(holding(AUDITOR))]
Posted = Annotated[dict[str, str], Depends(_posted)]
AsOf = Annotated[datetime | None, Depends(_as_of)]


class _PageRoute(APIRoute):
    """Answers an error with a page, not with a problem document."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except _NotSignedIn:
                return _to_sign_in(request)
            except (MailtokenError, PersistenceError, RequestValidationError) as error:
                return _error_page(request, error)

        return answer


def page_router() -> APIRouter:
    """A router whose routes are pages; they are no part of the API's description."""
    return APIRouter(route_class=_PageRoute, include_in_schema=False)


def see(path: str, done: str | None = None) -> RedirectResponse:
    """Go and look at another page (RFC 9110 section 15.4.4), which says what was done."""
    return RedirectResponse(f"{path}?done={done}" if done else path, HTTPStatus.SEE_OTHER)


def setting_path(profile: str) -> str:
    """Where the page of `machine/setting` is."""
    return f"/settings/{quote(profile)}"


def said(error: Exception) -> str:
    """An error's sentence, without the command that a person at a terminal would type next."""
    return _COMMAND.sub("", str(error))


def _to_sign_in(request: Request) -> Response:
    if "hx-request" in request.headers:
        # What was asked for goes into a page that is open: that has to go itself.
        return Response(headers={"HX-Refresh": "true"})
    query = f"?{request.url.query}" if request.url.query else ""
    came_for = f"{request.url.path}{query}" if request.method == "GET" else "/"
    return RedirectResponse(f"/sign-in?next={quote(came_for, safe='/')}", HTTPStatus.SEE_OTHER)


def _error_page(request: Request, error: Exception) -> Response:
    session = session_of(request)
    assert session is not None, "only who is signed in gets so far"
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    sentence = text("error.request")
    if isinstance(error, PersistenceError):
        log.error("storage_failing", error=str(error))
        status, sentence = HTTPStatus.SERVICE_UNAVAILABLE, text("error.store")
    elif isinstance(error, MailtokenError):
        status, sentence = status_of(error), said(error)
    path = request.path_params
    back = f"/settings/{quote(path['machine'])}/{quote(path['setting'])}" if "setting" in path else "/settings"
    visit = Visit(request, session)
    return visit.page("error.html", status=status, title=text(f"error.{status}"), sentence=sentence, back=back)
