"""The sentences of reasons (why an attempt or a token ended) and alarms (what a running service found), by code.

Stored and sent are only the codes. A sentence is a fact and the next step, as in `adapters.texts.errors`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from adapters.texts.provider_place import with_place
from adapters.texts.provider_replies import said_text, why_text
from adapters.texts.wording import ErrorText, Surface
from domain.outcomes import GRANT_LEFT, GrantWarning, Reason

_GET_AGAIN = "get the token again"

# The keys of alarms are literals: the modules that define them take longer to import than most commands take to run.
REASONS: Mapping[str, ErrorText] = MappingProxyType(
    {
        Reason.EXPIRED_TOKEN: ErrorText("The code ran out before anybody signed in", step=_GET_AGAIN),
        Reason.ACCESS_DENIED: ErrorText("The sign-in was declined", step="get the token again and approve it"),
        Reason.CODE_REJECTED: ErrorText("The provider did not accept the code", step=_GET_AGAIN),
        Reason.CANCELLED: ErrorText(
            "The sign-in was cancelled", step="get the token when somebody is there to sign in"
        ),
        Reason.CLIENT_CHANGED: ErrorText(
            "The provider's client registration was changed during the sign-in", step=_GET_AGAIN
        ),
        Reason.RESTORED: ErrorText("The sign-in was under way when the store was restored", step=_GET_AGAIN),
        Reason.WRONG_ACCOUNT: ErrorText(
            "Another account signed in", step="get the token again and sign in with the setting's account"
        ),
        Reason.ID_TOKEN_INVALID: ErrorText(
            "The provider's proof of who signed in is not valid, so nothing was stored",
            step="check the provider's issuer and client_id {there}",
        ),
        Reason.CONFIGURATION: ErrorText(
            "The provider refuses what it was asked for",
            step="correct the provider {there} (tenant or issuer, client_id, scopes), then get the token again",
        ),
        Reason.CLIENT_REFUSED: ErrorText(
            "The provider refuses our client registration",
            step="correct client_id, {client_secret} or {certificate} of the provider {there}, then get the token"
            " again",
        ),
        Reason.SCOPE_NOT_GRANTED: ErrorText(
            "The mail permission was not granted, so nothing was stored",
            step="get the token again and allow the access to mail, or have the provider's administrator allow it",
        ),
        Reason.PROVIDER_FAILED: ErrorText(
            "The time for the sign-in ran out while the provider gave no answer that could be used",
            step="see that the provider can be reached, then get the token again",
        ),
        Reason.ACCOUNT_RENAMED: ErrorText(
            "The account has another address at the provider now",
            step="get the token again with this address",
        ),
        Reason.ACCOUNT_RECREATED: ErrorText(
            "The provider has another account of this address than before",
            step="delete the token, then get it again",
        ),
        Reason.INVALID_GRANT: ErrorText("The provider does not accept this authorization any more", step=_GET_AGAIN),
        Reason.REPLY_LOST: ErrorText(
            "A reply of the provider was lost, in a crash or on its way, and the credential before it is not accepted"
            " any more",
            step="sign in again (get the token again)",
        ),
        Reason.SIGN_IN_FREQUENCY: ErrorText(
            "A policy of the provider asks for a new sign-in after some time",
            step="get the token again, or have the account exempted from the policy",
        ),
        Reason.INTERACTION_REQUIRED: ErrorText("The provider wants the person to sign in again", step=_GET_AGAIN),
        Reason.ACCOUNT_NOT_AVAILABLE: ErrorText(
            "The account is disabled, locked or not allowed to use this application",
            step="have it enabled, then renew the token",
        ),
        Reason.POLICY: ErrorText(
            "A policy of the provider (such as Conditional Access) does not allow it",
            step="have the provider's administrator allow it, then get the token again",
        ),
        Reason.CONSENT_REQUIRED: ErrorText(
            "Nobody has consented to this application yet",
            step="have the provider's administrator consent, then get the token again",
        ),
        Reason.EXPIRED: ErrorText(
            "The access token's time is over and there is nothing to renew it with", step=_GET_AGAIN
        ),
    }
)
ALARMS: Mapping[str, ErrorText] = MappingProxyType(
    {
        "on_hold": ErrorText(
            "The store was restored from a backup and is on hold: no token is renewed",
            step="see that the service that was backed up does not run any more, then resume",
            command="see that the service that was backed up does not run any more, then run mailtoken resume",
        ),
        "log_behind": ErrorText(
            "The log is shorter than this service has seen it, as if an older copy was put back. The store is on hold:"
            " no token is renewed",
            step="put the newer store back; or see that nothing newer runs elsewhere, then resume",
            command="put the newer store back; or see that nothing newer runs elsewhere, then run mailtoken resume",
        ),
        "log_differs": ErrorText(
            "The log is not the one that this service has seen: it was changed, or is another copy's. The store is on"
            " hold: no token is renewed",
            step="put the right store back; or find out what happened to this one, then resume and say why",
            command="put the right store back; or run mailtoken audit verify, then mailtoken resume --because TEXT",
        ),
        "backup_old": ErrorText(
            "The last backup is old",
            step="make another one",
            command="run mailtoken backup FILE, and see that its timer runs",
        ),
        "row_altered": ErrorText(
            "Something else than this program altered rows of the store, and they are not used",
            step="have an administrator verify the log and make the rows from it again",
            command="mailtoken audit verify names them, and mailtoken audit rebuild makes them from the log again",
        ),
        "vault_damaged": ErrorText(
            "The stored credential of this token can't be opened",
            step="restore the store from a backup, or delete the token and get it again",
        ),
        "client_registration": ErrorText(
            "The provider refuses our client registration, not the token",
            step="correct client_id, {client_secret} or {certificate} of the provider {there}",
        ),
        "reply_in_doubt": ErrorText(
            "A reply of the provider made no sense; it is kept and the token is unchanged",
            step="look at the service's log, then renew the token",
        ),
        "sign_in_failing": ErrorText(
            "The provider gives no answer that could be used to a sign-in, which is tried again",
            step="see that the provider can be reached; the sign-in then completes by itself",
        ),
        "unknown_error": ErrorText(
            "The provider answers with an error that Mailtoken does not know; the token is unchanged",
            step="look for the error in the service's log, and add its meaning to {errors}",
        ),
        "grant_ends": ErrorText(
            "The authorization is about to end and could not be renewed",
            step="see that the provider can be reached, then renew the token or get it again",
        ),
        "sign_in_due": ErrorText(
            "A policy of the provider will soon ask for a new sign-in, as it did before at this age",
            step="get the token again, or have the account exempted from the policy",
        ),
        "provider_left": ErrorText(
            "The token's provider is not in the configuration any more, so nothing renews the token",
            step="put the provider back into the configuration under its name",
            command="put the provider back into the configuration under its name, or after renaming it there run"
            " mailtoken provider rename OLD NEW",
        ),
        "client_secret_expires": ErrorText(
            "The provider's client secret is about to expire",
            step="make a new one, put it into {client_secret} of the provider {there} and correct"
            " client_secret_expires",
        ),
    }
)
WARNINGS: Mapping[str, ErrorText] = MappingProxyType(
    {
        GrantWarning.NOT_RENEWABLE: ErrorText(
            "The provider gave no refresh token, so the token ends with its access token",
            step="have the provider allow offline access (the scope offline_access) for this application, then get the"
            " token again",
        ),
        GrantWarning.SCOPE_MISSING: ErrorText(
            "The last renewal lacks the mail permission",
            step="have the provider's administrator allow the access to mail again, or get the token again",
        ),
        GrantWarning.ANOTHER_ACCOUNT: ErrorText(
            "The last renewal was for another account; it is kept sealed and unused",
            step="ask the provider's administrator whose account it is, or delete the token and get it again",
        ),
        GrantWarning.NEW_ADDRESS: ErrorText(
            "The account has another address at the provider now",
            step="get the token again with this address",
        ),
    }
)
"""The sentences of the reasons why a person is needed for a credential that works."""

_RENAMED = ErrorText(
    "{account} has the address {signed_in_as} at the provider now",
    command="take it over with mailtoken token get --account {signed_in_as}",
    page="take it over with Get Token",
    api='get the token with "account": "{signed_in_as}"',
)
WITH_NAMES: Mapping[str, ErrorText] = MappingProxyType(
    {
        Reason.WRONG_ACCOUNT: ErrorText(
            "{signed_in_as} signed in where {account} was asked for",
            step="get the token again and sign in as {account}, or correct the setting's account first",
            page="get the token again and sign in as {account}, or correct the setting's Account Name first",
        ),
        Reason.ACCOUNT_RENAMED: _RENAMED,
        Reason.ACCOUNT_RECREATED: ErrorText(
            "The provider has another account {account} than the one that signed in before",
            step="if the account was made anew, delete the token, then get it again",
            command="if the account was made anew, take it over with mailtoken token get --account {account}",
            page="if the account was made anew, take it over with Get Token",
        ),
        GrantWarning.ANOTHER_ACCOUNT: ErrorText(
            "The last renewal was for {signed_in_as} and not for {account}; it is kept sealed and unused",
            step="ask the provider's administrator whose account it is, or delete the token and get it again",
        ),
        GrantWarning.NEW_ADDRESS: _RENAMED,
    }
)
"""The sentences that take the place of the above where both accounts are known."""

_WRONG_SETTING = ErrorText(
    "The provider refuses our client registration or what it was asked for, not the token",
    step="correct {setting} of the provider {there}",
)
_UNKNOWN_SIGNER = ErrorText(
    "No key of the provider has signed its proof of who signed in, so nothing was stored",
    step="check the provider's issuer {there}, and have its ID tokens signed with a public-key algorithm such as RS256",
)
AT_SIGN_IN: Mapping[str, ErrorText] = MappingProxyType(
    {
        Reason.INTERACTION_REQUIRED: ErrorText(
            "The provider wants more of the person who signs in, such as a second factor or another password",
            step=_GET_AGAIN,
        ),
        "reply_in_doubt": ErrorText(
            "A reply of the provider to the sign-in made no sense; it is kept, and the sign-in is tried again",
            step="look at the service's log if this goes on",
        ),
        Reason.ACCOUNT_NOT_AVAILABLE: ErrorText(
            "The account is disabled, locked or not allowed to use this application",
            step="have it enabled, then get the token again",
        ),
    }
)
"""The sentences for a sign-in that has brought no token, so that there is nothing to renew."""

_PASSWORD_EXPIRED = ErrorText(
    "The password of the account has expired",
    step="have the account's password changed, then get the token again",
)
_NOT_IN_TENANT = ErrorText(
    "The account is not in the tenant that is configured",
    step="correct the setting's account or tenant of the provider, or have the account invited to the tenant, then get"
    " the token again",
)


def _aadsts(text: ErrorText, *numbers: int) -> dict[str, ErrorText]:
    return {f"AADSTS{number}": text for number in numbers}


BY_PROVIDER_CODE: Mapping[str, ErrorText] = MappingProxyType(
    {
        "AADSTS50055": _PASSWORD_EXPIRED,
        **_aadsts(_NOT_IN_TENANT, 16003, 50020, 50034, 51004, 90072),
        "AADSTS50144": _PASSWORD_EXPIRED,
        "AADSTS700084": ErrorText(
            "The application is registered as a single-page application, whose sign-ins end after 24 hours",
            step="have the redirect URI moved from Single-page application to Mobile and desktop applications in the"
            " application's registration, then get the token again",
        ),
        "AADSTS53003": ErrorText(
            "A Conditional Access policy does not allow it; many policies block device codes only",
            step="get the token with the browser flow, or have the provider's administrator allow it",
            command="get the token with --flow browser, or have the provider's administrator allow it",
        ),
        "account_claims": ErrorText(
            "The provider does not say the address of the account that signed in, so nothing was stored",
            step="name the claim that has the address in the provider's account_claims, or have the provider give the"
            " claim email, then get the token again",
        ),
        "id_token": ErrorText(
            "The provider gave no ID token, which says who signed in, so nothing was stored",
            step="have the provider allow the scope openid for this application, then get the token again",
        ),
        "unreadable": ErrorText(
            "The provider's ID token, which says who signed in, can't be read, so nothing was stored",
            step="get the token again, and have the provider's administrator look at its ID tokens if it stays so",
        ),
        "nonce": ErrorText(
            "The provider's ID token is of another sign-in, so nothing was stored",
            step="get the token again in one browser, from its link to its end",
        ),
        "kid": _UNKNOWN_SIGNER,
        "signature": _UNKNOWN_SIGNER,
    }
)
"""The sentences that take the place of a reason's, by the provider's error code or the check that failed."""
_REDIRECT_URI = ErrorText(
    "The address that the browser comes back to is not registered at the provider",
    step="have the redirect URI added to the application's registration",
)
_SINGLE_PAGE = ErrorText(
    "The redirect URI is registered for a single-page application",
    step="have it moved from Single-page application to Mobile and desktop applications in the application's"
    " registration",
)
_TENANT = ErrorText(
    "The provider does not accept the tenant that it was asked for",
    step="correct tenant or issuer of the provider {there}",
)
_SCOPES = ErrorText(
    "The provider does not accept the permissions that it was asked for",
    step="correct scopes of the provider {there}, or have the permissions added to the application's registration",
)
_APPLICATION = ErrorText(
    "The provider does not know the application",
    step="correct client_id of the provider {there}, or its tenant or issuer",
)

OF_REGISTRATION: Mapping[str, ErrorText] = MappingProxyType(
    {
        **_aadsts(_TENANT, 50059, 50128, 50194, 90002, 90019, 90038, 900023, 9001023, 9002332),
        **_aadsts(_SCOPES, 28002, 50001, 65002, 65005, 70011, 500011, 500014, 650053, 650057, 700022),
        **dict.fromkeys(("invalid_scope", "invalid_target"), _SCOPES),
        **_aadsts(_APPLICATION, 70001, 700016),
        **_aadsts(_REDIRECT_URI, 50011, 500112, 500113, 900971),
        **dict.fromkeys(("redirect_uri_mismatch", "INVALID_REDIRECT_URI", "INVALID_CALLBACK"), _REDIRECT_URI),
        **_aadsts(_SINGLE_PAGE, 9002325, 9002326, 9002327),
        "AADSTS50053": ErrorText(
            "The account is locked, mostly after wrong passwords", step="wait or have it unlocked"
        ),
        "AADSTS50105": ErrorText(
            "The account is not assigned to the application",
            step="have the provider's administrator assign it (Enterprise applications, Users and groups)",
        ),
        "AADSTS700025": ErrorText(
            "The application is registered as a public client, which has no secret",
            step="take {client_secret} and {certificate} of the provider {away}",
        ),
        "AADSTS7000112": ErrorText(
            "The application is disabled at the provider",
            step="have the provider's administrator enable it (Enterprise applications, Properties)",
        ),
        "AADSTS7000215": ErrorText(
            "The client secret is not the application's",
            step="put the secret's value, not its id, into {client_secret} of the provider {there}",
        ),
        "AADSTS7000218": ErrorText(
            "The application's registration does not allow public client flows, and no client secret was sent",
            step="have Allow public client flows switched on in the application's registration, or set"
            " {client_secret} of the provider {there}",
        ),
        "AADSTS7000222": ErrorText(
            "The client secret has expired",
            step="have a new one made in the application's registration, and put it into {client_secret} of the"
            " provider {there}",
        ),
        "AADSTS700027": ErrorText(
            "The provider does not accept the client certificate",
            step="have the certificate of {certificate} added to the application's registration",
        ),
        "private_address": ErrorText(
            "The provider's discovery document names an endpoint at a private address, to which nothing was sent",
            step="if this is meant, name the endpoint's host in {allow_private}",
        ),
        "another_issuer": ErrorText(
            "The server that answers at the provider's issuer says that it is another issuer",
            step="correct the provider's issuer or tenant {there}",
        ),
        "endpoints_missing": ErrorText(
            "The provider's discovery document has no token_endpoint or jwks_uri with https",
            step="correct the provider's issuer {there}, or have the provider's administrator correct the document",
        ),
    }
)
"""The sentences of faults of the configuration, the registration or the account, by code.

