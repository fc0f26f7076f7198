"""Microsoft in Entra's own mode: a stand-in for login.microsoftonline.com on loopback, reached through a proxy."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from joserfc import jws, jwt
from joserfc.jwk import RSAKey
from provider_fakes import NOON, HeldClock, KeptReply, connect_proxy
from werkzeug.wrappers import Request, Response

from adapters.practice.ca import PracticeCA
from adapters.practice.http_server import HTTPSServer
from adapters.providers import ProviderSettings, build_provider
from domain.errors import Failed, InvalidValue, Unreachable
from domain.outcomes import AttemptOver, ClientFault, Credential, GrantDead, Granted, Identity, Reason, Transient
from domain.ports import Provider
from domain.secret import Secret

# pytest undoes the filter that `adapters.providers.microsoft` sets.
pytestmark = pytest.mark.filterwarnings("ignore:response_mode='form_post' is recommended")

HOST = "login.microsoftonline.com"
TENANT_ID = "259e6e7a-0fc2-5d40-a358-1991da9a1dee"
SMTP_SEND = "https://outlook.office.com/SMTP.Send"
ENTRA_KEY_EXTRAS = {
    "x5t": "entra-key",
    "x5c": ["MIIC/jCCAeagAwIBAgIJAJ"],
    "cloud_instance_name": "microsoftonline.com",
    "issuer": f"https://{HOST}/{{tenantid}}/v2.0",
}


@dataclass
class Entra:
    """Answers as Entra does, for one tenant, and remembers what it was sent."""

    key: RSAKey
    now: Callable[[], Any]
    tenant: str = "contoso.com"
    issuer: str = f"https://{HOST}/{TENANT_ID}/v2.0"
    id_token: dict[str, object] = field(default_factory=dict)
    discovery: dict[str, object] = field(default_factory=dict)
    refusal: dict[str, object] | None = None
    forms: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        if request.method == "POST":
            form = {name: values[0] for name, values in parse_qs(request.get_data(as_text=True)).items()}
            self.forms.append((request.path, form))
        status, body = self.answer(request.path)
        return Response(json.dumps(body), status, mimetype="application/json")(environ, start_response)

    def answer(self, path: str) -> tuple[int, object]:
        base = f"https://{HOST}/{self.tenant}"
        answers = {
            f"/{self.tenant}/v2.0/.well-known/openid-configuration": {
                "issuer": self.issuer,
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                "jwks_uri": f"https://{HOST}/common/discovery/v2.0/keys",
                **self.discovery,
            },
            "/common/discovery/v2.0/keys": {"keys": [{**self.key.as_dict(private=False), **ENTRA_KEY_EXTRAS}]},
            f"/{self.tenant}/oauth2/v2.0/devicecode": {
                "user_code": "ABCD1234",
                "device_code": "the device code",
                "verification_uri": "https://microsoft.com/devicelogin",
                "expires_in": 900,
                "interval": 5,
                "message": "To sign in, use a web browser...",
            },
            f"/{self.tenant}/oauth2/v2.0/token": {
                "token_type": "Bearer",
                "scope": SMTP_SEND,
                "expires_in": 4711,
                "ext_expires_in": 4711,
                "access_token": "the access token",
                "refresh_token": "the refresh token",
                "id_token": self.signed(),
                "client_info": "eyJ1aWQiOiIxIiwidXRpZCI6IjIifQ",
            },
        }
        if self.refusal and path.endswith("/token"):
            return 400, self.refusal
        if path in answers:
            return 200, answers[path]
        return 400, {"error": "invalid_tenant", "error_description": "AADSTS90002: Tenant...", "error_codes": [90002]}

    def signed(self) -> str:
        at = int(self.now().timestamp())
        claims = {
            "iss": f"https://{HOST}/{TENANT_ID}/v2.0",
            "aud": "our-client",
            "sub": "pairwise",
            "tid": TENANT_ID,
            "preferred_username": "scan@contoso.com",
            "ver": "2.0",
            "iat": at,
            "nbf": at,
            "exp": at + 3900,
        }
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, {**claims, **self.id_token}, self.key)


@pytest.fixture(scope="module")
def key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "entra-key", "use": "sig"})


@pytest.fixture
def entra(key: RSAKey, clock: HeldClock) -> Entra:
    return Entra(key, clock.now)


@pytest.fixture
def build(entra: Entra, ca: PracticeCA, clock: HeldClock) -> Iterator[Callable[..., Provider]]:
    server = HTTPSServer(entra, ca.issue(HOST).ssl_context())
    server.start()
    with connect_proxy({HOST: server.port}) as proxy:

        def make(**changes: Any) -> Provider:
            values = {"tenant": "contoso.com", "ca_file": ca.ca_file, "proxy": proxy.url, "timeout_seconds": 10}
            values |= {"name": "contoso", "kind": "microsoft", "client_id": "our-client"}
            return build_provider(ProviderSettings(**{**values, **changes}), clock)

        yield make
    server.close()


def credential(scope: str) -> Credential:
    now = HeldClock().now()
    return Credential(Secret("old"), Secret("the old refresh token"), scope, now, now + timedelta(hours=1))


@pytest.mark.parametrize("secrets", [(), (Secret("our client secret"),)])
def test_a_tenants_token_is_obtained_and_renewed(
    build: Callable[..., Provider], entra: Entra, clock: HeldClock, secrets: tuple[Secret, ...]
) -> None:
    provider = build(client_secrets=secrets)
    code = provider.request_device_code(provider.scopes("smtp"), clock.now())
    assert (code.user_code, code.verification_uri) == ("ABCD1234", "https://microsoft.com/devicelogin")
    granted = provider.redeem_device_code(code, KeptReply(), clock.now())
    assert isinstance(granted, Granted)
    assert granted.identity == Identity("scan@contoso.com", "pairwise", TENANT_ID)
    assert granted.credential.expires_at - clock.now() == timedelta(seconds=4711)
    assert isinstance(provider.refresh(granted.credential, KeptReply(), clock.now()), Granted)
    asked = {(path.rpartition("/")[2], form.get("grant_type")): form for path, form in entra.forms}
    [(_, initiation), (_, poll), (_, renewal)] = asked.items()
    assert poll["device_code"] == "the device code"
    assert renewal["refresh_token"] == "the refresh token"
    for form in (initiation, renewal):
        assert set(form["scope"].split()) == {SMTP_SEND, "openid", "profile", "offline_access"}
    for form in (initiation, poll, renewal):
        assert form["client_id"] == "our-client"
        assert form.get("client_secret") == (secrets[0].reveal() if secrets else None)


def test_reserved_scopes_are_msals_to_add(build: Callable[..., Provider], entra: Entra, clock: HeldClock) -> None:
    scopes = ("openid", "offline_access", "profile", "email", SMTP_SEND)
    provider = build(scopes=scopes)
    assert provider.scopes("imap") == scopes
    provider.request_device_code(provider.scopes("smtp"), clock.now())
    provider.refresh(credential(" ".join(scopes)), KeptReply(), clock.now())
    assert [set(form["scope"].split()) for _, form in entra.forms] == [set(scopes)] * 2


@pytest.mark.parametrize(
    ("protocol", "scope"), [("smtp", "SMTP.Send"), ("pop", "POP.AccessAsUser.All"), ("imap", "IMAP.AccessAsUser.All")]
)
def test_each_protocol_has_its_scope(build: Callable[..., Provider], protocol: str, scope: str) -> None:
    assert build().scopes(protocol) == (f"https://outlook.office.com/{scope}",)


def test_a_multi_tenant_registration_accepts_the_issuer_of_the_persons_tenant_alone(
    build: Callable[..., Provider], entra: Entra, clock: HeldClock
) -> None:
    entra.tenant, entra.issuer = "organizations", f"https://{HOST}/{{tenantid}}/v2.0"
    provider = build(tenant="organizations")
    code = provider.request_device_code(provider.scopes("smtp"), clock.now())
    granted = provider.redeem_device_code(code, KeptReply(), clock.now())
    assert isinstance(granted, Granted)
    assert granted.identity
    assert granted.identity.tenant == TENANT_ID
    entra.id_token = {"tid": "11111111-2222-3333-4444-555555555555"}
    outcome = provider.redeem_device_code(code, KeptReply(), clock.now())
    assert outcome == AttemptOver(Reason.ID_TOKEN_INVALID, "iss")


def test_a_person_of_another_tenant_is_refused(build: Callable[..., Provider], entra: Entra, clock: HeldClock) -> None:
    provider = build()
    code = provider.request_device_code(provider.scopes("smtp"), clock.now())
    other = "11111111-2222-3333-4444-555555555555"
    entra.id_token = {"tid": other, "iss": f"https://{HOST}/{other}/v2.0"}
    outcome = provider.redeem_device_code(code, KeptReply(), clock.now())
    assert outcome == AttemptOver(Reason.ID_TOKEN_INVALID, "iss")


def test_an_unknown_tenant_names_the_setting(build: Callable[..., Provider], clock: HeldClock) -> None:
    provider = build(tenant="fabrikam.com")
    with pytest.raises(Failed, match="why='AADSTS90002' setting='tenant'"):
        provider.request_device_code(provider.scopes("smtp"), clock.now())
    assert provider.refresh(credential(SMTP_SEND), KeptReply(), clock.now()) == ClientFault(
        "AADSTS90002", "tenant", Reason.CONFIGURATION
    )


def test_a_discovery_document_msal_cant_use_is_trouble_of_the_moment(
    build: Callable[..., Provider], entra: Entra, clock: HeldClock
) -> None:
    entra.discovery = {"authorization_endpoint": None, "token_endpoint": f"https://{HOST}"}
    provider = build()
    outcome = provider.refresh(credential(SMTP_SEND), KeptReply(), clock.now())
    assert outcome == Transient("discovery_unusable")
    with pytest.raises(Unreachable, match=r"provider_unreachable .* why='discovery_unusable'"):
        provider.request_device_code(provider.scopes("smtp"), clock.now())
    assert not entra.forms


def test_entra_has_no_way_to_revoke(build: Callable[..., Provider]) -> None:
    assert build().revoke(credential(SMTP_SEND)) is False


def test_an_issuer_that_is_not_entras_is_not_believed(
    build: Callable[..., Provider], entra: Entra, clock: HeldClock
) -> None:
    entra.issuer = f"https://login.microsoftonline.com.example.net/{TENANT_ID}/v2.0"
    provider = build()
    with pytest.raises(Failed, match="why='another_issuer' setting='tenant'"):
        provider.request_device_code(provider.scopes("smtp"), clock.now())


def test_a_second_attempt_after_a_refusal_leaves_the_process(
    build: Callable[..., Provider], entra: Entra, clock: HeldClock
) -> None:
    provider = build()
    entra.refusal = {"error": "invalid_grant", "error_codes": [50173]}
    dead = GrantDead(Reason.INVALID_GRANT, "AADSTS50173")
    assert provider.refresh(credential(SMTP_SEND), KeptReply(), clock.now()) == dead
    entra.refusal = None
    assert isinstance(provider.refresh(credential(SMTP_SEND), KeptReply(), clock.now()), Granted)


def test_the_region_of_the_environment_sends_us_nowhere_else(
    build: Callable[..., Provider], clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSAL_FORCE_REGION", "westeurope")
    provider = build(client_secrets=(Secret("our client secret"),))
    assert isinstance(provider.refresh(credential(SMTP_SEND), KeptReply(), clock.now()), Granted)


def test_msal_logs_nothing_of_a_reply(
    build: Callable[..., Provider], clock: HeldClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider = build()
    code = provider.request_device_code(provider.scopes("smtp"), clock.now())
    provider.redeem_device_code(code, KeptReply(), clock.now())
    provider.refresh(credential(SMTP_SEND), KeptReply(), clock.now())
    assert any(record.name.startswith("msal") for record in caplog.records)
    for secret in ("the device code", "the access token", "the refresh token", "the old refresh token"):
        assert secret not in caplog.text


# Browser


def begin(provider: Provider, clock: HeldClock) -> tuple[Any, dict[str, str]]:
    scopes = provider.scopes("smtp", "browser")
    pending = provider.request_browser(scopes, "http://localhost:8025/", "scan@contoso.com", clock.now())
    asked = parse_qs(urlsplit(pending.authorization_uri).query)
    return pending, {name: values[0] for name, values in asked.items()}


def redirect(asked: dict[str, str], **more: str) -> str:
    return "http://localhost:8025/?" + urlencode({"code": "the code", "state": asked["state"], **more})


@pytest.mark.parametrize("secrets", [(), (Secret("our client secret"),)])
def test_a_tenants_token_is_obtained_in_the_browser(
    build: Callable[..., Provider], entra: Entra, clock: HeldClock, secrets: tuple[Secret, ...]
) -> None:
    provider = build(client_secrets=secrets)
    pending, asked = begin(provider, clock)
    assert pending.authorization_uri.startswith(f"https://{HOST}/contoso.com/oauth2/v2.0/authorize?")
    assert asked["login_hint"] == "scan@contoso.com"
    assert "prompt" not in asked
    assert set(asked["scope"].split()) == {SMTP_SEND, "openid", "profile", "offline_access"}
    entra.id_token = {"nonce": asked["nonce"]}
    back = redirect(asked, session_state="1", client_info="eyJ1aWQiOiIxIn0")
    granted = provider.redeem_code(pending, back, KeptReply(), clock.now())
    assert isinstance(granted, Granted)
    assert granted.identity == Identity("scan@contoso.com", "pairwise", TENANT_ID)
    [(_, form)] = entra.forms
    assert form["grant_type"] == "authorization_code"
    assert (form["code"], form["redirect_uri"]) == ("the code", "http://localhost:8025/")
    assert form["code_verifier"] == json.loads(pending.state.reveal())["code_verifier"]
    assert set(form["scope"].split()) == {SMTP_SEND, "openid", "profile", "offline_access"}
    assert form.get("client_secret") == (secrets[0].reveal() if secrets else None)


def test_an_id_token_of_another_sign_in_is_not_believed(
    build: Callable[..., Provider], entra: Entra, clock: HeldClock
) -> None:
    provider = build()
    entra.id_token = {"nonce": "of another sign-in"}
    pending, asked = begin(provider, clock)
    outcome = provider.redeem_code(pending, redirect(asked), KeptReply(), clock.now())
    assert outcome == AttemptOver(Reason.ID_TOKEN_INVALID, "nonce")


def test_the_issuer_in_a_redirect_of_many_tenants_is_that_of_any_tenant_of_entra(
    build: Callable[..., Provider], entra: Entra, clock: HeldClock
) -> None:
    entra.tenant, entra.issuer = "organizations", f"https://{HOST}/{{tenantid}}/v2.0"
    provider = build(tenant="organizations")
    pending, asked = begin(provider, clock)
    entra.id_token = {"nonce": asked["nonce"]}
    for wrong in (entra.issuer, f"https://login.example.com/{TENANT_ID}/v2.0", f"https://{HOST}/{TENANT_ID}/v2.0/x"):
        with pytest.raises(InvalidValue, match="redirect_of_another_provider"):
            provider.redeem_code(pending, redirect(asked, iss=wrong), KeptReply(), clock.now())
    back = redirect(asked, iss=f"https://{HOST}/{TENANT_ID}/v2.0")
    assert isinstance(provider.redeem_code(pending, back, KeptReply(), clock.now()), Granted)


# Applications and certificates


@pytest.fixture(scope="module")
def certificate(key: RSAKey) -> str:
    """Our registration's own, with its private key."""
    private = key.private_key
    assert private
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mailtoken")])
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1, NOON, NOON + timedelta(days=365))
    pem = builder.sign(private, hashes.SHA256()).public_bytes(Encoding.PEM)
    return key.as_pem(private=True).decode() + pem.decode()


