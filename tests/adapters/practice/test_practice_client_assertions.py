"""A client that authenticates by certificate at the practice provider: what is accepted, and all that is not."""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import requests
from client_certificates import certificate_pem, rsa_key
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import RSAKey
from practice_faults.provider import DEVICE_CODE_GRANT, FaultyProvider

from adapters.practice import browser_user
from adapters.practice.client_assertions import ALGORITHMS, ASSERTION_TYPE, thumbprint

SCAN = "scan@contoso.com"
NO_CERTIFICATE = "The assertion names no certificate that is registered and valid."


@pytest.fixture
def pem(provider: FaultyProvider) -> str:
    """A certificate that is registered at the provider."""
    pem = certificate_pem(rsa_key())
    provider.register_certificate(pem)
    return pem


class Asserting:
    """A client with the key of one certificate; a change to None leaves a header or claim out."""

    def __init__(self, provider: FaultyProvider, http: requests.Session, pem: str) -> None:
        self.provider = provider
        self.http = http
        self.pem = pem

    def assertion(self, key: Any = None, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
        now = int(time.time())
        client_id, token_endpoint = self.provider.confidential_client_id, f"{self.provider.issuer}/oauth2/token"
        claims: dict[str, Any] = {"iss": client_id, "sub": client_id, "aud": token_endpoint, "jti": uuid4().hex}
        claims |= {"iat": now, "exp": now + 300, **changes}
        named = {"alg": "PS256", "x5t#S256": thumbprint(x509.load_pem_x509_certificate(self.pem.encode()))}
        return jwt.encode(
            {name: value for name, value in (named | (header or {})).items() if value is not None},
            {name: value for name, value in claims.items() if value is not None},
            key or RSAKey.import_key(rsa_key()),
            algorithms=[*ALGORITHMS, "RS512", "none"],
        )

    def post(self, assertion: str | None, endpoint: str = "token", **form: Any) -> requests.Response:
        authentication = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion} if assertion else {}
        return self.http.post(f"{self.provider.issuer}/oauth2/{endpoint}", data={**authentication, **form}, timeout=60)

    def get_token(self, assertion: str | None, **form: str) -> requests.Response:
        return self.post(assertion, grant_type="client_credentials", **form)


@pytest.fixture
def client(provider: FaultyProvider, http: requests.Session, pem: str) -> Asserting:
    return Asserting(provider, http, pem)


def refusal(answer: requests.Response) -> str:
    reply = answer.json()
    assert (answer.status_code, reply["error"]) == (400, "invalid_client"), reply
    return str(reply["error_description"])


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_an_assertion_signed_with_the_certificate_s_key_is_accepted(client: Asserting, algorithm: str) -> None:
    answer = client.get_token(client.assertion(header={"alg": algorithm}))
    assert answer.json()["access_token"] in client.provider.issued_secrets


def test_the_audience_is_the_token_endpoint_or_the_issuer_perhaps_among_others(client: Asserting) -> None:
    issuer = client.provider.issuer
    for audience in (issuer, [issuer], ["https://login.example.com/", f"{issuer}/oauth2/token"]):
        assert client.get_token(client.assertion(aud=audience)).status_code == 200


def test_the_client_may_name_itself_too_but_nobody_else(client: Asserting) -> None:
    own, other = client.provider.confidential_client_id, client.provider.client_id
    assert client.get_token(client.assertion(), client_id=own).status_code == 200
    assert refusal(client.get_token(client.assertion(), client_id=other)) == "The assertion is another client's."


def test_an_assertion_is_good_for_one_request(client: Asserting) -> None:
    assertion = client.assertion()
    assert client.get_token(assertion).status_code == 200
    assert refusal(client.get_token(assertion)) == "The assertion was used before."
    assert refusal(client.get_token(client.assertion(jti=_jti(assertion)))) == "The assertion was used before."
    assert client.get_token(client.assertion()).status_code == 200


def _jti(assertion: str) -> str:
    claims = jwt.decode(assertion, RSAKey.import_key(rsa_key().public_key()), algorithms=["PS256"]).claims
    return str(claims["jti"])


def test_the_key_of_another_certificate_is_refused(client: Asserting) -> None:
    forged = client.assertion(RSAKey.import_key(rsa_key("other")))
    assert "bad_signature" in refusal(client.get_token(forged))


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"aud": "https://login.example.com/oauth2/token"}, "aud"),
        ({"aud": ["https://login.example.com/"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"iss": "practice-public-client"}, "iss"),
        ({"sub": "practice-public-client"}, "sub"),
        ({"iss": "practice-public-client", "sub": "practice-public-client"}, "iss"),
        ({"iss": None}, "iss"),
        ({"sub": None}, "sub"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"exp": 1_700_000_000}, "expired"),
        ({"nbf": 4_000_000_000}, "not yet valid"),
        ({"jti": None}, "jti"),
        ({"jti": ""}, "jti"),
        ({"jti": 7}, "jti"),
    ],
)
def test_each_claim_has_to_be_right(client: Asserting, changes: dict[str, Any], claim: str) -> None:
    assert claim in refusal(client.get_token(client.assertion(**changes)))


