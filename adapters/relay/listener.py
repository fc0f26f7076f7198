"""Where clients come in: the listeners, their TLS, and how many clients there may be.

Every connection has a task of its own, which ends with it. TLS is 1.2 or newer, with the operator's certificate as
it is now: a renewed one is used from the next connection on, and those that are open stay.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from adapters.certificate import Certificate
from adapters.mail.connection import Garbled, SaidBeforeTLS
from adapters.relay.changes import Change
from adapters.relay.door import Admission
from adapters.relay.lines import Wire
from domain import catalogue
from domain.errors import Failed, InvalidValue
from domain.profile import is_loopback
from domain.relay_user import Network

log = structlog.get_logger("mailtoken")

DEFAULT_LISTEN = ("smtp://127.0.0.1:2587", "pop3://127.0.0.1:2110", "imap://127.0.0.1:2143")
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
# What OpenSSL says of clients that know no version or cipher we do.
_TOO_OLD = {"UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "NO_SHARED_CIPHER", "WRONG_SSL_VERSION"}


class Dismissed(Exception):
    """The session is to end here: raised in a client that waits for its next command."""


@dataclass(frozen=True)
class Endpoint:
    """One place to listen at. `descriptor` is a socket that the service manager has opened already."""

    protocol: catalogue.Protocol
    is_implicit_tls: bool
    name: str
    host: str = ""
    port: int = 0
    descriptor: int | None = None

    @property
    def scheme(self) -> str:
        """As in its URL."""
        return next(scheme for scheme, kind in _SCHEMES.items() if kind == (self.protocol, self.is_implicit_tls))

    @classmethod
    def of_url(cls, url: str) -> Endpoint:
        """Such as `smtp://127.0.0.1:2587`, checked by the configuration."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        return cls(*_SCHEMES[parts.scheme], url, parts.hostname, parts.port or 0)

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
                raise InvalidValue(
                    "FileDescriptorName", f"{name!r} is not {', '.join(_SCHEMES)}: name the socket's scheme in its unit"
                )
        return [
            cls(*_SCHEMES[name], f"{name} socket of the service manager", descriptor=descriptor)
            for descriptor, name in enumerate(names[:count], _FIRST_PASSED_DESCRIPTOR)
        ]


@dataclass(eq=False)
class Client:
    """Somebody who has connected. `may_sign_in_plainly` is whether a password may come without TLS from there.

    `admission` is what they sign in by, and None again once that is over.
    """

    wire: Wire
    address: str
    endpoint: Endpoint
    certificate: Certificate | None
    may_sign_in_plainly: bool
    admission: Admission | None = field(default=None, init=False)
    is_signed_in: bool = field(default=False, init=False)
    is_idle: bool = field(default=False, init=False)
    is_leaving: bool = field(default=False, init=False)

    @property
    def may_start_tls(self) -> bool:
        """Whether STARTTLS can be offered."""
        return self.certificate is not None and not self.wire.is_secure

    @property
    def may_sign_in(self) -> bool:
        """Whether a password may be asked for."""
        return self.wire.is_secure or self.may_sign_in_plainly

    async def start_tls(self) -> None:
        """Begin TLS; a client that can't is named in the log.

        Raises:
            SaidBeforeTLS: something came in clear behind the command that asked for TLS.
            OSError: no TLS, or not in time; the connection is over.
        """
        assert self.certificate is not None
        try:
            await self.wire.start_tls(
                self.certificate.context(), _TLS_SECONDS, server_side=True, is_implicit=self.endpoint.is_implicit_tls
            )
        except ssl.SSLError as error:
            self._log_refusal(error)
            raise
        except SaidBeforeTLS:
            log.warning("clear text behind STARTTLS refused", address=self.address, protocol=self.endpoint.protocol)
            self.wire.abort()
            raise

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Between commands, where a session may be ended: then `Dismissed` is raised, here or when a wait begins."""
        if self.is_leaving:
            raise Dismissed
        self.is_idle = True
        try:
            yield
        finally:
            self.is_idle = False

    def signed_in(self) -> None:
        """They are.

        Raises:
            Dismissed: the admission was over before.
        """
        if self.admission is None:
            raise Dismissed
        self.is_signed_in = True

    def leave(self) -> None:
        """Go at the next place between commands."""
        self.is_leaving = True
        if self.is_idle:
            self.wire.interrupt(Dismissed())

    def _log_refusal(self, error: ssl.SSLError) -> None:
        why = (
            "it knows no TLS 1.2 or newer: update it, or name its network in plain_networks"
            if error.reason in _TOO_OLD
            else f"TLS failed: {error.reason}"
        )
        log.warning("client refused", address=self.address, protocol=self.endpoint.protocol, why=why)


class Conversation(Protocol):
    """The server's side of a protocol."""

    async def converse(self, client: Client) -> None:
        """Speak with a client until it goes; its connection is closed afterwards. TLS has begun if it is implicit.

        Connection errors, time-outs, `Garbled`, `SaidBeforeTLS` and `Dismissed` may leave from here.
        """
        ...

    def refusal(self, why: str) -> bytes:
        """What a client is told in place of a greeting, CRLF included."""
        ...


