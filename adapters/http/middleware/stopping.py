"""Answers for requests that the server cancels when it stops: they may be repeated, so they get 503 and not 500."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.http.problems import problem
from domain.errors import Unreachable


class StoppingMiddleware:
    """Answers a cancelled request. What it began goes on in its thread, and is waited for there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        is_answered = False

        async def noting(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            if is_answered:
                raise
            await problem(Unreachable("stopping"))(scope, receive, send)
