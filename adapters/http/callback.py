"""The one address the service has on the network: where a browser comes back to after a sign-in, over TLS.

The `state` in a redirect is the one-time secret of an attempt that an operator began, so nobody signs in here. What is
wrong with a redirect is said without repeating any of it.
"""

from __future__ import annotations

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

from domain.errors import InvalidValue, MailtokenError
from infrastructure.config import Config
from infrastructure.token_service import TokenService

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}


@contextmanager
def listening(config: Config, tokens: TokenService) -> Iterator[None]:
    """Answer at the configured address while the service runs; without one this does nothing.

    Raises:
        InvalidValue: the certificate can't be used, or the port is taken.
    """
    table = config.server.callback
    if table is None:
        yield
        return
    try:
        settings = uvicorn.Config(
            create_callback(tokens),
            host=table.host,
            port=table.port,
            ssl_certfile=str(config.path(table.certificate_file)),
            ssl_keyfile=str(config.path(table.key_file)),
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            h11_max_incomplete_event_size=16 * 1024,
            limit_concurrency=64,
            timeout_keep_alive=5,
            # A browser that keeps its connection does not keep the service from stopping.
            timeout_graceful_shutdown=2,
        )
        settings.load()
        listener = settings.bind_socket()
    except (OSError, SystemExit) as error:
        raise InvalidValue("[server.callback]", f"can't answer there ({type(error).__name__}: {error})") from None
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, args=([listener],), name="callback", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def create_callback(tokens: TokenService) -> Starlette:
    """The application: one page at whatever path the callback's URL has."""

    async def come_back(request: Request) -> HTMLResponse:
        try:
            await run_in_threadpool(tokens.complete_by_state, str(request.url))
        except InvalidValue:
            return _page(400, "This address belongs to no sign-in that is under way. Begin again where you began.")
        except MailtokenError as error:
            return _page(503, f"It did not work yet: {error}. Load this page again.")
        return _page(200, "Thank you. You can close this window; what became of it is shown where it was begun.")

    return Starlette(routes=[Route("/{path:path}", come_back, methods=["GET"])])


def _page(status: int, text: str) -> HTMLResponse:
    document = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Mailtoken</title><p>{escape(text)}</p></html>'
    )
    return HTMLResponse(document, status, _HEADERS)
