"""The relay's client of the service, over its Unix socket: admissions, renewals, and the feed of changes to them.

The relay has no key and no store, so the service decides on every admission. The admission for a right password is
cached for a minute at most, and only until the service reports a change that concerns it. A wrong password is never
cached; its only effect is to delay the next sign-in from its source.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp.client_proto import ResponseHandler

from adapters.mail.server_address import MailboxLogin, MailServerAddress
from adapters.relay.admission import Admission, AdmissionChange
from adapters.relay.admission_cache import AdmissionCache
from adapters.relay.change_feed import ReceivedChanges, follow_changes
from adapters.relay.login_throttle import SourceThrottle
from adapters.relay_documents import (
    RelayAdmission,
    RelayMailCount,
    RelayMailCounts,
    RelayRefusal,
    RelayRefusals,
    RelayServer,
)
from domain import catalogue
from domain.errors import MailtokenError, NotPermitted, Refused, Unreachable
from domain.secret import Secret
from infrastructure.config.paths import socket_name
from infrastructure.mail_counters import MailCount
from infrastructure.unix_peer import StrangerListens, check_listener

_API = "/api/v1/relay"
_CONNECTIONS = 16
_KEEPALIVE_SECONDS = 3.0
"""Shorter than the time for which the service keeps an idle connection."""
_FEED_SECONDS = 30.0
_REPLY_SECONDS = 120.0
"""Long enough for the service to renew the token first, or to wait for a renewal under way."""


class ServiceClient:
    """The `AdmissionClient` over the service's Unix socket; an asynchronous context manager.

    Each function in `change_callbacks` is called with each change to admissions that the service reports.
    """

    def __init__(
        self, socket: Path, cache: AdmissionCache | None = None, throttle: SourceThrottle | None = None
    ) -> None:
        self.change_callbacks: list[Callable[[AdmissionChange], None]] = []
        self._socket = socket
        self._cache = cache or AdmissionCache()
        self._throttle = throttle or SourceThrottle()
        self._requests: dict[Hashable, asyncio.Task[Admission]] = {}
        self._changes = ReceivedChanges()
        self._is_following = asyncio.Event()
        self._exit_stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        path = self._exit_stack.enter_context(socket_name(self._socket))
        connector = _ServiceConnector(self._socket, path, limit=_CONNECTIONS, keepalive_timeout=_KEEPALIVE_SECONDS)
        self._http = await self._exit_stack.enter_async_context(
            aiohttp.ClientSession(
                "http://mailtoken/",
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=_REPLY_SECONDS),
            )
        )
        self._following = asyncio.create_task(follow_changes(self._http, self._on_change))
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [self._following, *self._requests.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._exit_stack.aclose()

    async def admit(
        self, protocol: catalogue.Protocol, address: str, user: str | None, password: Secret | None
    ) -> Admission:
        """As `AdmissionClient.admit`; equal requests at the same time are sent as one.

        Raises:
            as `AdmissionClient.admit`; Unreachable also while too many wrong passwords come from `address`.
        """
        sign_in = _SignIn(protocol, address, user, password)
        if password:
            self._throttle.check(address)
        key = self._cache.key(protocol, address, user, password)
        cached = self._cache.get(key)
        if cached:
            return cached
        return await self._share((address, key), lambda: self._admit_throttled(sign_in, key))

    async def renewed(self, admission: Admission) -> Admission:
        """As `AdmissionClient.renewed`; equal requests at the same time are sent as one."""
        key = (admission.user, admission.protocol, admission.profile, admission.generation)
        return await self._share(key, lambda: self._renew(admission))

    async def servers(self) -> Sequence[MailServerAddress]:
        """As `AdmissionClient.servers`."""
        listed = await self._request("GET", f"{_API}/servers")
        try:
            return [_server(RelayServer.model_validate(document)) for document in listed]
        except (TypeError, ValueError):
            raise _unreadable() from None

    async def put_mail_counts(self, source: str, counts: Sequence[MailCount]) -> None:
        """Report counts of mail to the service; reporting the same counts twice changes nothing.

        Raises:
            NotPermitted: the service's configuration does not grant the role relay to this process.
            Unreachable: the service can't be reached, or can't store them.
        """
        documents = [RelayMailCount.model_validate(count, from_attributes=True) for count in counts]
        report = RelayMailCounts(counts=documents).model_dump(mode="json")
        await self._request("PUT", f"{_API}/mail-counts/{source}", report)

    async def report_refusals(self, refusals: Sequence[RelayRefusal]) -> None:
        """Give the service the records of refused clients.

        Raises:
            MailtokenError: the service did not take them.
        """
        body = RelayRefusals(refusals=list(refusals)).model_dump()
        await self._request("POST", f"{_API}/refusals", body)

    async def wait_until_following(self) -> None:
        """Wait until the service reports changes; from then on no session outlasts its admission.

        Raises:
            Unreachable: the stream of changes did not begin in time.
        """
        try:
            async with asyncio.timeout(_FEED_SECONDS):
                await self._is_following.wait()
        except TimeoutError:
            raise Unreachable("change_feed_silent", socket=str(self._socket)) from None

    async def _admit_throttled(self, sign_in: _SignIn, key: bytes) -> Admission:
        if not sign_in.password:
            return await self._share(key, lambda: self._admit(sign_in, key))
        # Each source waits by itself; only the request that follows is shared with other sources.
        await self._throttle.wait(sign_in.address)
        try:
            return await self._share(key, lambda: self._admit(sign_in, key))
        except NotPermitted:
            self._throttle.count_wrong(sign_in.address)
            raise

    async def _admit(self, sign_in: _SignIn, key: bytes) -> Admission:
        admission = await self._current("/admissions", sign_in.as_json())
        self._cache.put(key, admission)
        return admission

    async def _renew(self, admission: Admission) -> Admission:
        rejected = {
            "user": admission.user,
            "protocol": admission.protocol.value,
            "profile": admission.profile,
            "generation": admission.generation,
        }
        try:
            newer = await self._current("/renewals", rejected)
        except MailtokenError:
            self._cache.replace(admission, None)
            raise
        self._cache.replace(admission, newer)
        return newer

    async def _current(self, resource: str, body: Mapping[str, Any]) -> Admission:
        """Request an admission, and again if a change came meanwhile: the reply may be older than the change."""
        while True:
            count = self._changes.count
            document = await self._request("POST", f"{_API}{resource}", body)
            try:
                admission = _admission(RelayAdmission.model_validate(document))
            except ValueError:
                raise _unreadable() from None
            if not self._changes.concern_since(count, admission):
                return admission

    def _on_change(self, change: AdmissionChange) -> None:
        self._is_following.set()
        self._changes.add(change)
        self._cache.forget(change)
        for callback in self.change_callbacks:
            callback(change)

    async def _share(self, key: Hashable, send: Callable[[], Coroutine[Any, Any, Admission]]) -> Admission:
        """Send a request, or wait for an equal one under way; it goes on if the client that caused it leaves."""
        task = self._requests.get(key)
        if task is None:
            task = self._requests[key] = asyncio.create_task(send())
            task.add_done_callback(lambda done: self._end(key, done))
        return await asyncio.shield(task)

    def _end(self, key: Hashable, task: asyncio.Task[Admission]) -> None:
        del self._requests[key]
        if not task.cancelled():
            # Retrieve the exception: asyncio would report it if every client that waited has left.
            task.exception()

    async def _request(self, method: str, target: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            try:
                return await self._request_once(method, target, body)
            except aiohttp.ServerDisconnectedError:
                # The service closes idle connections. Every request of the relay is safe to send twice.
                return await self._request_once(method, target, body)
        except (aiohttp.ClientError, OSError) as error:
            raise _no_reply(self._socket, error) from None
        except ValueError:
            raise _unreadable() from None

    async def _request_once(self, method: str, target: str, body: Mapping[str, Any] | None) -> Any:
        async with self._http.request(method, target, json=body) as response:
            document = await response.json(content_type=None)
        if response.status >= 400:
            raise _error_of(response.status, document)
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


def _admission(document: RelayAdmission) -> Admission:
    """The `Admission` that a reply of the API describes.

    Raises:
        ValueError: the protocol is unknown, or `expires_at` is not an instant.
    """
    address = MailServerAddress(document.server, document.port, document.tls, catalogue.Protocol(document.protocol))
    login = MailboxLogin(address, document.mailbox, Secret(document.access_token), document.timeout)
    return Admission(
        document.user,
        document.profile,
        login,
        datetime.fromisoformat(document.expires_at),
        document.generation,
        document.position,
        document.sender,
        document.normalize == "crlf",
    )


def _server(document: RelayServer) -> MailServerAddress:
    return MailServerAddress(document.server, document.port, document.tls, catalogue.Protocol(document.protocol))


class _ServiceConnector(aiohttp.UnixConnector):
    """Connects to the service, and to nobody else who listens at its socket."""

    def __init__(self, socket: Path, path: str, **options: Any) -> None:
        super().__init__(path, **options)
        self._socket = socket

    async def _create_connection(self, *arguments: Any, **options: Any) -> ResponseHandler:
        protocol = await super()._create_connection(*arguments, **options)
        assert protocol.transport
        try:
            check_listener(protocol.transport.get_extra_info("socket"), self._socket)
        except OSError:
            protocol.transport.abort()
            raise
        return protocol


def _error_of(status: int, document: Mapping[str, Any]) -> MailtokenError:
    """The error in the service's problem document (RFC 9457), which has the members `code` and `fields`."""
    code = str(document.get("code") or document.get("detail") or document.get("title"))
    fields = document.get("fields") or {}
    if status == 403:
        return NotPermitted(code, **fields)
    return Unreachable(code, **fields) if status >= 500 else Refused(code, **fields)


def _no_reply(socket: Path, error: Exception) -> Unreachable:
    if isinstance(error, TimeoutError):
        return Unreachable("service_timeout", socket=str(socket))
    if isinstance(error.__cause__, StrangerListens):  # aiohttp makes an error of its own out of it
        return Unreachable("stranger_listens", socket=str(socket))
    if isinstance(getattr(error, "os_error", error), PermissionError):
        return Unreachable("relay_may_not_use_socket", socket=str(socket))
    return Unreachable("service_not_running", socket=str(socket))


def _unreadable() -> Unreachable:
    return Unreachable("service_reply_unreadable")
