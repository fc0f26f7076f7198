"""What can be seen of a registration from outside, against the practice provider, one thing wrong at a time."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from provider_fakes import HeldClock, connect_proxy

from adapters.practice.ca import NOT_AFTER, PracticeCA
from adapters.practice.provider import PracticeProvider
from adapters.providers import ProviderSettings
from adapters.providers.check import CheckItem, ProviderReport, check_provider
from domain.errors import InvalidValue
from domain.secret import Secret
from infrastructure.clock import SystemClock

Check = Callable[..., ProviderReport]
# For what does not depend on the client library.
by_one_library = pytest.mark.parametrize("settings", ["oidc"], indirect=True)
ENDPOINTS = ["token endpoint", "device authorization endpoint", "authorization endpoint", "revocation endpoint"]


@pytest.fixture(autouse=True)
def no_proxy_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def nothing_left_under_way() -> Iterator[None]:
    """What a check did not wait for must not meet the next test's provider."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("provider "):
            thread.join(10)


@pytest.fixture
def check(settings: ProviderSettings) -> Check:
    """Check the practice provider, with some settings changed."""
    return lambda **changes: check_provider(replace(settings, **changes), SystemClock())


@pytest.fixture
def confidential(practice: PracticeProvider) -> dict[str, Any]:
    return {"client_id": practice.confidential_client_id, "client_secrets": (Secret(practice.client_secret),)}


def item(report: ProviderReport, name: str) -> CheckItem:
    [found] = [item for item in report.items if item.name == name]
    return found


def states(report: ProviderReport) -> dict[str, str]:
    return {item.name: item.state for item in report.items}


def test_a_registration_that_works_is_ok_as_far_as_can_be_seen(check: Check) -> None:
    report = check()
    seen = ["TLS certificate", "discovery", "clock", *ENDPOINTS, "PKCE", "signing keys", "device flow"]
    unseen = ["client secret", "sign-in policy", "redirect URI"]
    assert states(report) == dict.fromkeys(seen, "ok") | dict.fromkeys(unseen, "not checked")
    assert list(states(report)) == seen + unseen
    assert report.ok


def test_a_confidential_registration_that_works_is_accepted_with_its_secret(
    check: Check, confidential: dict[str, Any]
) -> None:
    report = check(**confidential)
    assert (item(report, "client secret 1").state, item(report, "device flow").state) == ("ok", "ok")


def test_nothing_that_was_given_or_sent_is_in_the_report(
    check: Check, practice: PracticeProvider, confidential: dict[str, Any]
) -> None:
    before = set(practice.issued_secrets)
    text = json.dumps(asdict(check(**confidential)))
    issued = set(practice.issued_secrets) - before
    assert len(issued) >= 2, "a device code and an access token"
    assert not [secret for secret in (*issued, practice.client_secret) if secret in text]


def test_the_device_code_is_asked_for_once_and_never_redeemed(check: Check, practice: PracticeProvider) -> None:
    before = len(practice.requests)
    check()
    asked = [(record.endpoint, record.outcome) for record in practice.requests[before:]]
    assert asked.count(("device_authorization", "200")) == 1
    assert asked.count(("token", "authorization_pending")) == 1
    assert not any(endpoint == "token" and outcome == "200" for endpoint, outcome in asked)


def test_everything_that_fails_says_what_to_do(check: Check) -> None:
    report = check(client_id="nobody", client_secrets=(Secret("wrong"),), issuer="https://localhost:9/contoso")
    assert not report.ok
    assert all(item.remedy for item in report.items if item.state in {"failed", "warning"})


# The client


def test_an_unknown_client_is_refused_and_client_id_is_what_to_compare(check: Check) -> None:
    found = item(check(client_id="nobody"), "device flow")
    assert (found.state, found.detail) == ("failed", "the provider refuses: invalid_client")
    assert found.remedy
    assert "client_id" in found.remedy


