"""The redirect URI of a browser's sign-in, over TLS on an address of its own.

The `state` in a redirect is the one-time secret of an attempt that an operator began, so this listener needs no
authentication. A page about a wrong redirect repeats nothing of the redirect.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from adapters.error_kinds import RETRY_AFTER_SECONDS
from adapters.http.server.limited_connection import ConnectionCounts, with_limits
from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from adapters.tls_certificate import TLSCertificate
from domain.errors import InvalidValue, MailtokenError
from infrastructure.config.tables import Config
from infrastructure.tokens.token_service import TokenService

_CONNECTIONS, _CONNECTIONS_OF_AN_ADDRESS = 64, 16
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}


@contextmanager
def listening(config: Config, tokens: TokenService) -> Iterator[None]:
    """Serve `[server.callback]` while the service runs; without that table this does nothing.

    Raises:
        InvalidValue: the certificate can't be used, or the port is taken.
    """
    table = config.server.callback
    if table is None:
        yield
        return
    files = config.path(table.certificate_file), config.path(table.key_file)
    certificate = TLSCertificate(*files, "[server.callback]")
    try:
        settings = uvicorn.Config(
            create_callback(tokens),
            host=table.host,
            port=table.port,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            http=with_limits(ConnectionCounts(_CONNECTIONS, _CONNECTIONS_OF_AN_ADDRESS), certificate),
            timeout_keep_alive=5,
            # A browser that keeps its connection must not delay the end of the service.
            timeout_graceful_shutdown=2,
        )
        settings.load()
        listener = settings.bind_socket()
    except (OSError, SystemExit) as error:
        raise InvalidValue("[server.callback]", "cannot_answer", reason=f"{type(error).__name__}: {error}") from None
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, args=([listener],), name="callback", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def create_callback(tokens: TokenService) -> Starlette:
    """The application: one page, at any path."""

    async def come_back(request: Request) -> HTMLResponse:
        try:
            await run_in_threadpool(tokens.complete_by_state, str(request.url))
        except asyncio.CancelledError:
            return _page(503, "The service is stopping. Load this page again in a minute.")
        except InvalidValue:
            return _page(400, "This address belongs to no sign-in that is under way. Begin again in Mailtoken.")
        except MailtokenError as error:
            return _page(503, f"The sign-in is not complete: {error_text(error, Surface.PAGE)}. Load this page again.")
        return _page(200, "Thank you. You can close this window; the result is shown where you began the sign-in.")

    return Starlette(routes=[Route("/{path:path}", come_back, methods=["GET"])])


def _page(status: int, text: str) -> HTMLResponse:
    document = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Mailtoken</title><p>{escape(text)}</p></html>'
    )
    headers = _HEADERS if status < 500 else {**_HEADERS, "Retry-After": str(RETRY_AFTER_SECONDS)}
    return HTMLResponse(document, status, headers)
