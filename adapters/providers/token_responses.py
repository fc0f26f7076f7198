"""Reads a kept reply of a token endpoint. An outcome depends on the reply only, not on the time of the reading.

All times count from `Reply.received_at`. Only a definite error in an OAuth reply can end a grant; an HTTP status alone,
an HTML page or a truncated JSON object can't.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from adapters.http_client import BODY_LIMIT_BYTES, NoReply, json_object
from adapters.providers.discovery import WrongAuthority, is_https
from adapters.providers.error_table import (
    NO_OVERRIDES,
    OAuthError,
    Overrides,
    Verdict,
    poll_outcome,
    read_error,
    redemption_outcome,
    renewal_outcome,
)
from adapters.providers.id_tokens import InvalidIdToken
from adapters.providers.provider_words import safe_words, without_secrets
from domain.errors import ProviderRefused, Unreachable
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
# Entra's longest lifetime, with continuous access evaluation, is 28 hours; more than a week is a mistake.
LONGEST_LIFETIME_SECONDS = 7 * 24 * 3600
LONGEST_GRANT_SECONDS = 10 * 366 * 24 * 3600
LONGEST_RETRY_AFTER_SECONDS = 3600
# RFC 8628 section 3.2: the interval if the reply has none. A reply must have a lifetime; the default is Entra's.
DEFAULT_INTERVAL_SECONDS = 5
LONGEST_INTERVAL_SECONDS = 300
DEFAULT_CODE_SECONDS = 900
LONGEST_CODE_SECONDS = 24 * 3600

# OpenID Connect Core sections 5.4 and 11.
_SIGN_IN_SCOPES = frozenset({"openid", "profile", "email", "address", "phone", "offline_access"})

T = TypeVar("T")
Identify = Callable[[object, datetime, Secret | None], Identity]
"""Validates the ID token of a reply received at that instant; raises InvalidIdToken, NoReply or WrongAuthority.

With the access token of the reply it may also ask the UserInfo endpoint.
"""


def read_poll(
    reply: Reply,
    pending: DeviceAuthorization,
    scope: str,
    identify: Identify,
    overrides: Overrides = NO_OVERRIDES,
) -> AcquisitionOutcome:
    """The outcome of a reply to a poll; `scope` is the requested scope. For the ID token see `_acquired`."""
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
    """The outcome of a code's redemption; `scope` is the requested scope. For the ID token see `_acquired`."""
    match _read(reply, overrides):
        case OAuthError() as error:
            return _doubted(reply, redemption_outcome(error, retry_after_seconds(reply)))
        case Transient() | InDoubt() as outcome:
            return outcome
        case document:
            return _acquired(reply, document, scope, identify)


def read_app_grant(reply: Reply, scope: str, identity: Identity, overrides: Overrides = NO_OVERRIDES) -> RenewalOutcome:
    """The outcome of a reply to a client credentials request for `scope`; a refresh token in it is not used."""
    match _read(reply, overrides):
        case OAuthError() as error:
            return _doubted(reply, renewal_outcome(error, retry_after_seconds(reply)))
        case Transient() | InDoubt() as outcome:
            return outcome
        case document:
            credential, warning = _credential(reply, document, scope, None)
            bare = replace(credential, refresh_token=None, grant_expires_at=None, requested_scope=scope)
            return Granted(bare, identity, warning, missing_scope(scope, document))


def read_client_fault(reply: Reply, overrides: Overrides = NO_OVERRIDES) -> ClientFault | None:
    """The fault, if the reply refuses the client's credential."""
    match _read(reply, overrides):
        case OAuthError(rule, code, reply=words) if rule.verdict is Verdict.CLIENT_FAULT:
            return ClientFault(code, rule.setting, reply=words)
        case _:
            return None


def _acquired(reply: Reply, document: Mapping[str, Any], scope: str, identify: Identify) -> AcquisitionOutcome:
    """The grant with the identity of the person who signed in.

    An ID token is required, since it holds the identity. While its keys can't be fetched the outcome is `Transient`,
    and the reply must be read again; no other `Transient` comes of a reply with HTTP 200.
    """
    credential, warning = _credential(reply, document, scope, None)
    credential, missing = replace(credential, requested_scope=scope), missing_scope(scope, document)
    try:
        identity = identify(document.get("id_token"), reply.received_at, credential.access_token)
        return Granted(credential, identity, warning, missing)
    except InvalidIdToken as invalid:
        return AttemptOver(Reason.ID_TOKEN_INVALID, invalid.check)
    except NoReply as trouble:
        return Transient(trouble.why if trouble.why == "userinfo_unavailable" else "id_token_keys_unavailable")
    except WrongAuthority as wrong:
        return Transient(wrong.why if wrong.why == "private_address" else "id_token_keys_unavailable")


