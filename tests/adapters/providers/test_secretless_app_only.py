"""The app-only flow without a client secret: an assertion of another program, and Google's service account."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs
from uuid import uuid4

import pytest
import requests
from client_certificates import certificate_pem, private_pem, rsa_key
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from joserfc import jwt
from joserfc.jwk import RSAKey
from practice_faults.provider import FaultyProvider
from provider_fakes import HeldClock, KeptReply

from adapters.practice.client_assertions import thumbprint
from adapters.providers import ProviderSettings, build_provider
from adapters.providers.discovery import Metadata
from adapters.providers.google import GOOGLE
from domain.errors import InvalidValue
from domain.outcomes import Granted, Identity, RenewalOutcome, Transient
from domain.ports import Exchange, Provider
from domain.secret import Secret

SCANNER = "scan@contoso.com"


def get(app: Provider, clock: HeldClock, exchange: Exchange | None = None) -> RenewalOutcome:
    return app.request_app_token(app.scopes("smtp", "app"), SCANNER, exchange or KeptReply(), clock.now())


@pytest.fixture
def write_assertion(practice: FaultyProvider, clock: HeldClock, tmp_path: Path) -> Callable[[], Path]:
    """Write the file as another program does: each time with an assertion of its own."""
    key, certificate = rsa_key("federated"), certificate_pem(rsa_key("federated"))
    practice.register_certificate(certificate)
    file = tmp_path / "assertion.jwt"

    def write() -> Path:
        header = {"alg": "RS256", "x5t#S256": thumbprint(x509.load_pem_x509_certificate(certificate.encode()))}
        claims = {
            "iss": practice.confidential_client_id,
            "sub": practice.confidential_client_id,
            "aud": f"{practice.issuer}/oauth2/token",
            "exp": int((clock.now() + timedelta(minutes=5)).timestamp()),
            "jti": uuid4().hex,
        }
        file.write_text(jwt.encode(header, claims, _jwk(key)) + "\n")
        return file

    return write


def _jwk(key: RSAPrivateKey) -> RSAKey:
    return RSAKey.import_key(private_pem(key))


def test_an_assertion_is_read_again_for_each_request(
    build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock, write_assertion: Callable[[], Path]
) -> None:
    app = build(client_id=practice.confidential_client_id, client_assertion_file=write_assertion())
    assert "app" in app.flows
    assert isinstance(get(app, clock), Granted)
    # The practice provider takes each assertion once only.
    write_assertion()
    assert isinstance(get(app, clock), Granted)


def test_an_assertion_that_is_gone_is_no_refusal_and_the_next_one_works(
    build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock, write_assertion: Callable[[], Path]
) -> None:
    file = write_assertion()
    app = build(client_id=practice.confidential_client_id, client_assertion_file=file)
    file.unlink()
    assert get(app, clock) == Transient("client_assertion_unreadable")
    write_assertion()
    assert isinstance(get(app, clock), Granted)


def test_an_assertion_that_is_missing_at_the_start_is_refused(build: Callable[..., Provider], tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="client_assertion_missing"):
        build(client_assertion_file=tmp_path / "missing.jwt")


@pytest.fixture
def service_account() -> Secret:
    return Secret(
        json.dumps(
            {
                "type": "service_account",
                "client_email": "mailtoken@contoso.iam.gserviceaccount.com",
                "private_key_id": "key-1",
                "private_key": private_pem(rsa_key("google")),
                "token_uri": "https://oauth2.googleapis.com/token",
            }
        )
    )


def test_a_service_account_asks_for_the_accounts_mailbox(
    practice: FaultyProvider, clock: HeldClock, service_account: Secret
) -> None:
    settings = ProviderSettings("google", "google", "our-client", issuer=practice.issuer, ca_file=practice.ca_file)
    google = build_provider(replace(settings, service_account=service_account), clock)
    assert google.flows == ("browser", "app")
    practice.inject_fault("garbage", body='{"access_token": "ya29", "token_type": "Bearer", "expires_in": 3599}')
    outcome = get(google, clock)
    assert isinstance(outcome, Granted)
    assert outcome.identity == Identity(SCANNER, "our-client", None)
    assert outcome.credential.scope == "https://mail.google.com/"
    assert practice.requests[-1].grant_type == "urn:ietf:params:oauth:grant-type:jwt-bearer"


def test_the_assertion_of_a_service_account_names_mailbox_and_scope(service_account: Secret) -> None:
    posted: list[dict[str, list[str]]] = []

    class Session(requests.Session):
        def request(self, *_: Any, **named: Any) -> Any:
            posted.append(parse_qs(named["data"].decode()))
            raise InterruptedError

    metadata = SimpleNamespace(token_endpoint="https://oauth2.googleapis.com/token")
    settings = ProviderSettings("google", "google", "our-client", service_account=service_account)
    client = GOOGLE.library(settings, None)
    with pytest.raises(InterruptedError):
        client.request_app_token(Session(), cast("Metadata", metadata), ["https://mail.google.com/"], SCANNER)
    [assertion] = posted[0]["assertion"]
    claims = jwt.decode(assertion, _jwk(rsa_key("google"))).claims
    assert (claims["sub"], claims["scope"]) == (SCANNER, "https://mail.google.com/")
    assert claims["iss"] == "mailtoken@contoso.iam.gserviceaccount.com"


@pytest.mark.parametrize("key", ["{}", "[]", "no JSON", '{"type": "authorized_user"}'])
def test_a_file_that_is_no_service_account_is_refused_at_the_start(key: str, clock: HeldClock) -> None:
    settings = ProviderSettings("google", "google", "our-client", service_account=Secret(key))
    with pytest.raises(InvalidValue, match="not_a_service_account") as refused:
        build_provider(settings, clock)
    assert key not in str(refused.value)
