"""Several secrets and certificates of one registration: the next one is tried, and no token suffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from practice_faults.provider import FaultyProvider
from provider_fakes import NOON, HeldClock, KeptReply

from adapters.practice import browser_user
from adapters.providers import ProviderSettings, build_provider
from adapters.providers.client_authentication import Certificate, client_credentials
from domain.errors import InvalidValue
from domain.outcomes import ClientFault, Credential, DeviceAuthorization, GrantDead, Granted, Pending, Reason, Transient
from domain.ports import Provider
from domain.secret import Secret

# pytest undoes the filter that `adapters.providers.microsoft` sets.
pytestmark = pytest.mark.filterwarnings("ignore:response_mode='form_post' is recommended")

SCANNER = "scan@contoso.com"
REFUSED = ClientFault("invalid_client", "client_id, client_secret_file or certificate_file")


@pytest.fixture
def renewed_secret(build: Callable[..., Provider], practice: FaultyProvider) -> Provider:
    """A registration whose first secret has expired."""
    return build(
        client_id=practice.confidential_client_id,
        client_secrets=(Secret("expired"), Secret(practice.client_secret)),
    )


def app_token(provider: Provider, exchange: KeptReply | None = None) -> object:
    return provider.request_app_token(provider.scopes("smtp", "app"), SCANNER, exchange or KeptReply(), NOON)


def token_requests(practice: FaultyProvider) -> int:
    return sum(record.endpoint == "token" for record in practice.requests)


def test_a_secret_that_is_refused_is_followed_by_the_next_which_stays(
    renewed_secret: Provider, practice: FaultyProvider
) -> None:
    before, exchange = token_requests(practice), KeptReply()
    assert isinstance(app_token(renewed_secret, exchange), Granted)
    assert [reply.status for reply in exchange.kept] == [401, 200]
    assert exchange.reply is exchange.kept[-1]
    assert isinstance(app_token(renewed_secret), Granted)
    assert token_requests(practice) - before == 3


def test_the_refused_one_is_named_once(renewed_secret: Provider) -> None:
    assert renewed_secret.client_faults == {}
    for _ in range(3):
        app_token(renewed_secret)
        assert renewed_secret.client_faults == {"client secret 1": REFUSED}


def test_every_request_of_a_person_survives_an_expired_secret(
    renewed_secret: Provider, practice: FaultyProvider, build: Callable[..., Provider], clock: HeldClock
) -> None:
    def anew() -> Provider:
        secrets = (Secret(practice.client_secret),)
        return build(client_id=practice.confidential_client_id, client_secrets=(Secret("expired"), *secrets))

    code = anew().request_device_code(renewed_secret.scopes("smtp"), NOON)
    assert isinstance(code, DeviceAuthorization)
    clock.forward(seconds=5)
    assert anew().redeem_device_code(code, KeptReply(), NOON) == Pending(5)
    pending = anew().request_browser(renewed_secret.scopes("smtp"), "http://localhost/", SCANNER, NOON)
    back = browser_user.sign_in(pending.authorization_uri, SCANNER, practice.ca_file)
    granted = anew().redeem_code(pending, back, KeptReply(), NOON)
    assert isinstance(granted, Granted)
    renewed = anew().refresh(granted.credential, KeptReply(), NOON)
    assert isinstance(renewed, Granted)
    assert anew().revoke(renewed.credential) is True


def test_with_all_refused_the_fault_is_the_outcome_and_no_single_ones(
    build: Callable[..., Provider], practice: FaultyProvider
) -> None:
    provider = build(
        client_id=practice.confidential_client_id,
        client_secrets=(Secret("expired"), Secret("wrong"), Secret("misspelt")),
    )
    before = token_requests(practice)
    assert app_token(provider) == REFUSED
    assert token_requests(practice) - before == 3
    assert provider.client_faults == {}


def test_one_that_works_again_is_a_fault_no_more(renewed_secret: Provider, practice: FaultyProvider) -> None:
    app_token(renewed_secret)
    practice.inject_fault("invalid_client", status=401)
    practice.inject_fault("invalid_client", status=401)
    assert app_token(renewed_secret) == REFUSED
    clients, client_id = practice._registry.clients, practice.confidential_client_id
    right = clients[client_id]
    clients[client_id] = replace(right, client_secret="expired")
    try:
        assert isinstance(app_token(renewed_secret), Granted)
    finally:
        clients[client_id] = right
    assert renewed_secret.client_faults == {"client secret 2": REFUSED}


@pytest.mark.parametrize("number", [None, 7000215, 7000222, 70002, 700027, 7000218])
@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client"])
def test_each_fault_of_the_registration_moves_on_to_the_next(
    renewed_secret: Provider, practice: FaultyProvider, error: str, number: int | None
) -> None:
    practice.inject_fault(
        "error", error=error, error_codes=(number,) if number else (), grant_type="client_credentials"
    )
    assert isinstance(app_token(renewed_secret), Granted)
    [fault] = renewed_secret.client_faults.values()
    assert fault.code == (f"AADSTS{number}" if number else error)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"mode": "invalid_grant", "error_codes": (50057,)}, GrantDead(Reason.ACCOUNT_NOT_AVAILABLE, "AADSTS50057")),
        ({"mode": "server_error"}, Transient("HTTP 500")),
        ({"mode": "invalid_scope"}, ClientFault("invalid_scope", "scopes", Reason.CONFIGURATION)),
        ({"mode": "error", "error": "invalid_client", "status": 503}, Transient("HTTP 503")),
    ],
)
def test_any_other_answer_is_final(
    renewed_secret: Provider, practice: FaultyProvider, fault: dict[str, Any], outcome: object
) -> None:
    before = token_requests(practice)
    practice.inject_fault(**fault, grant_type="refresh_token")
    credential = Credential(Secret("access"), Secret("refresh"), "mail", NOON, NOON + timedelta(hours=1))
    assert renewed_secret.refresh(credential, KeptReply(), NOON) == outcome
    assert token_requests(practice) - before == 1
    assert renewed_secret.client_faults == {}


def test_a_kept_refusal_is_read_and_nothing_is_sent(renewed_secret: Provider, practice: FaultyProvider) -> None:
    exchange = KeptReply()
    app_token(renewed_secret, exchange)
    before = token_requests(practice)
    assert app_token(renewed_secret, KeptReply(exchange.kept[0])) == REFUSED
    assert token_requests(practice) == before


# Certificates


@cache
def rsa_key(_: str = "ours") -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem_of(key: PrivateKeyTypes, passphrase: bytes | None = None) -> str:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def certificate_for(key: Any) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mailtoken")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOON, NOON + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def settings(**changes: Any) -> ProviderSettings:
    return ProviderSettings("contoso", "oidc", "our-client", **{"issuer": "https://login.example.com", **changes})


def test_certificates_are_tried_before_secrets_each_in_its_order() -> None:
    pems = tuple(Secret(pem_of(key) + certificate_for(key)) for key in (rsa_key(), rsa_key("other")))
    found = client_credentials(
        settings(client_secrets=(Secret("one"), Secret("two"), Secret("three")), certificates=pems)
    )
    assert list(found) == ["certificate 1", "certificate 2", "client secret 1", "client secret 2", "client secret 3"]
    assert list(found.values())[2:] == [Secret("one"), Secret("two"), Secret("three")]


def test_the_certificate_of_a_chain_is_the_one_with_the_private_key() -> None:
    key, other = rsa_key(), rsa_key("other")
    pem = certificate_for(other) + pem_of(key) + certificate_for(key)
    [found] = client_credentials(settings(certificates=(Secret(pem),))).values()
    assert isinstance(found, Certificate)
    assert found.certificate == certificate_for(key)
    assert "PRIVATE KEY" not in found.certificate + repr(found)


@pytest.mark.parametrize(
    ("pem", "problem"),
    [
        (lambda key: certificate_for(key) + "\n", "certificate_without_key"),
        (lambda key: pem_of(key) + "\n", "certificate_unreadable"),
        (
            lambda key: pem_of(key) + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            "certificate_unreadable",
        ),
        (lambda key: pem_of(key)[:200] + "-----END PRIVATE KEY-----" + certificate_for(key), "certificate_unreadable"),
        (lambda key: pem_of(key, b"passphrase") + certificate_for(key), "certificate_key_encrypted"),
        (lambda key: pem_of(key) + certificate_for(rsa_key("other")), "certificate_key_of_another"),
        (lambda key: pem_of(ec.generate_private_key(ec.SECP256R1())) + certificate_for(key), "certificate_key_not_rsa"),
        (lambda key: "", "certificate_without_key"),
    ],
)
def test_a_certificate_that_cant_be_used_is_refused_at_the_start(pem: Callable[[Any], str], problem: str) -> None:
    with pytest.raises(InvalidValue, match=problem) as refusal:
        build_provider(settings(certificates=(Secret(pem(rsa_key())),)), HeldClock())
    assert refusal.value.field == "providers.contoso.certificate_file"
    assert "BEGIN" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "hunter2\n"])
def test_any_secret_that_cant_be_used_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        build_provider(
            settings(
                client_secrets=(
                    Secret("fine"),
                    Secret(text),
                )
            ),
            HeldClock(),
        )
    assert refusal.value.field == "providers.contoso.client_secret_file"
    assert "hunter2" not in str(refusal.value)
