"""The listeners of the relay: the addresses they listen at, their TLS, and the limits on connections.

Every connection has a task of its own, which ends with it. TLS is 1.2 or newer. A renewed certificate of the operator
is used from the next connection on; open connections stay.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from adapters.mail.line_connection import LineConnection, PlaintextInjection, ProtocolError, UnexpectedTLS
from adapters.relay.admission import Admission, AdmissionChange
from adapters.relay.refusals import COMMAND_OCTETS, LAST_COMMANDS, Cause, printable_command
from adapters.relay_documents import RelayRefusal
from adapters.texts.relay_refusals import refusal_text
from adapters.texts.wording import Surface
from adapters.tls_certificate import TLSCertificate
from domain import catalogue
from domain.errors import Failed, InvalidValue
from domain.networks import Network
from domain.profile_fields import is_loopback
from infrastructure.access.login_throttle import source_of
from infrastructure.clock import SystemClock, instant_text
from infrastructure.config.tables import DEFAULT_LISTEN, Ciphers, RelayTable

log = structlog.get_logger("mailtoken")

_BACKLOG = 1024
_TLS_SECONDS = 20.0
_FIRST_PASSED_DESCRIPTOR = 3
_SCHEMES: Mapping[str, tuple[catalogue.Protocol, bool]] = {
    "smtp": (catalogue.Protocol.SMTP, False),
    "smtps": (catalogue.Protocol.SMTP, True),
    "pop3": (catalogue.Protocol.POP, False),
    "pop3s": (catalogue.Protocol.POP, True),
    "imap": (catalogue.Protocol.IMAP, False),
    "imaps": (catalogue.Protocol.IMAP, True),
}
# The causes of a failed handshake, by OpenSSL's reason.
_TLS_CAUSES: Mapping[str | None, Cause] = {
    "UNSUPPORTED_PROTOCOL": Cause.TLS_TOO_OLD,
    "VERSION_TOO_LOW": Cause.TLS_TOO_OLD,
    "WRONG_SSL_VERSION": Cause.TLS_TOO_OLD,
    "NO_SHARED_CIPHER": Cause.NO_SHARED_CIPHER,
    "NO_SHARED_GROUP": Cause.NO_SHARED_CIPHER,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": Cause.NO_SHARED_CIPHER,
    "NO_COMMON_SIGNATURE_ALGORITHMS": Cause.NO_SHARED_CIPHER,
    "WRONG_VERSION_NUMBER": Cause.NO_TLS_AT_TLS_PORT,
    "HTTP_REQUEST": Cause.NO_TLS_AT_TLS_PORT,
    "PACKET_LENGTH_TOO_LONG": Cause.NO_TLS_AT_TLS_PORT,
    "SSLV3_ALERT_BAD_CERTIFICATE": Cause.CERTIFICATE_NOT_TRUSTED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": Cause.CERTIFICATE_NOT_TRUSTED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": Cause.CERTIFICATE_NOT_TRUSTED,
    "TLSV1_ALERT_UNKNOWN_CA": Cause.CERTIFICATE_NOT_TRUSTED,
}
# Fatal alerts (RFC 5246 section 7.2): protocol_version and handshake_failure. asyncio drops those of OpenSSL.
_ALERTS = {Cause.TLS_TOO_OLD: b"\x15\x03\x01\x00\x02\x02\x46", Cause.NO_SHARED_CIPHER: b"\x15\x03\x03\x00\x02\x02\x28"}
# A client that leaves sooner than this has not waited for a greeting: it may be a monitoring program.
_WAITED_SECONDS = 1.0


class SessionRevoked(Exception):
    """The session of a client must end; raised where it waits for the next command."""


@dataclass(frozen=True)
class Endpoint:
    """An address to listen at. `descriptor` is a socket that the service manager has opened already."""

    protocol: catalogue.Protocol
    is_implicit_tls: bool
    name: str
    host: str = ""
    port: int = 0
    descriptor: int | None = None
    ciphers: Ciphers = "modern"

    @property
    def scheme(self) -> str:
        """The scheme of its URL."""
        return next(scheme for scheme, kind in _SCHEMES.items() if kind == (self.protocol, self.is_implicit_tls))

    @classmethod
    def of_url(cls, url: str, ciphers: Ciphers = "modern") -> Endpoint:
        """The endpoint of a URL such as `smtp://127.0.0.1:2587`, which the configuration has checked."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        return cls(*_SCHEMES[parts.scheme], url, parts.hostname, parts.port or 0, ciphers=ciphers)

    @classmethod
    def passed(cls, environment: Mapping[str, str], process_id: int) -> list[Endpoint]:
        """The sockets a service manager passed to this process (sd_listen_fds(3)), each named by its scheme.

        Raises:
            InvalidValue: a name is not a scheme.
        """
        if environment.get("LISTEN_PID") != str(process_id):
            return []
        count = int(environment.get("LISTEN_FDS", "0"))
        names = environment.get("LISTEN_FDNAMES", "").split(":")
        names += ["unknown"] * (count - len(names))
        for name in names[:count]:
            if name not in _SCHEMES:
                raise InvalidValue("FileDescriptorName", "socket_without_scheme", name=name, schemes=[*_SCHEMES])
        return [
            cls(*_SCHEMES[name], f"{name} socket of the service manager", descriptor=descriptor)
            for descriptor, name in enumerate(names[:count], _FIRST_PASSED_DESCRIPTOR)
        ]


