"""The listener over TLS: the certificate as it is now, and what is not started."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest
from fakes import FakeClock, FakeProvider
from listeners import serve_tcp
from served import ADMIN, SMTP
from served_tcp import COOKIE, Browser, HttpClient, open_tcp_service
from waiting import DEADLINE_SECONDS, in_background

from adapters.http.app import create_app
from adapters.http.public_url import public_url
from adapters.http.server.tcp import listen
from adapters.practice.ca import PracticeCA
from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain.errors import InvalidValue
from domain.secret import Secret
from infrastructure.config.load import load_config
from infrastructure.config.tables import Config, ServerTable

PASSWORD = "a-password-in-clear"


def put(ca: PracticeCA, directory: Path) -> dict[str, str]:
    """A new certificate where the configuration says."""
    issued = ca.issue()
    for source, name in ((issued.cert_file, "server.crt"), (issued.key_file, "server.key")):
        shutil.copy(source, directory / name)
    return {"certificate_file": str(directory / "server.crt"), "key_file": str(directory / "server.key")}


@pytest.fixture
def ca(tmp_path: Path) -> PracticeCA:
    return PracticeCA.create(tmp_path / "ca")


@pytest.fixture
def tls(ca: PracticeCA) -> ssl.SSLContext:
    """What trusts that authority."""
    return ssl.create_default_context(cafile=str(ca.ca_file))


def test_keys_and_sessions_work_over_tls_and_browsers_are_told_to_stay_there(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider, ca: PracticeCA, tls: ssl.SSLContext
) -> None:
    with (
        open_tcp_service(tmp_path / "service", clock, provider, **put(ca, tmp_path)) as service,
        serve_tcp(service) as port,
    ):
        key = service.clients.add("backup", [SMTP], None, ADMIN).reveal()
        served = HttpClient.with_key(port, key, tls)("GET", f"/api/v1/profiles/{SMTP}/access-token")
        assert (served.status, served.header("strict-transport-security")) == (200, "max-age=31536000")
        service.administrators.add("anna", ["operator"], Secret(PASSWORD), ADMIN)
        browser = Browser(port, tls)
        assert browser.sign_in("anna", PASSWORD).status == 303
        assert COOKIE in browser.cookies
        assert browser("GET", "/api/v1/status").status == 200


def test_a_renewed_certificate_is_used_from_the_next_connection_on(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider, ca: PracticeCA, tls: ssl.SSLContext
) -> None:
    def presented(port: int) -> tuple[bytes, int]:
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            tls.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return connection.getpeercert(binary_form=True) or b"", int(connection.recv(1024).split()[1])

    def files() -> bytes:
        return ssl.PEM_cert_to_DER_cert((tmp_path / "server.crt").read_text())

    with (
        open_tcp_service(tmp_path / "service", clock, provider, **put(ca, tmp_path)) as service,
        serve_tcp(service) as port,
    ):
        first = files()
        assert presented(port) == (first, 200)
        put(ca, tmp_path)
        assert first != files()
        assert presented(port) == (files(), 200)
        renewed = files()
        (tmp_path / "server.key").write_text("half written")
        assert presented(port) == (renewed, 200)


def test_a_page_that_the_end_of_the_service_does_not_wait_for_says_so(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider
) -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        assert go_on.wait(DEADLINE_SECONDS)

    with open_tcp_service(tmp_path / "service", clock, provider) as service:
        service.administrators.add("anna", ["auditor", "operator"], Secret(PASSWORD), ADMIN)
        with serve_tcp(service) as port:
            browser = Browser(port)
            browser.sign_in("anna", PASSWORD)
            csrf = browser.csrf()
            provider.meanwhile(hold)
            renewal = in_background(lambda: browser.post(f"/settings/{SMTP}/renew", csrf=csrf))
            assert held.wait(DEADLINE_SECONDS)
        page = renewal.result(DEADLINE_SECONDS)
        go_on.set()
        assert service.tokens.exchanges.wait(DEADLINE_SECONDS)
        assert (page.status, page.header("content-type")) == (503, "text/html; charset=utf-8")
        assert "the service is stopping: try again" in page.text
        token_id = service.tokens.status(SMTP).profile.token_id
        credential = service.events.token(token_id).state.credential
        assert credential
        assert credential.number == 2


def test_a_client_without_tls_gets_nothing(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider, ca: PracticeCA
) -> None:
    with (
        open_tcp_service(tmp_path / "service", clock, provider, **put(ca, tmp_path)) as service,
        serve_tcp(service) as port,
        socket.create_connection(("127.0.0.1", port)) as plain,
    ):
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in plain.recv(1024)


def test_what_cant_be_listened_at_says_why(tmp_path: Path, clock: FakeClock, provider: FakeProvider) -> None:
    with open_tcp_service(tmp_path / "service", clock, provider) as service:
        app = create_app(service)

        def trouble(table: ServerTable) -> str:
            with pytest.raises(InvalidValue) as refused:
                listen(service.config.model_copy(update={"server": table}), app)
            return error_text(refused.value, Surface.COMMAND)

        with serve_tcp(service) as port:
            taken = trouble(ServerTable(listen=f"127.0.0.1:{port}"))
        assert taken == f"[server] listen: can't listen at 127.0.0.1:{port} (Address already in use)"
        missing = ServerTable(listen="127.0.0.1:0", certificate_file="no.crt", key_file="no.key")
        assert trouble(missing).startswith("[server] certificate_file: ")
        assert "No such file" in trouble(missing)


# Configuration


def load(directory: Path, server: str) -> Config:
    path = directory / "mailtoken.toml"
    path.write_text(f"[server]\n{server}\n")
    return load_config(path)


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ('listen = "0.0.0.0:8480"', "without certificate_file and key_file it must be a loopback address"),
        ('listen = "mailtoken.contoso.com:8480"', "must be a loopback address"),
        ('listen = "8480"', "'8480' is not like 127.0.0.1:8480"),
        ('listen = "127.0.0.1:99999"', "is not like 127.0.0.1:8480"),
        ('certificate_file = "x"', "TLS needs certificate_file and key_file"),
        ('url = "https://mailtoken.contoso.com/admin"', "without a path"),
        ('trusted_proxies = ["proxy.contoso.com"]', "trusted_proxies"),
        ('[server.sign_in]\ngroups = { x = ["operator"] }', "sign-in needs provider, or issuer and client_id"),
        ('[server.sign_in]\nprovider = "x"\ngroups = { x = ["client"] }', "groups"),
        ('[server.sign_in]\ngroups = {}\nprovidr = "x"', "did you mean provider?"),
        ('listn = "x"', "did you mean listen?"),
    ],
)
def test_a_configuration_that_is_not_safe_or_makes_no_sense_is_refused(tmp_path: Path, server: str, said: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        load(tmp_path, server)
    assert said in error_text(refused.value, Surface.COMMAND)


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ('listen = "127.0.0.1:8480"', "http://127.0.0.1:8480"),
        ('listen = "localhost:8480"', "http://localhost:8480"),
        ('listen = "[::1]:8480"', "http://[::1]:8480"),
        (
            'listen = "0.0.0.0:443"\ncertificate_file = "c"\nkey_file = "k"\nurl = "https://m.contoso.com"',
            "https://m.contoso.com",
        ),
        ('listen = "m.contoso.com:8443"\ncertificate_file = "c"\nkey_file = "k"', "https://m.contoso.com:8443"),
    ],
)
def test_what_browsers_call_the_service(tmp_path: Path, server: str, url: str) -> None:
    assert public_url(load(tmp_path, server)) == url


@pytest.mark.needs("openssl")
def test_openssl_finds_nothing_older_than_tls_1_2(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider, ca: PracticeCA
) -> None:
    with (
        open_tcp_service(tmp_path / "service", clock, provider, **put(ca, tmp_path)) as service,
        serve_tcp(service) as port,
    ):
        done = {
            version: subprocess.run(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", version, "-cipher", "ALL:@SECLEVEL=0"],
                input=b"",
                capture_output=True,
                check=False,
                timeout=30,
            ).returncode
            for version in ("-tls1", "-tls1_1", "-tls1_2")
        }
    assert [code == 0 for code in done.values()] == [False, False, True]