def test_the_clocks_may_differ_by_a_minute(client: Asserting) -> None:
    now = int(time.time())
    assert client.get_token(client.assertion(iat=now - 330, exp=now - 30)).status_code == 200
    assert "expired" in refusal(client.get_token(client.assertion(iat=now - 390, exp=now - 90)))


@pytest.mark.parametrize("named", [None, "", "AAAA", "thumbprint of another"])
def test_an_assertion_that_names_no_registered_certificate_is_refused(client: Asserting, named: str | None) -> None:
    assert refusal(client.get_token(client.assertion(header={"x5t#S256": named}))) == NO_CERTIFICATE


@pytest.mark.parametrize("begins_in", [timedelta(days=-10), timedelta(days=1)])
def test_a_certificate_is_good_for_as_long_as_it_is_valid(
    provider: FaultyProvider, http: requests.Session, begins_in: timedelta
) -> None:
    begins_at = datetime.now(UTC) + begins_in
    pem = certificate_pem(rsa_key(), timedelta(days=9), begins_at)
    provider.register_certificate(pem)
    client = Asserting(provider, http, pem)
    assert refusal(client.get_token(client.assertion())) == NO_CERTIFICATE


@pytest.mark.filterwarnings("ignore:JWS algorithm")
@pytest.mark.parametrize("algorithm", ["RS512", "none"])
def test_no_other_algorithm_is_accepted(client: Asserting, algorithm: str) -> None:
    refused = refusal(client.get_token(client.assertion(header={"alg": algorithm})))
    assert refused == f"Algorithm of '{algorithm}' is not allowed"


def test_the_public_key_is_no_shared_secret(client: Asserting) -> None:
    """A library that trusts `alg` would take the public key for the key of an HMAC (RFC 8725 section 2.1)."""
    _, claims, _ = client.assertion().split(".")
    header = {"alg": "HS256", "x5t#S256": thumbprint(x509.load_pem_x509_certificate(client.pem.encode()))}
    signed = f"{_base64url(json.dumps(header).encode())}.{claims}"
    public = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    forged = f"{signed}.{_base64url(hmac.digest(public, signed.encode(), 'sha256'))}"
    assert refusal(client.get_token(forged)) == "Algorithm of 'HS256' is not allowed"


def _base64url(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


@pytest.mark.parametrize("assertion", ["nonsense", "a.b.c", "..", "\N{SNOWMAN}.\N{SNOWMAN}.\N{SNOWMAN}", "e30.e30.e30"])
def test_what_is_no_assertion_is_refused(client: Asserting, assertion: str) -> None:
    assert refusal(client.get_token(assertion))


def test_the_secret_works_beside_it_and_a_bad_assertion_is_not_saved_by_it(client: Asserting) -> None:
    secret = {"client_id": client.provider.confidential_client_id, "client_secret": client.provider.client_secret}
    assert client.get_token(None, **secret).status_code == 200
    assert refusal(client.get_token("nonsense", **secret))


def test_a_request_that_is_refused_spends_no_refresh_token(client: Asserting) -> None:
    device = client.post(client.assertion(), "devicecode", scope="openid offline_access").json()
    browser_user.approve(device["verification_uri"], device["user_code"], SCAN, client.provider.ca_file)
    form = {"grant_type": DEVICE_CODE_GRANT, "device_code": device["device_code"]}
    assert "bad_signature" in refusal(client.post(client.assertion(RSAKey.import_key(rsa_key("other"))), **form))
    tokens = client.post(client.assertion(), **form).json()
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert "bad_signature" in refusal(client.post(client.assertion(RSAKey.import_key(rsa_key("other"))), **form))
    assert client.provider.live_refresh_tokens(SCAN) == [tokens["refresh_token"]]
    renewed = client.post(client.assertion(), **form).json()
    assert client.provider.live_refresh_tokens(SCAN) == [renewed["refresh_token"]]
    assert client.post(client.assertion(), "revoke", token=renewed["refresh_token"]).status_code == 200
    assert client.provider.live_refresh_tokens(SCAN) == []


def test_a_device_code_is_given_for_the_id_alone_and_redeemed_by_the_certificate(client: Asserting) -> None:
    named = {"client_id": client.provider.confidential_client_id}
    device = client.post(None, "devicecode", **named).json()
    browser_user.approve(device["verification_uri"], device["user_code"], SCAN, client.provider.ca_file)
    form = {"grant_type": DEVICE_CODE_GRANT, "device_code": device["device_code"]}
    assert client.post(None, **form, **named).json()["error"] == "invalid_client"
    assert "access_token" in client.post(client.assertion(), **form, **named).json()
    assert refusal(client.post("nonsense", "devicecode", **named))
    wrong_secret = client.post(None, "devicecode", **named, client_secret="wrong")
    assert wrong_secret.json()["error"] == "invalid_client"


def test_without_a_certificate_a_confidential_client_gets_no_device_code_for_its_id_alone(
    provider: FaultyProvider, http: requests.Session
) -> None:
    data = {"client_id": provider.confidential_client_id}
    answer = http.post(f"{provider.issuer}/oauth2/devicecode", data=data, timeout=60)
    assert answer.json()["error"] == "invalid_client"
