"""What a provider's error does to a token. The decision is data: the tables below, and an operator's `Overrides`.

The OAuth `error` decides; Entra's `suberror`, Google's `error_subtype` and the AADSTS numbers in `error_codes` refine
it, the number most. `error_description` is for people and is never read. A code that is in no table keeps the token.
Sources: RFC 6749 section 5.2, RFC 8628 section 3.5, OpenID Connect Core section 3.1.2.6, Microsoft's
`reference-error-codes.md`, Google's OAuth pages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Any

from adapters.providers.settings import ProviderSettings
from domain.outcomes import AttemptOver, ClientFault, GrantDead, Pending, Reason, Transient

SLOW_DOWN_SECONDS = 5
# How long to leave Entra alone that has seen us ask for the same thing in a loop.
LOOP_SECONDS = 300


class Verdict(Enum):
    """What kind of answer an error is."""

    PENDING = auto()
    SLOW_DOWN = auto()
    ATTEMPT_OVER = auto()
    GRANT_DEAD = auto()
    TRANSIENT = auto()
    CLIENT_FAULT = auto()
    CONFIGURATION = auto()
    UNKNOWN = auto()


@dataclass(frozen=True)
class Rule:
    """A row: the verdict with its reason, the setting to correct, or the least time to wait."""

    verdict: Verdict
    reason: Reason | None = None
    setting: str | None = None
    wait_seconds: int | None = None


@dataclass(frozen=True)
class OAuthError:
    """An error reply as the tables understand it. `code` is the provider's own, as fine as it was understood."""

    rule: Rule
    code: str


def _over(reason: Reason) -> Rule:
    return Rule(Verdict.ATTEMPT_OVER, reason)


def _dead(reason: Reason) -> Rule:
    return Rule(Verdict.GRANT_DEAD, reason)


def _client(setting: str) -> Rule:
    return Rule(Verdict.CLIENT_FAULT, setting=setting)


def _configuration(setting: str | None) -> Rule:
    return Rule(Verdict.CONFIGURATION, setting=setting)


_PENDING = Rule(Verdict.PENDING)
_TRANSIENT = Rule(Verdict.TRANSIENT)
_SECRET = "client_secret_file"  # noqa: S105 - the name of a setting

OAUTH_ERRORS: Mapping[str, Rule] = MappingProxyType(
    {
        "authorization_pending": _PENDING,
        "slow_down": Rule(Verdict.SLOW_DOWN),
        "expired_token": _over(Reason.EXPIRED_TOKEN),
        "authorization_declined": _over(Reason.ACCESS_DENIED),
        "access_denied": _over(Reason.ACCESS_DENIED),
        "bad_verification_code": _over(Reason.CODE_REJECTED),
        "temporarily_unavailable": _TRANSIENT,
        "server_error": _TRANSIENT,
        "invalid_grant": _dead(Reason.INVALID_GRANT),
        "interaction_required": _dead(Reason.INTERACTION_REQUIRED),
        "login_required": _dead(Reason.INTERACTION_REQUIRED),
        "invalid_rapt": _dead(Reason.INTERACTION_REQUIRED),
        "consent_required": _dead(Reason.CONSENT_REQUIRED),
        "admin_policy_enforced": _dead(Reason.CONSENT_REQUIRED),
        "org_internal": _dead(Reason.CONSENT_REQUIRED),
        "invalid_client": _client("client_id, client_secret_file or certificate_file"),
        "unauthorized_client": _client("client_id"),
        "unsupported_grant_type": _configuration("client_id"),
        "unsupported_response_type": _configuration("client_id"),
        "invalid_scope": _configuration("scopes"),
    }
)

SUBERRORS: Mapping[str, Rule] = MappingProxyType(
    {
        "invalid_rapt": _dead(Reason.INTERACTION_REQUIRED),
        "basic_action": _dead(Reason.INTERACTION_REQUIRED),
        "additional_action": _dead(Reason.INTERACTION_REQUIRED),
        "consent_required": _dead(Reason.CONSENT_REQUIRED),
        "user_password_expired": _dead(Reason.ACCOUNT_NOT_AVAILABLE),
    }
)