def test_a_wrong_secret_is_told_from_the_right_one_beside_it(
    check: Check, practice: PracticeProvider, confidential: dict[str, Any]
) -> None:
    report = check(
        client_id=practice.confidential_client_id,
        client_secrets=(Secret(practice.client_secret), Secret("an old one")),
    )
    assert item(report, "client secret 1").state == "ok"
    wrong = item(report, "client secret 2")
    assert (wrong.state, wrong.detail) == ("failed", "the provider refuses: invalid_client")
    assert wrong.remedy
    assert "client_secret_file" in wrong.remedy


def test_a_client_that_may_not_ask_for_itself_has_authenticated_all_the_same(
    check: Check, practice: PracticeProvider, confidential: dict[str, Any]
) -> None:
    practice.misbehave("unauthorized_client", grant_type="client_credentials")
    found = item(check(**confidential), "client secret 1")
    assert (found.state, found.detail) == (
        "ok",
        "the provider accepts it (and answers invalid_grant); nobody says when it expires",
    )


def test_a_provider_that_calls_a_wrong_secret_unauthorized_is_asked_twice(
    check: Check, practice: PracticeProvider, confidential: dict[str, Any]
) -> None:
    practice.misbehave("unauthorized_client", grant_type="client_credentials")
    practice.misbehave("unauthorized_client", grant_type="refresh_token", status=401)
    found = item(check(**confidential), "client secret 1")
    assert found.state == "failed"
    assert found.remedy
    assert "client_secret_file" in found.remedy


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ({"mode": "error", "error": "invalid_scope", "error_codes": (70011,)}, "ok"),
        ({"mode": "error", "error": "something_new"}, "not checked"),
        ({"mode": "temporarily_unavailable"}, "not checked"),
        ({"mode": "garbage"}, "failed"),
        ({"mode": "hang", "seconds": 0}, "failed"),
        ({"mode": "error", "error": "invalid_client", "error_codes": (7000222,)}, "failed"),
        ({"mode": "error", "error": "unauthorized_client", "error_codes": (700016,)}, "failed"),
    ],
)
def test_a_secret_is_judged_by_errors_that_are_about_the_client_alone(
    check: Check, practice: PracticeProvider, confidential: dict[str, Any], fault: dict[str, Any], state: str
) -> None:
    practice.misbehave(**fault, grant_type="client_credentials")
    assert item(check(**confidential), "client secret 1").state == state


REFUSALS = [
    ("unauthorized_client", (), "Allow public client flows", "Device Authorization Grant"),
    ("invalid_client", (7000218,), "Allow public client flows", "client_secret_file"),
    ("invalid_client", (7000215,), "not the Secret ID", "client_secret_file"),
    ("invalid_client", (7000222,), "make a new one", "client_secret_file"),
    ("unauthorized_client", (700016,), "Application (client) ID", "client_id"),
    ("invalid_scope", (), "API permissions", "scopes"),
    ("invalid_scope", (70011,), "scopes", "scopes"),
    ("invalid_grant", (65001,), "an administrator has to consent", "an administrator has to consent"),
    ("consent_required", (), "an administrator has to consent", "an administrator has to consent"),
    ("access_denied", (53003,), "use --flow browser", "use --flow browser"),
    ("invalid_request", (90002,), "tenant", "tenant"),
    ("something_new", (), "something_new", "something_new"),
]


@pytest.mark.parametrize(("error", "numbers", "microsoft", "others"), REFUSALS)
def test_a_refusal_of_the_device_flow_has_its_remedy(
    check: Check,
    settings: ProviderSettings,
    practice: PracticeProvider,
    error: str,
    numbers: tuple[int, ...],
    microsoft: str,
    others: str,
) -> None:
    practice.misbehave("error", error=error, error_codes=numbers, endpoint="device_authorization")
    found = item(check(), "device flow")
    code = f"AADSTS{numbers[0]}" if numbers else error
    assert (found.state, found.detail) == ("failed", f"the provider refuses: {code}")
    assert (microsoft if settings.kind == "microsoft" else others) in str(found.remedy)


