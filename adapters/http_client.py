"""The synchronous HTTP client, for requests to providers and for the webhook of notifications.

Invariant: a reply to a POST is complete, and kept by its `Exchange`, before anything parses it; the library that
composed the request never sees it. msal would log a body that is not JSON, secrets included, and Authlib's errors
drop `error_codes`. So libraries write requests, and `token_responses` reads the reply, now or after a crash.
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
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.contrib.socks import SOCKSHTTPSConnection, SOCKSHTTPSConnectionPool
from urllib3.util.connection import create_connection

from adapters.private_addresses import AddressRule
from domain.ports import Clock, Exchange, Reply
from domain.secret import Secret

BODY_LIMIT_BYTES = 256 * 1024
DOCUMENT_SECONDS = 3600
PROXY_SCHEMES = frozenset({"http", "https", "socks5", "socks5h"})
"""The kinds of proxies; `socks5h` lets the proxy resolve names. SOCKS needs the package PySocks."""

# All that is read of a reply's headers; also, a header is not a way to fill the escrow.
_KEPT_HEADERS = ("Content-Type", "Date", "Retry-After")
_HEADER_LIMIT = 256
# How much later than the deadline a socket times out, so that the deadline always comes first.
_BEHIND_SECONDS = 1


E = TypeVar("E", bound=BaseException)


class NoReply(Exception):
    """The server gave no complete reply in time. `why` is a code, without any part of the request.

    `verify_code` is OpenSSL's, if the server's certificate could not be verified (openssl-verification-options(1));
    `tls_reason` is OpenSSL's word if TLS failed for another reason. `may_have_arrived`: the connection for a POST was
    open, so the server may have done what the request asked for.
    """

    may_have_arrived = False

    def __init__(self, why: str, *, verify_code: int | None = None, tls_reason: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.verify_code = verify_code
        self.tls_reason = tls_reason


class PrivateAddress(NoReply):
    """The host is at an address that is not public and that the configuration does not permit; nothing was sent."""

    def __init__(self) -> None:
        super().__init__("private_address")


class _Answered(Exception):
    """Ends the library's work once its request has been answered."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class HttpClient:
    """HTTPS within a total time-out; each conversation has a session of its own.

    `address_rule` says which addresses the requests may go to; without it they may go to any.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        timeout_seconds: float = 30,
        ca_file: Path | None = None,
        proxy: str | None = None,
        address_rule: AddressRule | None = None,
    ) -> None:
        self.clock = clock
        self.timeout_seconds = timeout_seconds
        # With a file given, no other authority is trusted, and no environment variable is read.
        self.tls = ssl.create_default_context(cafile=str(ca_file or DEFAULT_CA_BUNDLE_PATH))
        self.documents = _Documents(clock)
        self.address_rule = address_rule
        self._proxy = proxy

    def get(self, url: str, *, newest: bool = False) -> Reply:
        """Fetch a public document, from memory if it is less than an hour old, unless `newest` is set.

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

    def get_as(self, url: str, access_token: Secret) -> Reply:
        """Fetch a document with an access token (RFC 6750 section 2.1), never from memory.

        Raises:
            NoReply: no answer.
        """
        headers = {"Authorization": f"Bearer {access_token.reveal()}", "Accept": "application/json"}
        return _Conversation(self).fetch(requests.Request("GET", url, headers=headers).prepare())

    def forget(self, url: str) -> None:
        """Drop this document from memory, so that the next call fetches it."""
        self.documents.forget(url)

    def post(self, ask: Callable[[requests.Session], object], exchange: Exchange | None = None) -> Reply:
        """Let a library post one request through our session, and return the reply, which the library never sees.

        `exchange` keeps the reply; errors of `Exchange.keep` are passed on.

        Raises:
            NoReply: no complete answer in time.
        """
        reply = self._answer(ask)
        if exchange is not None:
            exchange.keep(reply)
        return reply

    def post_document(self, url: str, document: object, headers: Mapping[str, str]) -> int:
        """POST a document as JSON, to http:// too, and return the status of the answer; its body is not read.

        Raises:
            NoReply: no answer.
        """
        with self.session() as session:
            conversation = _Conversation(self, body_limit_bytes=0)
            session.mount("https://", conversation)
            session.mount("http://", conversation)
            try:
                session.post(url, json=document, headers=dict(headers))
            except _Answered as answered:
                return answered.reply.status
            except (requests.RequestException, ValueError):
                raise NoReply("not_an_address") from None
        raise AssertionError("a POST ends in its answer")

    def server_certificate(self, url: str) -> Mapping[str, Any]:
        """The server's certificate, verified, as `ssl.SSLSocket.getpeercert` gives it; no request is sent.

        Raises:
            NoReply: no connection, or the certificate can't be verified.
        """
        handshake = _Handshake(self)
        try:
            handshake.send(requests.Request("GET", url).prepare())
        except NoReply:
            if handshake.certificate is None:
                raise
        assert handshake.certificate is not None, "the handshake ends without a reply"
        return handshake.certificate

    def proxies(self, url: str) -> Mapping[str, str]:
        """The provider's own proxy, else what HTTPS_PROXY and NO_PROXY say about this URL."""
        return {"https": self._proxy} if self._proxy else get_environ_proxies(url)

    def _answer(self, ask: Callable[[requests.Session], object]) -> Reply:
        with self.session() as session:
            try:
                ask(session)
            except _Answered as answered:
                return answered.reply
            except NoReply:
                raise
            except Exception:
                # The library can't make a request of what the provider's documents contain.
                raise NoReply("request_impossible") from None
        raise AssertionError("the library posted nothing")

    def session(self) -> requests.Session:
        """A session for one conversation. A POST through it must be made inside `post`, which takes the reply."""
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
        """The document, if it is fresh. A fetch time in the future means that the clock was set back."""
        reply = self._replies.get(url)
        if reply and 0 <= (self._clock.now() - reply.received_at).total_seconds() < DOCUMENT_SECONDS:
            return reply
        return None

    def remember(self, url: str, reply: Reply) -> None:
        if reply.status == 200:
            self._replies[url] = reply

    def forget(self, url: str) -> None:
        self._replies.pop(url, None)