def read_renewal(
    reply: Reply, old: Credential, identify: Identify, overrides: Overrides = NO_OVERRIDES
) -> RenewalOutcome:
    """The outcome of a reply to a renewal of `old`.

    The account was validated when the grant was obtained, and the old refresh token may be spent by now. An ID token
    that is missing, or can't be validated, therefore costs the identity and never the renewed credential.
    """
    match _read(reply, overrides):
        case OAuthError() as error:
            return _doubted(reply, renewal_outcome(error, retry_after_seconds(reply)))
        case Transient() | InDoubt() as outcome:
            return outcome
        case document:
            credential, warning = _credential(reply, document, old.scope, old.refresh_token)
    credential = replace(credential, requested_scope=old.requested_scope)
    missing = missing_scope(old.requested_scope or old.scope, document)
    if document.get("id_token") is None:
        return Granted(credential, None, warning, missing)
    try:
        return Granted(credential, identify(document["id_token"], reply.received_at, None), warning, missing)
    except (NoReply, WrongAuthority):
        return Granted(credential, None, warning, missing)
    except Exception:  # InvalidIdToken, or any other: the credential is good in each case
        return Granted(credential, None, "renewal_id_token_invalid", missing)


def missing_scope(requested: str, document: Mapping[str, Any]) -> str:
    """The mail scopes in `requested` that a reply does not grant; empty if it grants all or has no `scope`.

    A reply without `scope` grants the requested one (RFC 6749 section 5.1). Providers also answer with an array, with
    commas, without the resource in front of a scope, or with the other of Exchange Online's two addresses. A `.default`
    scope stands for scopes with other names. The scopes of OpenID Connect are for the sign-in and not for the mail.
    """
    value = document.get("scope")
    if isinstance(value, list):
        value = " ".join(one for one in value if isinstance(one, str))
    if not isinstance(value, str):
        return ""
    granted = {_scope_key(one) for one in value.replace(",", " ").split()}
    wanted = (one for one in requested.split() if one not in _SIGN_IN_SCOPES and not one.endswith("/.default"))
    return " ".join(one for one in wanted if not {_scope_key(one), _scope_key(one).rpartition("/")[2]} & granted)


def _scope_key(scope: str) -> str:
    return scope.casefold().replace("https://outlook.office365.com/", "https://outlook.office.com/")


def read_grant(reply: Reply) -> Credential | None:
    """The grant in a reply to any kind of request; None if the reply grants nothing."""
    match _read(reply, NO_OVERRIDES):
        case OAuthError() | Transient() | InDoubt():
            return None
        case document:
            return _credential(reply, document, "", None)[0]


def read_device_authorization(
    provider: str, reply: Reply, scope: str, overrides: Overrides = NO_OVERRIDES, secrets: Sequence[Secret] = ()
) -> DeviceAuthorization:
    """The device authorization in a reply to a request for `scope` (RFC 8628 section 3.2).

    `secrets` are those of the request, which no error may have.

    Raises:
        Unreachable: the reply gives no device code for now.
        ProviderRefused: the provider refuses; `setting` names what to correct.
    """
    document = json_object(reply.body) or {}
    error = read_error(document, overrides)
    if error is not None and not _is_trouble(reply.status) and error.rule.verdict is not Verdict.TRANSIENT:
        setting = error.rule.setting or "client_id and scopes"
        words = without_secrets(error.reply, secrets).facts if error.reply else {}
        raise ProviderRefused("device_code_refused", provider=provider, error=error.code, setting=setting, **words)
    device_code, user_code = _text(document, "device_code"), _text(document, "user_code")
    # Google's reply names the field `verification_url`.
    verification_uri = _text(document, "verification_uri") or _text(document, "verification_url")
    if not (device_code and user_code and verification_uri):
        raise Unreachable("no_device_code", provider=provider, status=reply.status)
    if not is_https(verification_uri):
        raise ProviderRefused("verification_uri_not_https", provider=provider, uri=safe_words(verification_uri))
    interval = _clamped(document.get("interval"), DEFAULT_INTERVAL_SECONDS, LONGEST_INTERVAL_SECONDS)
    lifetime = _clamped(document.get("expires_in"), DEFAULT_CODE_SECONDS, LONGEST_CODE_SECONDS)
    return DeviceAuthorization(
        user_code=user_code,
        verification_uri=verification_uri,
        verification_uri_complete=_of_same_origin(_text(document, "verification_uri_complete"), verification_uri),
        interval_seconds=interval,
        expires_at=reply.received_at + timedelta(seconds=lifetime),
        state=Secret(json.dumps({"device_code": device_code, "scope": scope})),
    )


