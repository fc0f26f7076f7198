"""The fast path: serves access tokens from the cache, ahead of the framework's routing and validation.

Every other request goes on to the application, also a request to refuse: the application's route gives the reason.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.http.principal import Principal
from domain.errors import InvalidValue, NotPermitted, Refused
from infrastructure.clock import instant_text
from infrastructure.tokens.access_token_cache import AccessTokenCache
from infrastructure.tokens.renewal import ServedAccessToken

_PATH = re.compile(rb"/api/v1/profiles/([^/]+/[^/]+)/access-token")
_QUERY = re.compile(rb"(?:min_ttl=([0-9]{1,9}))?")


class AccessTokenFastPath:
    """The application behind the access-token cache (ASGI)."""

    def __init__(self, app: ASGIApp, cache: AccessTokenCache) -> None:
        self._app = app
        self._cache = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request from the cache, or pass it on to the application."""
        served = self._find(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        if served is None:
            await self._app(scope, receive, send)
            return
        body = json.dumps(served_json(served)).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _find(self, scope: Scope) -> ServedAccessToken | None:
        path = _PATH.fullmatch(scope["raw_path"])
        query = _QUERY.fullmatch(scope["query_string"])
        if not path or not query:
            return None
        principal: Principal = scope["state"]["principal"]
        name = unquote(path[1].decode("ascii"))
        try:
            client = principal.require_token(name)
            return self._cache.cached(name, int(query[1]) if query[1] else None, client, principal.id)
        except (NotPermitted, InvalidValue, Refused):
            return None


def served_json(served: ServedAccessToken) -> dict[str, Any]:
    """A served access token as the API gives it."""
    return {
        "access_token": served.credential.access_token.reveal(),
        "expires_at": instant_text(served.credential.expires_at),
        "account": served.account,
        "mailbox": served.mailbox,
        "sasl": ["XOAUTH2", "OAUTHBEARER"],
    }
