"""Requests to a provider through a SOCKS proxy, and through an HTTP proxy that asks for a password."""

from __future__ import annotations

import base64
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from practice_faults.provider import FaultyProvider
from provider_fakes import HeldClock, KeptReply, connect_proxy, pump

from adapters.providers import ProviderSettings, build_provider
from domain.errors import InvalidValue
from domain.outcomes import Granted
from domain.ports import Provider
from domain.secret import Secret


class SocksProxy(socketserver.ThreadingTCPServer):
    """A SOCKS 5 proxy (RFC 1928) with a user name and password (RFC 1929)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _SocksTunnel)
        self.signed_in: list[bytes] = []
        self.address_types: list[int] = []

    def url(self, scheme: str) -> str:
        return f"{scheme}://scanner:secret@127.0.0.1:{self.server_address[1]}"


class _SocksTunnel(socketserver.StreamRequestHandler):
    server: SocksProxy

    def handle(self) -> None:
        _, count = self.rfile.read(2)
        assert 2 in self.rfile.read(count)
        self.wfile.write(b"\x05\x02")
        self.rfile.read(1)
        user = self.rfile.read(self.rfile.read(1)[0])
        self.server.signed_in.append(user + b":" + self.rfile.read(self.rfile.read(1)[0]))
        self.wfile.write(b"\x01\x00")
        _, _, _, kind = self.rfile.read(4)
        self.server.address_types.append(kind)
        host = self.rfile.read(self.rfile.read(1)[0]).decode() if kind == 3 else socket.inet_ntoa(self.rfile.read(4))
        port = int.from_bytes(self.rfile.read(2), "big")
        with socket.create_connection((host, port)) as upstream:
            self.wfile.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
            back = threading.Thread(target=pump, args=(upstream, self.connection), daemon=True)
            back.start()
            pump(self.connection, upstream)
            back.join(5)


@contextmanager
def socks_proxy() -> Iterator[SocksProxy]:
    with SocksProxy() as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join(5)


def get(build: Callable[..., Provider], practice: FaultyProvider, proxy: str, clock: HeldClock) -> object:
    app = build(
        client_id=practice.confidential_client_id, client_secrets=(Secret(practice.client_secret),), proxy=proxy
    )
    return app.request_app_token(app.scopes("smtp", "app"), "scan@contoso.com", KeptReply(), clock.now())


@pytest.mark.parametrize(("scheme", "address_type"), [("socks5h", 3), ("socks5", 1)])
def test_a_token_comes_through_a_socks_proxy_with_a_password(
    build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock, scheme: str, address_type: int
) -> None:
    with socks_proxy() as proxy:
        assert isinstance(get(build, practice, proxy.url(scheme), clock), Granted)
        assert set(proxy.signed_in) == {b"scanner:secret"}
        # With socks5h the proxy resolves the provider's name, with socks5 this machine.
        assert set(proxy.address_types) == {address_type}


def test_the_password_of_an_http_proxy_is_sent_to_the_proxy(
    build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock
) -> None:
    with connect_proxy() as proxy:
        url = proxy.url.replace("://", "://scanner:secret@")
        assert isinstance(get(build, practice, url, clock), Granted)
        expected = "Basic " + base64.b64encode(b"scanner:secret").decode()
        assert set(proxy.authorizations) == {expected}


@pytest.mark.parametrize("proxy", ["ftp://proxy.contoso.com", "socks4://proxy.contoso.com:1080"])
def test_a_proxy_of_another_kind_is_refused_at_the_start(
    clock: HeldClock, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    google = ProviderSettings("google", "google", "our-client")
    with pytest.raises(InvalidValue, match=r"providers\.google\.proxy: proxy_not_supported"):
        build_provider(google, clock)
