"""The relay's door to the service: who may come in, and the token of whom they may send or receive as.

The relay has no key and no store: what it knows of relay users is what the service answers here. A right password is
remembered for moments, and not beyond a change that the service tells; a wrong one never. A wrong one makes its source
wait, and changes nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, Self

import aiohttp

from adapters.relay.changes import Change, Told, follow
from adapters.relay.guesses import Guesses
from adapters.relay.right_passwords import RightPasswords
from domain import catalogue
from domain.errors import MailtokenError, NotPermitted, Refused, Unreachable
from domain.secret import Secret
from infrastructure.locate import socket_name

_CONNECTIONS = 16
_IDLE_SECONDS = 3.0
"""Less than the service keeps an idle connection for."""
_HEARING_SECONDS = 30.0
_PATIENCE_SECONDS = 120.0
"""The service may have to renew the token first, or wait for somebody who does."""


@dataclass(frozen=True)
class Admission:
    """Where a relay user's mail goes, and the token to sign in there with.

    `mailbox` is the SASL user. `timeout_seconds` is that of the profile. `generation` numbers the access token.
    """

    user: str
    profile: str
    protocol: catalogue.Protocol
    server: str
    port: int
    tls: str
    timeout_seconds: int
    mailbox: str
    sender_address: str | None
    access_token: Secret
    expires_at: datetime
    generation: int


@dataclass(frozen=True)
class MailServerAddress:
    """A mail server that relay users are mapped to; `tls` is "starttls", "implicit" or "none"."""

    server: str
    port: int
    tls: str
    protocol: catalogue.Protocol


class Door(Protocol):
    """What the listeners ask before they let anybody send or receive."""

    async def admit(
        self, protocol: catalogue.Protocol, address: str, user: str | None, password: Secret | None
    ) -> Admission:
        """Let a client at `address` in, by user and password, or by its network if both are None.

        Raises:
            NotPermitted: no such user, password or network; one and the same answer for all of these.
            Refused: the user has no profile of this protocol, or its token can't be served.
            Unreachable: the service, or the provider behind it, can't be reached now.
        """
        ...

    async def renewed(self, admission: Admission) -> Admission:
        """The mail server rejected this token: the same with a newer one.

        Raises:
            NotPermitted: the user is gone, or has another profile now.
            Refused: the token can't be served any more.
            Unreachable: it can't be renewed now.
        """
        ...

    async def servers(self) -> Sequence[MailServerAddress]:
        """The mail servers that relay users are mapped to.

        Raises:
            NotPermitted: the service's configuration does not grant the role relay to this process.
            Unreachable: the service can't be reached.
        """
        ...


class ServiceDoor:
    """The service's own door, over its Unix socket; to be entered as a context.

    `memory` and `guesses` are those of this process. The `listeners` are told whose admissions are over.
    """

    def __init__(self, socket: Path, memory: RightPasswords | None = None, guesses: Guesses | None = None) -> None:
        self._socket = socket
        self._memory = memory or RightPasswords()
        self._guesses = guesses or Guesses()
        self._under_way: dict[Hashable, asyncio.Task[Admission]] = {}
        self._told = Told()
        self._hears = asyncio.Event()
        self.listeners: list[Callable[[Change], None]] = []
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        path = self._open.enter_context(socket_name(self._socket))
        connector = aiohttp.UnixConnector(path, limit=_CONNECTIONS, keepalive_timeout=_IDLE_SECONDS)
        self._http = await self._open.enter_async_context(
            aiohttp.ClientSession(
                "http://mailtoken/",
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=_PATIENCE_SECONDS),
            )
        )
        self._following = asyncio.create_task(follow(self._http, self._hear))
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [self._following, *self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._open.aclose()

    async def admit(
        self, protocol: catalogue.Protocol, address: str, user: str | None, password: Secret | None
    ) -> Admission:
        """As `Door.admit`; equal requests at the same time are one.

        Raises:
            as `Door.admit`; Unreachable also while too many wrong passwords come from `address`.
        """
        sign_in = _SignIn(protocol, address, user, password)
        if password:
            self._guesses.check(address)
        proof = self._memory.proof(protocol, address, user, password)
        remembered = self._memory.get(proof)
        if remembered:
            return remembered
        return await self._share((address, proof), lambda: self._admit_patiently(sign_in, proof))

    async def renewed(self, admission: Admission) -> Admission:
        """As `Door.renewed`; equal requests at the same time are one."""
        key = (admission.user, admission.protocol, admission.profile, admission.generation)
        return await self._share(key, lambda: self._renew(admission))

    async def servers(self) -> Sequence[MailServerAddress]:
        """As `Door.servers`."""
        listed = await self._ask("GET", "/api/v1/relay/servers")
        return [
            MailServerAddress(one["server"], one["port"], one["tls"], catalogue.Protocol(one["protocol"]))
            for one in listed
        ]

    async def hears(self) -> None:
        """Wait until the service tells of changes: nobody who comes in from then on stays by what is no longer so.

        Raises:
            Unreachable: it does not, in time.
        """
        try:
            async with asyncio.timeout(_HEARING_SECONDS):
                await self._hears.wait()
        except TimeoutError:
            raise Unreachable(f"the service at {self._socket} tells of no changes: see its log") from None

    async def _admit_patiently(self, sign_in: _SignIn, proof: bytes) -> Admission:
        if not sign_in.password:
            return await self._share(proof, lambda: self._admit(sign_in, proof))
        # Each source waits by itself, and only what is then asked of the service is shared with others.
        await self._guesses.wait(sign_in.address)
        try:
            return await self._share(proof, lambda: self._admit(sign_in, proof))
        except NotPermitted:
            self._guesses.count_wrong(sign_in.address)
            raise

    async def _admit(self, sign_in: _SignIn, proof: bytes) -> Admission:
        admission = await self._current("/api/v1/relay/admissions", sign_in.as_json())
        self._memory.remember(proof, admission)
        return admission

    async def _renew(self, admission: Admission) -> Admission:
        rejected = {
            "user": admission.user,
            "protocol": admission.protocol.value,
            "profile": admission.profile,
            "generation": admission.generation,
        }
        try:
            newer = await self._current("/api/v1/relay/renewals", rejected)
        except MailtokenError:
            self._memory.replace(admission, None)
            raise
        self._memory.replace(admission, newer)
        return newer

    async def _current(self, target: str, body: Mapping[str, Any]) -> Admission:
        """What the service answers; asked again after a change that was told meanwhile, for it may be from before."""
        while True:
            count = self._told.count
            admission = _admission(await self._ask("POST", target, body))
            if not self._told.concerns_since(count, admission):
                return admission

    def _hear(self, change: Change) -> None:
        self._hears.set()
        self._told.take(change)
        self._memory.forget(change)
        for listener in self.listeners:
            listener(change)

    async def _share(self, key: Hashable, ask: Callable[[], Coroutine[Any, Any, Admission]]) -> Admission:
        """Ask, or wait for whoever asks the same already; a client that leaves takes nobody with it."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(ask())
            task.add_done_callback(lambda done: self._end(key, done))
        return await asyncio.shield(task)

    def _end(self, key: Hashable, task: asyncio.Task[Admission]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            # Seen, even if everybody who asked has left.
            task.exception()

    async def _ask(self, method: str, target: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            try:
                return await self._ask_once(method, target, body)
            except aiohttp.ServerDisconnectedError:
                # The service closes a connection that is idle for long; nothing that is asked here harms twice.
                return await self._ask_once(method, target, body)
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(_no_answer(self._socket, error)) from None
        except ValueError:
            raise Unreachable("the service answers with something that is no JSON: is it of this version?") from None

    async def _ask_once(self, method: str, target: str, body: Mapping[str, Any] | None) -> Any:
        async with self._http.request(method, target, json=body) as answer:
            document = await answer.json(content_type=None)
        if answer.status >= 400:
            raise _refusal(answer.status, str(document.get("detail") or document.get("title")))
        return document


@dataclass(frozen=True)
class _SignIn:
    protocol: catalogue.Protocol
    address: str
    user: str | None
    password: Secret | None

    def as_json(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol.value,
            "address": self.address,
            "user": self.user,
            "password": self.password and self.password.reveal(),
        }


def _admission(document: Mapping[str, Any]) -> Admission:
    return Admission(
        document["user"],
        document["profile"],
        catalogue.Protocol(document["protocol"]),
        document["server"],
        document["port"],
        document["tls"],
        document["timeout"],
        document["mailbox"],
        document["sender_address"],
        Secret(document["access_token"]),
        datetime.fromisoformat(document["expires_at"]),
        document["generation"],
    )


def _refusal(status: int, detail: str) -> MailtokenError:
    """What the service refuses, from its problem details (RFC 9457)."""
    if status == 403:
        return NotPermitted(detail)
    return Unreachable(detail) if status >= 500 else Refused(detail)


def _no_answer(socket: Path, error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"the service at {socket} does not answer in time: see its log"
    if isinstance(getattr(error, "os_error", error), PermissionError):
        return f"the relay may not use {socket}: [socket] in the service's configuration says who may"
    return f"the service is not running (no answer at {socket}): start it with mailtoken serve"
