"""Our own HTTP client for everything a client library asks of a provider.

Invariant: a reply to a POST is complete, and kept by its `Exchange`, before anything parses it; the library that
composed the request never sees it. msal would log a body that is not JSON, secrets included, and Authlib's errors
drop `error_codes`. So libraries write requests, and `replies` reads the reply, now or after a crash.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool

from domain.ports import Clock, Exchange, Reply

BODY_LIMIT_BYTES = 256 * 1024
DOCUMENT_SECONDS = 3600

# All that is read of a reply's headers; also, a header is not a way to fill the escrow.
_KEPT_HEADERS = ("Content-Type", "Date", "Retry-After")
_HEADER_LIMIT = 256
# How far a socket's own time-out is behind the deadline, so that it is always the deadline that speaks.
_BEHIND_SECONDS = 1


class NoReply(Exception):
    """The provider gave no complete reply in time; the text says why and nothing of what was sent."""


class _Answered(Exception):
    """Ends the library's work once its request has been answered."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class HttpClient:
    """HTTPS to one provider, within a total time-out; each conversation has a session of its own."""

    def __init__(
        self, clock: Clock, *, timeout_seconds: float = 30, ca_file: Path | None = None, proxy: str | None = None
    ) -> None:
        self.clock = clock
        self.timeout_seconds = timeout_seconds
        # With a file given, nothing else is trusted, and no environment variable is asked.
        self.tls = ssl.create_default_context(cafile=str(ca_file or DEFAULT_CA_BUNDLE_PATH))
        self.documents = _Documents(clock)
        self._proxy = proxy

    def get(self, url: str, *, newest: bool = False) -> Reply:
        """Fetch a public document, from memory if it is less than an hour old and `newest` is not asked for.

        What is in memory is the same object each time.

        Raises:
            NoReply: no answer.
        """
        if newest:
            self.forget(url)
        remembered = self.documents.find(url)
        if remembered is not None:
            return remembered
        with self.session() as session:
            response = session.get(url)
        return self.documents.find(url) or Reply(
            response.status_code, tuple(response.headers.items()), response.content, self.clock.now()
        )

    def forget(self, url: str) -> None:
        """Fetch this document anew next time."""
        self.documents.forget(url)

    def post(self, ask: Callable[[requests.Session], object], exchange: Exchange | None = None) -> Reply:
        """Let a library post its one request through a session of ours, and take the reply from under it.

        The exchange keeps it; what `Exchange.keep` raises goes through.

        Raises:
            NoReply: no answer.
        """
        reply = self._answer(ask)
        if exchange is not None:
            exchange.keep(reply)
        return reply

    def proxies(self, url: str) -> Mapping[str, str]:
        """The provider's own proxy, else what HTTPS_PROXY and NO_PROXY say about this URL."""
        return {"https": self._proxy} if self._proxy else get_environ_proxies(url)

    def _answer(self, ask: Callable[[requests.Session], object]) -> Reply:
        with self.session() as session:
            try:
                ask(session)
            except _Answered as answered:
                return answered.reply
        raise AssertionError("the library posted nothing")

    def session(self) -> requests.Session:
        """A session for one conversation; a POST through it ends in `post` alone."""
        session = requests.Session()
        session.trust_env = False  # neither REQUESTS_CA_BUNDLE nor .netrc; proxies are resolved by `proxies`
        session.headers.update({"User-Agent": "mailtoken", "Accept": "application/json", "Accept-Encoding": "identity"})
        session.adapters.clear()
        session.mount("https://", _Conversation(self))
        return session


