"""The process of `mailtoken relay`, from its start to its last session. It is a client of the service's Unix socket."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
import uvloop

from adapters import descriptors
from adapters.core_dumps import forbid_core_dumps
from adapters.mail.dialer import Dialer
from adapters.relay.admission import AdmissionChange, AdmissionClient
from adapters.relay.capabilities import Capabilities
from adapters.relay.connection_pool import Pool
from adapters.relay.imap_server import IMAPRelay
from adapters.relay.listener import ConnectionLimits, Endpoint, Listener, ProtocolServer, endpoints
from adapters.relay.mail_reports import reported
from adapters.relay.mailbox_limits import MailboxQueues
from adapters.relay.pop_server import POPRelay
from adapters.relay.refusals import RefusalReporter
from adapters.relay.service_client import ServiceClient
from adapters.relay.smtp_server import SMTPRelay
from adapters.relay_process import SERVICE_PID
from adapters.service_manager import keep_watchdog_quiet, notify, notify_reloading
from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from adapters.tls_certificate import TLSCertificate
from domain.catalogue import Protocol
from domain.errors import MailtokenError
from infrastructure.clock import SystemClock
from infrastructure.config.load import load_config
from infrastructure.config.tables import Config, RelayTable
from infrastructure.logging import logging_to_standard_error
from infrastructure.mail_counters import MailCounters

log = structlog.get_logger("mailtoken")

GRACE_SECONDS = 10.0
_LOOK_FOR_SERVICE_SECONDS = 2.0
_SPARE_DESCRIPTORS = 256
# The number of new objects that triggers a collection of the youngest; every hundredth collection includes the oldest.
_YOUNG_OBJECTS = 10_000


def run(config_path: Path) -> None:
    """Run the relay until SIGTERM or SIGINT; sessions then have some seconds to finish.

    Raises:
        InvalidValue: the configuration can't be used.
        NotPermitted: the service does not grant this process the role relay.
        Unreachable: the service can't be reached.
        Failed: an address to listen at is in use, or the process may not use it.
    """
    forbid_core_dumps()
    config = load_config(config_path)
    with logging_to_standard_error():
        _collect_seldom()
        uvloop.run(_relay(config_path, config))


async def _relay(path: Path, config: Config) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as opened:
        admission_client = await opened.enter_async_context(ServiceClient(config.path(config.server.socket)))
        running = _Running(path, config, admission_client)
        loop.add_signal_handler(signal.SIGHUP, running.ask)
        await admission_client.servers()
        await admission_client.wait_until_following()
        await opened.enter_async_context(reported(running.counters, admission_client.put_mail_counts))
        opened.push_async_callback(running.close)
        await running.start()
        notify("READY=1")
        tasks = (
            keep_watchdog_quiet(lambda: True),
            descriptors.keep_logging(),
            running.reload_when_asked(),
            _stop_without_service(stopping),
        )
        for task in tasks:
            opened.callback(asyncio.create_task(task).cancel)
        await stopping.wait()
        notify("STOPPING=1")
        log.info("stopping")


async def _stop_without_service(stopping: asyncio.Event) -> None:
    """Stop a relay whose service has started it and was killed: the next one starts another at the same addresses."""
    service = os.environ.get(SERVICE_PID)
    while service is not None:
        if str(os.getppid()) != service:
            log.error("service_ended")
            stopping.set()
        await asyncio.sleep(_LOOK_FOR_SERVICE_SECONDS)


class _Running:
    """The relay of the current configuration, and those of earlier ones whose sessions have not finished yet."""

    def __init__(self, path: Path, config: Config, admission_client: ServiceClient) -> None:
        self.counters = MailCounters(SystemClock())
        self._path = path
        self._config = config
        self._admission_client = admission_client
        self._asked = asyncio.Event()
        self._leaving: set[asyncio.Task[None]] = set()
        self._relay = Relay(config, admission_client, self.counters)

    def ask(self) -> None:
        """Ask for a reload: the handler of SIGHUP."""
        self._asked.set()

    async def start(self) -> None:
        """Listen.

        Raises:
            InvalidValue, Failed: as `Listener.listen`.
        """
        await self._serve(self._relay, endpoints(self._config.relay, os.environ, os.getpid()))

    async def reload_when_asked(self) -> None:
        """Read the configuration at each SIGHUP; a fault leaves everything as it is, and is logged."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            notify_reloading()
            try:
                await self._reload()
            except MailtokenError as error:
                log.error("configuration_not_reloaded", error=error_text(error, Surface.COMMAND))
            except Exception:
                log.exception("reload_failed")
            notify("READY=1")

    async def close(self) -> None:
        """Accept no more clients, and give the sessions some seconds to finish."""
        await self._close(self._relay)
        await asyncio.gather(*self._leaving)

    async def _reload(self) -> None:
        config = load_config(self._path)
        if config.path(config.server.socket) != self._config.path(self._config.server.socket):
            log.warning("restart_needed", why="store_or_socket_changed")
        new, old = Relay(config, self._admission_client, self.counters), self._relay
        try:
            await self._serve(new, old.taken_over(endpoints(config.relay, os.environ, os.getpid())))
        except BaseException:
            await self._close(new, 0.0)
            raise
        self._relay, self._config = new, config
        leaving = asyncio.create_task(self._close(old))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        log.info("configuration_reloaded")

    async def _serve(self, relay: Relay, places: Iterable[Endpoint]) -> None:
        self._admission_client.change_callbacks.append(relay.revoke)
        relay.report_refusals(RefusalReporter(self._admission_client.report_refusals))
        await relay.listen(places)

    async def _close(self, relay: Relay, grace_seconds: float = GRACE_SECONDS) -> None:
        await relay.close(grace_seconds)
        self._admission_client.change_callbacks.remove(relay.revoke)


