"""The effect of a provider's error on a token. The decision is data: the tables below, and an operator's `Overrides`.

The OAuth `error` decides. Entra's `suberror` and Google's `error_subtype` refine it, and the AADSTS numbers in
`error_codes` most of all. Of several numbers the specific one counts, and a number is the error's code even if no table
knows its meaning. `error_description` is for people and never decides about a token; in a redirect, which has no
`error_codes`, its AADSTS numbers say why the sign-in failed. A code that is in no table keeps the token. Sources: RFC
6749 section 5.2, RFC 8628 section 3.5, OpenID Connect Core section 3.1.2.6, Microsoft's `reference-error-codes.md`,
Google's, Keycloak's and Yahoo's OAuth pages.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from types import MappingProxyType
from typing import Any

from adapters.providers.provider_words import read_reply
from adapters.providers.settings import ProviderSettings
from domain.outcomes import AttemptOver, ClientFault, GrantDead, Pending, ProviderReply, Reason, Transient

SLOW_DOWN_SECONDS = 5
# The wait after Entra has reported a loop of equal requests (AADSTS50196).
LOOP_SECONDS = 300


class Verdict(Enum):
    """The kind of answer that an error is."""

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
    """A row of a table: the verdict with its reason, the setting to correct, or the shortest time to wait."""

    verdict: Verdict
    reason: Reason | None = None
    setting: str | None = None
    wait_seconds: int | None = None


@dataclass(frozen=True)
class OAuthError:
    """An error reply and its row in the tables.

    `code` is the code to search for: the number that decided, else a number that no table knows, else the `error`.
    """

    rule: Rule
    code: str
    reply: ProviderReply | None = dataclasses.field(default=None, compare=False)


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
        "account_selection_required": _dead(Reason.INTERACTION_REQUIRED),
        "mfa_required": _dead(Reason.INTERACTION_REQUIRED),
        "INVALID_REFRESH_TOKEN": _dead(Reason.INVALID_GRANT),
        "INVALID_GRANT": _dead(Reason.INVALID_GRANT),
        "invalid_code": _over(Reason.CODE_REJECTED),
        "INVALID_AUTHORIZATION_CODE": _over(Reason.CODE_REJECTED),
        "ACCOUNT_NOT_AUTHORIZED": _dead(Reason.INTERACTION_REQUIRED),
        "rate_limit_exceeded": _TRANSIENT,
        "quota_exceeded": _TRANSIENT,
        "too_many_attempts": _TRANSIENT,
        "internal_failure": _TRANSIENT,
        "INTERNAL_SERVER_ERROR": _TRANSIENT,
        "deleted_client": _client("client_id"),
        "disabled_client": _client("client_id"),
        "restricted_client": _client("client_id"),
        "INVALID_CLIENT": _client("client_id"),
        "INVALID_CLIENT_SECRET": _client(_SECRET),
        "redirect_uri_mismatch": _configuration("redirect_uri"),
        "INVALID_REDIRECT_URI": _configuration("redirect_uri"),
        "INVALID_CALLBACK": _configuration("redirect_uri"),
        "invalid_target": _configuration("scopes"),
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
        "bad_token": _dead(Reason.INVALID_GRANT),
        "token_expired": _dead(Reason.INVALID_GRANT),
        "protection_policy_required": _dead(Reason.POLICY),
        "user_password_expired": _dead(Reason.ACCOUNT_NOT_AVAILABLE),
    }
)

_AADSTS: tuple[tuple[Rule, tuple[int, ...]], ...] = (
    (_PENDING, (70016,)),
    (_over(Reason.EXPIRED_TOKEN), (70019,)),
    (_over(Reason.ACCESS_DENIED), (65004,)),
    (_over(Reason.CODE_REJECTED), (70018,)),
    (_TRANSIENT, (50033, 50087, 90006, 90012, 90020, 90022, 90024, 90033, 90055, 90090)),
    # Another process of this service redeemed the code, and its result is or will be stored.
    (_TRANSIENT, (54005,)),
    (Rule(Verdict.TRANSIENT, wait_seconds=LOOP_SECONDS), (50196,)),
    (
        _dead(Reason.INVALID_GRANT),
        (70000, 70008, 700005, 700081, 700082, 700084, 7000012, 50173, 50089, 50132, 50133),
    ),
    (_dead(Reason.SIGN_IN_FREQUENCY), (70043, 70044)),
    (
        _dead(Reason.INTERACTION_REQUIRED),
        (16000, 50058, 50072, 50074, 50076, 50078, 50079, 50097, 50126, 50135, 50140, 50158, 50199, 51006, 500121),
    ),
    (
        _dead(Reason.POLICY),
        (50129, 50131, 50155, 53000, 53001, 53002, 53003, 53004, 53010, 53011, 500212, 530003, 530032, 530035, 700003),
    ),
    (_dead(Reason.CONSENT_REQUIRED), (65001, 90093, 90094, 90095, 90099, 650052)),
    (
        _dead(Reason.ACCOUNT_NOT_AVAILABLE),
        (16003, 50020, 50034, 50053, 50055, 50056, 50057, 50105, 50144, 51004, 90072, 500200, 500571),
    ),
    (
        _client(_SECRET),
        (50012, 50013, 70002, 700023, 700024, 700027, 700030, 7000215, 7000216, 7000218, 7000222, 500133),
    ),
    (_client("client_id"), (700011, 7000112, 7000114)),
    (_configuration(_SECRET), (700025,)),
    (_configuration("client_id"), (70001, 700016, 700054, 65005)),
    (_configuration("tenant"), (50059, 50128, 50194, 90002, 90019, 90038, 900023, 9001023, 9002332)),
    (_configuration("scopes"), (28002, 50001, 65002, 70011, 500011, 500014, 650053, 650057, 700022)),
    (_configuration("redirect_uri"), (50011, 500112, 500113, 900971, 9002325, 9002326, 9002327)),
    (_configuration(None), (70003, 70005, 90014, 90023, 900144, 501481)),
)
AADSTS: Mapping[int, Rule] = MappingProxyType({number: rule for rule, numbers in _AADSTS for number in numbers})
# Entra adds these to a number that says more: `AADSTS70002: Error validating credentials. AADSTS70008: ...`.
_GENERIC = frozenset({70000, 70002})

# In a redirect `invalid_request` is final for the authorization request; from a token endpoint it has many causes.
AUTHORIZATION_ERRORS: Mapping[str, Rule] = MappingProxyType({"invalid_request": _configuration(None)})

# The classes that an operator can put a code in, by name.
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
"""Rules that take precedence over the tables, by `error`, `suberror`, or `AADSTS` with the number."""
NO_OVERRIDES: Overrides = MappingProxyType({})
UNKNOWN_ERROR = "unknown_error"
"""The code in place of one that must not be stored or shown."""
# The longest AADSTS numbers have seven digits.
_DIGITS = 10
_NUMBERS_READ = 8
_DESCRIBED = re.compile(r"\bAADSTS(\d{4,9})\b", re.ASCII)
_DESCRIPTION_READ = 4000
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)


def read_overrides(settings: ProviderSettings) -> Overrides:
    """The rules of `error_overrides`.

    Raises:
        InvalidValue: a rule names no known class; the error has the key and the accepted classes.
    """
    for code, name in settings.error_overrides.items():
        if not _CODE.fullmatch(code):
            raise settings.invalid("error_overrides", "not_an_error_code", value=code)
        if name not in CLASSES:
            raise settings.invalid(f"error_overrides.{code}", "not_an_error_class", value=name, known=list(CLASSES))
    return MappingProxyType({code: CLASSES[name] for code, name in settings.error_overrides.items()})


def read_error(document: Mapping[str, Any], overrides: Overrides = NO_OVERRIDES) -> OAuthError | None:
    """Look an error reply up in the tables; None if the document is not an error reply (RFC 6749 section 5.2)."""
    error = document.get("error")
    if not isinstance(error, str) or not error:
        return None
    numbers = _numbers(document.get("error_codes"))
    found = (
        _overridden(numbers, overrides)
        or _by_number([number for number in numbers if number not in _GENERIC], error)
        or _by_detail(document, numbers, overrides)
        or _by_error(error, numbers, overrides)
    )
    return replace(found, reply=read_reply(document, found.code))


def _overridden(numbers: Sequence[int], overrides: Overrides) -> OAuthError | None:
    codes = map(_aadsts, numbers)
    return next((OAuthError(overrides[code], code) for code in codes if code in overrides), None)


def _by_number(numbers: Sequence[int], error: str) -> OAuthError | None:
    known = ((number, AADSTS[number]) for number in numbers if number in AADSTS)
    # `invalid_grant` is about the grant, so a number beside it can't make it a fault of the client.
    fitting = (
        OAuthError(rule, _aadsts(number))
        for number, rule in known
        if not (error == "invalid_grant" and rule.verdict is Verdict.CLIENT_FAULT)
    )
    return next(fitting, None)


def _by_detail(document: Mapping[str, Any], numbers: Sequence[int], overrides: Overrides) -> OAuthError | None:
    for field in ("suberror", "error_subtype"):
        detail = document.get(field)
        if isinstance(detail, str) and (rule := overrides.get(detail) or SUBERRORS.get(detail)):
            return OAuthError(rule, detail if detail in overrides else _code(numbers, detail))
    return None


def _by_error(error: str, numbers: Sequence[int], overrides: Overrides) -> OAuthError:
    if error in overrides:
        return OAuthError(overrides[error], _code(numbers, error))
    generic = _by_number(numbers, error)
    rule = generic.rule if generic else OAUTH_ERRORS.get(error, Rule(Verdict.UNKNOWN))
    return OAuthError(rule, _code(numbers, error))


def _code(numbers: Sequence[int], word: str) -> str:
    """The number to search for, a specific one first; the word if there is no number."""
    specific = sorted(numbers, key=lambda number: number in _GENERIC)
    return _aadsts(specific[0]) if specific else _printable(word)


def _aadsts(number: int) -> str:
    return f"AADSTS{number}"


def poll_outcome(
    error: OAuthError, interval_seconds: int, retry_after_seconds: int | None
) -> Pending | AttemptOver | Transient | ClientFault:
    """The outcome of the error for an attempt that polls every `interval_seconds`."""
    match error.rule.verdict:
        case Verdict.PENDING:
            return Pending(interval_seconds)
        case Verdict.SLOW_DOWN:
            return Pending(interval_seconds + SLOW_DOWN_SECONDS)
        case _:
            return redemption_outcome(error, retry_after_seconds)


def redemption_outcome(error: OAuthError, retry_after_seconds: int | None) -> AttemptOver | Transient | ClientFault:
    """The outcome of the error for an attempt that has sent its code."""
    rule, code = error.rule, error.code
    match rule.verdict:
        case Verdict.ATTEMPT_OVER | Verdict.GRANT_DEAD:
            assert rule.reason
            # The error is about the code: the attempt has no grant yet.
            reason = Reason.CODE_REJECTED if rule.reason is Reason.INVALID_GRANT else rule.reason
            return AttemptOver(reason, code, error.reply)
        case Verdict.CONFIGURATION:
            return AttemptOver(Reason.CONFIGURATION, code, error.reply)
        case Verdict.CLIENT_FAULT:
            return ClientFault(code, rule.setting, reply=error.reply)
        case Verdict.TRANSIENT | Verdict.UNKNOWN | Verdict.PENDING | Verdict.SLOW_DOWN:
            return _transient(error, retry_after_seconds)


def redirect_outcome(error: OAuthError) -> AttemptOver | Transient:
    """The outcome of an error in a redirect (RFC 6749 section 4.1.2.1): the attempt gets no code, whatever the cause.

    After a temporary error of the provider the person can open the sign-in page again.
    """
    outcome = redemption_outcome(error, None)
    return (
        AttemptOver(Reason.CONFIGURATION, outcome.code, outcome.reply) if isinstance(outcome, ClientFault) else outcome
    )


def renewal_outcome(error: OAuthError, retry_after_seconds: int | None) -> GrantDead | Transient | ClientFault:
    """The outcome of the error for a grant; an error that only an attempt can have leaves the grant as it is."""
    rule, code = error.rule, error.code
    match rule.verdict:
        case Verdict.GRANT_DEAD:
            assert rule.reason
            return GrantDead(rule.reason, code, error.reply)
        case Verdict.CLIENT_FAULT:
            return ClientFault(code, rule.setting, reply=error.reply)
        case Verdict.CONFIGURATION:
            return ClientFault(code, rule.setting, Reason.CONFIGURATION, error.reply)
        case Verdict.TRANSIENT | Verdict.UNKNOWN | Verdict.PENDING | Verdict.SLOW_DOWN | Verdict.ATTEMPT_OVER:
            return _transient(error, retry_after_seconds)


def _transient(error: OAuthError, retry_after_seconds: int | None) -> Transient:
    is_known = error.rule.verdict is not Verdict.UNKNOWN
    return Transient(error.code, retry_after_seconds or error.rule.wait_seconds, is_known, reply=error.reply)


def described_numbers(error_description: str) -> list[int]:
    """The AADSTS numbers in the description of a redirect's error."""
    return [int(number) for number in _DESCRIBED.findall(error_description[:_DESCRIPTION_READ])]


def _numbers(value: object) -> list[int]:
    """The numbers of `error_codes` that can be Entra's; a reply may have any JSON value there."""
    if not isinstance(value, list):
        return []
    return [number for number in value if type(number) is int and 0 < number < 10**_DIGITS][:_NUMBERS_READ]


def _printable(code: str) -> str:
    """The code if it has the form of a code: a free text of the provider must not be stored or shown."""
    return code if _CODE.fullmatch(code) else UNKNOWN_ERROR
