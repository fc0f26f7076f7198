"""The identity of the person who signed in: claims of a validated ID token (OpenID Connect Core section 3.1.3.7).

An ID token is validated for the instant its reply was received, so a second reading has the same result.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.errors import BadSignatureError, ClaimError, SecurityWarning
from joserfc.jwk import Key, KeySet
from joserfc.jws import JWSRegistry, extract_compact

from domain.outcomes import Identity

# Asymmetric algorithms only: with HS256 every holder of the client secret could sign.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
# The difference between the provider's clock and ours that makes no token invalid.
LEEWAY_SECONDS = 300
_KEYS_TRIED = 8
_LONGEST_CLOCK_DIFFERENCE = 10**10
# `EdDSA` is the older name of the Ed25519 signature (RFC 9864), which many providers still use.
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)
# These claims may be a name that is no address, as at Keycloak.
_CLAIMS_OF_ADDRESSES = frozenset({"preferred_username", "email", "upn"})


class InvalidIdToken(Exception):
    """The ID token is not valid. `check` is the claim or step that failed, such as `aud` or `signature`.

    `clock_off_by_425_seconds` is a token that was issued 425 seconds from now, by the clock of this machine.
    """

    def __init__(self, check: str) -> None:
        super().__init__(check)
        self.check = check


class UnknownKey(InvalidIdToken):
    """No key of the set has signed the token; the provider may have a newer set."""


class NoAddress(InvalidIdToken):
    """The token is valid and none of its claims is the account's address; it has this subject and tenant."""

    def __init__(self, subject: str, tenant: str | None) -> None:
        super().__init__("account_claims")
        self.subject = subject
        self.tenant = tenant


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
    """Validate an ID token and return the identity in it.

    `issuer` may contain Entra's `{tenantid}`, which stands for the token's own `tid` in a multi-tenant registration.
    `nonce` is the nonce of the authorization request, if there was one.

    Raises:
        UnknownKey: the keys may be too old; try once more with the newest keys.
        NoAddress: the token is valid, and the address may be at the UserInfo endpoint.
        InvalidIdToken: the token is not valid.
    """
    claims = validated_claims(id_token, keys, issuer=issuer, client_id=client_id, received_at=received_at, nonce=nonce)
    tenant, subject = _text(claims, "tid"), _text(claims, "sub")
    if subject is None:
        raise InvalidIdToken("sub")
    account = address_of(claims, account_claims)
    if account is None:
        raise NoAddress(subject, tenant)
    return Identity(account, subject, tenant)


def validated_claims(
    id_token: object, keys: KeySet, *, issuer: str, client_id: str, received_at: datetime, nonce: str | None
) -> Mapping[str, Any]:
    """All claims of an ID token, validated; the arguments are as for `identity_of`.

    Raises:
        UnknownKey: the keys may be too old; try once more with the newest keys.
        InvalidIdToken: the token is not valid.
    """
    if not isinstance(id_token, str):
        raise InvalidIdToken("id_token")
    try:
        claims = _verified_claims(id_token, keys)
        _check_claims(claims, issuer.replace("{tenantid}", _text(claims, "tid") or ""), client_id, received_at, nonce)
    except InvalidIdToken:
        raise
    except Exception:  # a token can make joserfc raise nearly anything, RecursionError included
        raise InvalidIdToken("unreadable") from None
    return claims


def _verified_claims(id_token: str, keys: KeySet) -> Mapping[str, Any]:
    # Unknown header parameters are allowed unless they are critical (RFC 7515 section 4).
    registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    for key in _candidates(id_token, keys):
        try:
            return jwt.decode(id_token, key, ALGORITHMS, registry).claims
        except BadSignatureError:
            continue
    raise UnknownKey("signature")


def _candidates(id_token: str, keys: KeySet) -> Sequence[Key]:
    """The keys with the token's `kid`; a token without one may have been signed by the set's only key."""
    header = extract_compact(id_token.encode()).headers()
    if header["alg"] not in ALGORITHMS:
        raise InvalidIdToken("signature")
    kid = header.get("kid")
    found = [key for key in keys if key.kid == kid] if isinstance(kid, str) else []
    if kid is None and len(keys.keys) == 1:
        found = keys.keys
    if not found:
        raise UnknownKey("kid")
    return found[:_KEYS_TRIED]


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
        clock = _clock_difference(claims, received_at) if error.claim in {"exp", "iat", "nbf"} else None
        raise InvalidIdToken(clock or error.claim) from None
    # joserfc would also accept a list that contains the nonce.
    if nonce is not None and claims.get("nonce") != nonce:
        raise InvalidIdToken("nonce")


def _clock_difference(claims: Mapping[str, Any], received_at: datetime) -> str | None:
    """The check that names how far the provider's clock is ahead of ours; None if the clocks agree."""
    issued_at = claims.get("iat")
    if type(issued_at) is not int:
        return None
    seconds = issued_at - int(received_at.timestamp())
    return f"clock_off_by_{seconds}_seconds" if LEEWAY_SECONDS < abs(seconds) < _LONGEST_CLOCK_DIFFERENCE else None


def account_of(claims: Mapping[str, Any], account_claims: Sequence[str]) -> str | None:
    """The account's name, from the first of `account_claims` that has a name."""
    return next(_accounts(claims, account_claims), None)


def address_of(claims: Mapping[str, Any], account_claims: Sequence[str]) -> str | None:
    """The account's address, from the first of `account_claims` that has an address.

    A claim other than the usual ones is an account as it stands, whatever its form.
    """
    named = ((name, _accounts(claims, [name])) for name in account_claims)
    found = ((name, account) for name, accounts in named for account in accounts)
    return next((account for name, account in found if "@" in account or name not in _CLAIMS_OF_ADDRESSES), None)


def _accounts(claims: Mapping[str, Any], account_claims: Sequence[str]) -> Iterator[str]:
    for name in account_claims:
        # An unverified address may be any text that a person chose (OpenID Connect Core section 5.1).
        if name == "email" and not _is_verified(claims.get("email_verified", True)):
            continue
        if account := _text(claims, name):
            yield account


def _is_verified(value: object) -> bool:
    """Whether the value of `email_verified` is true; some providers send it as text."""
    return value is True or value == "true"


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    return value if isinstance(value, str) and value and value.isprintable() else None
