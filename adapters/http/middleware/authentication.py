"""Authentication of every request over TCP, the checks against forged requests, and the headers of every answer.

The Unix socket needs none of it: the kernel names the peer, and no browser reaches it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from eventsourcing.persistence import PersistenceError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.http.middleware import csrf
from adapters.http.middleware.body_limits import ANONYMOUS_BODY, MAIL_BODY, ORDINARY_BODY, read_body
from adapters.http.middleware.forwarded import Forwarded, ForwardedHeaders
from adapters.http.principal import ANONYMOUS, CLIENT, Principal, PrincipalKind
from adapters.http.problems import HTTPError, problem
from adapters.http.session_cookie import COOKIE, BrowserSession
from domain.errors import NotPermitted, Refused
from domain.profile_fields import is_loopback
from domain.secret import Secret
from infrastructure.access.api_clients import KeyOwner
from infrastructure.access.bearer_tokens import derived_token
from infrastructure.service import Service

_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
_ALWAYS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_HSTS = (b"strict-transport-security", b"max-age=31536000")
_WITHOUT_SESSION = ("/sign-in", "/sign-in/code", "/setup")
"""Forms that carry their own proof, a password, a code or a link, so an earlier session does not count."""
_HOST = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<name>[^\[\]:]+))(?::[0-9]*)?")
_NO_STORE = (b"cache-control", b"no-store")
# The only white space in a head. `strip` would also remove 0xA0, which for a browser is a part of the cookie's name. A
# name that begins with 0xA0 has no `__Host-` prefix, so any neighbouring host could set such a cookie.
_OWS = " \t"
_NO_KEY = {"WWW-Authenticate": 'Bearer realm="mailtoken"'}
_WRONG_KEY = {"WWW-Authenticate": 'Bearer realm="mailtoken", error="invalid_token"'}


class AuthenticationMiddleware:
    """Passes on only requests that may reach the application, with the principal in the request's state (ASGI)."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._forwarded_headers = ForwardedHeaders(service.config.server.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] != "http" or "principal" in scope["state"]:
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        forwarded = self._forwarded_headers.read(scope, headers)
        scope["state"]["forwarded"] = forwarded
        send = _with_headers(send, forwarded, is_static=scope["path"].startswith("/static/"))
        try:
            receive = await self._admit(scope, headers, forwarded, receive)
        except (NotPermitted, Refused, HTTPException, PersistenceError) as error:
            await problem(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, headers: Mapping[str, str], forwarded: Forwarded, receive: Receive) -> Receive:
        """Put the principal into the request's state; returns `receive` with the body's limits.

        Raises:
            NotPermitted, HTTPException: the request goes no further.
        """
        path, state = scope["path"], scope["state"]
        if [name for name, _ in scope["headers"]].count(b"host") != 1 and scope["http_version"] != "1.0":
            raise HTTPError(HTTPStatus.BAD_REQUEST, "host_not_one")
        limit = MAIL_BODY if path == "/api/v1/send" else ORDINARY_BODY
        receive = limit.applied(headers, receive)
        if key := _key(headers):
            state["principal"] = await self._principal_with(key)
            return receive
        session = await self._session(headers)
        state["session"], state["principal"] = session, session.principal if session else ANONYMOUS
        if session is None and path.startswith("/api/"):
            raise HTTPError(HTTPStatus.UNAUTHORIZED, "credentials_missing", headers=_NO_KEY)
        if session is None:
            receive = ANONYMOUS_BODY.applied(headers, receive)
        if scope["method"] not in csrf.SAFE_METHODS:
            receive = await self._check_forgery(path, headers, forwarded, session, receive)
        return receive

    async def _principal_with(self, key: Secret) -> Principal:
        clients = self._service.clients
        owner = clients.owner_of(key) if clients.is_ready() else await run_in_threadpool(clients.owner_of, key)
        if owner is None:
            raise HTTPError(HTTPStatus.UNAUTHORIZED, "key_invalid", headers=_WRONG_KEY)
        if not clients.is_noted(owner):
            await run_in_threadpool(clients.note_use, owner)
        return _client(owner)

    async def _session(self, headers: Mapping[str, str]) -> BrowserSession | None:
        token = cookie(headers.get("cookie", ""), COOKIE)
        signed_in = await run_in_threadpool(self._service.sessions.find, token) if token else None
        if not token or not signed_in:
            return None
        principal = Principal(
            signed_in.name, signed_in.roles, frozenset(), PrincipalKind.PERSON, scopes=signed_in.scopes
        )
        if self._service.config.server.second_factor == "required" and signed_in.lacks_second_factor:
            principal = Principal(signed_in.name, frozenset(), frozenset(), PrincipalKind.ENROLLING)
        return BrowserSession(principal, derived_token(token, "csrf"), signed_in.is_member)

    async def _check_forgery(
        self,
        path: str,
        headers: Mapping[str, str],
        forwarded: Forwarded,
        session: BrowserSession | None,
        receive: Receive,
    ) -> Receive:
        csrf.check_site(headers, self._own_origins(headers, forwarded))
        if session is None or path in _WITHOUT_SESSION:
            return receive
        form = None
        if not headers.get(csrf.HEADER) and csrf.has_form(headers):
            form, receive = await read_body(ORDINARY_BODY.applied(headers, receive))
        csrf.check_token(session.csrf_token, headers, form)
        return receive

    def _own_origins(self, headers: Mapping[str, str], forwarded: Forwarded) -> frozenset[str]:
        """The origins (RFC 6454) of this service's own pages."""
        url, host = self._service.config.server.url, headers.get("host", "")
        ours = {url} if url else set()
        # Without TLS, which checks the name, any host name may lead to this address (DNS rebinding).
        if forwarded.is_secure or _is_this_machine(host):
            ours.add(f"{forwarded.scheme}://{host}")
        return frozenset(ours)


