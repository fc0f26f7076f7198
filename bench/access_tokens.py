"""Handing out access tokens over the Unix socket and over TLS, beside the bare framework answering a constant there."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from adapters.cli.demo_site import serve
from adapters.cli.http_client import ServiceConnection
from adapters.cli.service_socket import profile_path
from adapters.installation import initialise
from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA, ServerCertificate
from adapters.practice.provider import PracticeProvider
from bench.rounds import Figure, Size, figure

_PROFILE, _ACCOUNT = "office-mfp/smtp-service", "scan@contoso.com"
_AT_ONCE, _REQUESTS = 8, 400
_PATIENCE_SECONDS = 120.0
_CONFIG = """
[providers.practice]
kind = "oidc"
issuer = "{issuer}"
client_id = "{client_id}"
ca_file = "{ca_file}"
"""

Connect = Callable[[], socket.socket]
"""Opens a connection to a server."""


@dataclass(frozen=True)
class _Served:
    """Where the same kind of request is answered by us and by the bare framework."""

    ours: Connect
    our_request: bytes
    bare: Connect
    bare_request: bytes


def access_tokens(directory: Path, size: Size) -> Iterator[Figure]:
    """Hand-outs a second, and the time that 99 of 100 take, on each kind of socket."""
    with ExitStack() as stack:
        unix, tls = _start(stack, directory)
        for name, served in (("the Unix socket", unix), ("TLS", tls)):
            yield from _figures(name, served, size)


def _figures(name: str, served: _Served, size: Size) -> Iterator[Figure]:
    _round(served.ours, served.our_request)
    _round(served.bare, served.bare_request)
    rates, slowest = [], []
    for number in range(size.rounds):
        sides = [(served.ours, served.our_request), (served.bare, served.bare_request)]
        measured = [_round(*side) for side in (reversed(sides) if number % 2 else sides)]
        ours, bare = reversed(measured) if number % 2 else measured
        rates.append((ours[0], bare[0]))
        slowest.append((ours[1], bare[1]))
    peer, limited = "the bare framework, a constant", "the framework, in one process"
    yield figure(
        f"access tokens over {name}",
        rates,
        peer_name=peer,
        unit="/s",
        more_is_better=True,
        target=0.7,
        limited_by=limited,
    )
    yield figure(
        f"access token over {name}, p99",
        slowest,
        peer_name=peer,
        unit="ms",
        more_is_better=False,
        target=None,
        limited_by=f"{_AT_ONCE} connections that wait for each other",
    )


def _round(connect: Connect, request: bytes) -> tuple[float, float]:
    """Answers a second, and the 99th percentile of their times in milliseconds."""
    seconds: list[float] = []
    connections = [connect() for _ in range(_AT_ONCE)]
    threads = [threading.Thread(target=_ask, args=(one, request, seconds)) for one in connections]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    for connection in connections:
        connection.close()
    assert len(seconds) == _AT_ONCE * _REQUESTS, "not every request was answered"
    return len(seconds) / took, quantiles(seconds, n=100)[98] * 1000


def _ask(connection: socket.socket, request: bytes, seconds: list[float]) -> None:
    for _ in range(_REQUESTS):
        started = time.perf_counter()
        connection.sendall(request)
        _read_answer(connection)
        seconds.append(time.perf_counter() - started)


def _read_answer(connection: socket.socket) -> None:
    answer = connection.recv(65536)
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    left = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) - len(body)
    while left > 0:
        left -= len(connection.recv(65536))


def _start(stack: ExitStack, directory: Path) -> tuple[_Served, _Served]:
    """The service with a token and a client, and the bare framework, each in a process of its own."""
    directory.mkdir()
    ca = PracticeCA.create(directory / "ca")
    provider = stack.enter_context(PracticeProvider(ca, interval=1))
    certificate = ca.issue()
    ours, bare = _free_port(), _free_port()
    config = initialise(directory / "service").config
    files = f'certificate_file = "{certificate.cert_file}"\nkey_file = "{certificate.key_file}"'
    listen = f'listen = "127.0.0.1:{ours}"\n{files}'
    tables = _CONFIG.format(issuer=provider.issuer, client_id=provider.client_id, ca_file=provider.ca_file)
    config.write_text(config.read_text().replace("[server]", f"[server]\n{listen}", 1) + tables)
    stack.enter_context(serve(config.parent, config, directory / "service.log"))
    service = ServiceConnection(config.parent / "mailtoken.sock")
    _wait_for(config.parent / "mailtoken.sock", ours)
    _get_token(service, provider)
    key = service.post("/api/v1/clients", {"name": "bench", "profiles": [_PROFILE]})["key"]
    bare_socket = directory / "bare.sock"
    stack.enter_context(_bare(bare_socket, certificate, bare))
    _wait_for(bare_socket, bare)
    tls = ssl.create_default_context(cafile=str(ca.ca_file))
    target, constant = f"{profile_path(_PROFILE)}/access-token", "/constant"
    return (
        _Served(_unix(config.parent / "mailtoken.sock"), _request(target), _unix(bare_socket), _request(constant)),
        _Served(
            _tls(tls, ours), _request(target, f"Authorization: Bearer {key}\r\n"), _tls(tls, bare), _request(constant)
        ),
    )


@contextmanager
def _bare(path: Path, certificate: ServerCertificate, port: int) -> Iterator[None]:
    files = [str(path), str(certificate.cert_file), str(certificate.key_file), str(port)]
    process = subprocess.Popen([sys.executable, "-m", "bench.bare_framework", *files])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _get_token(service: ServiceConnection, provider: PracticeProvider) -> None:
    service.post("/api/v1/machines", {"name": "office-mfp", "catalogue": "sharp-bp"})
    service.patch(profile_path(_PROFILE), {"provider": "practice", "account": _ACCOUNT})
    started = service.post(f"{profile_path(_PROFILE)}/token", {"flow": None})
    browser_user.approve(started["verification_uri"], started["user_code"], _ACCOUNT, provider.ca_file)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while service.get(f"{profile_path(_PROFILE)}/status")["token"] != "Retrieved":
        assert time.monotonic() < deadline, "the practice provider's token does not come"
        time.sleep(0.05)


def _wait_for(path: Path, port: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for connect in (_unix(path), lambda: socket.create_connection(("127.0.0.1", port))):
        while True:
            try:
                connect().close()
                break
            except OSError:
                assert time.monotonic() < deadline, "a server does not start"
                time.sleep(0.05)


def _request(target: str, headers: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n{headers}\r\n".encode()


def _unix(path: Path) -> Connect:
    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        return connection

    return connect


def _tls(context: ssl.SSLContext, port: int) -> Connect:
    def connect() -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(plain, server_hostname="localhost")

    return connect


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