@by_one_library
def test_a_name_service_that_never_answers_is_not_waited_for(
    settings: ProviderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(10) and [])
    report = check_provider(replace(settings, timeout_seconds=0.3), SystemClock())
    over.set()
    assert item(report, "TLS certificate").detail == "no answer in time"
    assert item(report, "discovery").state == "failed"


@by_one_library
def test_a_slow_check_ends_with_what_it_has(
    check: Check, practice: PracticeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.providers.check.TOTAL_SECONDS", 0.5)
    with practice.hold(endpoint="device_authorization"):
        report = check()
    assert item(report, "device flow").state == "not checked"
    assert item(report, "signing keys").state == "ok"


def test_an_operators_word_about_a_code_counts_here_too(check: Check, practice: PracticeProvider) -> None:
    practice.misbehave("error", error="something_new", endpoint="device_authorization")
    assert item(check(error_overrides={"something_new": "transient"}), "device flow").state == "not checked"


@pytest.mark.parametrize("endpoint", ["device_authorization", "token"])
def test_trouble_of_the_moment_says_nothing_of_the_registration(
    check: Check, practice: PracticeProvider, endpoint: Any
) -> None:
    practice.misbehave("rate_limited", endpoint=endpoint, retry_after=40)
    found = item(check(), "device flow")
    assert (found.state, found.remedy) == ("not checked", "try again in 40 seconds")
    assert found.detail == "the provider is in trouble: HTTP 429 (temporarily_unavailable)"


@pytest.mark.parametrize(
    "fault", [{"mode": "garbage"}, {"mode": "truncated"}, {"mode": "edit", "without": ["user_code"]}]
)
def test_a_reply_that_is_no_device_code_comes_from_something_between(
    check: Check, practice: PracticeProvider, fault: dict[str, Any]
) -> None:
    practice.misbehave(**fault, endpoint="device_authorization")
    found = item(check(), "device flow")
    assert (found.state, found.remedy) == ("failed", "look for a proxy or portal between")


# The discovery document


def edited(practice: PracticeProvider, *without: str, **fields: object) -> None:
    practice.misbehave("edit", endpoint="discovery", times=None, fields=fields, without=without)


def test_a_provider_without_a_device_flow_is_used_by_browser(check: Check, practice: PracticeProvider) -> None:
    edited(practice, "device_authorization_endpoint")
    report = check()
    endpoint, flow = item(report, "device authorization endpoint"), item(report, "device flow")
    assert (endpoint.state, flow.state) == ("warning", "not checked")
    assert "--flow browser" in str(endpoint.remedy)
    assert report.ok


@by_one_library
@pytest.mark.parametrize(
    ("field", "name", "state"),
    [
        ("authorization_endpoint", "authorization endpoint", "warning"),
        ("revocation_endpoint", "revocation endpoint", "warning"),
        ("token_endpoint", "token endpoint", "failed"),
    ],
)
def test_a_missing_endpoint_is_named(
    check: Check, practice: PracticeProvider, field: str, name: str, state: str
) -> None:
    edited(practice, field)
    found = item(check(), name)
    assert (found.state, found.detail) == (state, "none is announced")
    assert found.remedy


@by_one_library
def test_an_endpoint_without_tls_is_not_used(check: Check, practice: PracticeProvider) -> None:
    edited(practice, token_endpoint="http://localhost/token")
    before = practice.grant_counts.total()
    report = check()
    assert item(report, "token endpoint").detail == "http://localhost/token is not an https:// address"
    assert {item(report, name).state for name in ("signing keys", "device flow")} == {"not checked"}
    assert practice.grant_counts.total() == before


@by_one_library
@pytest.mark.parametrize(("methods", "state"), [(["plain"], "failed"), ([], "failed"), ("S256", "failed")])
def test_pkce_without_s256_fails_the_browser_flow(
    check: Check, practice: PracticeProvider, methods: object, state: str
) -> None:
    edited(practice, code_challenge_methods_supported=methods)
    assert item(check(), "PKCE").state == state


@by_one_library
def test_pkce_that_nobody_announces_is_doubtful(check: Check, practice: PracticeProvider) -> None:
    edited(practice, "code_challenge_methods_supported")
    assert item(check(), "PKCE").state == "warning"


@by_one_library
def test_another_issuer_is_shown_beside_the_configured_one(check: Check, practice: PracticeProvider) -> None:
    edited(practice, issuer=practice.issuer + "/")
    report = check()
    found = item(report, "discovery")
    assert (found.state, found.detail) == ("failed", f"its issuer is {practice.issuer}/, not {practice.issuer}")
    assert found.remedy == "correct issuer of [providers.contoso]"
    assert {item(report, name).state for name in (*ENDPOINTS, "PKCE", "device flow")} == {"not checked"}


@by_one_library
def test_what_a_provider_says_of_itself_cant_steer_a_terminal(check: Check, practice: PracticeProvider) -> None:
    edited(practice, issuer="https://\x1b[2J\r\n" + "x" * 1000)
    detail = item(check(), "discovery").detail
    assert detail.isprintable()
    assert len(detail) < 300


@by_one_library
@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ({"mode": "garbage"}, "what answers is no JSON document"),
        ({"mode": "garbage", "status": 404}, "no such authority: HTTP 404"),
        (
            {"mode": "error", "error": "invalid_tenant", "error_codes": (90002,)},
            "no such authority: HTTP 400 (AADSTS90002)",
        ),
        ({"mode": "server_error"}, "HTTP 500"),
        ({"mode": "rate_limited"}, "HTTP 429"),
        ({"mode": "redirect", "location": "https://localhost/elsewhere"}, "no such authority: HTTP 302"),
        ({"mode": "hang", "seconds": 0}, "the connection failed"),
    ],
)
def test_a_discovery_that_fails_is_explained_and_the_rest_is_not_asked(
    check: Check, practice: PracticeProvider, fault: dict[str, Any], detail: str
) -> None:
    practice.misbehave(**fault, endpoint="discovery", times=None)
    before = len(practice.requests)
    report = check()
    assert (item(report, "discovery").state, item(report, "discovery").detail) == ("failed", detail)
    assert [record.endpoint for record in practice.requests[before:]] == ["discovery"]


