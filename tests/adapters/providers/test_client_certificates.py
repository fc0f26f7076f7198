"""A registration with certificates, at a provider that verifies every assertion, through msal and through Authlib."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from client_certificates import LASTS, certificate_pem, private_pem, rsa_key
from practice_faults.provider import FaultyProvider
from provider_fakes import KeptReply
from structlog.testing import capture_logs

from adapters.bootstrap import open_service
from adapters.installation import initialise
from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA
from adapters.providers import ProviderSettings, build_provider
from adapters.providers.registration_check import check_provider
from domain.errors import Failed, Unreachable
from domain.outcomes import ClientFault, Credential, Granted
from domain.ports import Provider
from domain.secret import Secret
from infrastructure.clock import SystemClock
from infrastructure.config.load import load_config
from infrastructure.service import Service

# pytest undoes the filter that `adapters.providers.microsoft` sets.
pytestmark = pytest.mark.filterwarnings("ignore:response_mode='form_post' is recommended")

SCANNER = "scan@contoso.com"
NAME = "office-mfp/smtp-service"
BY = "administrator:root"
REFUSED = ClientFault("invalid_client", "client_id, client_secret_file or certificate_file")


@dataclass(frozen=True)
class Certificate:
    """One of our registration: `certificate` is what the provider has to know, `pem` what we have."""

    certificate: str
    key: str

    @property
    def pem(self) -> Secret:
        return Secret(self.certificate + self.key)


@cache
def certificate(name: str = "ours", lasts: timedelta = LASTS) -> Certificate:
    key = rsa_key(name)
    return Certificate(certificate_pem(key, lasts), private_pem(key))


@pytest.fixture
def start(ca: PracticeCA) -> Iterator[Callable[..., FaultyProvider]]:
    """Start a provider; its clock is that of the libraries, which date assertions themselves, unless told otherwise."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(FaultyProvider(ca, interval=1, access_token_length=64, **options))


@pytest.fixture
def strict(start: Callable[..., FaultyProvider]) -> FaultyProvider:
    """A provider that knows the certificate `ours`."""
    strict = start()
    strict.register_certificate(certificate().certificate)
    return strict


