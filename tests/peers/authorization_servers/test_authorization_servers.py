"""Authorization servers that others wrote, unchanged: every flow they have, and renewals with rotation."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import glewlwyd
import pytest
from client_certificates import private_pem, rsa_key
from form_browser import FormBrowser
from ports import answers, free_port
from waiting import wait_until

from adapters.practice.ca import PracticeCA
from adapters.providers import ProviderSettings, build_provider
from domain.errors import Failed
from domain.outcomes import Credential, Granted, Pending
from domain.ports import Provider, Reply
from domain.secret import Secret
from infrastructure.clock import SystemClock

HERE = Path(__file__).parent
SCAN = "scan@contoso.com"
REDIRECT_URI = "http://localhost:8444/callback"
APPLICATION, SECRET = "mailtoken-app", Secret("mailtoken-secret")


class KeptReply:
    """An exchange in memory."""

    reply: Reply | None = None

    def keep(self, reply: Reply) -> None:
        self.reply = reply


class Person(Protocol):
    """A person at the server's pages."""

    def walk(self, url: str, redirect_uri: str | None = None) -> str | None:
        """Sign in and approve from `url` on; the address below `redirect_uri` to which the browser is sent back."""


@dataclass(frozen=True)
class Server:
    """A server that runs: our registrations there, for people and without, and a person at its pages."""

    provider: Provider
    application: Provider
    person: Person
    has_device_flow: bool
    """Whether its discovery document names the endpoint for device codes."""
    revokes: bool
    """Whether it lets a public client revoke a token (RFC 7009)."""


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            wait_until(lambda: answers(port) or process.poll() is not None, f"{command[0]} listens")
            assert process.poll() is None, process.stdout and process.stdout.read()
            yield
        finally:
            process.kill()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> PracticeCA:
    return PracticeCA.create(tmp_path_factory.mktemp("authority"))


def server_at(
    settings: ProviderSettings, person: Person, *, has_device_flow: bool = True, revokes: bool = True
) -> Server:
    application = replace(settings, client_id=APPLICATION, client_secrets=(SECRET,))
    clock = SystemClock()
    return Server(build_provider(settings, clock), build_provider(application, clock), person, has_device_flow, revokes)


def oidc_provider(ca: PracticeCA) -> Iterator[Server]:
    port = free_port()
    issuer, certificate = f"https://localhost:{port}", ca.issue()
    arguments = [issuer, str(port), str(certificate.cert_file), str(certificate.key_file)]
    settings = ProviderSettings(
        "peer",
        "oidc",
        "mailtoken",
        issuer=issuer,
        ca_file=ca.ca_file,
        account_claims=("email",),
    )
    with running(["node", str(HERE / "oidc_provider.mjs"), *arguments], port):
        person = FormBrowser(ca.ca_file, {"login": SCAN, "password": "any"})
        yield server_at(settings, person)


def django_oauth_toolkit(python: str) -> Callable[[PracticeCA], Iterator[Server]]:
    """The package of this interpreter. Its discovery document names no endpoint for device codes or revocation."""

    def run(ca: PracticeCA) -> Iterator[Server]:
        port, certificate = free_port(), ca.issue()
        database, signing_key = ca.ca_file.parent / f"{port}.db", ca.ca_file.parent / f"{port}.pem"
        signing_key.write_text(private_pem(rsa_key("peer")))
        arguments = [str(port), *map(str, (certificate.cert_file, certificate.key_file, database, signing_key))]
        settings = ProviderSettings(
            "peer",
            "oidc",
            "mailtoken",
            issuer=f"https://localhost:{port}/o",
            ca_file=ca.ca_file,
            account_claims=("email",),
        )
        with running([python, str(HERE / "django_oauth_toolkit.py"), *arguments], port):
            person = FormBrowser(ca.ca_file, {"username": "scan", "password": "any"})
            yield server_at(settings, person, has_device_flow=False, revokes=False)

    return run


def debians_glewlwyd(ca: PracticeCA) -> Iterator[Server]:
    """It revokes tokens for clients with a secret alone."""
    port = free_port()
    settings = ProviderSettings(
        "peer",
        "oidc",
        "mailtoken",
        issuer=f"https://localhost:{port}/api/oidc",
        ca_file=ca.ca_file,
        account_claims=("email",),
        scopes=("openid", "mail"),
        app_scopes=("mail",),
    )
    with glewlwyd.running(ca, port) as person:
        yield server_at(settings, person, revokes=False)


SERVERS: Mapping[str, Callable[[PracticeCA], Iterator[Server]]] = {
    "oidc-provider": oidc_provider,
    "django-oauth-toolkit": django_oauth_toolkit(str(HERE / "django" / "bin" / "python")),
    "glewlwyd": debians_glewlwyd,
    "python3-django-oauth-toolkit": django_oauth_toolkit("/usr/bin/python3"),
}


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.needs(name)) for name in SERVERS])
def server(request: pytest.FixtureRequest, authority: PracticeCA) -> Iterator[Server]:
    yield from SERVERS[request.param](authority)


def now() -> datetime:
    return datetime.now(UTC)


def by_device(server: Server) -> object:
    provider = server.provider
    code = provider.request_device_code(provider.scopes("smtp"), now())
    assert isinstance(provider.redeem_device_code(code, KeptReply(), now()), Pending)
    server.person.walk(code.verification_uri_complete or code.verification_uri)
    return provider.redeem_device_code(code, KeptReply(), now())


def by_browser(server: Server) -> object:
    provider = server.provider
    pending = provider.request_browser(provider.scopes("smtp"), REDIRECT_URI, SCAN, now())
    return provider.redeem_code(
        pending, server.person.walk(pending.authorization_uri, REDIRECT_URI), KeptReply(), now()
    )


def granted(outcome: object) -> Credential:
    assert isinstance(outcome, Granted), outcome
    assert outcome.identity is None or outcome.identity.account == SCAN
    return outcome.credential


@pytest.mark.parametrize("get", [by_device, by_browser])
def test_a_person_signs_in_and_the_token_is_renewed_with_a_new_refresh_token_each_time(
    server: Server, get: Callable[[Server], object]
) -> None:
    if get is by_device and not server.has_device_flow:
        with pytest.raises(Failed, match="flow_not_available"):
            by_device(server)
        return
    credential = granted(get(server))
    spent = []
    for _ in range(2):
        assert credential.refresh_token
        spent.append(credential.refresh_token.reveal())
        credential = granted(server.provider.refresh(credential, KeptReply(), now()))
    assert credential.refresh_token
    assert credential.refresh_token.reveal() not in spent
    assert server.provider.revoke(credential) is server.revokes


def test_the_application_gets_a_token_of_its_own(server: Server) -> None:
    scopes = server.application.scopes("smtp", "app")
    credential = granted(server.application.request_app_token(scopes, SCAN, KeptReply(), now()))
    assert credential.access_token.reveal()