STRANGE = [
    5,
    "https://[",
    "https://a b/",
    "https://x:99999999/",
    "https://a..b/",
    "https://*.x/",
    "https://localhost/\udcff",
]
FIELDS = ["token_endpoint", "jwks_uri", "device_authorization_endpoint", "revocation_endpoint"]


@pytest.mark.parametrize("field", FIELDS)
def test_no_endpoint_is_so_strange_that_the_check_breaks(
    settings: ProviderSettings, practice: PracticeProvider, field: str
) -> None:
    for value in STRANGE:
        with practice.misbehave("edit", endpoint="discovery", times=None, fields={field: value}):
            report = check_provider(settings, SystemClock())
        assert item(report, "discovery").state == "ok"
        assert json.dumps(asdict(report))


@by_one_library
@pytest.mark.parametrize(
    ("keys", "detail"),
    [
        ([], "no keys that can be read"),
        (
            [{"kty": "oct", "k": "c2VjcmV0IGFuZCBsb25nIGVub3VnaA"}],
            "none of 1 keys can sign an ID token that we believe",
        ),
        ([{"kty": "RSA"}], "no keys that can be read"),
        ("none", "no keys that can be read"),
    ],
)
def test_keys_that_cant_sign_are_useless(check: Check, practice: PracticeProvider, keys: object, detail: str) -> None:
    practice.misbehave("edit", endpoint="jwks", fields={"keys": keys})
    found = item(check(), "signing keys")
    assert (found.state, found.detail) == ("failed", detail)


@by_one_library
def test_a_key_for_encryption_does_not_sign(check: Check, practice: PracticeProvider) -> None:
    key = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    with practice.misbehave("edit", endpoint="jwks", fields={"keys": [_jwk(key) | {"use": "enc"}, _jwk(key)]}):
        assert item(check(), "signing keys").detail == "1 of 2 can sign ID tokens"


