"""The relay as a process: from its configuration to its last client. A client of the service over its Unix socket."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
import resource
import signal
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import structlog
import uvloop

from adapters.certificate import Certificate
from adapters.relay.budget import Budgets
from adapters.relay.capabilities import Capabilities
from adapters.relay.changes import Change
from adapters.relay.door import Door, ServiceDoor
from adapters.relay.imap import IMAPRelay
from adapters.relay.listener import Conversation, Endpoint, Limits, Listener, endpoints
from adapters.relay.pool import Pool
from adapters.relay.pop import POPRelay
from adapters.relay.smtp import SMTPRelay
from adapters.relay.upstream import Dialer
from domain.catalogue import Protocol
from infrastructure.clock import SystemClock
from infrastructure.config import Config, RelayTable, load_config
from infrastructure.redaction import configure_logging

log = structlog.get_logger("mailtoken")

GRACE_SECONDS = 10.0
_SPARE_DESCRIPTORS = 256
# So many between two collections of the youngest; the oldest come with each hundredth.
_YOUNG_OBJECTS = 10_000


def run(config_path: Path) -> None:
    """Relay until SIGTERM or SIGINT; sessions under way may finish for some seconds.

    Raises:
        InvalidValue: the configuration can't be used.
        NotPermitted: the service does not grant this process the role relay.
        Unreachable: the service is not there.
        Failed: an address to listen at is in use, or may not be used.
    """
    config = load_config(config_path)
    configure_logging()
    _collect_seldom()
    uvloop.run(_relay(config))


async def _relay(config: Config) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as opened:
        door = await opened.enter_async_context(ServiceDoor(config.path(config.server.socket)))
        await door.servers()
        await door.hears()
        relay = Relay(config, door)
        opened.push_async_callback(relay.close, GRACE_SECONDS)
        door.listeners.append(relay.dismiss)
        await relay.listen(endpoints(config.relay.listen, os.environ, os.getpid()))
        await stopping.wait()
        log.info("stopping")


class Relay:
    """Everything the relay is made of, wired. To be made in a running event loop."""

    def __init__(self, config: Config, door: Door) -> None:
        """Read the certificates.

        Raises:
            InvalidValue: one of them can't be used.
        """
        table = config.relay
        self._door = door
        self._dialer = Dialer(config.path(config.mail.ca_file) if config.mail.ca_file else None)
        self._capabilities = Capabilities(table.message_size)
        self._pool = Pool(
            self._dialer, door, Budgets(table.budget), self._capabilities, SystemClock(), keeps_sessions=table.pool
        )
        self._listener = Listener(self._conversations(table), _limits(table), _certificate(config))
        self._looking: asyncio.Task[None] | None = None
        _allow_descriptors(table.connections)

    async def listen(self, places: list[Endpoint]) -> list[tuple[str, int]]:
        """Learn what the mail servers can do, and take clients in; returns the addresses and ports."""
        self._looking = asyncio.create_task(self._capabilities.keep_looking(self._dialer, self._door))
        return await self._listener.listen(places)

    def dismiss(self, change: Change) -> None:
        """Let those stay no longer whose admission is over."""
        self._listener.dismiss(change)

    async def close(self, grace_seconds: float) -> None:
        """Take nobody in any more, let who is under way finish for so long, and end what is left."""
        if self._looking is not None:
            self._looking.cancel()
        await self._listener.close(grace_seconds)
        await self._pool.close()

    def _conversations(self, table: RelayTable) -> dict[Protocol, Conversation]:
        smtp = SMTPRelay(self._door, self._pool, self._capabilities, table.idle_timeout, table.message_size)
        return {
            Protocol.SMTP: smtp,
            Protocol.POP: POPRelay(self._door, self._dialer),
            Protocol.IMAP: IMAPRelay(self._door, self._dialer),
        }


def _limits(table: RelayTable) -> Limits:
    networks = tuple(ipaddress.ip_network(network) for network in table.plain_networks)
    return Limits(table.connections, table.connections_per_address, networks)


def _certificate(config: Config) -> Certificate | None:
    table = config.relay
    if not table.certificate_file or not table.key_file:
        return None
    return Certificate(config.path(table.certificate_file), config.path(table.key_file), "[relay]")


def _collect_seldom() -> None:
    """Everybody waits for a garbage collection, and its time grows with the connections that are merely open."""
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


def _allow_descriptors(connections: int) -> None:
    """Two for each client: its own connection, and the one to its mail server."""
    wanted = 2 * connections + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        with suppress(ValueError, OSError):
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
