"""A connection of an HTTP listener, with limits on heads and on the number of connections.

A connection counts from the moment at which it is accepted, so one that says nothing or never ends its TLS handshake
counts too. One source has only a share of the connections, and a look at the service's health is answered also when
all are taken. A head that is too large or too slow ends its connection, so a slow client costs little.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import TimerHandle, Transport
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_remote_addr

from adapters.error_kinds import RETRY_AFTER_SECONDS
from adapters.implicit_tls import begin_implicit_tls
from adapters.tls_certificate import TLSCertificate
from infrastructure.access.login_throttle import source_of

_HEAD_SECONDS = 20.0
_HEAD_OCTETS = 32 * 1024
_SPARE_CONNECTIONS = 64
_SPARE_CONNECTIONS_OF_A_SOURCE = 8
_SPARE_HEAD_SECONDS = 2.0
"""Connections beyond a limit: so many may say, in so short a time, that they only want to know the service's health."""
_HEALTH = (b"/healthz", b"/readyz")


@dataclass
class ConnectionCounts:
    """The connections of a listener by source, and their limits: in all, and for each source.

    The connections of an exempt source, a proxy's, count only in all. uvicorn's own limit refuses every request alike,
    those about the service's health too.
    """

    in_all: int
    per_source: int
    is_exempt: Callable[[str], bool] = lambda _: False
    open: int = 0
    by_source: Counter[str] = field(default_factory=Counter)

    def add(self, source: str) -> None:
        """Count a connection."""
        self.open += 1
        self.by_source[source] += 1

    def remove(self, source: str) -> None:
        """Count a connection no more."""
        self.open -= 1
        self.by_source[source] -= 1
        if not self.by_source[source]:
            del self.by_source[source]

    def beyond(self, source: str) -> tuple[int, int]:
        """The number of connections beyond each limit, in all and of this source."""
        own = 0 if self.is_exempt(source) else self.by_source[source] - self.per_source
        return max(0, self.open - self.in_all), max(0, own)


class LimitedConnection(HttpToolsProtocol):
    """HTTP/1.1 with limits on the size of a head, on the time until it is complete, and on connections.

    With a `certificate` the connection begins with a TLS handshake.
    """

    counts: ClassVar[ConnectionCounts]
    certificate: ClassVar[TLSCertificate | None] = None
    _deadline: TimerHandle | None = None
    _head_octets = 0
    _source: str | None = None
    _handshake: asyncio.Task[None] | None = None
    _early = b""
    _is_lost = False

    def source(self, transport: Transport) -> str | None:
        """Who connects; None for a connection without limits."""
        remote = get_remote_addr(transport)
        address = remote[0] if remote else ""
        return address if self.counts.is_exempt(address) else source_of(address)

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Count the connection, and begin its handshake or its first head."""
        self._source = self.source(transport)
        if self._source is not None:
            self.counts.add(self._source)
        if self.certificate is None:
            self._begin(transport)
        elif self._is_refused():
            transport.abort()
            self._remove()
        else:
            self._handshake = self.loop.create_task(self._shake_hands(transport, self.certificate.context()))

    def data_received(self, data: bytes) -> None:
        """Count the octets of a head that is not complete."""
        if self.transport is None:
            self._early += data
            return
        if self._deadline is None and self._is_between_requests():
            self._await_head()
        super().data_received(data)
        if self._deadline is None:
            return
        self._head_octets += len(data)
        if self._head_octets > _HEAD_OCTETS:
            self._end(b"431 Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        """Refuse a too large head that arrived in one piece, and a request while there are too many connections."""
        if any(self._beyond()) and self.url not in _HEALTH:
            self._refuse()
            return
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > _HEAD_OCTETS:
            self._end(b"431 Request Header Fields Too Large")
            return
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit of a head, and count the connection no more."""
        self._is_lost = True
        self._stop_waiting()
        self._remove()
        if self.transport is not None:
            super().connection_lost(exc)

    async def _shake_hands(self, transport: Transport, context: ssl.SSLContext) -> None:
        try:
            secured = await begin_implicit_tls(
                transport,
                self._take_early,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self._seconds(),
            )
        except OSError:
            secured = None
        if secured is None or self._is_lost:
            transport.abort()
            self._remove()
        else:
            self._begin(secured)
            # The head may come before this task goes on.
            if head := self._take_early():
                self.data_received(head)

    def _begin(self, transport: Transport) -> None:
        super().connection_made(transport)
        if self._is_refused():
            self._refuse()
        else:
            self._await_head()

    def _take_early(self) -> bytes:
        early, self._early = self._early, b""
        return early

    def _remove(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            self.counts.remove(source)

    def _is_between_requests(self) -> bool:
        cycle: Any = self.cycle
        return cycle is None or bool(cycle.response_complete)

    def _beyond(self) -> tuple[int, int]:
        return (0, 0) if self._source is None else self.counts.beyond(self._source)

    def _is_refused(self) -> bool:
        in_all, own = self._beyond()
        return in_all > _SPARE_CONNECTIONS or own > _SPARE_CONNECTIONS_OF_A_SOURCE

    def _seconds(self) -> float:
        return _SPARE_HEAD_SECONDS if any(self._beyond()) else _HEAD_SECONDS

    def _await_head(self) -> None:
        self._head_octets = 0
        self._deadline = self.loop.call_later(self._seconds(), self._end, b"408 Request Timeout")

    def _refuse(self) -> None:
        self._end(b"503 Service Unavailable\r\nRetry-After: %d" % RETRY_AFTER_SECONDS)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self, status: bytes) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()


def with_limits(limits: ConnectionCounts, tls: TLSCertificate | None) -> type[LimitedConnection]:
    """The protocol of one listener, which counts with `limits`."""

    class ConnectionOfAListener(LimitedConnection):
        counts = limits
        certificate = tls

    return ConnectionOfAListener