class _Deadline(HTTPConnection):
    """A connection that ends at its deadline, in any phase of the request."""

    over: threading.Event
    address_rule: AddressRule | None = None
    was_open = False

    def connect(self) -> None:
        """Connect, unless the deadline is over: a late request would spend its token, and its reply be lost."""
        super().connect()
        if self.over.is_set():
            self.close()
            raise TimeoutError("the deadline is over")
        self.was_open = True

    def cut(self) -> None:
        """Shut the socket down, which also ends the thread that waits on it."""
        if self.sock is not None:
            # Not SSLSocket.shutdown, which removes TLS state that the other thread is using.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


class _PlainConnection(_Deadline):
    """HTTP without TLS."""


class _Connection(_Deadline, HTTPSConnection):
    """HTTP over TLS. Without a proxy it goes to an address that the rule permits."""

    def connect(self) -> None:
        """Connect, and note the address of the server, which has proved its name."""
        super().connect()
        if self.address_rule and self.proxy is None and isinstance(self.sock, ssl.SSLSocket):
            self.address_rule.reached(self.host, self.sock.getpeername()[0])

    def _new_conn(self) -> socket.socket:
        # A proxy resolves the name itself.
        if self.address_rule is None or self.proxy is not None:
            return super()._new_conn()
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        permitted = self.address_rule.permitted(self.host, dict.fromkeys(str(info[4][0]) for info in found))
        failed: OSError = PermissionError()
        for address in permitted:
            try:
                return create_connection(
                    (address, self.port),
                    self.timeout,
                    source_address=self.source_address,
                    socket_options=self.socket_options,
                )
            except OSError as error:
                failed = error
        if not permitted:
            raise PrivateAddress
        raise failed


class _SocksConnection(_Deadline, SOCKSHTTPSConnection):
    """HTTP over TLS, through a SOCKS proxy."""


class _Conversation(HTTPAdapter):
    """Carries the requests of one session: no retries, no redirects, one deadline for each request."""

    connection_class: type[_Deadline] = _Connection
    socks_connection_class: type[_Deadline] = _SocksConnection

    def __init__(self, client: HttpClient, body_limit_bytes: int = BODY_LIMIT_BYTES) -> None:
        super().__init__(max_retries=0)
        self._client = client
        self._body_limit_bytes = body_limit_bytes
        self._over = threading.Event()
        self._connection: _Deadline | None = None

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Answer a GET, from memory if possible; the reply to a POST bypasses the library, as an exception.

        Time-outs, certificates and proxies set on the session or by the library are ignored.

        Raises:
            NoReply: no complete answer in time.
        """
        assert request.url
        if request.method != "GET":
            try:
                raise _Answered(self.fetch(request))
            except NoReply as trouble:
                trouble.may_have_arrived = self._connection is not None and self._connection.was_open
                raise
        reply = self._client.documents.find(request.url)
        if reply is None:
            reply = self.fetch(request)
            self._client.documents.remember(request.url, reply)
        return _response(request, reply)

    def fetch(self, request: requests.PreparedRequest) -> Reply:
        """Send in another thread, so that name resolution, headers and body together keep to the time-out."""
        answers: list[Reply | NoReply] = []
        thread = threading.Thread(
            target=lambda: answers.append(self._converse(request)), name="provider request", daemon=True
        )
        thread.start()
        thread.join(self._client.timeout_seconds)
        if not answers:
            self._over.set()
            if self._connection is not None:
                self._connection.cut()
            raise NoReply("no_answer_in_time")
        [answer] = answers
        if isinstance(answer, NoReply):
            # Raised here and not where it was caught, so that no exception that holds the request hangs on to it.
            raise answer
        return answer

    def _converse(self, request: requests.PreparedRequest) -> Reply | NoReply:
        assert request.url
        rule = self._client.address_rule
        if rule and not rule.permits_name(urlsplit(request.url).hostname or ""):
            return PrivateAddress()
        try:
            response = super().send(
                request,
                stream=True,
                timeout=self._client.timeout_seconds + _BEHIND_SECONDS,
                proxies=dict(self._client.proxies(request.url)),
            )
            with response:
                return _reply(response, self._client.clock.now, self._body_limit_bytes)
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
            return _no_reply(error)
        except PrivateAddress as refused:
            return refused
        except Exception:
            return NoReply("connection_failed")

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> HTTPConnectionPool:
        """Keep hold of the connection that is opened, so that the deadline can end it."""
        pool: HTTPConnectionPool = super().get_connection_with_tls_context(*args, **kwargs)  # type: ignore[assignment]
        kind = self.connection_class if pool.scheme == "https" else _PlainConnection
        if isinstance(pool, SOCKSHTTPSConnectionPool):
            kind = self.socks_connection_class
        pool.ConnectionCls = partial(self._open, kind)  # type: ignore[assignment]
        return pool

    def _open(self, kind: type[_Deadline], *args: Any, **kwargs: Any) -> HTTPConnection:
        self._connection = kind(*args, **kwargs)
        self._connection.over = self._over
        self._connection.address_rule = self._client.address_rule
        return self._connection

    def build_connection_pool_key_attributes(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> Any:
        """Verify by our own TLS context."""
        host, _tls = super().build_connection_pool_key_attributes(request, True, None)
        return host, {"ssl_context": self._client.tls}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Add no certificate authorities to those of our own TLS context."""