The last step, to get or renew the token, is added where the fault has ended a sign-in or a token.
"""
_CLOCK_OFF = re.compile(r"clock_off_by_(-?\d{1,10})_seconds")

_GRANT_LEFT = (
    "{signed_in_as}'s authorization of this application still stands at the provider, and can be ended there"
    " (Microsoft: myapps.microsoft.com, Google: myaccount.google.com/connections, else the account's own page)."
)


def reason_text(code: str, surface: Surface, *, is_stored: bool = False) -> str:
    """The sentence of a reason, an alarm or a warning; the code itself for one that only a newer service knows.

    `is_stored`: the provider is a stored one, and not of the configuration file.
    """
    text = REASONS.get(code) or ALARMS.get(code) or WARNINGS.get(code)
    return _sentence(text, surface, is_stored=is_stored) if text else code


def why_in_full(status: Mapping[str, Any], surface: Surface) -> str | None:
    """Why a person is needed, or why the last attempt or token ended, and the provider's own words about it."""
    return " ".join(filter(None, (why(status, surface), provider_said(status)))) or None


def provider_said(status: Mapping[str, Any]) -> str | None:
    """The provider's own words about the reason or the attention that `why` explains; None if there are none."""
    code, reply = _explained(status), status.get("provider_reply")
    if not code or not reply or reply["code"] != _provider_code(code, status):
        return None
    return said_text(reply["words"], reply["trace_id"], reply["correlation_id"])