@dataclass(eq=False)
class ClientConnection:
    """The connection of a client. `may_sign_in_plainly` is whether its address may sign in without TLS.

    `admission` is None until the service admits the client, and again once the admission is revoked. `commands`,
    `user` and `profile` are for the records of refusals: the last commands, and the user and profile if they are known.
    """

    connection: LineConnection
    address: str
    endpoint: Endpoint
    certificate: TLSCertificate | None
    may_sign_in_plainly: bool
    listener: Listener
    commands: deque[bytes] = field(default_factory=lambda: deque(maxlen=LAST_COMMANDS), init=False)
    user: str | None = field(default=None, init=False)
    profile: str | None = field(default=None, init=False)
    admission: Admission | None = field(default=None, init=False)
    is_signed_in: bool = field(default=False, init=False)
    is_idle: bool = field(default=False, init=False)
    is_leaving: bool = field(default=False, init=False)

    @property
    def may_start_tls(self) -> bool:
        """Whether STARTTLS can be offered."""
        return self.certificate is not None and not self.connection.is_secure

    @property
    def may_sign_in(self) -> bool:
        """Whether a password may be asked for."""
        return self.connection.is_secure or self.may_sign_in_plainly

    async def start_tls(self) -> None:
        """Begin TLS; a failure is logged with the client's address.

        Raises:
            PlaintextInjection: clear text followed the command that asked for TLS.
            OSError: TLS failed, or took too long; the connection is over.
        """
        assert self.certificate is not None
        is_implicit, began = self.endpoint.is_implicit_tls, time.monotonic()
        descriptor = os.dup(self.connection.transport.get_extra_info("socket").fileno())
        try:
            await self.connection.start_tls(
                self.certificate.context(self.endpoint.ciphers),
                _TLS_SECONDS,
                server_side=True,
                is_implicit=is_implicit,
            )
        except ssl.SSLError as error:
            cause, reason = _TLS_CAUSES.get(error.reason, Cause.TLS_FAILED), error.reason
            if cause is Cause.NO_TLS_AT_TLS_PORT and not is_implicit:
                cause, reason = Cause.TLS_FAILED, "clear text came after STARTTLS"
            _send_alert(descriptor, cause)
            self.refuse_tls(cause, reason)
            raise
        except PlaintextInjection:
            log.warning("plaintext_injection_refused", address=self.address, protocol=self.endpoint.protocol)
            self.connection.abort()
            raise
        except OSError:
            if is_implicit and time.monotonic() - began >= _WAITED_SECONDS:
                self.refuse_tls(Cause.NO_TLS_AT_TLS_PORT)
            raise
        finally:
            os.close(descriptor)

    def refuse_tls(self, cause: Cause, reason: str | None = None) -> None:
        """Log and record that TLS did not begin as the port requires."""
        text = refusal_text(cause, Surface.API)
        other = self.listener.port_of(self.endpoint.protocol, is_implicit_tls=not self.endpoint.is_implicit_tls)
        if cause in (Cause.TLS_AT_PLAIN_PORT, Cause.NO_TLS_AT_TLS_PORT) and other:
            text = f"{text}, or use port {other}"
        self.refuse(cause, text if cause is not Cause.TLS_FAILED else f"{text}: {reason}")

    def note(self, command: bytes) -> None:
        """Note a command for the record of a refusal, which makes it printable."""
        self.commands.append(command[:COMMAND_OCTETS])

    @property
    def last_command(self) -> str:
        """The last command as the log shows it, empty if there was none."""
        return printable_command(self.commands[-1]) if self.commands else ""

    def refuse(self, cause: Cause, why: str) -> None:
        """Log and record a refusal."""
        log.warning("client_refused", address=self.address, protocol=self.endpoint.protocol, user=self.user, why=why)
        self.record(cause, why)

    def record(self, cause: Cause, why: str) -> None:
        """Record a refusal that is in the log already."""
        self.listener.record(
            RelayRefusal(
                at=instant_text(SystemClock().now()),
                address=self.address,
                protocol=self.endpoint.protocol.value,
                user=self.user,
                profile=self.profile,
                commands=[printable_command(command) for command in self.commands],
                cause=cause,
                why=why[:400],
            )
        )

    def idle(self) -> _IdleWait:
        """A context for the wait between commands; a session that must end raises `SessionRevoked` in it."""
        return _IdleWait(self)

    def mark_signed_in(self) -> None:
        """Note that the client has signed in.

        Raises:
            SessionRevoked: the admission was revoked during the sign-in.
        """
        if self.admission is None:
            raise SessionRevoked
        self.is_signed_in = True

    def leave(self) -> None:
        """End the session at once if it is between commands, else after the current command."""
        self.is_leaving = True
        if self.is_idle:
            self.connection.interrupt(SessionRevoked())


