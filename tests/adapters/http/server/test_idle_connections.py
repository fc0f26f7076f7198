"""Connections that say nothing, thousands from one source: each listener ends them, and others get through."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fakes import FakeClock, FakeProvider
from listeners import serve_tcp, serve_unix_socket
from ports import answers, free_port
from served import a_service
from served_tcp import open_tcp_service
from waiting import wait_until

from adapters.http.server import limited_connection
from adapters.http.server.redirect_listener import listening
from adapters.practice.ca import PracticeCA
from infrastructure.config.tables import CallbackTable, ServerTable

IDLE = 2000
STRANGER, OTHER = 65534, 65533


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond a limit has less time than in the field, which the test would wait for."""
    monkeypatch.setattr(limited_connection, "_SPARE_HEAD_SECONDS", 0.5)


@pytest.fixture
def ca(tmp_path: Path) -> PracticeCA:
    return PracticeCA.create(tmp_path / "ca")


def put(ca: PracticeCA, directory: Path) -> dict[str, str]:
    issued = ca.issue()
    for source, name in ((issued.cert_file, "server.crt"), (issued.key_file, "server.key")):
        shutil.copy(source, directory / name)
    return {"certificate_file": str(directory / "server.crt"), "key_file": str(directory / "server.key")}


@contextmanager
def idle_connections(port: int, count: int, share: int, source: str = "127.0.0.1") -> Iterator[None]:
    """So many connections, of which the listener keeps a share. Each says half a word, no TLS handshake and no head."""
    with ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 60, (source, 0))) for _ in range(count)
        ]
        for connection in opened:
            connection.setblocking(False)
        wait_until(lambda: sum(map(is_ended, opened)) == count - share, "all but its share were ended")
        yield


def is_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1024) is not None
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def status(port: int, source: str, path: str, tls: ssl.SSLContext | None) -> int:
    with socket.create_connection(("127.0.0.1", port), 60, (source, 0)) as plain:
        connection = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return int(connection.recv(65536).split()[1])


@pytest.mark.needs("3000 open files")
@pytest.mark.parametrize("secure", [True, False])
def test_two_thousand_idle_connections_of_an_address_keep_nobody_else_out(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider, ca: PracticeCA, secure: bool
) -> None:
    table = put(ca, tmp_path) if secure else {}
    tls = ssl.create_default_context(cafile=str(ca.ca_file)) if secure else None
    with (
        open_tcp_service(tmp_path / "service", clock, provider, **table) as service,
        serve_tcp(service) as port,
        idle_connections(port, IDLE, service.config.server.connections_per_address),
    ):
        assert status(port, "127.0.0.2", "/sign-in", tls) == 200
        assert status(port, "127.0.0.1", "/sign-in", tls) == 503
        assert status(port, "127.0.0.1", "/healthz", tls) == 200


def test_idle_connections_of_an_address_leave_the_redirect_of_a_sign_in_to_others(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider, ca: PracticeCA
) -> None:
    port = free_port()
    table = CallbackTable(url=f"https://localhost:{port}/", host="127.0.0.1", port=port, **put(ca, tmp_path))
    tls = ssl.create_default_context(cafile=str(ca.ca_file))
    with a_service(tmp_path / "service", clock, provider) as service:
        config = service.config.model_copy(update={"server": ServerTable(callback=table)})
        with listening(config, service.tokens):
            wait_until(lambda: answers(port), "it listens")
            with idle_connections(port, 200, 16):
                assert status(port, "127.0.0.2", "/?state=none", tls) == 400


_IDLE_AS = """
import os, socket, sys
path, uid, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.setgid(uid)
os.setuid(uid)
def connect():
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(path)
    return connection
def status(target):
    with connect() as connection:
        connection.sendall(b"GET %s HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n" % target.encode())
        return connection.recv(65536).split()[1].decode()
def is_ended(connection):
    try:
        return connection.recv(1024) is not None
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
idle = [connect() for _ in range(count)]
for connection in idle:
    connection.setblocking(False)
for line in sys.stdin:
    print(sum(map(is_ended, idle)) if line.strip() == "ended" else status(line.strip()), flush=True)
"""


class UserAtSocket:
    """A process of another user, with idle connections to the Unix socket."""

    def __init__(self, path: Path, uid: int, connections: int = 0) -> None:
        command = [sys.executable, "-c", _IDLE_AS, str(path), str(uid), str(connections)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> UserAtSocket:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(60)

    def __call__(self, word: str) -> int:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.mark.needs("root")
@pytest.mark.needs("3000 open files")
def test_two_thousand_idle_connections_of_a_user_keep_no_other_user_from_the_unix_socket(
    clock: FakeClock, provider: FakeProvider
) -> None:
    with ExitStack() as stack:
        directory = stack.enter_context(a_public_directory())
        service = stack.enter_context(a_service(directory, clock, provider))
        path = stack.enter_context(serve_unix_socket(service))
        path.chmod(0o666)
        stranger = stack.enter_context(UserAtSocket(path, STRANGER, IDLE))
        other = stack.enter_context(UserAtSocket(path, OTHER))
        wait_until(lambda: stranger("ended") == IDLE - 250, "all but its share were ended")
        assert stranger("/api/v1/status") == 503
        assert stranger("/healthz") == 200
        assert other("/api/v1/status") == 403
        assert root_status(path) == 200


@contextmanager
def a_public_directory() -> Iterator[Path]:
    """A folder that other users can reach."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def root_status(path: Path) -> int:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request("GET", "/api/v1/status")
    code = connection.getresponse().status
    connection.close()
    return code