def why(status: Mapping[str, Any], surface: Surface) -> str | None:
    """Why a person is needed, or why the last attempt or token ended; from a setting's status in JSON."""
    code = _explained(status)
    if not code:
        return None
    text = _sentence_of(code, status, surface)
    if code == GrantWarning.NOT_RENEWABLE and status.get("expires_at"):
        return f"{text} It ends at {status['expires_at'][:16].replace('T', ' ')} UTC."
    details = _details(code, status)
    if details == GRANT_LEFT:
        return f"{text} {_GRANT_LEFT.format(signed_in_as=status.get('signed_in_as') or 'the account')}"
    return f"{text} ({details})" if details else text


def _explained(status: Mapping[str, Any]) -> str | None:
    """The code of the reason or the attention to explain."""
    attention, reason = status.get("attention"), status.get("reason")
    # For an Invalid token the last failed sign-in explains more than the authorization that ended before it.
    code: str | None = reason if attention in REASONS and reason else attention or reason
    return code


def _provider_code(code: str, status: Mapping[str, Any]) -> str | None:
    """The provider's own code behind a reason or an attention."""
    own = status.get("code") if code == status.get("reason") else status.get("attention_code")
    return own if isinstance(own, str) else None


def _by_provider_code(code: str, status: Mapping[str, Any]) -> ErrorText | None:
    """The sentence of the provider's own code behind a reason or an alarm, where it says more than the reason does."""
    own = _provider_code(code, status)
    if own is None:
        return None
    if off := _CLOCK_OFF.fullmatch(own):
        seconds = int(off[1])
        behind_or_ahead = "behind" if seconds > 0 else "ahead of"
        return ErrorText(
            f"The clock of this machine is {abs(seconds)} seconds {behind_or_ahead} the provider's",
            step="set the clock that is wrong, then get the token again",
        )
    return BY_PROVIDER_CODE.get(own)