def _jwk(key: rsa.RSAPublicNumbers) -> dict[str, str]:
    from joserfc.util import int_to_base64

    return {"kty": "RSA", "n": int_to_base64(key.n), "e": int_to_base64(key.e)}


# The connection


@by_one_library
def test_a_certificate_near_its_end_is_a_warning(settings: ProviderSettings) -> None:
    report = check_provider(settings, HeldClock(NOT_AFTER - timedelta(days=13, hours=1)))
    found = item(report, "TLS certificate")
    assert found.state == "warning"
    assert found.detail.endswith("until 2099-12-31 (13 days left)")
    assert found.remedy == "have the server's administrator renew its certificate"


@by_one_library
@pytest.mark.parametrize(
    ("bound", "instant", "detail", "remedy"),
    [
        ("NOT_AFTER", datetime(2020, 1, 1, tzinfo=UTC), "its certificate has expired", "renew its certificate"),
        ("NOT_BEFORE", datetime(2098, 1, 1, tzinfo=UTC), "its certificate is not valid yet", "clock"),
    ],
)
def test_a_certificate_out_of_its_time_is_said_to_be(
    settings: ProviderSettings,
    ca: PracticeCA,
    monkeypatch: pytest.MonkeyPatch,
    bound: str,
    instant: datetime,
    detail: str,
    remedy: str,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"adapters.practice.ca.{bound}", instant)
        provider = PracticeProvider(ca)
    with provider:
        report = check_provider(replace(settings, issuer=provider.issuer), SystemClock())
    found = item(report, "TLS certificate")
    assert (found.state, found.detail) == ("failed", f"localhost:{provider.port}: {detail}")
    assert remedy in str(found.remedy)
    assert item(report, "discovery").state == "failed"


@by_one_library
def test_a_certificate_of_an_unknown_authority_needs_ca_file(check: Check, tmp_path: Path) -> None:
    found = item(check(ca_file=PracticeCA.create(tmp_path / "stranger").ca_file), "TLS certificate")
    assert found.state == "failed"
    assert "set ca_file" in str(found.remedy)