class _Handshaking(_Deadline):
    """Ends after the TLS handshake: `certificate` is the server's."""

    certificate: Mapping[str, Any] | None = None

    def connect(self) -> None:
        """Connect, and stop after the handshake.

        Raises:
            ConnectionAbortedError: always, once the certificate is there.
        """
        super().connect()
        assert isinstance(self.sock, ssl.SSLSocket)
        self.certificate = self.sock.getpeercert() or {}
        self.close()
        raise ConnectionAbortedError


class _HandshakeAlone(_Handshaking, _Connection):
    """A TLS handshake alone."""


class _SocksHandshakeAlone(_Handshaking, _SocksConnection):
    """A TLS handshake alone, through a SOCKS proxy."""


class _Handshake(_Conversation):
    """A TLS handshake without a request."""

    connection_class = _HandshakeAlone
    socks_connection_class = _SocksHandshakeAlone

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The server's certificate, verified; None if there was no TLS."""
        return self._connection.certificate if isinstance(self._connection, _Handshaking) else None


def json_object(body: bytes) -> Mapping[str, Any] | None:
    """The JSON object in a body, which must be complete and within the size limit."""
    if len(body) > BODY_LIMIT_BYTES:
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _reply(response: requests.Response, now: Callable[[], datetime], body_limit_bytes: int) -> Reply:
    body = bytearray()
    for chunk in response.raw.stream(8192, decode_content=True) if body_limit_bytes else ():
        body += chunk
        if len(body) > body_limit_bytes:
            break
    headers = tuple(
        (name, response.headers[name][:_HEADER_LIMIT]) for name in _KEPT_HEADERS if name in response.headers
    )
    # One byte above the limit shows that the body was longer.
    return Reply(response.status_code, headers, bytes(body[: body_limit_bytes + 1]), now())


def _response(request: requests.PreparedRequest, reply: Reply) -> requests.Response:
    """The reply as a response of requests. It has no Location header, so no redirect is ever followed."""
    response = requests.Response()
    response.request = request
    response.url = request.url or ""
    response.status_code = reply.status
    response.headers.update(dict(reply.headers))
    response.encoding = "utf-8"
    response.raw = io.BytesIO(reply.body)
    return response


def _no_reply(error: Exception) -> NoReply:
    """The failure by the kind of exception alone: its text may hold the URL, the proxy's password or a body."""
    verification, tls = _cause(error, ssl.SSLCertVerificationError), _cause(error, ssl.SSLError)
    match error:
        case requests.exceptions.ProxyError():
            return NoReply("proxy_refused")
        case _ if verification is not None:
            return NoReply("certificate_not_verified", verify_code=verification.verify_code)
        case requests.exceptions.SSLError() | urllib3.exceptions.SSLError():
            return NoReply("tls_failed", tls_reason=tls.reason if tls else None)
        case requests.exceptions.Timeout() | urllib3.exceptions.TimeoutError():
            return NoReply("no_answer_in_time")
        case requests.exceptions.ConnectionError():
            return NoReply("name_unknown" if _cause(error, socket.gaierror) else "connection_failed")
        case _:
            return NoReply("incomplete_answer")


def _cause(error: BaseException, kind: type[E]) -> E | None:
    """The exception of this kind that caused an error; requests and urllib3 wrap each other's exceptions."""
    around: list[BaseException] = [error]
    seen: list[BaseException] = []
    while around:
        found = around.pop()
        if isinstance(found, kind):
            return found
        if found not in seen:
            seen.append(found)
            inner = (*found.args, getattr(found, "reason", None), found.__cause__, found.__context__)
            around += [one for one in inner if isinstance(one, BaseException)]
    return None
