"""Access tokens that a client has had before, from memory, ahead of the framework's routing and validation.

What is not exactly that goes on to the application, whose route decides and says why: so this refuses nothing.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.http.callers import Caller
from domain.errors import InvalidValue, NotPermitted
from infrastructure.clock import instant_text
from infrastructure.hand_outs import HandOuts
from infrastructure.token_service import HandOut

_PATH = re.compile(rb"/api/v1/profiles/([^/]+/[^/]+)/access-token")
_QUERY = re.compile(rb"(?:min_ttl=([0-9]{1,9}))?")


class WarmHandOuts:
    """The application, with hand-outs from memory before it (ASGI)."""

    def __init__(self, app: ASGIApp, hand_outs: HandOuts) -> None:
        self._app = app
        self._hand_outs = hand_outs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        handed = self._find(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        if handed is None:
            await self._app(scope, receive, send)
            return
        body = json.dumps(hand_out_json(handed)).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _find(self, scope: Scope) -> HandOut | None:
        path = _PATH.fullmatch(scope["raw_path"])
        query = _QUERY.fullmatch(scope["query_string"])
        if not path or not query:
            return None
        caller: Caller = scope["state"]["caller"]
        name = unquote(path[1].decode("ascii"))
        try:
            client = caller.reading_token_of(name)
            return self._hand_outs.again(name, int(query[1]) if query[1] else None, client, caller.id)
        except (NotPermitted, InvalidValue):
            return None


def hand_out_json(handed: HandOut) -> dict[str, Any]:
    """A hand-out as the API gives it."""
    return {
        "access_token": handed.credential.access_token.reveal(),
        "expires_at": instant_text(handed.credential.expires_at),
        "account": handed.account,
        "mailbox": handed.mailbox,
        "sasl": ["XOAUTH2", "OAUTHBEARER"],
    }
