"""The redirect URI of a browser sign-in: a listener on this machine's loopback (RFC 8252 section 7.3).

The redirect holds an authorization code, so it goes to the service in a request's body and is shown nowhere.
"""

from __future__ import annotations

import queue
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

_PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Mailtoken</title>
<style>body{font:1.2rem/1.5 system-ui,sans-serif;margin:4rem auto;max-width:32rem;padding:0 1rem}</style>
<h1>Thank you</h1><p>You can close this window. What became of the sign-in is shown where it was begun.</p></html>"""


@dataclass
class Redirects:
    """The URLs of redirects, from browsers or pasted by a person."""

    redirect_uri: str
    _arrived: queue.Queue[str] = field(default_factory=queue.Queue)

    def take(self) -> str | None:
        """The next URL; None if no URL has arrived."""
        try:
            return self._arrived.get_nowait()
        except queue.Empty:
            return None

    def put(self, url: str) -> None:
        """Add a URL that has arrived."""
        self._arrived.put(url)


@contextmanager
def listen() -> Iterator[Redirects]:
    """Listen on a free port of loopback while the sign-in is under way, and read pasted URLs from a terminal."""
    redirects = Redirects("")

    class Handler(BaseHTTPRequestHandler):
        """Takes the redirect; every other request gets status 404."""

        def do_GET(self) -> None:
            """Take the authorization response from the query (RFC 6749 section 4.1.2)."""
            if "state" not in parse_qs(urlsplit(self.path).query):
                self.send_error(404)
                return
            redirects.put(redirects.redirect_uri.rstrip("/") + self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(_PAGE)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(_PAGE)

        def log_message(self, *_: object) -> None:
            """Log nothing: the request line holds the code."""

    server = _Loopback(("127.0.0.1", 0), Handler)
    # Entra accepts any port with the name localhost, and so does Google; browsers resolve that name to 127.0.0.1.
    redirects.redirect_uri = f"http://localhost:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    if sys.stdin.isatty():
        threading.Thread(target=_read_pasted, args=(redirects,), daemon=True).start()
    try:
        yield redirects
    finally:
        server.shutdown()
        server.server_close()


class _Loopback(HTTPServer):
    address_family = socket.AF_INET


def _read_pasted(redirects: Redirects) -> None:
    for line in sys.stdin:
        if line.strip():
            redirects.put(line.strip())