class LongHeaders(jws.JWSRegistry):
    """msal sends the certificate along."""

    max_header_length = 4096


def thumbprint(pem: str) -> str:
    digest = x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256())
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_an_application_gets_a_token_with_its_secret(
    build: Callable[..., Provider], entra: Entra, clock: HeldClock
) -> None:
    provider = build(client_secrets=(Secret("our client secret"),))
    scopes = provider.scopes("pop", "app")
    granted = provider.request_app_token(scopes, "scan@contoso.com", KeptReply(), clock.now())
    assert isinstance(granted, Granted)
    assert granted.identity == Identity("scan@contoso.com", "our-client", None)
    [(_, form)] = entra.forms
    assert form["grant_type"] == "client_credentials"
    assert form["scope"] == "https://outlook.office365.com/.default"
    assert form["client_secret"] == "our client secret"


@pytest.mark.parametrize(("kind", "algorithm"), [("microsoft", "PS256"), ("oidc", "RS256")])
def test_a_certificate_authenticates_every_request_to_the_token_endpoint(
    build: Callable[..., Provider], entra: Entra, clock: HeldClock, certificate: str, kind: str, algorithm: str
) -> None:
    changes: dict[str, Any] = {}
    if kind == "oidc":
        entra.tenant = TENANT_ID
        changes = {"kind": "oidc", "tenant": None, "issuer": entra.issuer}
    provider = build(certificates=(Secret(certificate),), **changes)
    assert provider.flows == ("device", "browser", "app")
    code = provider.request_device_code(provider.scopes("smtp"), clock.now())
    assert isinstance(provider.redeem_device_code(code, KeptReply(), clock.now()), Granted)
    pending, asked = begin(provider, clock)
    entra.id_token = {"nonce": asked["nonce"]}
    assert isinstance(provider.redeem_code(pending, redirect(asked), KeptReply(), clock.now()), Granted)
    assert isinstance(provider.refresh(credential(SMTP_SEND), KeptReply(), clock.now()), Granted)
    scopes = provider.scopes("smtp", "app")
    app = provider.request_app_token(scopes, "scan@contoso.com", KeptReply(), clock.now())
    assert isinstance(app, Granted)
    forms = [form for path, form in entra.forms if path.endswith("/token")]
    assert len(forms) == 4
    for form in forms:
        assert "client_secret" not in form
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        signed = jws.deserialize_compact(
            form["client_assertion"], entra.key, registry=LongHeaders(algorithms=[algorithm])
        )
        header, claims = signed.headers(), json.loads(signed.payload)
        assert (header["alg"], header["x5t#S256"].rstrip("=")) == (algorithm, thumbprint(certificate))
        assert claims["iss"] == claims["sub"] == "our-client"
        assert claims["aud"] == f"https://{HOST}/{entra.tenant}/oauth2/v2.0/token"


def test_a_certificate_is_followed_by_the_secret_once_entra_refuses_it(
    build: Callable[..., Provider], entra: Entra, clock: HeldClock, certificate: str
) -> None:
    provider = build(certificates=(Secret(certificate),), client_secrets=(Secret("our client secret"),))
    entra.refusal = {"error": "invalid_client", "error_codes": [700027]}
    outcome = provider.refresh(credential(SMTP_SEND), KeptReply(), clock.now())
    assert outcome == ClientFault("AADSTS700027", "client_secret_file")
    assert ["client_assertion" in form for _, form in entra.forms] == [True, False]
    assert provider.client_faults == {}