@dataclass(frozen=True)
class Limits:
    """How many connections there may be, in all and from one address, and who may sign in without TLS."""

    connections: int
    connections_per_address: int
    plain_networks: tuple[Network, ...] = ()

    def may_sign_in_plainly(self, address: str) -> bool:
        """Whether a password may come from there without TLS."""
        if is_loopback(address):
            return True
        try:
            place = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(place in network for network in self.plain_networks)


class Listener:
    """Takes connections at its endpoints, and gives each to the conversation of its protocol."""

    def __init__(
        self,
        conversations: Mapping[catalogue.Protocol, Conversation],
        limits: Limits,
        certificate: Certificate | None,
    ) -> None:
        self._conversations = conversations
        self._limits = limits
        self._certificate = certificate
        self._servers: list[asyncio.Server] = []
        self._clients: dict[asyncio.Task[None], Client] = {}
        self._from: Counter[str] = Counter()

    async def listen(self, endpoints: Iterable[Endpoint]) -> list[tuple[str, int]]:
        """Listen; returns the addresses and ports, in the order of the endpoints.

        Raises:
            InvalidValue: an endpoint with TLS, and no certificate.
            Failed: an address is in use, or may not be used.
        """
        places = []
        for endpoint in endpoints:
            if endpoint.is_implicit_tls and self._certificate is None:
                raise InvalidValue("[relay] listen", f"{endpoint.name} needs certificate_file and key_file")
            server = await self._open(endpoint)
            self._servers.append(server)
            host, port = server.sockets[0].getsockname()[:2]
            places.append((host, port))
            shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            log.info("listening", listen=f"{endpoint.scheme}://{shown}")
        return places

    async def close(self, grace_seconds: float) -> None:
        """Take nobody in any more; who is under way may finish, for so long."""
        for server in self._servers:
            server.close()
        for client in self._clients.values():
            client.leave()
        if self._clients:
            _, late = await asyncio.wait(self._clients, timeout=grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def dismiss(self, change: Change) -> None:
        """End the sessions of those whose admission is over; a message that is being sent may be finished."""
        for task, client in list(self._clients.items()):
            if client.admission is None or not change.concerns(client.admission):
                continue
            client.admission = None
            if client.is_signed_in:
                client.leave()
                if client.endpoint.protocol is not catalogue.Protocol.SMTP:
                    # Joined with its mailbox, it has no commands that we know of.
                    task.cancel()

    @property
    def connections(self) -> int:
        """How many clients there are."""
        return len(self._clients)

    async def _open(self, endpoint: Endpoint) -> asyncio.Server:
        loop = asyncio.get_running_loop()

        def arrive() -> Wire:
            return _Arrival(self, endpoint)

        try:
            if endpoint.descriptor is not None:
                return await loop.create_server(arrive, sock=socket.socket(fileno=endpoint.descriptor))
            return await loop.create_server(arrive, endpoint.host, endpoint.port, backlog=_BACKLOG, reuse_address=True)
        except OSError as error:
            raise Failed(
                f"the relay can't listen at {endpoint.name}: {error.strerror or error}; correct [relay] listen, or have"
                " the service manager open the socket"
            ) from None

    def arrived(self, wire: Wire, endpoint: Endpoint) -> None:
        """Take a client in, or tell it why not."""
        address = wire.address
        conversation = self._conversations[endpoint.protocol]
        full = self._is_full(address)
        if full:
            log.warning("client refused", address=address, protocol=endpoint.protocol, why=full)
            if not endpoint.is_implicit_tls:
                wire.write(conversation.refusal(full))
            wire.close()
            return
        client = Client(wire, address, endpoint, self._certificate, self._limits.may_sign_in_plainly(address))
        task = asyncio.get_running_loop().create_task(_serve(client, conversation))
        self._clients[task] = client
        self._from[address] += 1
        task.add_done_callback(self._gone)

    def _is_full(self, address: str) -> str:
        if len(self._clients) >= self._limits.connections:
            return "too many connections, try again later"
        if self._from[address] >= self._limits.connections_per_address:
            return "too many connections from this address"
        return ""

    def _gone(self, task: asyncio.Task[None]) -> None:
        address = self._clients.pop(task).address
        self._from[address] -= 1
        if not self._from[address]:
            del self._from[address]


class _Arrival(Wire):
    """A connection that a listener has taken."""

    def __init__(self, listener: Listener, endpoint: Endpoint) -> None:
        super().__init__()
        self._listener = listener
        self._endpoint = endpoint

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.arrived(self, self._endpoint)


async def _serve(client: Client, conversation: Conversation) -> None:
    """One client, from TLS to the end; what goes wrong with it concerns nobody else."""
    try:
        if client.endpoint.is_implicit_tls:
            await client.start_tls()
        await conversation.converse(client)
    except (OSError, Garbled, SaidBeforeTLS, Dismissed):
        pass
    except Exception as error:
        log.error("session failed", address=client.address, protocol=client.endpoint.protocol, exc_info=error)
    finally:
        client.wire.close()


def endpoints(listen: Sequence[str] | None, environment: Mapping[str, str], process_id: int) -> list[Endpoint]:
    """Where to listen: at the sockets of the service manager and where the configuration says, else on loopback.

    Raises:
        InvalidValue: a socket of the service manager has no scheme as its name.
    """
    passed = Endpoint.passed(environment, process_id)
    urls = listen if listen is not None else () if passed else DEFAULT_LISTEN
    return [*passed, *(Endpoint.of_url(url) for url in urls)]