def _sentence_of(code: str, status: Mapping[str, Any], surface: Surface) -> str:
    is_stored = status.get("provider_stored") is True
    signed_in_as, account = status.get("signed_in_as"), status.get("account") or "another account"
    if code in WITH_NAMES and signed_in_as:
        return _sentence(WITH_NAMES[code], surface).format(signed_in_as=signed_in_as, account=account)
    if fault := OF_REGISTRATION.get(_provider_code(code, status) or ""):
        step = with_place(fault.next_step(surface) or "", surface, is_stored=is_stored)
        return f"{fault.fact}: {step}{_then(code, status)}."
    if own := _by_provider_code(code, status):
        return _sentence(own, surface, is_stored=is_stored)
    if code == "client_registration" and (setting := status.get("attention_setting")):
        return _sentence(_WRONG_SETTING, surface, is_stored=is_stored).replace("{setting}", _called(setting, is_stored))
    # An Invalid token can be renewed once its account is available again, a sign-in that failed can't.
    is_sign_in = status.get("attempt_id") if code in ALARMS else status.get("attention") != code
    if code in AT_SIGN_IN and is_sign_in and "generation" not in status:
        return _sentence(AT_SIGN_IN[code], surface, is_stored=is_stored)
    return reason_text(code, surface, is_stored=is_stored)