_AADSTS: tuple[tuple[Rule, tuple[int, ...]], ...] = (
    (_PENDING, (70016,)),
    (_over(Reason.EXPIRED_TOKEN), (70019,)),
    (_over(Reason.CODE_REJECTED), (70018,)),
    (_TRANSIENT, (50033, 50087, 90006, 90012, 90024, 90033, 90055, 90090)),
    # The code was redeemed by somebody else of us, whose result is or will be stored.
    (_TRANSIENT, (54005,)),
    (Rule(Verdict.TRANSIENT, wait_seconds=LOOP_SECONDS), (50196,)),
    (_dead(Reason.INVALID_GRANT), (70000, 70008, 700082, 700084, 50173, 50089, 50132, 50133)),
    (_dead(Reason.SIGN_IN_FREQUENCY), (70043,)),
    (_dead(Reason.INTERACTION_REQUIRED), (50074, 50076, 50078, 50079, 50158)),
    (_dead(Reason.POLICY), (53000, 53001, 53002, 53003, 530032, 530035)),
    (_dead(Reason.CONSENT_REQUIRED), (65001, 90094, 90095, 650052)),
    (_dead(Reason.ACCOUNT_NOT_AVAILABLE), (50105, 50034, 50057, 50053, 50055, 50144)),
    (_client(_SECRET), (7000215, 7000222, 70002, 700027, 7000218)),
    (_configuration(_SECRET), (700025,)),
    (_configuration("client_id"), (700016,)),
    (_configuration("tenant"), (90002, 50194, 9002332, 90038)),
    (_configuration("scopes"), (70011, 28002, 700022)),
    (_configuration("redirect_uri"), (50011,)),
    (_configuration(None), (501481,)),
)
AADSTS: Mapping[int, Rule] = MappingProxyType({number: rule for rule, numbers in _AADSTS for number in numbers})


# In a redirect this is the last word about a request of ours; from a token endpoint it may be about anything.
AUTHORIZATION_ERRORS: Mapping[str, Rule] = MappingProxyType({"invalid_request": _configuration(None)})

# What an operator can say about a code: the rows of the reference, by names of their own.
CLASSES: Mapping[str, Rule] = MappingProxyType(
    {
        "pending": _PENDING,
        "attempt_over": _over(Reason.CODE_REJECTED),
        "transient": _TRANSIENT,
        "grant_dead": _dead(Reason.INVALID_GRANT),
        "sign_in_frequency": _dead(Reason.SIGN_IN_FREQUENCY),
        "needs_user": _dead(Reason.INTERACTION_REQUIRED),
        "needs_admin_policy": _dead(Reason.POLICY),
        "needs_admin_consent": _dead(Reason.CONSENT_REQUIRED),
        "account_not_available": _dead(Reason.ACCOUNT_NOT_AVAILABLE),
        "client_registration": _client("client_id, client_secret_file or certificate_file"),
        "configuration": _configuration(None),
    }
)
Overrides = Mapping[str, Rule]
"""Rules that go before the tables, by `error`, `suberror` or `AADSTS` and the number."""
NO_OVERRIDES: Overrides = MappingProxyType({})
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)


def read_overrides(settings: ProviderSettings) -> Overrides:
    """The rules of `error_overrides`.

    Raises:
        InvalidValue: names the key and what is accepted.
    """
    for code, name in settings.error_overrides.items():
        if not _CODE.fullmatch(code):
            raise settings.invalid(
                "error_overrides", f"{code!r} is not an error code like AADSTS50034 or invalid_grant"
            )
        if name not in CLASSES:
            raise settings.invalid(f"error_overrides.{code}", f"{name!r} is not one of {', '.join(CLASSES)}")
    return MappingProxyType({code: CLASSES[name] for code, name in settings.error_overrides.items()})


