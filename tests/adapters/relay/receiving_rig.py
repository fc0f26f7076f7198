"""The POP3 and IMAP sides of the relay on real sockets: its loop in a thread, a door that a test holds."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import uvloop
from relay_rig import PASSWORD, PATIENCE_SECONDS, USER
from scripted_mail_server import Peer

from adapters.certificate import Certificate
from adapters.relay.changes import Change
from adapters.relay.door import Admission, MailServerAddress
from adapters.relay.imap import IMAPRelay
from adapters.relay.listener import Endpoint, Limits, Listener
from adapters.relay.pop import POPRelay
from adapters.relay.upstream import Dialer
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
class HeldDoor:
    """A door that lets one user in with one password; `answers` come first, and `newer` is what a renewal brings."""

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


class NobodyPlainly(Limits):
    """Limits as for clients on other machines, none of which is in a plain network."""

    def may_sign_in_plainly(self, address: str) -> bool:
        return False


class ReceivingRelay:
    """The relay in a thread, from `with` to its end. `ports` are by scheme: pop3, pop3s, imap, imaps."""

    def __init__(
        self,
        door: HeldDoor,
        ca_file: Path,
        certificate: Certificate,
        limits: Limits | None = None,
        sign_in_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.ports: dict[str, int] = {}
        self._door = door
        self._ca_file = ca_file
        self._certificate = certificate
        self._limits = limits or Limits(1000, 1000)
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

    def dismiss(self, change: Change) -> None:
        """As when the service tells of a change."""

        async def tell() -> None:
            self._listener.dismiss(change)

        self.run(tell())

    def stop(self) -> None:
        """Take nobody in any more; who is under way has a moment."""
        self.run(self._listener.close(0.1))

    async def _listen(self) -> None:
        dialer = Dialer(self._ca_file)
        conversations = {
            catalogue.Protocol.POP: POPRelay(self._door, dialer, self._sign_in_seconds),
            catalogue.Protocol.IMAP: IMAPRelay(self._door, dialer, self._sign_in_seconds),
        }
        self._listener = Listener(conversations, self._limits, self._certificate)
        schemes = ("pop3", "pop3s", "imap", "imaps")
        places = await self._listener.listen([Endpoint.of_url(f"{scheme}://127.0.0.1:0") for scheme in schemes])
        self.ports = {scheme: port for scheme, (_, port) in zip(schemes, places, strict=True)}