def _called(setting: str, is_stored: bool) -> str:
    """What a setting of a provider is called: a stored one has no files."""
    return setting.removesuffix("_file") if is_stored else setting


def _then(code: str, status: Mapping[str, Any]) -> str:
    """The last step, once a fault of the registration is mended: nothing for a token or a sign-in that goes on."""
    if code in ALARMS:
        return ""
    can_be_renewed = code == Reason.ACCOUNT_NOT_AVAILABLE and status.get("attention") == code
    return ", then renew the token" if can_be_renewed else ", then get the token again"


def _details(code: str, status: Mapping[str, Any]) -> str | None:
    """The provider's error code behind a reason or an alarm, and how often in a row; None if it says no more."""
    source = "attention_code" if code == status.get("attention") and code not in REASONS else "code"
    provider_code = status.get(source) if source == "attention_code" or code == status.get("reason") else None
    if not provider_code or provider_code in ALARMS or provider_code == code or _CLOCK_OFF.fullmatch(provider_code):
        return None
    if provider_code in OF_REGISTRATION and why_text(provider_code) != provider_code:
        return None
    failures = status.get("failures") or 0
    times = f", {failures} times in a row" if failures > 1 and source == "code" else ""
    return f"{why_text(provider_code)}{times}"


def _sentence(text: ErrorText, surface: Surface, *, is_stored: bool = False) -> str:
    return f"{text.fact}: {with_place(text.next_step(surface) or '', surface, is_stored=is_stored)}."
