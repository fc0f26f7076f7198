"""Towards a mail server: resolve, connect, TLS, and whom to sign in as. What the three protocols share.

No credential leaves before the connection is private: under TLS, verified by chain and by name, or to this machine
itself. Whatever goes wrong leaves as `Ended`, which says whose fault it is and what to do.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import ClassVar, TypeVar

from adapters.mail import tls
from adapters.mail.connection import Garbled, SaidBeforeTLS
from adapters.mail.sasl import ClientExchange, choose, client_response
from adapters.mail.transcript import Ended, explain
from adapters.relay.door import Admission, Door, MailServerAddress
from adapters.relay.lines import Wire
from domain.errors import InvalidValue
from domain.outcomes import Fault
from domain.profile import is_loopback

S = TypeVar("S")

LINE_LIMIT_OCTETS = 8192
"""For a line that a mail server says, beside data."""
# At a resumption the certificate is not shown again, so a session must not outlive it by much.
_SESSION_SECONDS = 3600.0
# Behind one name may be several servers, or processes of one, that don't know each other's sessions.
_NO_SESSION_SECONDS = 600.0
_ADDRESS_SECONDS = 30.0


def where(server: MailServerAddress | Admission) -> str:
    """Host and port, for a person."""
    return f"[{server.server}]:{server.port}" if ":" in server.server else f"{server.server}:{server.port}"


@contextmanager
def explained(step: str, server: MailServerAddress | Admission) -> Iterator[None]:
    """What goes wrong at a step with this server leaves as `Ended`."""
    try:
        yield
    except (OSError, Garbled, SaidBeforeTLS, InvalidValue) as error:
        raise explain(error, step, where(server)) from error


class Dialer:
    """Opens connections to mail servers, with TLS as each wants it."""

    def __init__(self, ca_file: Path | None) -> None:
        """Trust the system's authorities and those in `ca_file`.

        Raises:
            InvalidValue: `ca_file` can't be used.
        """
        self._addresses: dict[str, tuple[list[str], float]] = {}
        self._answered: dict[tuple[str, int], str] = {}
        self._sessions = _Sessions()
        self._context = tls.client_context(ca_file)
        self._context.sslobject_class = _resuming(self._sessions)

    async def connect(self, server: MailServerAddress | Admission, seconds: float) -> Wire:
        """Connect, and begin TLS if it is implicit. Each address, and TLS, has `seconds`.

        Raises:
            Ended: not found, nobody answers, no TLS, or the certificate is not accepted.
        """
        if server.tls == "none" and not is_loopback(server.server):
            raise Ended(Fault.CONFIGURATION, f"{where(server)} is not on this machine: set TLS for it.")
        with explained("connect", server):
            wire = await self._connected(server.server, server.port, seconds)
        if server.tls == "implicit":
            await self.secure(wire, server, seconds)
        return wire

    async def secure(self, wire: Wire, server: MailServerAddress | Admission, seconds: float) -> None:
        """Begin TLS, at once or after the server's go-ahead.

        Raises:
            Ended: something came in clear after the go-ahead, no TLS, or the certificate is not accepted.
        """
        try:
            with explained("tls", server):
                # A certificate has no trailing dot in its names (RFC 6125 section 6.4).
                await wire.start_tls(
                    self._context,
                    seconds,
                    server_hostname=server.server.rstrip("."),
                    is_implicit=server.tls == "implicit",
                )
        except Ended:
            wire.abort()
            raise

    def keep_session(self, wire: Wire) -> None:
        """Resume this connection's TLS session with the next one; call it once the server has said something."""
        self._sessions.keep(wire)

    async def _connected(self, host: str, port: int, seconds: float) -> Wire:
        """A connection to the first address that accepts; the last one's error if none does."""
        loop = asyncio.get_running_loop()
        failure: OSError = ConnectionRefusedError()
        for address in await self._resolved(host, port, seconds):
            try:
                async with asyncio.timeout(seconds):
                    _, wire = await loop.create_connection(Wire, address, port)
            except OSError as error:
                failure = error
            else:
                self._answered[host, port] = address
                return wire
        self._addresses.pop(host, None)
        raise failure

    async def _resolved(self, host: str, port: int, seconds: float) -> list[str]:
        """The IP addresses of a host, asked for anew after some seconds; the one that accepted last comes first."""
        addresses, until = self._addresses.get(host, ([], 0.0))
        if monotonic() >= until:
            addresses = await _addresses(host, port, seconds)
            self._addresses[host] = addresses, monotonic() + _ADDRESS_SECONDS
        last = self._answered.get((host, port))
        return sorted(addresses, key=lambda address: address != last)


async def _addresses(host: str, port: int, seconds: float) -> list[str]:
    try:
        async with asyncio.timeout(seconds):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def sign_in_exchange(wire: Wire, admission: Admission, offered: Iterable[str]) -> ClientExchange:
    """The SASL exchange to sign in with, by a mechanism that the server offers; nothing is sent yet.

    Raises:
        Ended: the connection is not private, the server offers no mechanism for tokens, or the profile holds a value
            that can't be sent.
    """
    if not wire.is_private:
        raise Ended(Fault.CONFIGURATION, "The connection is not private, so no token was sent: set TLS.")
    mechanism = choose(offered)
    if mechanism is None:
        raise Ended(
            Fault.SERVER,
            f"{where(admission)} offers no sign-in with a token (XOAUTH2 or OAUTHBEARER): check Server and Port, or ask"
            " who runs it.",
        )
    with explained("auth", admission):
        response = client_response(
            mechanism, admission.mailbox, admission.server, admission.port, admission.access_token
        )
    return ClientExchange(mechanism, response)


async def signed_in(
    admission: Admission, door: Door, sign_in: Callable[[Admission], Awaitable[S]]
) -> tuple[Admission, S]:
    """Sign in; if the mail server refuses the token, once more with a newer one, and never a third time.

    Raises:
        Ended: it did not work; after a renewal the second refusal.
        NotPermitted, Refused, Unreachable: the door has no newer token.
    """
    try:
        return admission, await sign_in(admission)
    except Ended as ended:
        if ended.fault is not Fault.TOKEN:
            raise
    newer = await door.renewed(admission)
    return newer, await sign_in(newer)


class _Sessions:
    """The last TLS session with each host, from a connection that was verified for that name.

    To read or set one costs half of what a resumption saves, so nothing is done twice: a session that was resumed is
    not read again, and a server that does not resume is left alone with it for a while.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[ssl.SSLSession | None, float]] = {}

    def keep(self, wire: Wire) -> None:
        secured = wire.transport.get_extra_info("ssl_object")
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
    """Offers the last session with its host; a server that does not take it makes a whole handshake."""

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
