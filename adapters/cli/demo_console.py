"""The way into the console of the demo: a link that works once and opens the pages signed in.

The first administrator is made with the service's own set-up link. A browser's cookies are those of a host and not of a
port, so a listener of the demo hands over the session and leads on to the console.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import requests

from adapters.cli.demo_site import DemoSite, StageFailed
from adapters.http.public_url import FIRST_LINK_FILE

NAME = "demo"
_SECONDS = 30


@dataclass(frozen=True)
class Console:
    """The console's address, the link that opens it signed in, and what to sign in with otherwise."""

    origin: str
    link: str
    password: str


@contextmanager
def open_console(site: DemoSite) -> Iterator[Console]:
    """Make the first administrator and serve the link until the end.

    Raises:
        StageFailed: the service did not take the set-up link.
    """
    password = secrets.token_urlsafe(12)
    cookie = _set_up(site, password)
    path = f"/{secrets.token_urlsafe(16)}"
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(path, cookie, f"{site.origin}/"))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="console-link", daemon=True)
    thread.start()
    try:
        yield Console(site.origin, f"http://localhost:{server.server_port}{path}", password)
    finally:
        server.shutdown()
        server.server_close()


def check_console(console: Console, expected: str) -> None:
    """Open the link as a browser does.

    Raises:
        StageFailed: the console does not open signed in, or does not show the `expected` text.
    """
    answer = requests.get(console.link, allow_redirects=False, timeout=_SECONDS)
    cookie = answer.headers.get("Set-Cookie", "").partition(";")[0]
    page = requests.get(f"{console.origin}/settings", headers={"Cookie": cookie}, timeout=_SECONDS)
    if answer.status_code != HTTPStatus.SEE_OTHER or expected not in page.text:
        raise StageFailed(f"the console answers {answer.status_code} and {page.status_code}, without {expected}")


def _set_up(site: DemoSite, password: str) -> str:
    """The cookie of the first administrator's session."""
    link = (site.directory / FIRST_LINK_FILE).read_text().strip()
    code = parse_qs(urlsplit(link).query)["code"][0]
    form = {"code": code, "name": NAME, "password": password, "repeated": password}
    answer = requests.post(f"{site.origin}/setup", data=form, allow_redirects=False, timeout=_SECONDS)
    if answer.status_code != HTTPStatus.SEE_OTHER:
        raise StageFailed(f"the console can't be set up: {answer.status_code}")
    return answer.headers["Set-Cookie"]


def _handler(path: str, cookie: str, console: str) -> type[BaseHTTPRequestHandler]:
    unused = [cookie]

    class Handler(BaseHTTPRequestHandler):
        """Hands the session over to whom comes first; later the console asks to sign in."""

        def do_GET(self) -> None:
            if self.path != path:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            self.send_response(HTTPStatus.SEE_OTHER)
            self.send_header("Location", console)
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", "0")
            if unused:
                self.send_header("Set-Cookie", unused.pop())
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing: the path is a secret."""

    return Handler
