"""The POP3 and IMAP sides of the relay on real sockets: its loop in a thread, with an admission client of the tests."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import uvloop
from line_client import PASSWORD, PATIENCE_SECONDS, USER
from scripted_mail_server import Peer

from adapters.mail.dialer import Dialer
from adapters.mail.server_address import MailServerAddress
from adapters.relay.admission import Admission, AdmissionChange
from adapters.relay.imap_server import IMAPRelay
from adapters.relay.listener import ConnectionLimits, Endpoint, Listener, ProtocolServer
from adapters.relay.pop_server import POPRelay
from adapters.tls_certificate import TLSCertificate
from domain import catalogue
from domain.errors import NotPermitted
from domain.secret import Secret

Receive = Callable[..., Any]

T = TypeVar("T")


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


PLAIN = encoded(f"\0{USER}\0{PASSWORD}")
CHALLENGE = encoded('{"status":"invalid_token"}')


def clear(peer: Peer, *lines: str) -> None:
    """A mail server that says this and no more."""
    for line in lines:
        peer.say(line)
    peer.hear_out()


@dataclass
class SingleUserAdmissionClient:
    """Admits one user by one password; `answers` are raised first, and `newer` is the result of a renewal."""

    admission: Admission
    answers: list[Exception] = field(default_factory=list)
    newer: Admission | Exception | None = None
    asked: list[tuple[catalogue.Protocol, str, str | None]] = field(default_factory=list)
    renewals: list[int] = field(default_factory=list)

    async def admit(
        self, protocol: catalogue.Protocol, address: str, user: str | None, password: Secret | None
    ) -> Admission:
        self.asked.append((protocol, address, user))
        if self.answers:
            raise self.answers.pop(0)
        if (user, password) != (USER, Secret(PASSWORD)):
            raise NotPermitted("no")
        return self.admission

    async def renewed(self, admission: Admission) -> Admission:
        self.renewals.append(admission.generation)
        assert self.newer is not None, "nobody expected a renewal"
        if isinstance(self.newer, Exception):
            raise self.newer
        return self.newer

    async def servers(self) -> Sequence[MailServerAddress]:
        return []


class NobodyPlainly(ConnectionLimits):
    """Limits as for clients on other machines, none of which is in a plain network."""

    def may_sign_in_plainly(self, address: str) -> bool:
        return False


class ReceivingRelay:
    """The relay in a thread, from `with` to its end. `ports` are by scheme: pop3, pop3s, imap, imaps."""

    def __init__(
        self,
        admission_client: SingleUserAdmissionClient,
        ca_file: Path,
        certificate: TLSCertificate,
        limits: ConnectionLimits | None = None,
        sign_in_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.ports: dict[str, int] = {}
        self._admission_client = admission_client
        self._ca_file = ca_file
        self._certificate = certificate
        self._limits = limits or ConnectionLimits(1000, 1000)
        self._sign_in_seconds = sign_in_seconds
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener: Listener

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the relay's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    def revoke(self, change: AdmissionChange) -> None:
        """As when the service tells of a change."""

        async def tell() -> None:
            self._listener.revoke(change)

        self.run(tell())

    def stop(self) -> None:
        """Take nobody in any more; who is under way has a moment."""
        self.run(self._listener.close(0.1))

    async def _listen(self) -> None:
        dialer = Dialer(self._ca_file)
        protocol_servers: dict[catalogue.Protocol, ProtocolServer] = {
            catalogue.Protocol.POP: POPRelay(self._admission_client, dialer, self._sign_in_seconds),
            catalogue.Protocol.IMAP: IMAPRelay(self._admission_client, dialer, self._sign_in_seconds),
        }
        self._listener = Listener(protocol_servers, self._limits, self._certificate)
        schemes = ("pop3", "pop3s", "imap", "imaps")
        places = await self._listener.listen([Endpoint.of_url(f"{scheme}://127.0.0.1:0") for scheme in schemes])
        self.ports = {scheme: port for scheme, (_, port) in zip(schemes, places, strict=True)}
