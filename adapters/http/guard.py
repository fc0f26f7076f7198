"""What every request over TCP goes through: whose it is, whether it may, how large it is, and what its answer carries.

The Unix socket needs none of it: the kernel has said who calls, and no browser reaches it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from eventsourcing.persistence import PersistenceError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.bootstrap import Service
from adapters.http import csrf
from adapters.http.callers import ANYBODY, CLIENT, Caller
from adapters.http.limits import ANYBODYS, MESSAGE, ORDINARY, whole
from adapters.http.origins import Origin, Origins
from adapters.http.problems import problem
from adapters.http.sessions import COOKIE, Session
from domain.errors import NotPermitted
from domain.profile import is_loopback
from domain.secret import Secret
from infrastructure.bearer import derived
from infrastructure.clients import KeyHolder

log = structlog.get_logger("mailtoken")

_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
_ALWAYS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_HSTS = (b"strict-transport-security", b"max-age=31536000")
_WITHOUT_SESSION = ("/sign-in", "/setup")
"""What is posted there counts by itself, whoever was signed in before."""
_HOST = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<name>[^\[\]:]+))(?::[0-9]*)?")
_NO_STORE = (b"cache-control", b"no-store")
# Nothing else is white space in a head. What `strip` takes besides, such as 0xA0, a browser takes for a part of a
# cookie's name, which then has no prefix: any neighbouring host could set it.
_OWS = " \t"
_NO_KEY = {"WWW-Authenticate": 'Bearer realm="mailtoken"'}
_WRONG_KEY = {"WWW-Authenticate": 'Bearer realm="mailtoken", error="invalid_token"'}


class _NotAuthenticated(Exception):
    """A key that is nobody's, or none where one is needed."""

    def __init__(self, problem: str, headers: Mapping[str, str]) -> None:
        super().__init__(problem)
        self.headers = headers


class Guard:
    """The application, guarded (ASGI)."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._origins = Origins(service.config.server.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or "caller" in scope["state"]:
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        origin = self._origins.of(scope, headers)
        scope["state"]["origin"] = origin
        send = _with_headers(send, origin, is_static=scope["path"].startswith("/static/"))
        try:
            receive = await self._admit(scope, headers, origin, receive)
        except (_NotAuthenticated, NotPermitted, HTTPException, PersistenceError) as error:
            await _refusal(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, headers: Mapping[str, str], origin: Origin, receive: Receive) -> Receive:
        """Put the caller into the request; returns the body's messages within their limits.

        Raises:
            _NotAuthenticated, NotPermitted, HTTPException: it goes no further.
        """
        path, state = scope["path"], scope["state"]
        limit = MESSAGE if path == "/api/v1/send" else ORDINARY
        receive = limit.on(headers, receive)
        if key := _key(headers):
            state["caller"] = await self._caller_with(key)
            return receive
        session = await self._session(headers)
        state["session"], state["caller"] = session, session.caller if session else ANYBODY
        if session is None and path.startswith("/api/"):
            raise _NotAuthenticated("show a client's key as a bearer token, or sign in at /sign-in", _NO_KEY)
        if session is None:
            receive = ANYBODYS.on(headers, receive)
        if scope["method"] not in csrf.SAFE_METHODS:
            receive = await self._check_forgery(path, headers, origin, session, receive)
        return receive

    async def _caller_with(self, key: Secret) -> Caller:
        clients = self._service.clients
        holder = clients.holder_of(key) if clients.is_ready() else await run_in_threadpool(clients.holder_of, key)
        if holder is None:
            raise _NotAuthenticated("the key is not good: see mailtoken client list", _WRONG_KEY)
        if not clients.is_noted(holder):
            await run_in_threadpool(clients.note_use, holder)
        return _client(holder)

    async def _session(self, headers: Mapping[str, str]) -> Session | None:
        shown = cookie(headers.get("cookie", ""), COOKIE)
        signed_in = await run_in_threadpool(self._service.sessions.find, shown) if shown else None
        if not shown or not signed_in:
            return None
        caller = Caller(signed_in.name, signed_in.roles, frozenset(), "mailtoken administrator list")
        return Session(caller, derived(shown, "csrf"))

    async def _check_forgery(
        self, path: str, headers: Mapping[str, str], origin: Origin, session: Session | None, receive: Receive
    ) -> Receive:
        csrf.check_site(headers, self._own_origins(headers, origin))
        if session is None or path in _WITHOUT_SESSION:
            return receive
        form = None
        if not headers.get(csrf.HEADER) and csrf.has_form(headers):
            form, receive = await whole(ORDINARY.on(headers, receive))
        csrf.check_token(session.csrf_token, headers, form)
        return receive

    def _own_origins(self, headers: Mapping[str, str], origin: Origin) -> frozenset[str]:
        """What this service may be called by the page a request was made by."""
        url, host = self._service.config.server.url, headers.get("host", "")
        ours = {url} if url else set()
        # Without TLS, which would notice, any name may lead here whoever's it is (DNS rebinding).
        if origin.is_secure or _is_this_machine(host):
            ours.add(f"{origin.scheme}://{host}")
        return frozenset(ours)


def cookie(header: str, name: str) -> Secret | None:
    """The cookie of this name, if there is exactly one: which would count of two?"""
    pairs = (part.partition("=") for part in header.split(";"))
    values = [value.strip(_OWS) for one, _, value in pairs if one.strip(_OWS) == name]
    return Secret(values[0]) if len(values) == 1 and values[0] else None


def _is_this_machine(host: str) -> bool:
    match = _HOST.fullmatch(host)
    return match is not None and is_loopback(match["v6"] or match["name"])


def _headers(scope: Scope) -> dict[str, str]:
    """The header fields. What comes twice is one list (RFC 9110 section 5.3): it hides nothing behind the first."""
    fields: dict[str, str] = {}
    for octets, value in scope["headers"]:
        name, text = octets.decode("latin-1"), value.decode("latin-1").strip(_OWS)
        fields[name] = f"{fields[name]}, {text}" if name in fields else text
    return fields


def _key(headers: Mapping[str, str]) -> Secret | None:
    """The key behind `Authorization: Bearer` (RFC 6750 section 2.1)."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return Secret(key.strip()) if scheme.lower() == "bearer" else None


def _client(holder: KeyHolder) -> Caller:
    return Caller(holder.name, frozenset({CLIENT}), holder.profiles, "mailtoken client list", str(holder.id))


def _refusal(error: Exception) -> Response:
    match error:
        case _NotAuthenticated():
            return problem(HTTPStatus.UNAUTHORIZED, str(error), error.headers)
        case HTTPException():
            # What comes of the body is not read any more, so the connection can't be used again.
            return problem(error.status_code, error.detail, {"Connection": "close"})
        case PersistenceError():
            log.error("storage_failing", error=str(error))
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, f"storage failing: {str(error).splitlines()[0]}")
    return problem(HTTPStatus.FORBIDDEN, str(error))


def _with_headers(send: Send, origin: Origin, *, is_static: bool) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*_kept(message.get("headers", ()), is_static), *_ALWAYS]
            if origin.is_secure:
                message["headers"].append(_HSTS)
            if not is_static:
                message["headers"].append(_NO_STORE)
        await send(message)

    return send_with_headers


def _kept(headers: Sequence[Any], is_static: bool) -> list[Any]:
    ours = {name for name, _ in _ALWAYS} | (set() if is_static else {b"cache-control"})
    return [(name, value) for name, value in headers if name.lower() not in ours]
