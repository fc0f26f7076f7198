"""Connections to mail servers: resolve, connect, TLS. A failure is raised as `ConversationFailed` with its verdict."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import ClassVar

from adapters.mail import tls
from adapters.mail.line_connection import DeadlinePassed, LineConnection
from adapters.mail.report import ConversationFailed, Steps
from adapters.mail.server_address import MailServerAddress
from domain.mail_report import Fault, Verdict
from domain.profile_fields import is_loopback

# A resumed session does not show the certificate again, so a session must not outlive the certificate by much.
_SESSION_SECONDS = 3600.0
# One host name may stand for several servers or processes, which don't know each other's TLS sessions.
_NO_SESSION_SECONDS = 600.0
_ADDRESS_SECONDS = 30.0


class Dialer:
    """Opens connections to mail servers, with the kind of TLS that each address asks for.

    With `caches` the dialer keeps addresses for some seconds and resumes TLS sessions, and serves one event loop only.
    """

    def __init__(self, ca_file: Path | None, *, caches: bool = True) -> None:
        """Trust the system's authorities and those in `ca_file`.

        Raises:
            InvalidValue: `ca_file` can't be used.
        """
        self._caches = caches
        self._addresses: dict[str, tuple[Sequence[str], float]] = {}
        self._answered: dict[tuple[str, int], str] = {}
        self._sessions = _Sessions()
        self._context = tls.client_context(ca_file)
        if caches:
            self._context.sslobject_class = _resuming(self._sessions)

    async def connect(
        self,
        server: MailServerAddress,
        steps: Steps,
        *,
        timeout_seconds: float,
        deadline: float = math.inf,
    ) -> LineConnection:
        """Connect, and begin TLS if it is implicit: the steps `resolve`, `connect` and `tls`.

        Each address, and the TLS handshake, has `timeout_seconds`; `deadline` is the connection's deadline.

        Raises:
            ConversationFailed: the host is unknown, no address accepts, TLS fails or the certificate is not accepted.
        """
        if server.tls == "none" and not is_loopback(server.server):
            raise ConversationFailed(Verdict("tls_required", Fault.CONFIGURATION, {"server": server.where}))
        with steps.step("resolve") as note:
            addresses = await self._resolved(server, timeout_seconds, deadline)
            note.detail = lambda: ", ".join(addresses)
        with steps.step("connect") as note:
            connection = await self._connected(server, addresses, timeout_seconds, deadline)
            note.detail = lambda: connection.peer
        connection.deadline = deadline
        if server.tls == "implicit":
            with steps.step("tls") as note:
                await self.secure(connection, server, timeout_seconds)
                note.detail = lambda: tls.describe(connection.transport)
        return connection

    async def secure(self, connection: LineConnection, server: MailServerAddress, timeout_seconds: float) -> None:
        """Begin TLS, at once or after the server's go-ahead.

        Raises:
            PlaintextInjection: unread clear text came before the handshake.
            OSError: TLS failed; `ssl.SSLCertVerificationError` if the certificate is at fault.
        """
        try:
            await connection.start_tls(
                self._context,
                timeout_seconds,
                # A certificate has no trailing dot in its names (RFC 6125 section 6.4).
                server_hostname=server.server.rstrip("."),
                is_implicit=server.tls == "implicit",
            )
        except BaseException:
            connection.abort()
            raise

    def keep_session(self, connection: LineConnection) -> None:
        """Keep the TLS session for the next connection; call this once the server has sent its first line."""
        if self._caches:
            self._sessions.keep(connection)

    async def _connected(
        self, server: MailServerAddress, addresses: Sequence[str], timeout_seconds: float, deadline: float
    ) -> LineConnection:
        """A connection to the first address that accepts; raises the last address's error if no address accepts."""
        loop = asyncio.get_running_loop()
        failure: OSError = ConnectionRefusedError()
        for address in addresses:
            try:
                async with _within(timeout_seconds, deadline):
                    _, connection = await loop.create_connection(LineConnection, address, server.port)
            except DeadlinePassed:
                raise
            except OSError as error:
                failure = error
            else:
                if self._caches:
                    self._answered[server.server, server.port] = address
                return connection
        self._addresses.pop(server.server, None)
        raise failure

    async def _resolved(self, server: MailServerAddress, timeout_seconds: float, deadline: float) -> Sequence[str]:
        """The IP addresses of a host in the order to try; the address of the last successful connection is first."""
        addresses, until = self._addresses.get(server.server, ((), 0.0))
        if monotonic() >= until:
            async with _within(timeout_seconds, deadline):
                addresses = await _look_up(server.server, server.port)
            if self._caches:
                self._addresses[server.server] = addresses, monotonic() + _ADDRESS_SECONDS
        last = self._answered.get((server.server, server.port))
        return sorted(addresses, key=lambda address: address != last)


@asynccontextmanager
async def _within(seconds: float, deadline: float) -> AsyncIterator[None]:
    """A time-out for one step, and the deadline of the whole conversation.

    Raises:
        DeadlinePassed: the deadline has passed.
        TimeoutError: the time-out has passed.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(min(loop.time() + seconds, deadline)):
            yield
    except TimeoutError:
        raise (DeadlinePassed() if loop.time() >= deadline else TimeoutError()) from None


async def _look_up(host: str, port: int) -> list[str]:
    """The IP addresses of a host.

    The resolver has no time-out and can't be stopped, so a daemon thread waits for it: the process can still exit.

    Raises:
        socket.gaierror: the host has no address.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def resolve(addresses: list[str], error: OSError | None) -> None:
        if found.done():
            return
        if error is None:
            found.set_result(addresses)
        else:
            found.set_exception(error)

    def look_up() -> None:
        addresses: list[str] = []
        failure: OSError | None = None
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(address[0]) for *_, address in infos))
        except OSError as error:
            failure = error
        except UnicodeError:
            failure = socket.gaierror(socket.EAI_NONAME, "not a host name")
        with suppress(RuntimeError):  # the loop is closed: no task waits any more
            loop.call_soon_threadsafe(resolve, addresses, failure)

    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    return await found


class _Sessions:
    """The last TLS session with each host, from a connection that was verified for that name.

    Reading or setting a session costs half of what a resumption saves. A resumed session is therefore not read again,
    and a server that does not resume sessions is offered no session for a while.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[ssl.SSLSession | None, float]] = {}

    def keep(self, connection: LineConnection) -> None:
        secured = connection.transport.get_extra_info("ssl_object")
        if not isinstance(secured, _Resuming) or secured.session_reused or not secured.server_hostname:
            return
        now = monotonic()
        if secured.has_offered:
            self._kept[secured.server_hostname] = None, now + _NO_SESSION_SECONDS
        elif now >= self._kept.get(secured.server_hostname, (None, 0.0))[1]:
            self._kept[secured.server_hostname] = secured.session, now + _SESSION_SECONDS

    def of(self, host: str) -> ssl.SSLSession | None:
        session, until = self._kept.get(host, (None, 0.0))
        return session if monotonic() < until else None


class _Resuming(ssl.SSLObject):
    """Offers the last session with its host; a server that declines the session makes a full handshake."""

    sessions: ClassVar[_Sessions]
    has_offered = False
    _is_begun = False

    def do_handshake(self) -> None:
        if not self._is_begun:
            self._is_begun = True
            session = self.sessions.of(self.server_hostname or "")
            if session is not None:
                self.session, self.has_offered = session, True
        super().do_handshake()


def _resuming(known: _Sessions) -> type[ssl.SSLObject]:
    class Resuming(_Resuming):
        sessions = known

    return Resuming