def _of_same_origin(complete: str | None, verification_uri: str) -> str | None:
    """The address with the code in it, if it leads to the page that the person is told; None for any other address."""
    if complete is None or not is_https(complete):
        return None
    page, other = urlsplit(verification_uri), urlsplit(complete)
    return complete if (page.hostname, page.port or 443) == (other.hostname, other.port or 443) else None


def retry_after_seconds(reply: Reply) -> int | None:
    """The wait in Retry-After, given as seconds or as a date (RFC 9110 section 10.2.3), from 1 second to an hour."""
    text = next((value for name, value in reply.headers if name.lower() == "retry-after"), None)
    if text is None:
        return None
    try:
        seconds = float(text) if text.strip().isdecimal() else _seconds_until(text, reply.received_at)
    except (ValueError, OverflowError):
        return None
    return int(min(max(seconds, 1), LONGEST_RETRY_AFTER_SECONDS))


def lifetime_seconds(document: Mapping[str, Any]) -> tuple[int, str | None]:
    """The access token's lifetime from `expires_in` (RFC 6749 section 5.1), and a warning if the value is corrected."""
    value = document.get("expires_in")
    seconds = _number(value)
    if seconds is None or seconds <= 0:
        return DEFAULT_LIFETIME_SECONDS, "expires_in_assumed"
    if seconds > LONGEST_LIFETIME_SECONDS:
        # Milliseconds, or nonsense: the token may end at any time.
        return DEFAULT_LIFETIME_SECONDS, "expires_in_capped"
    return int(seconds), "expires_in_is_text" if isinstance(value, str) else None


def _read(reply: Reply, overrides: Overrides) -> Mapping[str, Any] | OAuthError | Transient | InDoubt:
    """The document of a successful reply (RFC 6749 section 5.1), else the error or the outcome of the reply."""
    document = json_object(reply.body)
    error = read_error(document or {}, overrides)
    # Google sends `slow_down` with status 403, others with 429: the code takes precedence over the status.
    if error is not None and error.rule.verdict in {Verdict.PENDING, Verdict.SLOW_DOWN} and reply.status < 500:
        return error
    if _is_trouble(reply.status):
        why = f"HTTP {reply.status}"
        words = replace(error.reply, code=why) if error and error.reply else None
        return Transient(why, retry_after_seconds(reply), reply=words)
    if error is not None:
        return error
    if not 200 <= reply.status < 300:
        return Transient(f"HTTP {reply.status}", retry_after_seconds(reply))
    return _usable(document) if document is not None else InDoubt(_why_not_json(reply))


def _doubted(reply: Reply, outcome: T) -> T | InDoubt:
    """The outcome, but `InDoubt` for a `Transient` with a success status, which a second reading can't decide."""
    if isinstance(outcome, Transient) and reply.status < 300:
        return InDoubt("error_in_success_reply", outcome.why, outcome.reply)
    return outcome


def _usable(document: Mapping[str, Any]) -> Mapping[str, Any] | InDoubt:
    if _text(document, "access_token") is None:
        return InDoubt("no_access_token")
    # A client must not use a token of a type it does not understand (RFC 6749 section 7.1).
    token_type = document.get("token_type", "Bearer")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        return InDoubt("not_a_bearer_token")
    return document


def _credential(
    reply: Reply, document: Mapping[str, Any], scope: str, refresh_token: Secret | None
) -> tuple[Credential, str | None]:
    """The credential and a warning; the given scope and refresh token stay if the reply has no new ones."""
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
    """The end of the refresh token, which Google (`refresh_token_expires_in`) and Keycloak (`refresh_expires_in`) send.

    Keycloak sends 0 for an offline token, which does not expire.
    """
    seconds = _number(document.get("refresh_token_expires_in", document.get("refresh_expires_in")))
    if seconds is None or not 0 < seconds <= LONGEST_GRANT_SECONDS:
        return None
    return reply.received_at + timedelta(seconds=seconds)


def _is_trouble(status: int) -> bool:
    return status >= 500 or status in {408, 429}


def _why_not_json(reply: Reply) -> str:
    if len(reply.body) > BODY_LIMIT_BYTES:
        return "reply_too_large"
    return "not_json"


def _text(document: Mapping[str, Any], field: str) -> str | None:
    """A field with only the characters that OAuth allows (RFC 6749 appendix A: VSCHAR), so without a line break."""
    value = document.get(field)
    return value if isinstance(value, str) and value and value.isascii() and value.isprintable() else None


def _number(value: object) -> float | None:
    """The value as a number, also if it is a string of digits; None for booleans and NaN."""
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
