"""Our HTTP client against real servers: what it keeps, what it refuses, and how long it waits."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from practice_faults.provider import FaultyProvider
from provider_fakes import FullDisk, HeldClock, KeptReply, connect_proxy

from adapters.http_client import BODY_LIMIT_BYTES, DOCUMENT_SECONDS, HttpClient, NoReply
from adapters.practice.ca import PracticeCA
from infrastructure.clock import SystemClock

FORM = {"grant_type": "refresh_token", "refresh_token": "a refresh token", "client_id": "practice-public-client"}


@pytest.fixture
def own_clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def client(practice: FaultyProvider, own_clock: HeldClock) -> HttpClient:
    return HttpClient(own_clock, timeout_seconds=10, ca_file=practice.ca_file)


@pytest.fixture
def impatient(practice: FaultyProvider) -> HttpClient:
    return HttpClient(SystemClock(), timeout_seconds=1, ca_file=practice.ca_file)


@pytest.fixture
def token_endpoint(practice: FaultyProvider) -> str:
    return f"{practice.issuer}/oauth2/token"


@pytest.fixture
def ask(token_endpoint: str) -> Callable[[requests.Session], object]:
    return lambda session: session.post(token_endpoint, data=FORM)


@pytest.fixture(autouse=True)
def no_proxy_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_a_reply_is_kept_as_it_came_and_the_library_sees_nothing_of_it(
    client: HttpClient, own_clock: HeldClock, token_endpoint: str
) -> None:
    exchange, seen = KeptReply(), []

    def ask(session: requests.Session) -> None:
        seen.append(session.post(token_endpoint, data=FORM))

    reply = client.post(ask, exchange)
    assert exchange.reply is reply
    assert (reply.status, reply.received_at) == (400, own_clock.now())
    assert b'"invalid_grant"' in reply.body
    assert ("Content-Type", "application/json") in reply.headers
    assert not seen


def test_a_reply_that_cant_be_kept_is_handed_to_nobody(
    client: HttpClient, ask: Callable[[requests.Session], object]
) -> None:
    disk = FullDisk()
    with pytest.raises(OSError, match="No space left"):
        client.post(ask, disk)
    assert [reply.status for reply in disk.offered] == [400]


@pytest.mark.parametrize("mode", ["hang", "trickle"])
def test_the_deadline_holds_for_silence_and_for_a_slow_drip(
    practice: FaultyProvider, impatient: HttpClient, mode: str
) -> None:
    details: dict[str, Any] = {"seconds_a_piece": 0.2} if mode != "hang" else {}
    with (
        practice.inject_fault(mode, endpoint="device_authorization", **details),
        pytest.raises(NoReply, match="no_answer_in_time"),
    ):
        impatient.post(
            lambda session: session.post(f"{practice.issuer}/oauth2/devicecode", data={"client_id": practice.client_id})
        )


def wait_for_the_requests_under_way() -> None:
    left = [thread for thread in threading.enumerate() if thread.name == "provider request"]
    for thread in left:
        thread.join(60)
    assert not any(thread.is_alive() for thread in left)


def test_a_connection_that_opens_after_the_deadline_sends_nothing(ca: PracticeCA) -> None:
    received, deadline_is_over = list[bytes](), threading.Event()
    tls = ca.issue().ssl_context()

    class SlowToShakeHands(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            deadline_is_over.wait(60)
            with contextlib.suppress(OSError), tls.wrap_socket(self.request, server_side=True) as connection:
                received.append(connection.recv(1000))

    with socketserver.TCPServer(("127.0.0.1", 0), SlowToShakeHands) as server, connect_proxy(seconds=0.7) as proxy:
        serving = threading.Thread(target=server.handle_request, daemon=True)
        serving.start()
        client = HttpClient(SystemClock(), timeout_seconds=1, ca_file=ca.ca_file, proxy=proxy.url)
        with pytest.raises(NoReply, match="no_answer_in_time"):
            client.post(lambda session: session.post(f"https://localhost:{server.server_address[1]}/", data=FORM))
        deadline_is_over.set()
        wait_for_the_requests_under_way()
        serving.join(60)
    assert not any(received)


@pytest.fixture
def dripping(ca: PracticeCA) -> Iterator[str]:
    """The URL of a server whose header never ends; each byte comes well within any time-out of a read."""
    over = threading.Event()

    class Drip(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError), tls.wrap_socket(self.request, server_side=True) as connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
                while not over.wait(0.1):
                    connection.sendall(b".")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    tls = ca.issue().ssl_context()
    with Server(("127.0.0.1", 0), Drip) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"https://localhost:{server.server_address[1]}/"
        over.set()
        server.shutdown()
        thread.join(5)


def test_a_header_that_never_ends_is_cut_and_leaves_no_thread_behind(impatient: HttpClient, dripping: str) -> None:
    with pytest.raises(NoReply, match="no_answer_in_time"):
        impatient.get(dripping)
    wait_for_the_requests_under_way()


def test_a_reply_above_the_limit_is_cut_one_byte_above_it(practice: FaultyProvider, client: HttpClient) -> None:
    practice.inject_fault("garbage", body="x" * (BODY_LIMIT_BYTES + 10_000))
    exchange = KeptReply()
    client.post(lambda session: session.post(f"{practice.issuer}/oauth2/token", data=FORM), exchange)
    assert exchange.reply
    assert len(exchange.reply.body) == BODY_LIMIT_BYTES + 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_reply_and_not_followed(practice: FaultyProvider, client: HttpClient, status: int) -> None:
    elsewhere = f"{practice.issuer}/elsewhere"
    practice.inject_fault("garbage", status=status, body="", headers={"Location": elsewhere}, endpoint="discovery")
    practice.inject_fault("garbage", status=status, body="", headers={"Location": elsewhere})
    before = len(practice.requests)
    assert client.get(f"{practice.issuer}/.well-known/openid-configuration").status == status
    assert client.post(lambda session: session.post(f"{practice.issuer}/oauth2/token", data=FORM)).status == status
    assert len(practice.requests) == before + 2


def test_a_lost_answer_is_not_asked_for_again(
    practice: FaultyProvider, client: HttpClient, ask: Callable[[requests.Session], object]
) -> None:
    dropped = practice.inject_fault("hang", seconds=0, times=None)
    with pytest.raises(NoReply, match="connection_failed"):
        client.post(ask)
    assert dropped.met == 1


def test_plain_http_is_refused_before_anything_is_sent(client: HttpClient) -> None:
    with pytest.raises(requests.exceptions.InvalidSchema):
        client.get("http://localhost:9/")


def test_a_server_of_another_authority_is_not_believed(practice: FaultyProvider, tmp_path: Path) -> None:
    stranger = PracticeCA.create(tmp_path / "stranger")
    client = HttpClient(SystemClock(), ca_file=stranger.ca_file)
    with pytest.raises(NoReply, match="certificate_not_verified"):
        client.get(f"{practice.issuer}/.well-known/openid-configuration")


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_ca_bundle_in_the_environment_neither_replaces_nor_joins_ours(
    practice: FaultyProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    stranger = PracticeCA.create(tmp_path / "stranger")
    url = f"{practice.issuer}/.well-known/openid-configuration"
    monkeypatch.setenv(variable, str(stranger.ca_file))
    assert HttpClient(SystemClock(), ca_file=practice.ca_file).get(url).status == 200
    monkeypatch.setenv(variable, str(practice.ca_file))
    with pytest.raises(NoReply, match="certificate_not_verified"):
        HttpClient(SystemClock(), ca_file=stranger.ca_file).get(url)


def test_a_configured_proxy_carries_everything(practice: FaultyProvider) -> None:
    with connect_proxy() as proxy:
        client = HttpClient(SystemClock(), ca_file=practice.ca_file, proxy=proxy.url)
        client.get(f"{practice.issuer}/.well-known/openid-configuration")
        client.post(lambda session: session.post(f"{practice.issuer}/oauth2/token", data=FORM))
        assert proxy.asked_for == [f"localhost:{practice.port}"] * 2


def test_the_environments_proxy_is_used_unless_no_proxy_names_the_host(
    practice: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{practice.issuer}/.well-known/openid-configuration"
    with connect_proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        HttpClient(SystemClock(), ca_file=practice.ca_file).get(url)
        monkeypatch.setenv("NO_PROXY", "localhost")
        HttpClient(SystemClock(), ca_file=practice.ca_file).get(url)
        assert proxy.asked_for == [f"localhost:{practice.port}"]


def test_a_configured_proxy_wins_over_the_environment(
    practice: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    with connect_proxy() as proxy:
        HttpClient(SystemClock(), ca_file=practice.ca_file, proxy=proxy.url).get(practice.issuer)
        assert proxy.asked_for


def test_a_proxys_password_stays_out_of_the_reason() -> None:
    client = HttpClient(SystemClock(), proxy="http://user:hunter2@127.0.0.1:9")
    with pytest.raises(NoReply) as trouble:
        client.get("https://login.example.com/")
    assert str(trouble.value) == "proxy_refused"
    assert trouble.value.__context__ is None
    assert trouble.value.__cause__ is None


def discovery_requests(practice: FaultyProvider) -> int:
    return sum(record.endpoint == "discovery" for record in practice.requests)


@pytest.fixture
def fetch(client: HttpClient, practice: FaultyProvider) -> Callable[..., int]:
    """Get the discovery document and tell how many requests that has cost so far."""
    before = discovery_requests(practice)

    def get(**options: bool) -> int:
        client.get(f"{practice.issuer}/.well-known/openid-configuration", **options)
        return discovery_requests(practice) - before

    return get


def test_a_document_is_fetched_once_an_hour(fetch: Callable[..., int], own_clock: HeldClock) -> None:
    assert (fetch(), fetch()) == (1, 1)
    own_clock.forward(seconds=DOCUMENT_SECONDS - 1)
    assert fetch() == 1
    own_clock.forward(seconds=1)
    assert (fetch(), fetch()) == (2, 2)


def test_the_newest_document_can_be_asked_for(fetch: Callable[..., int]) -> None:
    assert (fetch(), fetch(newest=True), fetch()) == (1, 2, 2)


def test_a_clock_that_jumps_back_makes_no_document_last_longer(fetch: Callable[..., int], own_clock: HeldClock) -> None:
    fetch()
    own_clock.forward(days=-365)
    assert fetch() == 2


def test_an_error_is_no_document(fetch: Callable[..., int], practice: FaultyProvider) -> None:
    practice.inject_fault("server_error", endpoint="discovery")
    assert (fetch(), fetch(), fetch()) == (1, 2, 2)
