"""A small HTTPS server: one thread for each connection, TLS handshake in that thread, HTTP/1.1 keep-alive.

A client that hangs, even in the middle of its handshake, delays no other client. Werkzeug's own server closes the
connection after each answer, which would hide faults of clients that keep connections.
"""

import logging
import socket
import socketserver
import ssl
import threading
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler

from werkzeug.test import run_wsgi_app

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

BODY_LIMIT_BYTES = 1_000_000
IDLE_SECONDS = 120


class HTTPSServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves one WSGI application on 127.0.0.1, from `start` to `close`."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, app: "WSGIApplication", tls: ssl.SSLContext, *, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _RequestHandler)
        self.app = app
        self.port: int = self.server_address[1]
        self.base_environ = {"SERVER_NAME": "localhost", "SERVER_PORT": str(self.port), "SCRIPT_NAME": ""}
        self._tls = tls
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._acceptor = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, name=f"practice-https-{self.port}", daemon=True
        )

    def start(self) -> None:
        """Begin to accept connections, in a thread of its own."""
        self._acceptor.start()

    def close(self) -> None:
        """Stop accepting, cut the open connections, and wait for their threads."""
        self.shutdown()
        self.server_close()
        with self._lock:
            open_connections = dict(self._connections)
        for connection in open_connections.values():
            _cut(connection)
        for thread in open_connections:
            thread.join(timeout=5)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection, in the connection's own thread."""
        with self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as connection:
            connection.settimeout(IDLE_SECONDS)
            with self._lock:
                self._connections[threading.current_thread()] = connection
            try:
                connection.do_handshake()
                _RequestHandler(connection, client_address, self)
            finally:
                with self._lock:
                    del self._connections[threading.current_thread()]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing about a client that goes away or doesn't trust the CA."""
        log.debug("connection_failed %s", client_address, exc_info=True)


class _RequestHandler(WSGIRequestHandler):
    """HTTP/1.1 as `http.server` speaks it, answered by the WSGI application."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: HTTPSServer

    def handle(self) -> None:
        """Answer requests until either side closes; `WSGIRequestHandler` would answer only one."""
        self.close_connection = True
        self.handle_one_request()
        while not self.close_connection:
            self.handle_one_request()

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """Answer by the application; the whole body is read first, so that no rest of it precedes the next request."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_LIMIT_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        self._answer(self.rfile.read(length))

    do_POST = do_GET  # noqa: N815

    def _answer(self, body: bytes) -> None:
        environ: WSGIEnvironment = {
            **self.get_environ(),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https",
            "wsgi.input": BytesIO(body),
            "wsgi.errors": self.get_stderr(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        chunks, status, headers = run_wsgi_app(self.server.app, environ)
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Connection", "close")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(chunk)
            self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Print nothing: a request line may contain a code."""


def _cut(connection: socket.socket) -> None:
    """Shut the socket down while its thread uses it; `SSLSocket.shutdown` would drop TLS state the thread needs."""
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        log.debug("connection_already_closed")
