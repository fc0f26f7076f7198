"""ID tokens made with keys of our own: which are believed, and which check refuses the others."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey
from provider_fakes import NOON

from adapters.providers.id_tokens import InvalidIdToken, UnknownKey, identity_of
from domain.outcomes import Identity

ISSUER = "https://login.example.com/contoso"
CLIENT = "our-client-id"
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": CLIENT,
    "sub": "subject-1",
    "tid": "tenant-1",
    "preferred_username": "scan@contoso.com",
    "email": "scanner@contoso.com",
    "iat": int(NOON.timestamp()),
    "exp": int(NOON.timestamp()) + 3600,
}


@cache
def key(name: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"})


def token(signed_by: Any = None, alg: str = "RS256", kid: str | None = "one", **changes: object) -> str:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    header = {"alg": alg} | ({"kid": kid} if kid else {})
    return jwt.encode(header, claims, signed_by or key("one"), [alg])


def identity(
    id_token: object,
    *,
    keys: KeySet | None = None,
    issuer: str = ISSUER,
    account_claims: tuple[str, ...] = ("preferred_username", "email", "upn"),
    received_at: datetime = NOON,
    nonce: str | None = None,
) -> Identity:
    return identity_of(
        id_token,
        keys or KeySet([key("one"), key("two")]),
        issuer=issuer,
        client_id=CLIENT,
        account_claims=account_claims,
        received_at=received_at,
        nonce=nonce,
    )


def refused(id_token: object, **changes: Any) -> str:
    with pytest.raises(InvalidIdToken) as refusal:
        identity(id_token, **changes)
    return refusal.value.check


def test_a_valid_token_names_account_subject_and_tenant() -> None:
    assert identity(token()) == Identity("scan@contoso.com", "subject-1", "tenant-1")


def test_a_provider_without_tenants_gives_none() -> None:
    assert identity(token(tid=None)).tenant is None


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"iss": "https://login.example.com/fabrikam"}, "iss"),
        ({"iss": ISSUER + "/"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "another-client"}, "aud"),
        ({"aud": ["another-client"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"azp": "another-client"}, "azp"),
        ({"exp": CLAIMS["iat"] - 301}, "exp"),
        ({"exp": None}, "exp"),
        ({"nbf": CLAIMS["iat"] + 301}, "nbf"),
        ({"iat": CLAIMS["iat"] + 301}, "clock_off_by_301_seconds"),
        ({"iat": CLAIMS["iat"] - 7200, "exp": CLAIMS["iat"] - 3600}, "clock_off_by_-7200_seconds"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"preferred_username": None, "email": None}, "account_claims"),
        ({"preferred_username": "a\r\nb", "email": None}, "account_claims"),
    ],
)
def test_a_claim_that_is_wrong_is_named(changes: dict[str, Any], check: str) -> None:
    assert refused(token(**changes)) == check


@pytest.mark.parametrize("changes", [{"aud": [CLIENT, "another"]}, {"azp": CLIENT}, {"nbf": CLAIMS["iat"] + 60}])
def test_what_the_specification_allows_is_believed(changes: dict[str, Any]) -> None:
    assert identity(token(**changes)).account == "scan@contoso.com"


@pytest.mark.parametrize("later", [timedelta(0), timedelta(minutes=59), timedelta(minutes=66)])
def test_time_is_judged_when_the_reply_was_received_whenever_it_is_read(later: timedelta) -> None:
    old = token(exp=CLAIMS["exp"])
    if later <= timedelta(hours=1):
        assert identity(old, received_at=NOON + later).subject == "subject-1"
    else:
        assert identity(old, received_at=NOON + timedelta(minutes=64)).subject == "subject-1"
        assert refused(old, received_at=NOON + later) == "clock_off_by_-3960_seconds"


@pytest.mark.parametrize(
    ("claims", "present", "account"),
    [
        (("preferred_username", "email"), {}, "scan@contoso.com"),
        (("email", "preferred_username"), {}, "scanner@contoso.com"),
        (("upn", "email"), {}, "scanner@contoso.com"),
        (("email", "preferred_username"), {"email_verified": True}, "scanner@contoso.com"),
        (("email", "preferred_username"), {"email_verified": False}, "scan@contoso.com"),
    ],
)
def test_the_account_is_in_the_first_claim_that_is_there_and_verified(
    claims: tuple[str, ...], present: dict[str, Any], account: str
) -> None:
    assert identity(token(**present), account_claims=claims).account == account


def test_a_nonce_that_was_sent_must_come_back() -> None:
    assert identity(token(nonce="one"), nonce="one").subject == "subject-1"
    for other in ("two", None, "", ["one"], 1):
        assert refused(token(nonce=other), nonce="one") == "nonce"


def test_a_nonce_nobody_asked_for_says_nothing() -> None:
    assert identity(token(nonce="one")).subject == "subject-1"


def test_a_multi_tenant_issuer_must_be_that_of_the_tokens_own_tenant() -> None:
    template = "https://login.microsoftonline.com/{tenantid}/v2.0"
    assert identity(token(iss=template.replace("{tenantid}", "tenant-1")), issuer=template).tenant == "tenant-1"
    assert refused(token(iss=template.replace("{tenantid}", "tenant-2")), issuer=template) == "iss"
    assert refused(token(iss=template, tid=None), issuer=template) == "iss"


def test_another_key_under_a_known_name_is_a_forgery() -> None:
    assert refused(token(signed_by=RSAKey.generate_key(2048))) == "signature"


def test_a_changed_payload_is_a_forgery() -> None:
    header, _, signature = token().split(".")
    _, payload, _ = token(sub="somebody-else").split(".")
    assert refused(f"{header}.{payload}.{signature}") == "signature"


def test_an_unknown_key_is_told_from_a_forgery_as_there_may_be_newer_keys() -> None:
    with pytest.raises(UnknownKey):
        identity(token(signed_by=key("three"), kid="three"))


def test_a_token_without_a_key_name_is_believed_only_from_a_single_key() -> None:
    assert identity(token(kid=None), keys=KeySet([key("one")])).subject == "subject-1"
    assert refused(token(kid=None)) == "kid"


def test_other_asymmetric_signatures_are_believed_too() -> None:
    curve = ECKey.generate_key("P-256", {"kid": "curve"})
    signed = token(signed_by=curve, alg="ES256", kid="curve")
    assert identity(signed, keys=KeySet([curve])).subject == "subject-1"


def test_no_signature_and_a_signature_with_a_shared_secret_are_forgeries() -> None:
    secret = OctKey.import_key("our client secret, at least thirty-two bytes", {"kid": "one"})
    assert refused(token(signed_by=secret, alg="HS256"), keys=KeySet([secret])) == "signature"
    unsigned = "eyJhbGciOiJub25lIiwia2lkIjoib25lIn0." + token().split(".")[1] + "."
    assert refused(unsigned) == "signature"


@pytest.mark.parametrize("garbage", [None, 7, {}, "", "a.b", "a.b.c", "....", "é.è.à", "x" * 200_000])
def test_what_is_no_token_at_all_is_refused(garbage: object) -> None:
    assert refused(garbage) in {"id_token", "unreadable"}


@pytest.mark.parametrize("name", ["alg", "kid", "crit", "typ", "b64", "jwk"])
@pytest.mark.parametrize("value", [None, 1, [], ["RS256"], {}, {"a": 1}, True])
def test_a_header_of_strange_types_is_refused(name: str, value: object) -> None:
    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    header = {"alg": "RS256", "kid": "one", "crit": ["b64"], name: value}
    assert refused(f"{part(header)}.{part(CLAIMS)}.{part('signature')}") in {"unreadable", "signature", "kid"}


@pytest.mark.parametrize("name", [*CLAIMS, "azp", "nbf", "email_verified"])
@pytest.mark.parametrize("value", [[], {}, True, "", -1, 10**400, float("inf"), float("nan")])
def test_a_claim_of_a_strange_type_raises_nothing_but_a_refusal(name: str, value: object) -> None:
    with contextlib.suppress(InvalidIdToken):
        changes: dict[str, Any] = {name: value}
        assert identity(token(**changes)).subject == "subject-1"


def test_a_refusal_holds_nothing_of_the_token() -> None:
    signed = token(aud="another-client")
    with pytest.raises(InvalidIdToken) as refusal:
        identity(signed)
    assert str(refusal.value) == "aud"