class _Documents:
    """Discovery documents and key sets by URL, for an hour."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._replies: dict[str, Reply] = {}

    def find(self, url: str) -> Reply | None:
        """The document, if it is fresh; one from the future was fetched before the clock jumped."""
        reply = self._replies.get(url)
        if reply and 0 <= (self._clock.now() - reply.received_at).total_seconds() < DOCUMENT_SECONDS:
            return reply
        return None

    def remember(self, url: str, reply: Reply) -> None:
        if reply.status == 200:
            self._replies[url] = reply

    def forget(self, url: str) -> None:
        self._replies.pop(url, None)


class _Conversation(HTTPAdapter):
    """Carries the requests of one session: no retries, no redirects, one deadline for each request."""

    def __init__(self, client: HttpClient) -> None:
        super().__init__(max_retries=0)
        self._client = client
        self._over = threading.Event()
        self._connection: _Connection | None = None

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Answer a GET, from memory if possible; hand the reply to a POST over the library's head.

        What session and library say about time-outs, certificates and proxies does not count.

        Raises:
            NoReply: no complete answer in time.
        """
        assert request.url
        if request.method != "GET":
            raise _Answered(self._fetch(request))
        reply = self._client.documents.find(request.url)
        if reply is None:
            reply = self._fetch(request)
            self._client.documents.remember(request.url, reply)
        return _response(request, reply)

    def _fetch(self, request: requests.PreparedRequest) -> Reply:
        """Converse in another thread: name resolution, headers and body may each be slow, together they may not."""
        answers: list[Reply | str] = []
        thread = threading.Thread(
            target=lambda: answers.append(self._converse(request)), name="provider request", daemon=True
        )
        thread.start()
        thread.join(self._client.timeout_seconds)
        if not answers:
            self._over.set()
            if self._connection is not None:
                self._connection.cut()
            raise NoReply(f"no complete answer within {self._client.timeout_seconds:g} seconds")
        [answer] = answers
        if isinstance(answer, str):
            # Raised here and not where it was caught, so that no exception that holds the request hangs on to it.
            raise NoReply(answer)
        return answer

    def _converse(self, request: requests.PreparedRequest) -> Reply | str:
        assert request.url
        try:
            response = super().send(
                request,
                stream=True,
                timeout=self._client.timeout_seconds + _BEHIND_SECONDS,
                proxies=dict(self._client.proxies(request.url)),
            )
            with response:
                return _reply(response, self._client.clock.now)
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
            return _why(error)
        except (OSError, ValueError) as error:
            return f"the connection failed ({type(error).__name__})"

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> HTTPConnectionPool:
        """Note the connection that is opened, so that the deadline can cut it."""
        pool: HTTPConnectionPool = super().get_connection_with_tls_context(*args, **kwargs)  # type: ignore[assignment]
        pool.ConnectionCls = self._open  # type: ignore[assignment]
        return pool

    def _open(self, *args: Any, **kwargs: Any) -> HTTPSConnection:
        self._connection = _Connection(*args, **kwargs)
        self._connection.over = self._over
        return self._connection

    def build_connection_pool_key_attributes(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> Any:
        """Verify by our own TLS context."""
        host, _tls = super().build_connection_pool_key_attributes(request, True, None)
        return host, {"ssl_context": self._client.tls}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Add no certificate authorities to those of our own TLS context."""


class _Connection(HTTPSConnection):
    """Ends with its deadline, at whatever point it is then."""

    over: threading.Event

    def connect(self) -> None:
        """Connect; but a request that nobody waits for any more must not be sent, as it would spend its token."""
        super().connect()
        if self.over.is_set():
            self.close()
            raise TimeoutError("the deadline is over")

    def cut(self) -> None:
        """End the conversation under the thread that waits in it, which then ends too."""
        if self.sock is not None:
            # Not SSLSocket.shutdown, which takes away TLS state that thread is using.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


def json_object(body: bytes) -> Mapping[str, Any] | None:
    """The JSON object a body holds, all of it and within the limit."""
    if len(body) > BODY_LIMIT_BYTES:
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _reply(response: requests.Response, now: Callable[[], datetime]) -> Reply:
    body = bytearray()
    for chunk in response.raw.stream(8192, decode_content=True):
        body += chunk
        if len(body) > BODY_LIMIT_BYTES:
            break
    headers = tuple(
        (name, response.headers[name][:_HEADER_LIMIT]) for name in _KEPT_HEADERS if name in response.headers
    )
    # One byte above the limit says that there was more.
    return Reply(response.status_code, headers, bytes(body[: BODY_LIMIT_BYTES + 1]), now())


def _response(request: requests.PreparedRequest, reply: Reply) -> requests.Response:
    """Dress a reply up for a library; it has no Location header, so no redirect is ever followed."""
    response = requests.Response()
    response.request = request
    response.url = request.url or ""
    response.status_code = reply.status
    response.headers.update(dict(reply.headers))
    response.encoding = "utf-8"
    response.raw = io.BytesIO(reply.body)
    return response


def _why(error: Exception) -> str:
    """Say what was wrong by the kind of exception alone: its text may hold the URL, the proxy's password or a body."""
    match error:
        case requests.exceptions.ProxyError():
            return "the proxy does not let us through"
        case requests.exceptions.SSLError() | urllib3.exceptions.SSLError():
            return "TLS failed; if its certificate is of a private authority, set ca_file"
        case requests.exceptions.Timeout() | urllib3.exceptions.TimeoutError():
            return "no answer in time"
        case requests.exceptions.ConnectionError():
            return "the connection failed"
        case _:
            return f"no complete answer ({type(error).__name__})"
