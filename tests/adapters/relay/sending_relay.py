"""The SMTP side of the relay on real sockets: its loop in a thread, an admission client with users, and a sender."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import uvloop
from line_client import MAILBOX, PASSWORD, PATIENCE_SECONDS, USER, LineClient, admission

from adapters.mail.server_address import MailServerAddress
from adapters.relay.admission import Admission
from adapters.relay.listener import endpoints
from adapters.relay.main import Relay
from domain.catalogue import Protocol
from domain.errors import NotPermitted
from domain.secret import Secret
from infrastructure.config.tables import Config, MailTable, RelayTable

MESSAGE = b"Subject: Scan\r\n\r\n..a dot\r\n.\r\n"

T = TypeVar("T")


class ManyUserAdmissionClient:
    """Who may come in, where their mail goes, and with which token; `newer_tokens` are what renewals bring."""

    def __init__(self) -> None:
        self.admissions: dict[str, Admission] = {}
        self.passwords: dict[str, str] = {}
        self.networks: dict[str, str] = {}
        self.newer_tokens: list[str] = []
        self.asked: list[tuple[str, str | None]] = []
        self.renewals: list[int] = []
        self.trouble: Exception | None = None
        self.trouble_at_renewal: Exception | None = None

    def add(self, port: int, *, user: str = USER, network: str | None = None, **different: Any) -> None:
        """Let a user in by the password, or from an address."""
        self.passwords[user] = PASSWORD
        if network:
            self.networks[network] = user
        usual: dict[str, Any] = {"user": user, "access_token": Secret("token-1")}
        self.admissions[user] = admission(Protocol.SMTP, port, **usual | different)

    async def admit(self, protocol: Protocol, address: str, user: str | None, password: Secret | None) -> Admission:
        self.asked.append((address, user))
        if self.trouble:
            raise self.trouble
        if user is None:
            user = self.networks.get(address)
        elif password is None or self.passwords.get(user) != password.reveal():
            user = None
        if user is None:
            raise NotPermitted("no")
        return self.admissions[user]

    async def renewed(self, admission: Admission) -> Admission:
        self.renewals.append(admission.generation)
        if self.trouble_at_renewal:
            raise self.trouble_at_renewal
        newer = replace(
            admission,
            login=replace(admission.login, access_token=Secret(self.newer_tokens.pop(0))),
            generation=admission.generation + 1,
            expires_at=datetime.now(UTC) + timedelta(hours=1),
        )
        self.admissions[admission.user] = newer
        return newer

    async def servers(self) -> list[MailServerAddress]:
        return [admission.login.address for admission in self.admissions.values()]


class SendingRelay:
    """The relay in a thread, from `with` to its end; `ports` are in the order of `urls`."""

    def __init__(
        self,
        admission_client: ManyUserAdmissionClient,
        ca_file: Path,
        *urls: str,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
        **table: Any,
    ) -> None:
        if certificate_file:
            table |= {"certificate_file": str(certificate_file), "key_file": str(key_file)}
        self.config = Config(directory=Path("/"), mail=MailTable(ca_file=str(ca_file)), relay=RelayTable(**table))
        self.ports: list[int] = []
        self.relay: Relay
        self._admission_client = admission_client
        self._urls = urls or ("smtp://127.0.0.1:0",)
        self._grace_seconds = 0.0

    def __enter__(self) -> Self:
        listening: Future[None] = Future()
        self._thread = threading.Thread(target=uvloop.run, args=(self._run(listening),), daemon=True)
        self._thread.start()
        listening.result(PATIENCE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        return self.ports[0]

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the relay's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    def call_soon(self, do: Callable[[], None]) -> None:
        """Do something in the relay's loop without waiting for its end."""
        self._loop.call_soon_threadsafe(do)

    def look(self) -> bool:
        """Have it learn now what the mail servers can do."""
        return self.call(self.relay._capabilities.look(self.relay._dialer, self._admission_client))

    def begin_closing(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._loop.call_soon_threadsafe(self._stopping.set)

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(PATIENCE_SECONDS)
            assert not self._thread.is_alive(), "the relay does not end"

    async def _run(self, listening: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        try:
            table = self.config.relay.model_copy(update={"listen": self._urls})
            self.relay = Relay(self.config, self._admission_client)
            places = await self.relay.listen(endpoints(table, {}, 0))
        except BaseException as error:
            listening.set_exception(error)
            return
        self.ports = [port for _, port in places]
        listening.set_result(None)
        await self._stopping.wait()
        await self.relay.close(self._grace_seconds)


StartRelay = Callable[..., SendingRelay]
"""Start the relay on these URLs, with the `[relay]` table of a test."""


class Sender(LineClient):
    """A program that sends mail, as a test plays it."""

    def hear(self, beginning: str = "") -> str:
        """Read one reply, which has to begin so; its lines are joined by LF."""
        lines = [super().hear(beginning)]
        while lines[-1][3:4] == "-":
            lines.append(super().hear())
        return "\n".join(lines)

    def greet(self) -> Self:
        self.hear("220 ")
        self.ask("EHLO printer", "250")
        return self

    def sign_in(self, beginning: str = "235 2.7.0", user: str = USER, password: str = PASSWORD) -> str:
        return self.ask(f"AUTH PLAIN {plain(user, password)}", beginning)

    def begin(self, sender: str = MAILBOX, recipient: str = "you@contoso.com") -> None:
        """Up to the go-ahead for a message."""
        self.ask(f"MAIL FROM:<{sender}>", "250")
        self.ask(f"RCPT TO:<{recipient}>", "250")
        self.ask("DATA", "354")

    def deliver(self, message: bytes = MESSAGE, beginning: str = "250") -> str:
        """Hand a message over, dots stuffed and with the final one; returns the reply to it."""
        self.begin()
        self.send(message)
        return self.hear(beginning)


def plain(user: str, password: str, identity: str = "") -> str:
    return b64encode(f"{identity}\0{user}\0{password}".encode()).decode()