def read_error(document: Mapping[str, Any], overrides: Overrides = NO_OVERRIDES) -> OAuthError | None:
    """Look an error reply up in the tables; None if the document is not one (RFC 6749 section 5.2)."""
    error = document.get("error")
    if not isinstance(error, str) or not error:
        return None
    for number in _numbers(document.get("error_codes")):
        code = f"AADSTS{number}"
        if rule := overrides.get(code) or AADSTS.get(number):
            return OAuthError(rule, code)
    for field in ("suberror", "error_subtype"):
        detail = document.get(field)
        if isinstance(detail, str) and (rule := overrides.get(detail) or SUBERRORS.get(detail)):
            return OAuthError(rule, detail)
    return OAuthError(overrides.get(error) or OAUTH_ERRORS.get(error, Rule(Verdict.UNKNOWN)), _printable(error))


def poll_outcome(
    error: OAuthError, interval_seconds: int, retry_after_seconds: int | None
) -> Pending | AttemptOver | Transient | ClientFault:
    """What the error means to an attempt that polls every `interval_seconds`."""
    match error.rule.verdict:
        case Verdict.PENDING:
            return Pending(interval_seconds)
        case Verdict.SLOW_DOWN:
            return Pending(interval_seconds + SLOW_DOWN_SECONDS)
        case _:
            return redemption_outcome(error, retry_after_seconds)


def redemption_outcome(error: OAuthError, retry_after_seconds: int | None) -> AttemptOver | Transient | ClientFault:
    """What the error means to an attempt whose code was sent."""
    rule, code = error.rule, error.code
    match rule.verdict:
        case Verdict.ATTEMPT_OVER | Verdict.GRANT_DEAD:
            assert rule.reason
            # What is dead is the code: nobody has a grant yet.
            reason = Reason.CODE_REJECTED if rule.reason is Reason.INVALID_GRANT else rule.reason
            return AttemptOver(reason, code)
        case Verdict.CONFIGURATION:
            return AttemptOver(Reason.CONFIGURATION, code)
        case Verdict.CLIENT_FAULT:
            return ClientFault(code, rule.setting)
        case Verdict.TRANSIENT | Verdict.UNKNOWN | Verdict.PENDING | Verdict.SLOW_DOWN:
            return _transient(error, retry_after_seconds)


def redirect_outcome(error: OAuthError) -> AttemptOver | Transient:
    """What an error in a redirect means (RFC 6749 section 4.1.2.1): no code comes of it, whoever's fault it is.

    While the provider is in trouble the person can open the sign-in page again.
    """
    outcome = redemption_outcome(error, None)
    return AttemptOver(Reason.CONFIGURATION, outcome.code) if isinstance(outcome, ClientFault) else outcome


def renewal_outcome(error: OAuthError, retry_after_seconds: int | None) -> GrantDead | Transient | ClientFault:
    """What the error means to a grant; one that belongs to an attempt says nothing about it."""
    rule, code = error.rule, error.code
    match rule.verdict:
        case Verdict.GRANT_DEAD:
            assert rule.reason
            return GrantDead(rule.reason, code)
        case Verdict.CLIENT_FAULT | Verdict.CONFIGURATION:
            return ClientFault(code, rule.setting)
        case Verdict.TRANSIENT | Verdict.UNKNOWN | Verdict.PENDING | Verdict.SLOW_DOWN | Verdict.ATTEMPT_OVER:
            return _transient(error, retry_after_seconds)


def _transient(error: OAuthError, retry_after_seconds: int | None) -> Transient:
    is_known = error.rule.verdict is not Verdict.UNKNOWN
    return Transient(error.code, retry_after_seconds or error.rule.wait_seconds, is_known)


def _numbers(value: object) -> list[int]:
    return [number for number in value if isinstance(number, int)] if isinstance(value, list) else []


def _printable(code: str) -> str:
    """The code, if it is one: what is stored and shown must not be a text of the provider's choice."""
    return code if _CODE.fullmatch(code) else "unknown_error"
