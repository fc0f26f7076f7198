"""Who signed in: the claims of an ID token, believed only after validation (OpenID Connect Core section 3.1.3.7).

A token is judged at the instant its reply was received, so that a reply that is read again says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.errors import ClaimError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from domain.outcomes import Identity

# Asymmetric only: with HS256 whoever knows the client secret could sign.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
LEEWAY_SECONDS = 120


class InvalidIdToken(Exception):
    """The ID token must not be believed. `check` is the claim or step that failed: `aud`, `signature`."""

    def __init__(self, check: str) -> None:
        super().__init__(check)
        self.check = check


class UnknownKey(InvalidIdToken):
    """No key of the set has the token's `kid`: there may be a newer set."""


def identity_of(
    id_token: object,
    keys: KeySet,
    *,
    issuer: str,
    client_id: str,
    account_claims: Sequence[str],
    received_at: datetime,
    nonce: str | None = None,
) -> Identity:
    """Validate and give who it names.

    `issuer` may hold Entra's `{tenantid}`, which stands for the token's own `tid` in a multi-tenant registration.
    `nonce` is the one of the authorization request, if there was one.

    Raises:
        UnknownKey: try once more with the newest keys.
        InvalidIdToken: don't believe it.
    """
    claims = validated_claims(id_token, keys, issuer=issuer, client_id=client_id, received_at=received_at, nonce=nonce)
    tenant = _text(claims, "tid")
    account, subject = account_of(claims, account_claims), _text(claims, "sub")
    if account is None:
        raise InvalidIdToken("account_claims")
    if subject is None:
        raise InvalidIdToken("sub")
    return Identity(account, subject, tenant)


def validated_claims(
    id_token: object, keys: KeySet, *, issuer: str, client_id: str, received_at: datetime, nonce: str | None
) -> Mapping[str, Any]:
    """Every claim of an ID token that may be believed; the arguments are as for `identity_of`.

    Raises:
        UnknownKey: try once more with the newest keys.
        InvalidIdToken: don't believe it.
    """
    if not isinstance(id_token, str):
        raise InvalidIdToken("id_token")
    claims = _verified_claims(id_token, keys)
    _check_claims(claims, issuer.replace("{tenantid}", _text(claims, "tid") or ""), client_id, received_at, nonce)
    return claims


def _verified_claims(id_token: str, keys: KeySet) -> Mapping[str, Any]:
    # Header parameters we don't know are fine unless they are critical (RFC 7515 section 4).
    registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    try:
        return jwt.decode(id_token, keys, ALGORITHMS, registry).claims
    except InvalidKeyIdError:
        raise UnknownKey("kid") from None
    except (JoseError, ValueError, TypeError):  # joserfc 1.8 iterates over a `crit` of any type
        raise InvalidIdToken("signature") from None


def _check_claims(
    claims: Mapping[str, Any], issuer: str, client_id: str, received_at: datetime, nonce: str | None
) -> None:
    registry = jwt.JWTClaimsRegistry(
        now=int(received_at.timestamp()),
        leeway=LEEWAY_SECONDS,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": client_id},
        azp={"value": client_id},
        exp={"essential": True},
        sub={"essential": True},
    )
    try:
        registry.validate(dict(claims))
    except ClaimError as error:
        raise InvalidIdToken(error.claim) from None
    # joserfc would take a list that has it among others.
    if nonce is not None and claims.get("nonce") != nonce:
        raise InvalidIdToken("nonce")


def account_of(claims: Mapping[str, Any], account_claims: Sequence[str]) -> str | None:
    """The account's address: the first of `account_claims` that has one."""
    for name in account_claims:
        # An address nobody has verified is anybody's choice (OpenID Connect Core section 5.1).
        if name == "email" and claims.get("email_verified") is False:
            continue
        if account := _text(claims, name):
            return account
    return None


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    return value if isinstance(value, str) and value and value.isprintable() else None