def cookie(header: str, name: str) -> Secret | None:
    """The cookie of this name; None if there are several, because nothing tells which of them is the right one."""
    pairs = (part.partition("=") for part in header.split(";"))
    values = [value.strip(_OWS) for one, _, value in pairs if one.strip(_OWS) == name]
    return Secret(values[0]) if len(values) == 1 and values[0] else None


def _is_this_machine(host: str) -> bool:
    match = _HOST.fullmatch(host)
    return match is not None and is_loopback(match["v6"] or match["name"])


def _headers(scope: Scope) -> dict[str, str]:
    """The header fields. A repeated field becomes one list (RFC 9110 section 5.3), so no value stays unchecked."""
    fields: dict[str, str] = {}
    for octets, value in scope["headers"]:
        name, text = octets.decode("latin-1"), value.decode("latin-1").strip(_OWS)
        fields[name] = f"{fields[name]}, {text}" if name in fields else text
    return fields


def _key(headers: Mapping[str, str]) -> Secret | None:
    """The key behind `Authorization: Bearer` (RFC 6750 section 2.1)."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return Secret(key.strip()) if scheme.lower() == "bearer" else None


def _client(owner: KeyOwner) -> Principal:
    return Principal(owner.name, frozenset({CLIENT}), owner.profiles, PrincipalKind.CLIENT, str(owner.id))


def _with_headers(send: Send, forwarded: Forwarded, *, is_static: bool) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*_kept(message.get("headers", ()), is_static), *_ALWAYS]
            if forwarded.is_secure:
                message["headers"].append(_HSTS)
            if not is_static:
                message["headers"].append(_NO_STORE)
        await send(message)

    return send_with_headers


def _kept(headers: Sequence[Any], is_static: bool) -> list[Any]:
    ours = {name for name, _ in _ALWAYS} | (set() if is_static else {b"cache-control"})
    return [(name, value) for name, value in headers if name.lower() not in ours]