class _IdleWait:
    """The context of a client's wait between commands."""

    def __init__(self, client: ClientConnection) -> None:
        self._client = client

    def __enter__(self) -> None:
        if self._client.is_leaving:
            raise SessionRevoked
        self._client.is_idle = True

    def __exit__(self, *_: object) -> None:
        self._client.is_idle = False


class ProtocolServer(Protocol):
    """The relay's side of a protocol."""

    async def serve(self, client: ClientConnection) -> None:
        """Serve a client to the end of its session; the caller closes the connection. Implicit TLS has begun.

        Raises connection errors, time-outs, `ProtocolError`, `PlaintextInjection` and `SessionRevoked`.
        """
        ...

    def refusal(self, why: str) -> bytes:
        """The line in place of a greeting for a client that is refused, CRLF included."""
        ...


@dataclass(frozen=True)
class ConnectionLimits:
    """The limits on connections, in all and from one source, and the networks that may sign in without TLS."""

    connections: int
    connections_per_address: int
    plain_networks: tuple[Network, ...] = ()

    def may_sign_in_plainly(self, address: str) -> bool:
        """Whether a client at `address` may sign in without TLS."""
        if is_loopback(address):
            return True
        try:
            place = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(place in network for network in self.plain_networks)


class Listener:
    """Accepts connections at its endpoints, and gives each to the server of its protocol."""

    def __init__(
        self,
        protocol_servers: Mapping[catalogue.Protocol, ProtocolServer],
        limits: ConnectionLimits,
        certificate: TLSCertificate | None,
    ) -> None:
        self._protocol_servers = protocol_servers
        self._limits = limits
        self._certificate = certificate
        self._servers: list[asyncio.Server] = []
        self._places: list[tuple[Endpoint, int]] = []
        self._on_refusal: Callable[[RelayRefusal], None] | None = None
        self._clients: dict[asyncio.Task[None], ClientConnection] = {}
        self._by_source: Counter[str] = Counter()

    async def listen(self, endpoints: Iterable[Endpoint]) -> list[tuple[str, int]]:
        """Listen at the endpoints; returns their addresses and ports, in the same order.

        Raises:
            InvalidValue: an endpoint needs TLS, and there is no certificate.
            Failed: an address is in use, or the process may not use it.
        """
        places = []
        for endpoint in endpoints:
            if endpoint.is_implicit_tls and self._certificate is None:
                raise InvalidValue("[relay] listen", "listen_needs_certificate", listen=endpoint.name)
            server = await self._open(endpoint)
            self._servers.append(server)
            host, port = server.sockets[0].getsockname()[:2]
            places.append((host, port))
            self._places.append((endpoint, port))
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            log.info("listening", listen=f"{endpoint.scheme}://{address}")
        return places

    def taken_over(self, endpoints: Iterable[Endpoint]) -> Iterator[Endpoint]:
        """The endpoints for another listener, with the sockets of this one where it listens at the same address."""
        descriptors: dict[str, list[int]] = {}
        for (endpoint, _), server in zip(self._places, self._servers, strict=True):
            descriptors.setdefault(endpoint.name, []).extend(opened.fileno() for opened in server.sockets)
        wanted: dict[str, list[Endpoint]] = {}
        for endpoint in endpoints:
            wanted.setdefault(endpoint.name, []).append(endpoint)
        for name, same in wanted.items():
            if name in descriptors:
                yield from (replace(same[0], descriptor=descriptor) for descriptor in descriptors[name])
            else:
                yield from same

    async def close(self, grace_seconds: float) -> None:
        """Accept no more connections, and give the sessions `grace_seconds` to finish."""
        for server in self._servers:
            server.close()
        for client in self._clients.values():
            client.leave()
        if self._clients:
            _, late = await asyncio.wait(self._clients, timeout=grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def revoke(self, change: AdmissionChange) -> None:
        """End the sessions whose admission a change ends; a message that is being sent may be finished."""
        for task, client in list(self._clients.items()):
            if client.admission is None or not change.concerns(client.admission):
                continue
            client.admission = None
            if client.is_signed_in:
                client.leave()
                if client.endpoint.protocol is not catalogue.Protocol.SMTP:
                    # The session is in a tunnel, in which the relay sees no commands.
                    task.cancel()

    def report_to(self, on_refusal: Callable[[RelayRefusal], None]) -> None:
        """Call a function with the record of each refusal from now on."""
        self._on_refusal = on_refusal

    def record(self, refusal: RelayRefusal) -> None:
        """Report the record of a refusal."""
        if self._on_refusal is not None:
            self._on_refusal(refusal)

    def port_of(self, protocol: catalogue.Protocol, *, is_implicit_tls: bool) -> int | None:
        """The first port for a protocol with this kind of TLS; None if there is none."""
        for endpoint, port in self._places:
            if endpoint.protocol is protocol and endpoint.is_implicit_tls is is_implicit_tls:
                return port
        return None

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._clients)

    async def _open(self, endpoint: Endpoint) -> asyncio.Server:
        loop = asyncio.get_running_loop()

        def arrive() -> LineConnection:
            return _Arrival(self, endpoint)

        try:
            if endpoint.descriptor is not None:
                return await loop.create_server(arrive, sock=socket.socket(fileno=os.dup(endpoint.descriptor)))
            return await loop.create_server(arrive, endpoint.host, endpoint.port, backlog=_BACKLOG, reuse_address=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise Failed("relay_cannot_listen", listen=endpoint.name, reason=reason) from None

    def arrived(self, connection: LineConnection, endpoint: Endpoint) -> None:
        """Serve a new connection, or refuse it if there are too many."""
        address = connection.address
        protocol_server = self._protocol_servers[endpoint.protocol]
        client = ClientConnection(
            connection, address, endpoint, self._certificate, self._limits.may_sign_in_plainly(address), self
        )
        full = self._is_full(address)
        if full:
            client.refuse(Cause.TOO_MANY_CONNECTIONS, full)
            if not endpoint.is_implicit_tls:
                connection.write(protocol_server.refusal(full))
            connection.close()
            return
        task = asyncio.get_running_loop().create_task(_serve(client, protocol_server))
        self._clients[task] = client
        self._by_source[source_of(address)] += 1
        task.add_done_callback(self._gone)

    def _is_full(self, address: str) -> str:
        if len(self._clients) >= self._limits.connections:
            return "too many connections, try again later"
        if self._by_source[source_of(address)] >= self._limits.connections_per_address:
            return "too many connections from this address"
        return ""

    def _gone(self, task: asyncio.Task[None]) -> None:
        source = source_of(self._clients.pop(task).address)
        self._by_source[source] -= 1
        if not self._by_source[source]:
            del self._by_source[source]


class _Arrival(LineConnection):
    """A connection that a listener has accepted."""

    def __init__(self, listener: Listener, endpoint: Endpoint) -> None:
        super().__init__()
        self._listener = listener
        self._endpoint = endpoint

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.arrived(self, self._endpoint)


async def _serve(client: ClientConnection, protocol_server: ProtocolServer) -> None:
    """Serve a client, from TLS to the end of its session. A failure of one session never reaches another."""
    try:
        if client.endpoint.is_implicit_tls:
            await client.start_tls()
        await protocol_server.serve(client)
    except UnexpectedTLS:
        client.refuse_tls(Cause.TLS_AT_PLAIN_PORT)
    except (OSError, ProtocolError, PlaintextInjection, SessionRevoked):
        pass
    except Exception as error:
        log.error("session_failed", address=client.address, protocol=client.endpoint.protocol, exc_info=error)
    finally:
        client.connection.close()


def _send_alert(descriptor: int, cause: Cause) -> None:
    """Send the alert for a failed handshake on a copy of the connection's descriptor, the original being closed."""
    with suppress(OSError):
        if cause in _ALERTS:
            os.write(descriptor, _ALERTS[cause])


def endpoints(table: RelayTable, environment: Mapping[str, str], process_id: int) -> list[Endpoint]:
    """The endpoints: the sockets of the service manager and those of the configuration, else `DEFAULT_LISTEN`.

    The entries of `[[relay.listeners]]` come on top of either.

    Raises:
        InvalidValue: a socket of the service manager has no scheme as its name.
    """
    passed = Endpoint.passed(environment, process_id)
    urls = table.listen if table.listen is not None else () if passed else DEFAULT_LISTEN
    more = (Endpoint.of_url(listener.listen, listener.ciphers) for listener in table.listeners)
    return [*passed, *map(Endpoint.of_url, urls), *more]