class Relay:
    """The parts of the relay, wired together. Needs a running event loop."""

    def __init__(self, config: Config, admission_client: AdmissionClient, counters: MailCounters | None = None) -> None:
        """Read the certificates.

        Raises:
            InvalidValue: a certificate can't be used.
        """
        table = config.relay
        self.counters = counters or MailCounters(SystemClock())
        self._admission_client = admission_client
        self._dialer = Dialer(config.path(config.mail.ca_file) if config.mail.ca_file else None)
        self._capabilities = Capabilities(table.message_size)
        self._pool = Pool(
            self._dialer,
            admission_client,
            MailboxQueues(table.mailbox_limits),
            self._capabilities,
            SystemClock(),
            keeps_sessions=table.pool,
        )
        self._listener = Listener(self._protocol_servers(table), _limits(table), _certificate(config))
        self._looking: asyncio.Task[None] | None = None
        self._reporting: asyncio.Task[None] | None = None
        # A client needs one, and its connection to the mail server another.
        descriptors.allow(2 * table.connections + _SPARE_DESCRIPTORS)

    def taken_over(self, places: Iterable[Endpoint]) -> Iterator[Endpoint]:
        """The places for another relay, with the sockets of this one where it listens at the same address."""
        return self._listener.taken_over(places)

    async def listen(self, places: Iterable[Endpoint]) -> list[tuple[str, int]]:
        """Ask the mail servers for their extensions, and listen; returns the addresses and ports."""
        self._looking = asyncio.create_task(self._capabilities.keep_looking(self._dialer, self._admission_client))
        return await self._listener.listen(places)

    def report_refusals(self, reporter: RefusalReporter) -> None:
        """Report the refusals of clients to the service from now on."""
        self._listener.report_to(reporter.add)
        self._reporting = asyncio.create_task(reporter.keep_sending())

    def revoke(self, change: AdmissionChange) -> None:
        """End the sessions whose admission a change ends, and look at the mail servers that it may have brought."""
        self._listener.revoke(change)
        self._capabilities.note_change()

    async def close(self, grace_seconds: float) -> None:
        """Accept no more clients, give the sessions `grace_seconds` to finish, and end the others."""
        if self._looking is not None:
            self._looking.cancel()
        await self._listener.close(grace_seconds)
        if self._reporting is not None:
            self._reporting.cancel()
        await self._pool.close()

    def _protocol_servers(self, table: RelayTable) -> dict[Protocol, ProtocolServer]:
        smtp = SMTPRelay(
            self._admission_client,
            self._pool,
            self._capabilities,
            table.idle_timeout,
            table.message_size,
            counters=self.counters,
        )
        return {
            Protocol.SMTP: smtp,
            Protocol.POP: POPRelay(self._admission_client, self._dialer),
            Protocol.IMAP: IMAPRelay(self._admission_client, self._dialer),
        }


def _limits(table: RelayTable) -> ConnectionLimits:
    networks = tuple(ipaddress.ip_network(network) for network in table.plain_networks)
    return ConnectionLimits(table.connections, table.connections_per_address, networks)


def _certificate(config: Config) -> TLSCertificate | None:
    table = config.relay
    if not table.certificate_file or not table.key_file:
        return None
    return TLSCertificate(config.path(table.certificate_file), config.path(table.key_file), "[relay]")


def _collect_seldom() -> None:
    """Collect garbage rarely: all sessions wait for a collection, and its time grows with the number of connections."""
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)
