"""Runs the service until a signal stops it. SIGHUP has it read its configuration again.

A reload checks the new configuration, lets the exchanges with providers end, closes the service's objects and makes new
ones from the new configuration. The Unix socket stays open, so a client that comes in between waits for its answer.
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import structlog

from adapters.bootstrap import open_service
from adapters.configuration_check import configuration_faults
from adapters.core_dumps import forbid_core_dumps
from adapters.http.server.redirect_listener import listening
from adapters.http.server.unix_socket import SocketServer, listening_socket
from adapters.relay_process import RelayProcess
from adapters.service_manager import notify, notify_reloading
from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain.errors import MailtokenError
from infrastructure.config.load import load_config
from infrastructure.config.tables import Config
from infrastructure.logging import logging_to_standard_error
from infrastructure.service import Service
from infrastructure.tokens.claims import STALE_AFTER_SECONDS

log = structlog.get_logger("mailtoken")

_LONGEST_EXCHANGE_SECONDS = STALE_AFTER_SECONDS
_TELL_EVERY_SECONDS = 10.0
"""How often the service manager hears that this process still waits."""


def serve(config_path: Path, *, with_relay: bool = False) -> None:
    """Run the service, and the relay in a process beside it if `with_relay`.

    Raises:
        StoreRefused, InvalidValue, Unreachable: as `open_service`.
    """
    forbid_core_dumps()
    with logging_to_standard_error(), ExitStack() as stack:
        config = load_config(config_path)
        serving = _Serving(config_path, stack, RelayProcess(config_path) if with_relay else None)
        signal.signal(signal.SIGHUP, serving.ask)
        following = serving.run(config)
        while following:
            try:
                config, following = following, serving.run(following)
            except MailtokenError as error:
                log.error("reload_failed", error=str(error))
            else:
                continue
            # The error is dropped by now, and with it whatever the failed run had opened.
            following = serving.run(config)


class _Serving:
    """The service's runs, each with the configuration of its time. The Unix socket is closed with `stack`."""

    def __init__(self, path: Path, stack: ExitStack, relay: RelayProcess | None) -> None:
        self._path = path
        self._relay = relay
        self._stack = stack
        self._listener: socket.socket | None = None
        self._asked = threading.Event()
        self._following: Config | None = None

    def ask(self, *_: object) -> None:
        """Ask for a reload: the handler of SIGHUP."""
        self._asked.set()

    def run(self, config: Config) -> Config | None:
        """Serve until a signal; returns the configuration to go on with after SIGHUP.

        Raises:
            SystemExit: after SIGTERM or SIGINT.
            StoreRefused, InvalidValue, Unreachable: the service can't start.
        """
        is_reload = self._listener is not None
        self._following = None
        with open_service(config) as service:
            if self._listener is None:
                if self._relay:
                    self._stack.callback(self._relay.stop)
                self._listener = self._stack.enter_context(listening_socket(config))
                if self._relay:
                    self._relay.start()
            try:
                with listening(service.config, service.tokens):
                    server = SocketServer(service, self._listener)
                    for worker in (
                        service.row_watch,
                        service.node_reports,
                        service.polling_worker,
                        service.renewal_worker,
                        service.mail_counts,
                        service.checkpoint_worker,
                        service.providers,
                    ):
                        worker.start()
                    # Nothing fails from here on: the thread of a failed run would take the signal of the next one.
                    threading.Thread(target=self._watch, args=(service, server), name="reload", daemon=True).start()
                    notify("READY=1")
                    if is_reload:
                        log.info("configuration_reloaded")
                    server.run()
            except SystemExit:
                # A second signal must not cut off the exchanges that the first one lets end.
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, signal.SIG_IGN)
                notify("STOPPING=1")
                # Who connects while the workers end is told at once that no service runs.
                self._stack.close()
                raise
            finally:
                _stop_workers(service)
                _end_exchanges(service)
        return self._following

    def _watch(self, service: Service, server: SocketServer) -> None:
        """Wait for a reload that succeeds, then end this run."""
        while self._following is None:
            self._asked.wait()
            self._asked.clear()
            try:
                self._following = self._read(service.config)
            except Exception:
                log.exception("reload_failed")
        notify_reloading()
        if self._relay:
            self._relay.reload()
        # The workers and the exchanges under way end first: meanwhile the service still answers.
        _stop_workers(service)
        service.tokens.exchanges.wait(_LONGEST_EXCHANGE_SECONDS)
        try:
            _end_sign_ins(service, self._following)
        except Exception:
            # The provider refuses their codes then.
            log.exception("sign_ins_not_ended")
        server.stop()

    def _read(self, running: Config) -> Config | None:
        """The new configuration, with the store and socket of the running service; None if it has a fault."""
        faults = configuration_faults(self._path)
        for fault in faults:
            log.error("configuration_not_reloaded", error=error_text(fault, Surface.COMMAND))
        if faults:
            return None
        config = load_config(self._path)
        if (config.store, config.server.socket) != (running.store, running.server.socket):
            log.warning("restart_needed", why="store_or_socket_changed")
        server = config.server.model_copy(update={"socket": running.server.socket})
        return config.model_copy(update={"store": running.store, "server": server})


def _end_sign_ins(service: Service, following: Config) -> None:
    """End the sign-ins under way at each provider whose client registration changes."""
    for name, table in service.config.providers.items():
        new = following.providers.get(name)
        if new and (new.kind, new.client_id, new.tenant, new.issuer) != (
            table.kind,
            table.client_id,
            table.tenant,
            table.issuer,
        ):
            service.tokens.end_for_changed_client(name)


def _end_exchanges(service: Service) -> None:
    """Let no exchange begin, and wait for those that clients began: their threads outlast their requests."""
    service.tokens.exchanges.let_none_begin()
    until = time.monotonic() + _LONGEST_EXCHANGE_SECONDS
    while not service.tokens.exchanges.wait(_TELL_EVERY_SECONDS) and time.monotonic() < until:
        notify("WATCHDOG=1")


def _stop_workers(service: Service) -> None:
    """Stop the workers; returns when their exchanges with providers are over."""
    service.jobs.stop_all()
    service.verifier.stop()
    service.notifier.stop()
    service.renewal_worker.stop()
    service.polling_worker.stop()
    service.mail_counts.stop()
    service.row_watch.stop()
    service.node_reports.stop()
    service.checkpoint_worker.stop()
    service.providers.stop()