@pytest.fixture(params=["microsoft", "oidc"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def register(kind: str) -> Callable[..., Provider]:
    """A provider of ours that authenticates with these certificates, in this order."""
    return lambda at, *certificates, **changes: build_provider(
        replace(settings_for(kind, at, *certificates), **changes), SystemClock()
    )


def settings_for(kind: Any, at: FaultyProvider, *certificates: Certificate) -> ProviderSettings:
    return ProviderSettings(
        "contoso",
        kind,
        at.confidential_client_id,
        issuer=at.issuer,
        ca_file=at.ca_file,
        timeout_seconds=10,
        certificates=tuple(one.pem for one in certificates),
    )


def by_device(provider: Provider, at: FaultyProvider) -> object:
    now = datetime.now(UTC)
    code = provider.request_device_code(provider.scopes("smtp"), now)
    browser_user.approve(code.verification_uri, code.user_code, SCANNER, at.ca_file)
    return provider.redeem_device_code(code, KeptReply(), now)


def by_browser(provider: Provider, at: FaultyProvider) -> object:
    now = datetime.now(UTC)
    pending = provider.request_browser(provider.scopes("smtp"), "http://localhost:8025/", SCANNER, now)
    back = browser_user.sign_in(pending.authorization_uri, SCANNER, at.ca_file)
    return provider.redeem_code(pending, back, KeptReply(), now)


def by_app(provider: Provider, at: FaultyProvider) -> object:
    scopes = provider.scopes("smtp", "app")
    return provider.request_app_token(scopes, SCANNER, KeptReply(), datetime.now(UTC))


def refresh(provider: Provider, credential: Credential) -> object:
    return provider.refresh(credential, KeptReply(), datetime.now(UTC))


def grant(outcome: object) -> Credential:
    assert isinstance(outcome, Granted), outcome
    return outcome.credential


def token_requests(at: FaultyProvider) -> int:
    return sum(record.endpoint == "token" for record in at.requests)


by_every_flow = pytest.mark.parametrize("get", [by_device, by_browser, by_app])


@by_every_flow
def test_a_registered_certificate_gets_a_token(
    strict: FaultyProvider, register: Callable[..., Provider], get: Callable[..., object]
) -> None:
    credential = grant(get(register(strict, certificate()), strict))
    assert credential.access_token.reveal() in strict.issued_secrets
    assert strict.client_secret not in repr(strict.requests)


def test_a_grant_is_renewed_again_and_again_each_time_with_an_assertion_of_its_own(
    strict: FaultyProvider, register: Callable[..., Provider]
) -> None:
    provider = register(strict, certificate())
    credential = grant(by_device(provider, strict))
    for _ in range(3):
        credential = grant(refresh(provider, credential))
    assert credential.refresh_token
    assert strict.live_refresh_tokens(SCANNER) == [credential.refresh_token.reveal()]


def test_the_grant_is_revoked_by_certificate(strict: FaultyProvider) -> None:
    provider = build_provider(settings_for("oidc", strict, certificate()), SystemClock())
    credential = grant(by_browser(provider, strict))
    assert provider.revoke(credential) is True
    assert strict.live_refresh_tokens(SCANNER) == []


@pytest.mark.parametrize("get", [by_browser, by_app])
def test_a_certificate_nobody_registered_gets_nothing(
    strict: FaultyProvider, register: Callable[..., Provider], get: Callable[..., object]
) -> None:
    provider = register(strict, certificate("stranger"))
    assert get(provider, strict) == REFUSED
    assert strict.live_access_tokens(SCANNER) == []
    assert provider.client_faults == {}


def test_a_certificate_nobody_registered_gets_nothing_by_device_code(
    strict: FaultyProvider, register: Callable[..., Provider], kind: str
) -> None:
    provider = register(strict, certificate("stranger"))
    if kind == "microsoft":  # says nothing but its id until it polls, as is enough for Entra
        assert by_device(provider, strict) == REFUSED
    else:
        with pytest.raises(Failed, match="invalid_client"):
            by_device(provider, strict)
    assert strict.live_access_tokens(SCANNER) == []


def test_a_renewal_with_a_certificate_nobody_registered_is_refused_and_costs_nothing(
    strict: FaultyProvider, register: Callable[..., Provider]
) -> None:
    credential = grant(by_device(register(strict, certificate()), strict))
    assert refresh(register(strict, certificate("stranger")), credential) == REFUSED
    assert credential.refresh_token
    assert strict.live_refresh_tokens(SCANNER) == [credential.refresh_token.reveal()]
    grant(refresh(register(strict, certificate()), credential))


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(hours=-2)])
def test_with_clocks_far_apart_an_assertion_is_over_or_not_begun(
    start: Callable[..., FaultyProvider], register: Callable[..., Provider], ahead: timedelta
) -> None:
    far = start(now=lambda: datetime.now(UTC) + ahead)
    far.register_certificate(certificate().certificate)
    assert by_app(register(far, certificate()), far) == REFUSED


def test_an_assertion_for_another_audience_is_refused(
    strict: FaultyProvider, register: Callable[..., Provider]
) -> None:
    """The same server by another name, as behind a reverse proxy that hides what it calls itself."""
    other_name = f"{strict.issuer}/oauth2/token".replace("localhost", "127.0.0.1")
    provider = register(strict, certificate())
    strict.inject_fault("edit", endpoint="discovery", times=None, fields={"token_endpoint": other_name})
    assert by_app(provider, strict) == REFUSED
    strict.clear_faults()
    grant(by_app(register(strict, certificate()), strict))


# Several, in order


@pytest.fixture(params=["expired", pytest.param("not known", marks=pytest.mark.thorough)])
def outlived(request: pytest.FixtureRequest, strict: FaultyProvider) -> Certificate:
    """A certificate of ours that the provider does not take any more."""
    outlived = certificate("outlived", lasts=timedelta(days=365))
    if request.param == "expired":
        strict.register_certificate(outlived.certificate)
    return outlived


@by_every_flow
def test_a_certificate_that_is_refused_is_followed_by_the_next_which_stays(
    strict: FaultyProvider, register: Callable[..., Provider], outlived: Certificate, get: Callable[..., object]
) -> None:
    provider = register(strict, outlived, certificate("stranger"), certificate())
    credential = grant(get(provider, strict))
    faults = {"certificate 1": REFUSED, "certificate 2": REFUSED}
    assert provider.client_faults == faults
    before = token_requests(strict)
    grant(by_app(provider, strict) if get is by_app else refresh(provider, credential))
    assert token_requests(strict) - before == 1
    assert provider.client_faults == faults


def test_a_renewal_with_a_certificate_that_has_run_out_spends_the_refresh_token_once(
    strict: FaultyProvider, register: Callable[..., Provider], outlived: Certificate
) -> None:
    credential = grant(by_device(register(strict, certificate()), strict))
    provider, before = register(strict, outlived, certificate()), token_requests(strict)
    renewed = grant(refresh(provider, credential))
    assert token_requests(strict) - before == 2
    assert renewed.refresh_token
    assert strict.live_refresh_tokens(SCANNER) == [renewed.refresh_token.reveal()]
    assert provider.client_faults == {"certificate 1": REFUSED}


