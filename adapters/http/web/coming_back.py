"""The way back from the provider's page, if browser and service are on one machine (RFC 8252 section 7.3).

Providers accept any port of a loopback redirect URI of a native application, so the console's own port is one. The
answer comes to `/` and belongs to the sign-in that its `state` names; a session is not needed for it.
"""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from adapters.error_kinds import status_of
from adapters.http.problems import waiting
from adapters.http.session_cookie import browser_session
from adapters.http.web.page_route import redirect, setting_path
from adapters.http.web.rendering import render
from adapters.http.web.texts import text
from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain.errors import MailtokenError
from infrastructure.service import Service

NOWHERE = "http://localhost"
"""The redirect URI without an address of the service: the person pastes the address where the browser ended."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def redirect_uri(service: Service, request: Request) -> str:
    """Where the browser of this request comes back to."""
    if callback := service.config.server.callback:
        return callback.url
    url = request.url
    if url.scheme == "http" and url.hostname in _LOOPBACK and url.port:
        return f"{NOWHERE}:{url.port}/"
    return NOWHERE


def redirect_uris(service: Service, request: Request) -> tuple[str, ...]:
    """The redirect URIs to register: where this browser comes back to, and the one for the command line."""
    return tuple(dict.fromkeys((redirect_uri(service, request), NOWHERE)))


def comes_back(authorization_uri: str | None) -> bool:
    """Whether a browser that goes there comes back to this service."""
    if not authorization_uri:
        return False
    return parse_qs(urlsplit(authorization_uri).query).get("redirect_uri") != [NOWHERE]


def is_coming_back(request: Request) -> bool:
    """Whether the request is the provider's answer (RFC 6749 sections 4.1.2 and 4.1.2.1)."""
    names = request.query_params
    return "state" in names and ("code" in names or "error" in names)


def come_back(service: Service, request: Request) -> Response:
    """Complete the sign-in; the answer leads to the setting, or, without a session, says where to look."""
    try:
        name = service.tokens.complete_by_state(str(request.url))
    except MailtokenError as error:
        said = error_text(error, Surface.PAGE)
        return HTMLResponse(render("come_back.html", sentence=said), status_of(error), waiting(error))
    if browser_session(request):
        return redirect(setting_path(name))
    return HTMLResponse(render("come_back.html", sentence=text("come_back.done")))
