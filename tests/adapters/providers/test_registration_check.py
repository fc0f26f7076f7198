"""What can be seen of a registration from outside, against the practice provider, one thing wrong at a time."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from practice_faults.provider import FaultyProvider
from provider_fakes import HeldClock, connect_proxy

from adapters.practice.ca import NOT_AFTER, PracticeCA
from adapters.providers import ProviderSettings, registration_check
from adapters.providers.certificate_check import check_client_certificate
from adapters.providers.check_report import CheckItem, ProviderReport
from adapters.providers.client_authentication import Certificate
from adapters.providers.registration_check import TOTAL_SECONDS, check_provider
from domain.errors import InvalidValue
from domain.secret import Secret
from infrastructure.clock import SystemClock

Check = Callable[..., ProviderReport]
# For what does not depend on the client library.
by_one_library = pytest.mark.parametrize("settings", ["oidc"], indirect=True)
ENDPOINTS = ["token_endpoint", "device_authorization_endpoint", "authorization_endpoint", "revocation_endpoint"]


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
def confidential(practice: FaultyProvider) -> dict[str, Any]:
    return {"client_id": practice.confidential_client_id, "client_secrets": (Secret(practice.client_secret),)}


def item(report: ProviderReport, subject: str, credential: str | None = None) -> CheckItem:
    found = [item for item in report.items if item.subject == subject]
    [only] = [item for item in found if credential in {None, item.fields.get("credential")}]
    return only


def states(report: ProviderReport) -> dict[str, str]:
    return {item.subject: item.state for item in report.items}


def test_a_registration_that_works_is_ok_as_far_as_can_be_seen(check: Check) -> None:
    report = check()
    seen = ["tls_certificate", "discovery", "clock", *ENDPOINTS, "pkce", "signing_keys", "device_flow"]
    unseen = ["client_credential", "sign_in_policy", "redirect_uri"]
    assert states(report) == dict.fromkeys(seen, "ok") | dict.fromkeys(unseen, "not checked")
    assert list(states(report)) == seen + unseen
    assert report.ok


def test_a_confidential_registration_that_works_is_accepted_with_its_secret(
    check: Check, confidential: dict[str, Any]
) -> None:
    report = check(**confidential)
    assert (item(report, "client_credential", "client secret 1").state, item(report, "device_flow").state) == (
        "ok",
        "ok",
    )


def test_nothing_that_was_given_or_sent_is_in_the_report(
    check: Check, practice: FaultyProvider, confidential: dict[str, Any]
) -> None:
    before = set(practice.issued_secrets)
    text = json.dumps(asdict(check(**confidential)))
    issued = set(practice.issued_secrets) - before
    assert len(issued) >= 2, "a device code and an access token"
    assert not [secret for secret in (*issued, practice.client_secret) if secret in text]


def test_the_device_code_is_asked_for_once_and_never_redeemed(check: Check, practice: FaultyProvider) -> None:
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


def test_an_unknown_client_is_refused_and_client_id_is_what_to_compare(
    check: Check, settings: ProviderSettings
) -> None:
    found = item(check(client_id="nobody"), "device_flow")
    assert (found.state, found.code, found.fields["error"]) == ("failed", "refused", "invalid_client")
    assert found.remedy == ("entra_compare_client" if settings.kind == "microsoft" else "compare_client")


def test_a_wrong_secret_is_told_from_the_right_one_beside_it(
    check: Check, settings: ProviderSettings, practice: FaultyProvider
) -> None:
    report = check(
        client_id=practice.confidential_client_id,
        client_secrets=(Secret(practice.client_secret), Secret("an old one")),
    )
    assert item(report, "client_credential", "client secret 1").state == "ok"
    wrong = item(report, "client_credential", "client secret 2")
    assert (wrong.state, wrong.code, wrong.fields["error"]) == ("failed", "refused", "invalid_client")
    assert wrong.remedy == ("entra_compare_client" if settings.kind == "microsoft" else "compare_client")


def test_a_client_that_may_not_ask_for_itself_has_authenticated_all_the_same(
    check: Check, practice: FaultyProvider, confidential: dict[str, Any]
) -> None:
    practice.inject_fault("unauthorized_client", grant_type="client_credentials")
    found = item(check(**confidential), "client_credential", "client secret 1")
    assert (found.state, found.code) == ("ok", "credential_accepted_with_error")
    assert found.fields["error"] == "invalid_grant"


def test_a_provider_that_calls_a_wrong_secret_unauthorized_is_asked_twice(
    check: Check, settings: ProviderSettings, practice: FaultyProvider, confidential: dict[str, Any]
) -> None:
    practice.inject_fault("unauthorized_client", grant_type="client_credentials")
    practice.inject_fault("unauthorized_client", grant_type="refresh_token", status=401)
    found = item(check(**confidential), "client_credential", "client secret 1")
    assert (found.state, found.fields["error"]) == ("failed", "unauthorized_client")
    assert found.remedy == ("entra_compare_client" if settings.kind == "microsoft" else "compare_client")


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
    check: Check, practice: FaultyProvider, confidential: dict[str, Any], fault: dict[str, Any], state: str
) -> None:
    practice.inject_fault(**fault, grant_type="client_credentials")
    assert item(check(**confidential), "client_credential", "client secret 1").state == state


REFUSALS = [
    ("unauthorized_client", (), "entra_allow_public_flows", "register_client_or_enable_flow"),
    ("invalid_client", (7000218,), "entra_allow_public_flows_or_secret", "correct_setting"),
    ("invalid_client", (7000215,), "entra_secret_wrong", "correct_setting"),
    ("invalid_client", (7000222,), "entra_secret_expired", "correct_setting"),
    ("unauthorized_client", (700016,), "entra_application_unknown", "correct_setting"),
    ("invalid_scope", (), "entra_add_permission", "correct_scopes"),
    ("invalid_scope", (70011,), "correct_setting", "correct_setting"),
    ("invalid_grant", (65001,), "consent_at_provider", "consent_at_provider"),
    ("consent_required", (), "consent_at_provider", "consent_at_provider"),
    ("access_denied", (53003,), "policy", "policy"),
    ("invalid_request", (90002,), "correct_setting", "correct_setting"),
    ("something_new", (), "look_up_error", "look_up_error"),
]


@pytest.mark.parametrize(("error", "numbers", "microsoft", "others"), REFUSALS)
def test_a_refusal_of_the_device_flow_has_its_remedy(
    check: Check,
    settings: ProviderSettings,
    practice: FaultyProvider,
    error: str,
    numbers: tuple[int, ...],
    microsoft: str,
    others: str,
) -> None:
    practice.inject_fault("error", error=error, error_codes=numbers, endpoint="device_authorization")
    found = item(check(), "device_flow")
    code = f"AADSTS{numbers[0]}" if numbers else error
    assert (found.state, found.code, found.fields["error"]) == ("failed", "refused", code)
    assert found.remedy == (microsoft if settings.kind == "microsoft" else others)


@by_one_library
def test_a_name_service_that_never_answers_is_not_waited_for(
    settings: ProviderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(10) and [])
    report = check_provider(replace(settings, timeout_seconds=0.3), SystemClock())
    over.set()
    assert item(report, "tls_certificate").fields["why"] == "no_answer_in_time"
    assert item(report, "discovery").state == "failed"


@by_one_library
def test_a_slow_check_ends_with_what_it_has(
    check: Check, practice: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The check looks at its clock when it begins, before it waits for the keys, and again before each later wait.
    instants = chain([0, 0], repeat(TOTAL_SECONDS))
    monkeypatch.setattr(registration_check, "time", SimpleNamespace(monotonic=instants.__next__))
    with practice.hold(endpoint="device_authorization"):
        report = check()
    assert item(report, "device_flow").state == "not checked"
    assert item(report, "signing_keys").state == "ok"


def test_an_operators_word_about_a_code_counts_here_too(check: Check, practice: FaultyProvider) -> None:
    practice.inject_fault("error", error="something_new", endpoint="device_authorization")
    assert item(check(error_overrides={"something_new": "transient"}), "device_flow").state == "not checked"


@pytest.mark.parametrize("endpoint", ["device_authorization", "token"])
def test_trouble_of_the_moment_says_nothing_of_the_registration(
    check: Check, practice: FaultyProvider, endpoint: Any
) -> None:
    practice.inject_fault("rate_limited", endpoint=endpoint, retry_after=40)
    found = item(check(), "device_flow")
    assert (found.state, found.code, found.remedy) == (
        "not checked",
        "provider_in_trouble_with_error",
        "try_again_in",
    )
    assert found.fields == {"status": 429, "seconds": 40, "error": "temporarily_unavailable"}


@pytest.mark.parametrize(
    "fault", [{"mode": "garbage"}, {"mode": "truncated"}, {"mode": "edit", "without": ["user_code"]}]
)
def test_a_reply_that_is_no_device_code_comes_from_something_between(
    check: Check, practice: FaultyProvider, fault: dict[str, Any]
) -> None:
    practice.inject_fault(**fault, endpoint="device_authorization")
    found = item(check(), "device_flow")
    assert (found.state, found.remedy) == ("failed", "look_for_proxy_or_portal")


# The discovery document


def edited(practice: FaultyProvider, *without: str, **fields: object) -> None:
    practice.inject_fault("edit", endpoint="discovery", times=None, fields=fields, without=without)


def test_a_provider_without_a_device_flow_is_used_by_browser(check: Check, practice: FaultyProvider) -> None:
    edited(practice, "device_authorization_endpoint")
    report = check()
    endpoint, flow = item(report, "device_authorization_endpoint"), item(report, "device_flow")
    assert (endpoint.state, flow.state) == ("warning", "not checked")
    assert endpoint.remedy == "use_browser_or_enable"
    assert report.ok


@by_one_library
@pytest.mark.parametrize(
    ("field", "name", "state"),
    [
        ("authorization_endpoint", "authorization_endpoint", "warning"),
        ("revocation_endpoint", "revocation_endpoint", "warning"),
        ("token_endpoint", "token_endpoint", "failed"),
    ],
)
def test_a_missing_endpoint_is_named(check: Check, practice: FaultyProvider, field: str, name: str, state: str) -> None:
    edited(practice, field)
    found = item(check(), name)
    assert (found.state, found.code) == (state, "not_announced")
    assert found.remedy


@by_one_library
def test_an_endpoint_without_tls_is_not_used(check: Check, practice: FaultyProvider) -> None:
    edited(practice, token_endpoint="http://localhost/token")
    before = practice.grant_counts.total()
    report = check()
    assert item(report, "token_endpoint").code == "not_https"
    assert item(report, "token_endpoint").fields == {"url": "http://localhost/token"}
    assert {item(report, name).state for name in ("signing_keys", "device_flow")} == {"not checked"}
    assert practice.grant_counts.total() == before


@by_one_library
@pytest.mark.parametrize(("methods", "state"), [(["plain"], "failed"), ([], "failed"), ("S256", "failed")])
def test_pkce_without_s256_fails_the_browser_flow(
    check: Check, practice: FaultyProvider, methods: object, state: str
) -> None:
    edited(practice, code_challenge_methods_supported=methods)
    assert item(check(), "pkce").state == state


@by_one_library
def test_pkce_that_nobody_announces_is_doubtful(check: Check, practice: FaultyProvider) -> None:
    edited(practice, "code_challenge_methods_supported")
    assert item(check(), "pkce").state == "warning"


@by_one_library
def test_another_issuer_is_shown_beside_the_configured_one(check: Check, practice: FaultyProvider) -> None:
    edited(practice, issuer=practice.issuer + "/")
    report = check()
    found = item(report, "discovery")
    assert (found.state, found.code, found.remedy) == ("failed", "another_issuer", "correct_setting")
    assert (found.fields["issuer"], found.fields["authority"]) == (practice.issuer + "/", practice.issuer)
    assert (found.fields["setting"], found.fields["provider"]) == ("issuer", "contoso")
    assert {item(report, name).state for name in (*ENDPOINTS, "pkce", "device_flow")} == {"not checked"}


@by_one_library
def test_what_a_provider_says_of_itself_cant_steer_a_terminal(check: Check, practice: FaultyProvider) -> None:
    edited(practice, issuer="https://\x1b[2J\r\n" + "x" * 1000)
    issuer = str(item(check(), "discovery").fields["issuer"])
    assert issuer.isprintable()
    assert len(issuer) < 300


@by_one_library
@pytest.mark.parametrize(
    ("fault", "code", "fields"),
    [
        ({"mode": "garbage"}, "no_reply", {"why": "not_json"}),
        ({"mode": "garbage", "status": 404}, "no_authority", {"status": 404}),
        (
            {"mode": "error", "error": "invalid_tenant", "error_codes": (90002,)},
            "no_authority_with_error",
            {"status": 400, "error": "AADSTS90002"},
        ),
        ({"mode": "server_error"}, "discovery_in_trouble", {"status": 500}),
        ({"mode": "rate_limited"}, "discovery_in_trouble", {"status": 429}),
        ({"mode": "redirect", "location": "https://localhost/elsewhere"}, "no_authority", {"status": 302}),
        ({"mode": "hang", "seconds": 0}, "no_reply", {"why": "connection_failed"}),
    ],
)
def test_a_discovery_that_fails_is_explained_and_the_rest_is_not_asked(
    check: Check, practice: FaultyProvider, fault: dict[str, Any], code: str, fields: dict[str, Any]
) -> None:
    practice.inject_fault(**fault, endpoint="discovery", times=None)
    before = len(practice.requests)
    report = check()
    found = item(report, "discovery")
    assert (found.state, found.code) == ("failed", code)
    assert fields.items() <= found.fields.items()
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
    settings: ProviderSettings, practice: FaultyProvider, field: str
) -> None:
    for value in STRANGE:
        with practice.inject_fault("edit", endpoint="discovery", times=None, fields={field: value}):
            report = check_provider(settings, SystemClock())
        assert item(report, "discovery").state == "ok"
        assert json.dumps(asdict(report))


@by_one_library
@pytest.mark.parametrize(
    ("keys", "code", "fields"),
    [
        ([], "no_signing_key", {"usable": 0, "count": 0}),
        ([{"kty": "oct", "k": "c2VjcmV0IGFuZCBsb25nIGVub3VnaA"}], "no_signing_key", {"usable": 0, "count": 1}),
        ([{"kty": "RSA"}], "no_reply", {"why": "keys_unreadable"}),
        ("none", "no_reply", {"why": "keys_unreadable"}),
    ],
)
def test_keys_that_cant_sign_are_useless(
    check: Check, practice: FaultyProvider, keys: object, code: str, fields: dict[str, Any]
) -> None:
    practice.inject_fault("edit", endpoint="jwks", fields={"keys": keys})
    found = item(check(), "signing_keys")
    assert (found.state, found.code, found.fields) == ("failed", code, fields)


@by_one_library
def test_a_key_for_encryption_does_not_sign(check: Check, practice: FaultyProvider) -> None:
    key = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    with practice.inject_fault("edit", endpoint="jwks", fields={"keys": [_jwk(key) | {"use": "enc"}, _jwk(key)]}):
        assert item(check(), "signing_keys").fields == {"usable": 1, "count": 2}


def _jwk(key: rsa.RSAPublicNumbers) -> dict[str, str]:
    from joserfc.util import int_to_base64

    return {"kty": "RSA", "n": int_to_base64(key.n), "e": int_to_base64(key.e)}


# The connection


@by_one_library
def test_a_certificate_near_its_end_is_a_warning(settings: ProviderSettings) -> None:
    report = check_provider(settings, HeldClock(NOT_AFTER - timedelta(days=13, hours=1)))
    found = item(report, "tls_certificate")
    assert (found.state, found.code, found.remedy) == (
        "warning",
        "server_certificate_lasts",
        "renew_server_certificate",
    )
    assert (found.fields["until"], found.fields["days"]) == ("2099-12-31", 13)


@by_one_library
@pytest.mark.parametrize(
    ("bound", "instant", "code", "remedy"),
    [
        ("NOT_AFTER", datetime(2020, 1, 1, tzinfo=UTC), "server_certificate_expired", "renew_server_certificate"),
        (
            "NOT_BEFORE",
            datetime(2098, 1, 1, tzinfo=UTC),
            "server_certificate_not_valid_yet",
            "set_clock_or_ask_owner",
        ),
    ],
)
def test_a_certificate_out_of_its_time_is_said_to_be(
    settings: ProviderSettings,
    ca: PracticeCA,
    monkeypatch: pytest.MonkeyPatch,
    bound: str,
    instant: datetime,
    code: str,
    remedy: str,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"adapters.practice.ca.{bound}", instant)
        provider = FaultyProvider(ca)
    with provider:
        report = check_provider(replace(settings, issuer=provider.issuer), SystemClock())
    found = item(report, "tls_certificate")
    assert (found.state, found.code, found.remedy) == ("failed", code, remedy)
    assert found.fields["place"] == f"localhost:{provider.port}"
    assert item(report, "discovery").state == "failed"


@by_one_library
def test_a_certificate_of_an_unknown_authority_needs_ca_file(check: Check, tmp_path: Path) -> None:
    found = item(check(ca_file=PracticeCA.create(tmp_path / "stranger").ca_file), "tls_certificate")
    assert found.state == "failed"
    assert found.remedy == "set_ca_file_for_own_authority"


@by_one_library
def test_a_certificate_for_another_name_is_told_from_an_unknown_one(
    settings: ProviderSettings, practice: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = f"https://login.example.com:{practice.port}/contoso"
    monkeypatch.setattr(socket, "getaddrinfo", _loopback(socket.getaddrinfo))
    found = item(check_provider(replace(settings, issuer=elsewhere), SystemClock()), "tls_certificate")
    assert (found.state, found.code) == ("failed", "server_certificate_for_another_name")
    assert found.fields["place"] == f"login.example.com:{practice.port}"


def _loopback(resolve: Callable[..., Any]) -> Callable[..., Any]:
    return lambda host, *args, **kwargs: resolve("127.0.0.1", *args, **kwargs)


@by_one_library
def test_a_port_that_nobody_listens_on_is_a_matter_of_the_firewall(check: Check) -> None:
    report = check(issuer="https://localhost:9/contoso")
    for name in ("tls_certificate", "discovery"):
        assert (item(report, name).state, item(report, name).remedy) == ("failed", "let_through")
        assert item(report, name).fields["place"] == "localhost:9"


@pytest.mark.needs("a resolver")
@by_one_library
def test_a_name_that_does_not_exist_is_said_to_be_unknown(check: Check) -> None:
    found = item(check(issuer="https://nowhere.invalid/contoso"), "tls_certificate")
    assert (found.state, found.code) == ("failed", "no_connection")
    assert (found.fields["place"], found.fields["why"]) == ("nowhere.invalid:443", "name_unknown")


def test_everything_goes_through_the_proxy(check: Check, practice: FaultyProvider) -> None:
    with connect_proxy() as proxy:
        report = check(proxy=proxy.url.replace("://", "://user:hunter2@"))
        assert set(proxy.asked_for) == {f"localhost:{practice.port}"}
    assert (item(report, "tls_certificate").state, item(report, "device_flow").state) == ("ok", "ok")
    assert "hunter2" not in json.dumps(asdict(report))


@by_one_library
def test_a_proxy_that_is_not_there_fails_and_keeps_its_password(check: Check) -> None:
    report = check(proxy="http://user:hunter2@localhost:9")
    assert item(report, "discovery").fields["why"] == "proxy_refused"
    assert "hunter2" not in json.dumps(asdict(report))


@by_one_library
@pytest.mark.parametrize(("hours", "code"), [(1, "clock_ahead"), (-1, "clock_behind")])
def test_a_clock_that_is_wrong_is_a_warning(settings: ProviderSettings, hours: int, code: str) -> None:
    class Off(SystemClock):
        def now(self) -> datetime:
            return datetime.now(UTC) + timedelta(hours=hours)

    found = item(check_provider(settings, Off()), "clock")
    assert (found.state, found.code, found.remedy) == ("warning", code, "set_clock")


@by_one_library
def test_a_provider_that_never_answers_is_left_at_the_time_out(
    check: Check, practice: FaultyProvider, confidential: dict[str, Any]
) -> None:
    for endpoint in ("jwks", "device_authorization", "token"):
        practice.inject_fault("hang", endpoint=endpoint, times=None)
    report = check(timeout_seconds=3, **confidential)
    found = [item(report, name) for name in ("signing_keys", "device_flow", "client_credential")]
    assert {item.state for item in found} == {"failed"}
    assert {item.fields["why"] for item in found} == {"no_answer_in_time"}


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
    assert item(report, "client_credential", "certificate 1").state == "failed", "nobody registered it"
    found = item(report, "client_certificate_expiry")
    assert found.state == state
    assert (found.remedy is None) == (state == "ok")


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (datetime(2019, 12, 31, 23, 59, 59, tzinfo=UTC), "client_certificate_not_valid_yet"),
        (datetime(2020, 1, 1, tzinfo=UTC), "client_certificate_lasts"),
        (datetime(2030, 1, 1, tzinfo=UTC), "client_certificate_ended"),
    ],
)
def test_the_clients_own_certificate_is_valid_from_its_first_instant_to_its_last(
    now: datetime, code: str, own_certificate: Callable[[datetime], Secret]
) -> None:
    pem = own_certificate(datetime(2030, 1, 1, tzinfo=UTC)).reveal()
    found = check_client_certificate("certificate 1", Certificate(pem, "", Secret("")), now)
    assert (found.code, found.state == "failed") == (code, code != "client_certificate_lasts")


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
    check: Check, practice: FaultyProvider, confidential: dict[str, Any]
) -> None:
    assert item(check(), "device_flow").state == "not checked"
    assert item(check(), "client_credential").state == "warning"
    assert item(check(**confidential), "client_credential", "client secret 1").state == "ok"
    wrong = check(**confidential | {"client_secrets": (Secret("wrong"),)})
    assert item(wrong, "client_credential", "client secret 1").state == "failed"


def test_the_firewall_lets_the_provider_and_the_mail_servers_through(
    check: Check, settings: ProviderSettings, practice: FaultyProvider
) -> None:
    edited(practice, revocation_endpoint="https://revoke.example.com/", authorization_endpoint="https://[::1]:8443/")
    mail = ("smtp.office365.com:587", "outlook.office365.com:995", "outlook.office365.com:993")
    expected = (f"localhost:{practice.port}", "[::1]:8443", "revoke.example.com:443")
    assert check().hosts == expected + (mail if settings.kind == "microsoft" else ())
