"""Reads a kept reply of a token endpoint, and nothing else: the same reply gives the same outcome whenever it is read.

All times count from `Reply.received_at`. Only a definite error in an OAuth reply can say anything about a grant;
an HTTP status alone, a page of HTML or half a JSON object can't.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from adapters.providers.discovery import WrongAuthority
from adapters.providers.errors import (
    NO_OVERRIDES,
    OAuthError,
    Overrides,
    Verdict,
    poll_outcome,
    read_error,
    redemption_outcome,
    renewal_outcome,
)
from adapters.providers.http_client import BODY_LIMIT_BYTES, NoReply, json_object
from adapters.providers.id_tokens import InvalidIdToken
from domain.errors import Failed, Unreachable
from domain.outcomes import (
    AcquisitionOutcome,
    AttemptOver,
    ClientFault,
    Credential,
    DeviceAuthorization,
    Granted,
    Identity,
    InDoubt,
    Reason,
    RenewalOutcome,
    Transient,
)
from domain.ports import Reply
from domain.secret import Secret

DEFAULT_LIFETIME_SECONDS = 3600
# Entra's longest, with continuous access evaluation, is 28 hours; beyond a week it is a mistake.
LONGEST_LIFETIME_SECONDS = 7 * 24 * 3600
LONGEST_GRANT_SECONDS = 10 * 366 * 24 * 3600
LONGEST_RETRY_AFTER_SECONDS = 3600
# RFC 8628 section 3.2: the interval if the reply has none. The lifetime is required; Entra's is what we assume.
DEFAULT_INTERVAL_SECONDS = 5
LONGEST_INTERVAL_SECONDS = 300
DEFAULT_CODE_SECONDS = 900
LONGEST_CODE_SECONDS = 24 * 3600

T = TypeVar("T")
Identify = Callable[[object, datetime], Identity]
"""Validates the ID token of a reply received at that instant; raises InvalidIdToken, NoReply or WrongAuthority."""


def read_poll(
    reply: Reply,
    pending: DeviceAuthorization,
    scope: str,
    identify: Identify,
    overrides: Overrides = NO_OVERRIDES,
) -> AcquisitionOutcome:
    """What a reply to a poll means; `scope` is what was asked for. For the ID token see `_acquired`."""
    match _read(reply, overrides):
        case OAuthError() as error:
            return _doubted(reply, poll_outcome(error, pending.interval_seconds, retry_after_seconds(reply)))
        case Transient() | InDoubt() as outcome:
            return outcome
        case document:
            return _acquired(reply, document, scope, identify)


def read_redemption(
    reply: Reply, scope: str, identify: Identify, overrides: Overrides = NO_OVERRIDES
) -> AcquisitionOutcome:
    """What a reply to an authorization code means; `scope` is what was asked for. For the ID token see `_acquired`."""
    match _read(reply, overrides):
        case OAuthError() as error:
            return _doubted(reply, redemption_outcome(error, retry_after_seconds(reply)))
        case Transient() | InDoubt() as outcome:
            return outcome
        case document:
            return _acquired(reply, document, scope, identify)


def read_app_grant(reply: Reply, scope: str, identity: Identity, overrides: Overrides = NO_OVERRIDES) -> RenewalOutcome:
    """What a reply to a client credentials request for `scope` means; a refresh token in it is of no use."""
    match _read(reply, overrides):
        case OAuthError() as error:
            return _doubted(reply, renewal_outcome(error, retry_after_seconds(reply)))
        case Transient() | InDoubt() as outcome:
            return outcome
        case document:
            credential, warning = _credential(reply, document, scope, None)
            return Granted(replace(credential, refresh_token=None, grant_expires_at=None), identity, warning)


def read_client_fault(reply: Reply, overrides: Overrides = NO_OVERRIDES) -> ClientFault | None:
    """The fault, if the reply refuses what our client registration authenticated with."""
    match _read(reply, overrides):
        case OAuthError(rule, code) if rule.verdict is Verdict.CLIENT_FAULT:
            return ClientFault(code, rule.setting)
        case _:
            return None


def _acquired(reply: Reply, document: Mapping[str, Any], scope: str, identify: Identify) -> AcquisitionOutcome:
    """The grant with who signed in.

    An ID token is required, as it says who that was. While its keys can't be fetched the outcome is `Transient`,
    and the reply is to be read again; no other `Transient` comes of a reply with HTTP 200.
    """
    credential, warning = _credential(reply, document, scope, None)
    try:
        return Granted(credential, identify(document.get("id_token"), reply.received_at), warning)
    except InvalidIdToken as invalid:
        return AttemptOver(Reason.ID_TOKEN_INVALID, invalid.check)
    except (NoReply, WrongAuthority) as trouble:
        return Transient(f"the ID token can't be validated now: {trouble}")


def read_renewal(
    reply: Reply, old: Credential, identify: Identify, overrides: Overrides = NO_OVERRIDES
) -> RenewalOutcome:
    """What a reply to a renewal of `old` means.

    The account was validated when the grant was obtained, and the old refresh token may be spent by now: so an ID
    token that is missing, or can't be validated, costs the identity and never the renewed credential.
    """
    match _read(reply, overrides):
        case OAuthError() as error:
            return _doubted(reply, renewal_outcome(error, retry_after_seconds(reply)))
        case Transient() | InDoubt() as outcome:
            return outcome
        case document:
            credential, warning = _credential(reply, document, old.scope, old.refresh_token)
    if document.get("id_token") is None:
        return Granted(credential, None, warning)
    try:
        return Granted(credential, identify(document["id_token"], reply.received_at), warning)
    except InvalidIdToken as invalid:
        return Granted(credential, None, f"the renewal's ID token is not valid: {invalid.check}")
    except (NoReply, WrongAuthority):
        return Granted(credential, None, warning)


def read_grant(reply: Reply) -> Credential | None:
    """What a reply grants, whoever asked for it and whatever for; None if nothing."""
    match _read(reply, NO_OVERRIDES):
        case OAuthError() | Transient() | InDoubt():
            return None
        case document:
            return _credential(reply, document, "", None)[0]


def read_device_authorization(
    provider: str, reply: Reply, scope: str, overrides: Overrides = NO_OVERRIDES
) -> DeviceAuthorization:
    """What a reply to a device authorization request for `scope` gives (RFC 8628 section 3.2).

    Raises:
        Unreachable: nothing, for now.
        Failed: the provider refuses; the message names the setting to correct.
    """
    document = json_object(reply.body) or {}
    error = read_error(document, overrides)
    if error is not None and not _is_trouble(reply.status) and error.rule.verdict is not Verdict.TRANSIENT:
        setting = error.rule.setting or "client_id and scopes"
        raise Failed(f"provider {provider} gives no device code ({error.code}): correct its {setting}")
    device_code, user_code = _text(document, "device_code"), _text(document, "user_code")
    # Google's reply says `verification_url`.
    verification_uri = _text(document, "verification_uri") or _text(document, "verification_url")
    if not (device_code and user_code and verification_uri and verification_uri.startswith("https://")):
        raise Unreachable(f"provider {provider} gave no device code (HTTP {reply.status}): try again")
    interval = _clamped(document.get("interval"), DEFAULT_INTERVAL_SECONDS, LONGEST_INTERVAL_SECONDS)
    lifetime = _clamped(document.get("expires_in"), DEFAULT_CODE_SECONDS, LONGEST_CODE_SECONDS)
    return DeviceAuthorization(
        user_code=user_code,
        verification_uri=verification_uri,
        verification_uri_complete=_text(document, "verification_uri_complete"),
        interval_seconds=interval,
        expires_at=reply.received_at + timedelta(seconds=lifetime),
        state=Secret(json.dumps({"device_code": device_code, "scope": scope})),
    )


def retry_after_seconds(reply: Reply) -> int | None:
    """What Retry-After asks for, as seconds or as a date (RFC 9110 section 10.2.3), from 1 second to an hour."""
    text = next((value for name, value in reply.headers if name.lower() == "retry-after"), None)
    if text is None:
        return None
    try:
        seconds = float(text) if text.strip().isdecimal() else _seconds_until(text, reply.received_at)
    except (ValueError, OverflowError):
        return None
    return int(min(max(seconds, 1), LONGEST_RETRY_AFTER_SECONDS))


def lifetime_seconds(document: Mapping[str, Any]) -> tuple[int, str | None]:
    """The access token's life from `expires_in` (RFC 6749 section 5.1), and a warning if it can't be taken as it is."""
    value = document.get("expires_in")
    seconds = _number(value)
    if seconds is None or seconds <= 0:
        return DEFAULT_LIFETIME_SECONDS, f"no usable expires_in: {DEFAULT_LIFETIME_SECONDS} seconds are assumed"
    if seconds > LONGEST_LIFETIME_SECONDS:
        return LONGEST_LIFETIME_SECONDS, f"expires_in is beyond {LONGEST_LIFETIME_SECONDS} seconds: taken as that"
    return int(seconds), "expires_in is a string" if isinstance(value, str) else None


def _read(reply: Reply, overrides: Overrides) -> Mapping[str, Any] | OAuthError | Transient | InDoubt:
    """The document of a successful reply (RFC 6749 section 5.1), or what the reply is instead."""
    document = json_object(reply.body)
    error = read_error(document or {}, overrides)
    # Google says `slow_down` with 403, others with 429: the code is worth more than the status.
    if error is not None and error.rule.verdict in {Verdict.PENDING, Verdict.SLOW_DOWN} and reply.status < 500:
        return error
    if _is_trouble(reply.status):
        return Transient(f"HTTP {reply.status}", retry_after_seconds(reply))
    if error is not None:
        return error
    if not 200 <= reply.status < 300:
        return Transient(f"HTTP {reply.status} without an OAuth error", retry_after_seconds(reply))
    return _usable(document) if document is not None else InDoubt(_why_not_json(reply))


def _doubted(reply: Reply, outcome: T) -> T | InDoubt:
    """The outcome; but a success that is an error and decides nothing would decide nothing whenever it is read."""
    if isinstance(outcome, Transient) and reply.status < 300:
        return InDoubt(f"an error with HTTP {reply.status}: {outcome.why}")
    return outcome


def _usable(document: Mapping[str, Any]) -> Mapping[str, Any] | InDoubt:
    if _text(document, "access_token") is None:
        return InDoubt("a reply without an access token")
    # A client must not use a token of a type it does not understand (RFC 6749 section 7.1).
    if str(document.get("token_type", "Bearer")).lower() != "bearer":
        return InDoubt("an access token that is not a bearer token")
    return document


def _credential(
    reply: Reply, document: Mapping[str, Any], scope: str, refresh_token: Secret | None
) -> tuple[Credential, str | None]:
    """The credential and a warning; scope and refresh token stay what they are if the reply has none."""
    seconds, warning = lifetime_seconds(document)
    new_refresh_token = _text(document, "refresh_token")
    return Credential(
        access_token=Secret(document["access_token"]),
        refresh_token=Secret(new_refresh_token) if new_refresh_token else refresh_token,
        scope=_text(document, "scope") or scope,
        issued_at=reply.received_at,
        expires_at=reply.received_at + timedelta(seconds=seconds),
        grant_expires_at=_grant_expiry(reply, document),
    ), warning


def _grant_expiry(reply: Reply, document: Mapping[str, Any]) -> datetime | None:
    """When the refresh token ends, as Google (`refresh_token_expires_in`) and Keycloak (`refresh_expires_in`) say it.

    Keycloak's 0 is an offline token, which has no such end.
    """
    seconds = _number(document.get("refresh_token_expires_in", document.get("refresh_expires_in")))
    if seconds is None or not 0 < seconds <= LONGEST_GRANT_SECONDS:
        return None
    return reply.received_at + timedelta(seconds=seconds)


def _is_trouble(status: int) -> bool:
    return status >= 500 or status in {408, 429}


def _why_not_json(reply: Reply) -> str:
    if len(reply.body) > BODY_LIMIT_BYTES:
        return f"a reply larger than {BODY_LIMIT_BYTES} bytes"
    return "a reply that is not a JSON object"


def _text(document: Mapping[str, Any], field: str) -> str | None:
    """A field in the characters OAuth allows (RFC 6749 appendix A: VSCHAR), so never one with a line break."""
    value = document.get(field)
    return value if isinstance(value, str) and value and value.isascii() and value.isprintable() else None


def _number(value: object) -> float | None:
    """A number, also one that came as a string; no booleans, no NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except OverflowError:
        return math.inf
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _clamped(value: object, default: int, longest: int) -> int:
    number = _number(value)
    return default if number is None or number < 0 else int(min(max(number, 1), longest))


def _seconds_until(http_date: str, received_at: datetime) -> float:
    instant = parsedate_to_datetime(http_date)
    return ((instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - received_at).total_seconds()