@by_one_library
def test_a_certificate_for_another_name_is_told_from_an_unknown_one(
    settings: ProviderSettings, practice: PracticeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = f"https://login.example.com:{practice.port}/contoso"
    monkeypatch.setattr(socket, "getaddrinfo", _loopback(socket.getaddrinfo))
    found = item(check_provider(replace(settings, issuer=elsewhere), SystemClock()), "TLS certificate")
    assert (found.state, found.detail) == (
        "failed",
        f"login.example.com:{practice.port}: its certificate is for another name",
    )


def _loopback(resolve: Callable[..., Any]) -> Callable[..., Any]:
    return lambda host, *args, **kwargs: resolve("127.0.0.1", *args, **kwargs)


@by_one_library
def test_a_port_that_nobody_listens_on_is_a_matter_of_the_firewall(check: Check) -> None:
    report = check(issuer="https://localhost:9/contoso")
    for name in ("TLS certificate", "discovery"):
        assert item(report, name).state == "failed"
        assert "let localhost:9 through the firewall" in str(item(report, name).remedy)


@by_one_library
def test_a_name_that_does_not_exist_is_said_to_be_unknown(check: Check) -> None:
    found = item(check(issuer="https://nowhere.invalid/contoso"), "TLS certificate")
    assert (found.state, found.detail) == ("failed", "nowhere.invalid:443: no connection (its name is not known here)")


def test_everything_goes_through_the_proxy(check: Check, practice: PracticeProvider) -> None:
    with connect_proxy() as proxy:
        report = check(proxy=proxy.url.replace("://", "://user:hunter2@"))
        assert set(proxy.asked_for) == {f"localhost:{practice.port}"}
    assert (item(report, "TLS certificate").state, item(report, "device flow").state) == ("ok", "ok")
    assert "hunter2" not in json.dumps(asdict(report))


@by_one_library
def test_a_proxy_that_is_not_there_fails_and_keeps_its_password(check: Check) -> None:
    report = check(proxy="http://user:hunter2@localhost:9")
    assert item(report, "discovery").detail == "the proxy does not let us through"
    assert "hunter2" not in json.dumps(asdict(report))


@by_one_library
@pytest.mark.parametrize(("hours", "direction"), [(1, "ahead of the provider's"), (-1, "behind the provider's")])
def test_a_clock_that_is_wrong_is_a_warning(settings: ProviderSettings, hours: int, direction: str) -> None:
    class Off:
        def now(self) -> datetime:
            return datetime.now(UTC) + timedelta(hours=hours)

    found = item(check_provider(settings, Off()), "clock")
    assert found.state == "warning"
    assert found.detail.endswith(direction)
    assert found.remedy == "have this machine's clock set by NTP"


@by_one_library
def test_a_provider_that_never_answers_costs_seconds_and_not_minutes(
    check: Check, practice: PracticeProvider, confidential: dict[str, Any]
) -> None:
    for endpoint in ("jwks", "device_authorization", "token"):
        practice.misbehave("hang", endpoint=endpoint, times=None)
    before = time.monotonic()
    report = check(timeout_seconds=0.5, **confidential)
    assert time.monotonic() - before < 3
    found = [item(report, name) for name in ("signing keys", "device flow", "client secret 1")]
    assert {item.state for item in found} == {"failed"}
    assert all("no answer in time" in item.detail or "0.5 seconds" in item.detail for item in found)


# What else is in the report


@by_one_library
def test_an_issuer_whose_host_cant_be_read_is_a_wrong_setting(check: Check) -> None:
    with pytest.raises(InvalidValue) as refusal:
        check(issuer="https://localhost:port/contoso")
    assert refusal.value.field == "providers.contoso.issuer"


@pytest.mark.parametrize(("days", "state"), [(400, "ok"), (29, "warning"), (-1, "failed")])
def test_the_clients_own_certificate_is_followed_to_its_end(
    settings: ProviderSettings, days: int, state: str, own_certificate: Callable[[datetime], Secret]
) -> None:
    pem = own_certificate(datetime.now(UTC) + timedelta(days=days, hours=1))
    report = check_provider(replace(settings, certificates=(pem,)), SystemClock())
    assert item(report, "certificate 1").state == "failed", "nobody registered it"
    found = item(report, "certificate 1 expiry")
    assert found.state == state
    assert (found.remedy is None) == (state == "ok")


@pytest.fixture(scope="module")
def own_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def own_certificate(own_key: rsa.RSAPrivateKey) -> Callable[[datetime], Secret]:
    """A certificate and its private key in PEM, valid until then."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mailtoken")])
    encoding = serialization.Encoding.PEM

    def issue(ends_at: datetime) -> Secret:
        certificate = (
            x509.CertificateBuilder(name, name, own_key.public_key(), x509.random_serial_number())
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(ends_at)
            .sign(own_key, hashes.SHA256())
        )
        key = own_key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Secret((certificate.public_bytes(encoding) + key).decode())

    return issue


@pytest.mark.parametrize("settings", ["google"], indirect=True)
def test_googles_device_flow_is_not_asked_and_its_clients_secret_is(
    check: Check, practice: PracticeProvider, confidential: dict[str, Any]
) -> None:
    assert item(check(), "device flow").state == "not checked"
    assert item(check(), "client secret").state == "warning"
    assert item(check(**confidential), "client secret 1").state == "ok"
    assert item(check(**confidential | {"client_secrets": (Secret("wrong"),)}), "client secret 1").state == "failed"


def test_the_firewall_lets_the_provider_and_the_mail_servers_through(
    check: Check, settings: ProviderSettings, practice: PracticeProvider
) -> None:
    edited(practice, revocation_endpoint="https://revoke.example.com/", authorization_endpoint="https://[::1]:8443/")
    mail = ("smtp.office365.com:587", "outlook.office365.com:995", "outlook.office365.com:993")
    expected = (f"localhost:{practice.port}", "[::1]:8443", "revoke.example.com:443")
    assert check().hosts == expected + (mail if settings.kind == "microsoft" else ())
