"""Odd replies of providers: no exception leaves the provider, and no token is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
from practice_faults.provider import DEVICE_CODE_GRANT, FaultyProvider
from provider_fakes import NOON, HeldClock, KeptReply, reply_of

from adapters.practice import browser_user
from adapters.providers import ProviderSettings
from adapters.providers.discovery import _read_keys
from adapters.providers.token_responses import read_renewal
from domain.errors import Failed
from domain.outcomes import AttemptOver, ClientFault, Credential, GrantDead, Granted, Reason, Transient
from domain.ports import Provider
from domain.secret import Secret

SCANNER = "scan@contoso.com"
NESTED = b"[" * 30_000


@pytest.fixture(params=["oidc"])
def settings(request: pytest.FixtureRequest, practice: FaultyProvider) -> ProviderSettings:
    """One library is enough: none of them ever sees a reply."""
    return ProviderSettings(
        "contoso", request.param, practice.client_id, issuer=practice.issuer, ca_file=practice.ca_file
    )


class Person:
    """Signs in by device code, each time with a new attempt, and renews what that brought."""

    def __init__(self, provider: Provider, practice: FaultyProvider, clock: HeldClock) -> None:
        self.provider, self.practice, self.clock = provider, practice, clock

    def sign_in(self, exchange: KeptReply | None = None, **fault: Any) -> Any:
        code = self.provider.request_device_code(self.provider.scopes("smtp"), self.clock.now())
        browser_user.approve(code.verification_uri, code.user_code, SCANNER, self.practice.ca_file)
        if fault:
            self.practice.inject_fault(**fault, grant_type=DEVICE_CODE_GRANT)
        self.clock.forward(seconds=code.interval_seconds)
        return self.provider.redeem_device_code(code, exchange or KeptReply(), self.clock.now())

    def renew(self, credential: Credential, **fault: Any) -> Any:
        self.practice.inject_fault(**fault, grant_type="refresh_token")
        return self.provider.refresh(credential, KeptReply(), self.clock.now())


@pytest.fixture
def person(build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock) -> Person:
    return Person(build(), practice, clock)


@pytest.mark.parametrize("payload", [NESTED, b"\xff\xfe", b"NaN", b"[]", b"{" + b'"a":{' * 900, b"9" * 5000])
def test_a_signed_payload_that_no_parser_reads_ends_a_sign_in_and_costs_no_renewal(
    person: Person, payload: bytes
) -> None:
    assert person.sign_in(mode="id_token", payload=payload) == AttemptOver(Reason.ID_TOKEN_INVALID, "unreadable")
    renewed = person.renew(person.sign_in().credential, mode="id_token", payload=payload)
    assert isinstance(renewed, Granted)
    assert (renewed.identity, renewed.warning) == (None, "renewal_id_token_invalid")


# Several numbers in one reply


@pytest.mark.parametrize(
    ("error", "numbers", "renewal"),
    [
        ("invalid_grant", (70002, 70008), GrantDead(Reason.INVALID_GRANT, "AADSTS70008")),
        ("invalid_grant", (70000, 50173), GrantDead(Reason.INVALID_GRANT, "AADSTS50173")),
        ("invalid_grant", (70002,), GrantDead(Reason.INVALID_GRANT, "AADSTS70002")),
        ("invalid_grant", (70002, 50057), GrantDead(Reason.ACCOUNT_NOT_AVAILABLE, "AADSTS50057")),
        ("invalid_grant", (7000215,), GrantDead(Reason.INVALID_GRANT, "AADSTS7000215")),
        ("invalid_client", (70002, 7000218), ClientFault("AADSTS7000218", "client_secret_file")),
        ("invalid_grant", (70002, 12345), GrantDead(Reason.INVALID_GRANT, "AADSTS12345")),
        ("invalid_request", (900144,), ClientFault("AADSTS900144", None, Reason.CONFIGURATION)),
        ("invalid_request", (1234567,), Transient("AADSTS1234567", is_known=False)),
        ("invalid_grant", (True, 0, -1, 10**30), GrantDead(Reason.INVALID_GRANT, "invalid_grant")),
    ],
)
def test_of_several_numbers_the_specific_one_counts_and_every_number_is_the_code(
    person: Person, error: str, numbers: tuple[int, ...], renewal: object
) -> None:
    credential = Credential(Secret("access"), Secret("refresh"), "mail", NOON, NOON)
    assert person.renew(credential, mode="error", error=error, error_codes=numbers) == renewal


@pytest.mark.parametrize(
    "number",
    [50020, 50126, 50128, 53011, 530003, 700003, 7000012, 90072, 500011, 650057, 900144, 9002313, 9002326, 7000112],
)
def test_an_operator_can_set_any_number(build: Callable[..., Provider], practice: FaultyProvider, number: int) -> None:
    code = f"AADSTS{number}"
    provider = build(error_overrides={code: "sign_in_frequency"})
    practice.inject_fault("error", error="invalid_request", error_codes=(70002, number))
    credential = Credential(Secret("access"), Secret("refresh"), "mail", NOON, NOON)
    assert provider.refresh(credential, KeptReply(), NOON) == GrantDead(Reason.SIGN_IN_FREQUENCY, code)


def test_the_replys_own_words_and_ids_come_with_the_outcome(person: Person) -> None:
    secret = "0.AXoA" + "x" * 60
    body = {
        "error": "invalid_grant",
        "error_codes": [50173],
        "error_description": f"AADSTS50173:\x1b[2J The grant \u202e{secret} was\r\nrevoked.",
        "trace_id": "1f0c6a1e-9b0d-4f5e-a3d1-c0a7a9be1e43",
        "correlation_id": "\x1b[31m",
    }
    outcome = person.renew(
        Credential(Secret("access"), Secret("refresh"), "mail", NOON, NOON),
        mode="garbage",
        status=400,
        body=json.dumps(body),
    )
    assert outcome.reply.words == "AADSTS50173: [2J The grant ... was revoked."
    assert (outcome.reply.trace_id, outcome.reply.correlation_id) == (body["trace_id"], None)


# UserInfo


ONLY_AT_USERINFO: dict[str, Any] = {"mode": "id_token", "claims": {"preferred_username": None, "email": None}}


def announce_userinfo(practice: FaultyProvider) -> None:
    fields = {"userinfo_endpoint": f"{practice.issuer}/userinfo"}
    practice.inject_fault("edit", endpoint="discovery", fields=fields, times=None)


def test_an_address_that_is_only_at_userinfo_is_the_account(person: Person) -> None:
    announce_userinfo(person.practice)
    person.practice.userinfo = {"sub": person.practice.subject(SCANNER), "email": SCANNER, "email_verified": "true"}
    granted = person.sign_in(**ONLY_AT_USERINFO)
    assert granted.identity.account == SCANNER
    renewed = person.renew(granted.credential, **ONLY_AT_USERINFO)
    assert isinstance(renewed, Granted)


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "somebody-else", "email": SCANNER},
        {"sub": None, "email": SCANNER},
        {"email": SCANNER},
        {"sub": "SUBJECT", "email": SCANNER, "email_verified": "false"},
        {"sub": "SUBJECT", "email": SCANNER, "email_verified": 1},
        {"sub": "SUBJECT", "preferred_username": "scan"},
        {"sub": "SUBJECT"},
    ],
)
def test_userinfo_of_another_subject_or_without_a_verified_address_names_nobody(
    person: Person, claims: dict[str, object]
) -> None:
    announce_userinfo(person.practice)
    subject = person.practice.subject(SCANNER)
    person.practice.userinfo = {name: subject if value == "SUBJECT" else value for name, value in claims.items()}
    assert person.sign_in(**ONLY_AT_USERINFO) == AttemptOver(Reason.ID_TOKEN_INVALID, "account_claims")


def test_a_sign_in_is_read_again_once_userinfo_can_be_reached(person: Person) -> None:
    fields = {"userinfo_endpoint": "https://localhost:9/userinfo"}
    person.practice.inject_fault("edit", endpoint="discovery", fields=fields, times=None)
    assert person.sign_in(**ONLY_AT_USERINFO) == Transient("userinfo_unavailable")


# Key sets


def keys_of(*members: object) -> KeySet:
    return _read_keys(reply_of(json.dumps({"keys": list(members)})))


GOOD = RSAKey.generate_key(2048, {"kid": "good"}).as_dict(private=False)
CURVE = ECKey.generate_key("P-256", {"kid": "curve"}).as_dict(private=False)


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"kid": "no-type"},
        {"kty": "RSA", "kid": "empty", "n": "", "e": ""},
        {"kty": "RSA", "n": "AQAB"},
        {"kty": "RSA", "n": 7, "e": []},
        {**CURVE, "x": "AAAA"},
        {**CURVE, "crv": "P-1"},
        {"kty": "XYZ", "kid": "later"},
        {"kty": ["RSA"]},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        None,
        "text",
        [[]],
    ],
)
def test_a_member_that_cant_be_read_is_skipped(bad: object) -> None:
    assert [key.kid for key in keys_of(bad, GOOD, bad)] == ["good"]


@pytest.mark.parametrize(
    "more", [{"key_ops": "sign"}, {"key_ops": ["sign"]}, {"key_ops": 7}, {"use": "signature"}, {"x5c": 1}, {"kid": 7}]
)
def test_odd_words_about_a_keys_use_leave_the_key(more: dict[str, object]) -> None:
    assert len(keys_of({**GOOD, **more}).keys) == 1


def test_a_set_without_a_key_for_signatures_ends_a_sign_in(person: Person) -> None:
    person.practice.inject_fault("edit", endpoint="jwks", fields={"keys": []}, times=None)
    assert person.sign_in() == AttemptOver(Reason.ID_TOKEN_INVALID, "kid")


def test_a_key_that_changed_under_its_name_is_fetched_again_and_not_more_often_than_every_few_seconds(
    person: Person, clock: HeldClock
) -> None:
    def key_requests() -> int:
        return sum(record.endpoint == "jwks" for record in person.practice.requests)

    assert isinstance(person.sign_in(), Granted)
    old, server = person.practice._oauth.signing_key, person.practice._oauth
    server.signing_key = RSAKey.generate_key(2048, {"kid": str(old.kid)})
    try:
        before = key_requests()
        assert isinstance(person.sign_in(), Granted)
        assert key_requests() == before + 1
        kept = KeptReply()
        assert person.sign_in(kept, mode="id_token", forged=True) == Transient("id_token_keys_unavailable")
        assert key_requests() == before + 1
        clock.forward(seconds=10)
        assert person.sign_in(mode="id_token", forged=True) == AttemptOver(Reason.ID_TOKEN_INVALID, "signature")
        assert key_requests() == before + 2
    finally:
        server.signing_key = old


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
def test_both_names_of_the_ed25519_signature_are_the_same(name: str) -> None:
    from joserfc import jwt

    from adapters.providers.id_tokens import validated_claims

    key = OKPKey.generate_key("Ed25519", {"kid": "one", "alg": "EdDSA"})
    claims = {"iss": "https://i", "aud": "us", "sub": "1", "exp": int(NOON.timestamp()) + 60}
    assert key.private_key
    token = jwt.encode({"alg": name, "kid": "one"}, claims, OKPKey.import_key(key.private_key), [name])
    found = validated_claims(
        token,
        keys_of(key.as_dict(private=False)),
        issuer="https://i",
        client_id="us",
        received_at=NOON,
        nonce=None,
    )
    assert found["sub"] == "1"


# What a renewal keeps


def test_a_renewal_keeps_its_credential_whatever_the_check_of_its_id_token_raises() -> None:
    def fails(*_: object) -> Any:
        raise RecursionError

    old = Credential(Secret("access"), Secret("refresh"), "mail", NOON, NOON)
    reply = reply_of(json.dumps({"access_token": "new", "token_type": "Bearer", "id_token": "x"}))
    outcome = read_renewal(reply, old, fails)
    assert isinstance(outcome, Granted)
    assert replace(outcome, credential=old) == Granted(old, None, "renewal_id_token_invalid")


# What a person is told to open


@pytest.mark.parametrize(
    "complete",
    [
        "javascript:alert(1)",
        "https://login.example.net/device?user_code=1",
        "http://localhost/device",
        "https://localhost:1/device",
        "https://localhost@login.example.net/device",
        "https://login.example.net\\@localhost/",
        7,
    ],
)
def test_an_address_with_the_code_in_it_leads_to_the_same_host_or_is_not_shown(
    person: Person, complete: object
) -> None:
    fields = {"verification_uri_complete": complete}
    person.practice.inject_fault("edit", endpoint="device_authorization", fields=fields)
    assert person.provider.request_device_code(("openid",), NOON).verification_uri_complete is None


def test_an_address_without_https_is_refused_by_its_name(person: Person) -> None:
    fields = {"verification_uri": "http://login.contoso.com/device"}
    person.practice.inject_fault("edit", endpoint="device_authorization", fields=fields)
    with pytest.raises(Failed) as refused:
        person.provider.request_device_code(("openid",), NOON)
    assert (refused.value.code, refused.value.fields["uri"]) == (
        "verification_uri_not_https",
        fields["verification_uri"],
    )


@pytest.mark.parametrize("value", [3_600_000, 10**12, "3600000"])
def test_a_lifetime_nobody_can_mean_is_taken_for_an_hour(person: Person, value: object) -> None:
    credential = person.sign_in().credential
    renewed = person.renew(credential, mode="expires_in", value=value)
    assert renewed.warning == "expires_in_capped"
    assert (renewed.credential.expires_at - renewed.credential.issued_at).total_seconds() == 3600
