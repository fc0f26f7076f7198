"""The service manager is told the state of the service and of the relay (sd_notify(3), sd_listen_fds(3))."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from waiting import DEADLINE_SECONDS, wait_until

from adapters.installation import initialise
from adapters.service_manager import notify

_MAIN = "from adapters.cli import main; main()"


class Manager:
    """Receives what a process tells its service manager."""

    def __init__(self, address: str) -> None:
        self.told: list[str] = []
        self._receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._receiver.bind(address.replace("@", "\0", 1))
        self._receiver.settimeout(DEADLINE_SECONDS)

    def wait_for(self, state: str) -> None:
        while state not in self.told:
            self.told += self._receiver.recv(4096).decode().split("\n")

    def forget(self) -> None:
        self.told.clear()

    def close(self) -> None:
        self._receiver.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with closing(Manager(address)) as manager:
        yield manager


def begin(
    directory: Path, *arguments: str, descriptors: tuple[int, ...] = (), **environment: str
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _MAIN, "--config", str(directory / "mailtoken.toml"), *arguments]
    log = (directory / f"{arguments[0]}.log").open("w")
    with log:
        return subprocess.Popen(
            command, env={**os.environ, **environment}, pass_fds=descriptors, stdout=log, stderr=log
        )


def test_the_service_tells_that_it_is_ready_alive_reloading_and_stopping(tmp_path: Path, manager: Manager) -> None:
    directory = tmp_path / "service"
    config = initialise(directory).config
    with begin(directory, "serve", WATCHDOG_USEC="200000") as process:
        try:
            manager.wait_for("READY=1")
            manager.wait_for("WATCHDOG=1")
            manager.forget()
            config.write_text(config.read_text() + "\n[send]\n")
            process.send_signal(signal.SIGHUP)
            manager.wait_for("RELOADING=1")
            assert any(state.startswith("MONOTONIC_USEC=") for state in manager.told)
            manager.wait_for("READY=1")
            process.send_signal(signal.SIGTERM)
            manager.wait_for("STOPPING=1")
            assert process.wait(DEADLINE_SECONDS) == 0
        finally:
            process.kill()


@pytest.mark.thorough
def test_the_relay_serves_at_a_socket_that_it_was_passed_and_tells_when(tmp_path: Path, manager: Manager) -> None:
    directory = tmp_path / "service"
    initialise(directory)
    with begin(directory, "serve") as service, socket.create_server(("127.0.0.1", 0)) as listener:
        try:
            manager.wait_for("READY=1")
            manager.forget()
            with passed(listener, directory) as relay:
                try:
                    manager.wait_for("READY=1")
                    with socket.create_connection(listener.getsockname(), timeout=DEADLINE_SECONDS) as client:
                        assert client.recv(3) == b"220"
                    relay.send_signal(signal.SIGTERM)
                    manager.wait_for("STOPPING=1")
                    assert relay.wait(DEADLINE_SECONDS) == 0
                finally:
                    relay.kill()
        finally:
            service.kill()


@pytest.mark.thorough
def test_serve_with_the_relay_runs_both_and_stops_both(tmp_path: Path, manager: Manager) -> None:
    directory = tmp_path / "service"
    config = initialise(directory).config
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config.write_text(f'{config.read_text()}\n[relay]\nlisten = ["smtp://127.0.0.1:{port}"]\n')

    def greeting() -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS) as client:
                return client.recv(3)
        except OSError:
            return b""

    with begin(directory, "serve", "--relay") as process:
        try:
            manager.wait_for("READY=1")
            wait_until(lambda: greeting() == b"220", "the relay answers")
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_SECONDS) == 0
            assert greeting() == b""
        finally:
            process.kill()


_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="smtp")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def passed(listener: socket.socket, directory: Path) -> subprocess.Popen[bytes]:
    """A relay that gets the socket as its third descriptor, as systemd passes it."""
    relay = ["-c", _MAIN, "--config", str(directory / "mailtoken.toml"), "relay"]
    return subprocess.Popen(
        [sys.executable, "-c", _ACTIVATE, str(listener.fileno()), *relay], pass_fds=(listener.fileno(),)
    )


def test_an_address_in_the_abstract_namespace_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"@mailtoken-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with closing(Manager(address)) as manager:
        notify("READY=1")
        manager.wait_for("READY=1")


@pytest.mark.parametrize("address", ["", "nowhere", "/nowhere/at/all"])
def test_without_a_service_manager_nothing_is_told_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")