def test_a_secret_follows_the_certificates(
    strict: FaultyProvider, register: Callable[..., Provider], outlived: Certificate
) -> None:
    provider = register(strict, outlived, client_secrets=(Secret(strict.client_secret),))
    grant(refresh(provider, grant(by_browser(provider, strict))))
    assert provider.client_faults == {"certificate 1": REFUSED}


def test_the_check_tells_the_certificate_that_works_from_the_one_that_does_not(
    strict: FaultyProvider, kind: str, outlived: Certificate
) -> None:
    report = check_provider(settings_for(kind, strict, outlived, certificate()), SystemClock())
    states = {(item.subject, item.fields.get("credential")): item.state for item in report.items}
    for subject in ("client_credential", "client_certificate_expiry"):
        assert (states[subject, "certificate 1"], states[subject, "certificate 2"]) == ("failed", "ok")


# In the service


@pytest.fixture
def open_with(tmp_path: Path, strict: FaultyProvider, kind: str) -> Iterator[Callable[..., Service]]:
    """Configure the service with these certificates, and open it; an earlier one is closed first."""
    config = initialise(tmp_path / "service").config
    unconfigured = config.read_text()
    running = ExitStack()

    def open_one(*certificates: Certificate) -> Service:
        running.close()
        files = [config.with_name(f"certificate-{number}.pem") for number in range(len(certificates))]
        for file, one in zip(files, certificates, strict=True):
            file.touch(0o600)
            file.write_text(one.pem.reveal())
        config.write_text(
            unconfigured + "[providers.contoso]\n"
            f'kind = "{kind}"\n'
            f'issuer = "{strict.issuer}"\n'
            f'client_id = "{strict.confidential_client_id}"\n'
            f'ca_file = "{strict.ca_file}"\n'
            f"certificate_file = {[file.name for file in files]}\n"
        )
        return running.enter_context(open_service(load_config(config)))

    with running:
        yield open_one


def obtain(service: Service, at: FaultyProvider) -> None:
    service.settings.add_machine("office-mfp", "sharp-bp", BY)
    service.settings.set_profile(NAME, {"provider": "contoso", "account": SCANNER}, BY)
    started = service.tokens.request(NAME, "device", BY)
    assert started.verification_uri
    assert started.user_code
    browser_user.approve(started.verification_uri, started.user_code, SCANNER, at.ca_file)
    assert service.tokens.poll(service.tokens.status(NAME).profile.token_id) is None


def told(logged: list[Any]) -> list[tuple[str, str]]:
    return [(one["log_level"], one["why"]) for one in logged if one["event"] == "client_credential_refused"]


def test_the_service_goes_on_with_the_next_certificate_and_says_so_once(
    strict: FaultyProvider, open_with: Callable[..., Service], outlived: Certificate
) -> None:
    service = open_with(outlived, certificate())
    with capture_logs() as logged:
        obtain(service, strict)
        for _ in range(3):
            service.tokens.renew(NAME, BY)
            assert service.tokens.client_faults() == {"contoso": {"certificate 1": "invalid_client"}}
    assert told(logged) == [("error", "certificate 1: invalid_client")]
    assert service.tokens.status(NAME).token.status.value == "Retrieved"
    assert service.tokens.alarms == {}


def test_with_every_certificate_refused_the_token_is_untouched_and_served(
    strict: FaultyProvider, open_with: Callable[..., Service], outlived: Certificate
) -> None:
    service = open_with(certificate())
    obtain(service, strict)
    before = service.tokens.status(NAME)
    [refresh_token] = strict.live_refresh_tokens(SCANNER)

    service = open_with(outlived, certificate("stranger"))
    with pytest.raises(Unreachable, match="client_registration_refused why='invalid_client'"):
        service.tokens.renew(NAME, BY)
    assert service.tokens.status(NAME).token == before.token
    assert strict.live_refresh_tokens(SCANNER) == [refresh_token]
    served = service.tokens.access_token(NAME, None, "client:cron")
    assert strict.live_access_tokens(SCANNER) == [served.credential.access_token.reveal()]

    service = open_with(certificate())
    service.tokens.renew(NAME, BY)
    assert service.tokens.status(NAME).token.status.value == "Retrieved"
    assert strict.live_refresh_tokens(SCANNER) != [refresh_token]
