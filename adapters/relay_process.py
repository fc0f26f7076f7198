"""The relay as a process beside the service, for `mailtoken serve --relay`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import structlog

from infrastructure.ticker import Ticker

log = structlog.get_logger("mailtoken")

_LOOK_EVERY_SECONDS = 5.0
_STOP_SECONDS = 30.0
_MAIN = "from adapters.cli import main; main()"
# These are about the service's own process (sd_notify(3), sd_listen_fds(3)).
SERVICE_PID = "MAILTOKEN_SERVICE_PID"
"""The variable of the relay's environment with the id of the service's process, without which it is to end."""
_NOT_PASSED_ON = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class RelayProcess:
    """Runs the relay of a configuration file, and starts it again if it ends."""

    def __init__(self, config_path: Path) -> None:
        # With -P the current directory is no place for modules.
        self._command = [sys.executable, "-P", "-c", _MAIN, "--config", str(config_path), "relay"]
        self._ticker = Ticker("relay", self._keep_running, lambda: _LOOK_EVERY_SECONDS)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the relay."""
        self._ticker.start()

    def reload(self) -> None:
        """Have the relay read its configuration again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Stop the relay; returns when the sessions of its clients are over."""
        self._ticker.stop()
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _keep_running(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            log.error("relay_ended", why=f"exit status {self._process.returncode}")
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
        environment[SERVICE_PID] = str(os.getpid())
        self._process = subprocess.Popen(self._command, env=environment)  # noqa: S603 - our own program
