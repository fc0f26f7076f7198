"""The answers of a provider, as values.

Each expected answer is a value, and callers match all of them (`assert_never`); only a broken contract is an exception.
A reason is a code: each surface has its own sentence for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from domain.secret import Secret


class Reason(StrEnum):
    """Why an attempt ended or a token stopped working."""

    # The attempt is over; a credential held before stays (RFC 8628 section 3.5, RFC 6749 section 5.2).
    EXPIRED_TOKEN = "expired_token"  # noqa: S105 - the RFC's name for a device code that ran out
    ACCESS_DENIED = "access_denied"
    CODE_REJECTED = "code_rejected"
    CANCELLED = "cancelled"
    RESTORED = "restored"
    CLIENT_CHANGED = "client_changed"
    WRONG_ACCOUNT = "wrong_account"
    ID_TOKEN_INVALID = "id_token_invalid"  # noqa: S105 - a reason, not a password
    CONFIGURATION = "configuration"
    CLIENT_REFUSED = "client_refused"
    SCOPE_NOT_GRANTED = "scope_not_granted"
    PROVIDER_FAILED = "provider_failed"
    # The account differs from the one that was pinned at the first acquisition: its address, or its subject.
    ACCOUNT_RENAMED = "account_renamed"
    ACCOUNT_RECREATED = "account_recreated"
    # The provider has definitely rejected the grant.
    INVALID_GRANT = "invalid_grant"
    REPLY_LOST = "reply_lost"
    SIGN_IN_FREQUENCY = "sign_in_frequency"
    INTERACTION_REQUIRED = "interaction_required"
    ACCOUNT_NOT_AVAILABLE = "account_not_available"
    # Ends an attempt or a grant: an administrator of the provider has to act.
    POLICY = "policy"
    CONSENT_REQUIRED = "consent_required"
    # The access token has expired and nothing can renew it.
    EXPIRED = "expired"


class GrantWarning(StrEnum):
    """Why a person is needed for a credential that works."""

    NOT_RENEWABLE = "not_renewable"
    SCOPE_MISSING = "scope_missing"
    ANOTHER_ACCOUNT = "renewed_for_another_account"
    NEW_ADDRESS = "account_has_new_address"


GRANT_LEFT = "grant_left"
"""The code of an attempt of another account whose grant was not revoked at the provider."""


REPLY_FACTS = ("provider_words", "trace_id", "correlation_id")
"""The names of an error's fields that have the provider's own words and ids."""


@dataclass(frozen=True)
class ProviderReply:
    """The parts of a provider's error reply that a person searches for; never stored in an event.

    `words` is the reply's own description, made safe to display. `trace_id` and `correlation_id` are Entra's, and what
    Microsoft's support asks for.
    """

    code: str
    words: str | None = None
    trace_id: str | None = None
    correlation_id: str | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        """The words and ids that there are, as the fields of an error."""
        values = (self.words, self.trace_id, self.correlation_id)
        return {name: value for name, value in zip(REPLY_FACTS, values, strict=True) if value}


@dataclass(frozen=True)
class Identity:
    """The account that signed in, from a validated ID token: its address and the provider's ids of it."""

    account: str
    subject: str
    tenant: str | None


@dataclass(frozen=True)
class Credential:
    """The secrets of a generation of a token. `scope` is space-separated (RFC 6749 section 3.3); instants are UTC.

    `grant_expires_at` is the end of the refresh token as the provider announced it, or None. `requested_scope` is the
    scope that the acquisition asked for, and a renewal asks for again; None in a credential of an older version.
    """

    access_token: Secret
    refresh_token: Secret | None
    scope: str
    issued_at: datetime
    expires_at: datetime
    grant_expires_at: datetime | None = None
    requested_scope: str | None = None


@dataclass(frozen=True)
class DeviceAuthorization:
    """A provider's permission to obtain a token (RFC 8628 section 3.2), kept sealed until the attempt is over.

    `state` lets the provider's adapter go on polling after a restart; it contains the device code.
    """

    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    interval_seconds: int
    expires_at: datetime
    state: Secret


@dataclass(frozen=True)
class BrowserAuthorization:
    """A sign-in page to send a browser to (RFC 6749 section 4.1.1), kept sealed until the attempt is over.

    `state` lets the provider's adapter check the redirect and redeem its code, also after a restart; it contains the
    code verifier. It is secret, unlike the URL parameter `state`, which is part of `authorization_uri`.
    """

    authorization_uri: str
    expires_at: datetime
    state: Secret


@dataclass(frozen=True)
class Granted:
    """A token endpoint gave a credential. `identity` is None at a renewal whose reply has no ID token.

    `warning` is a code for an oddity of the reply: `expires_in_assumed`. `missing_scope` has the requested mail scopes
    that the reply does not grant, separated by spaces (RFC 6749 section 5.1); it is empty if none is missing.
    """

    credential: Credential
    identity: Identity | None
    warning: str | None = None
    missing_scope: str = ""


@dataclass(frozen=True)
class Pending:
    """The person has not finished the sign-in; poll again after `interval_seconds`."""

    interval_seconds: int


@dataclass(frozen=True)
class AttemptOver:
    """The authorization attempt can no longer succeed. `code` is the provider's error code."""

    reason: Reason
    code: str | None = None
    reply: ProviderReply | None = field(default=None, compare=False)


@dataclass(frozen=True)
class GrantDead:
    """The provider has definitely rejected this grant."""

    reason: Reason
    code: str | None = None
    reply: ProviderReply | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Transient:
    """The answer says nothing about the token: try again, after `retry_after_seconds` if the provider named a wait.

    `why` is the provider's error code, or a code of this service: `no_answer_in_time`, `HTTP 503`. `is_known`: the
    provider's answer is in the table of known answers; any other answer needs a person's attention.
    `may_have_arrived`: no whole reply came to a request that may have reached the provider, and spent what it carried.
    """

    why: str
    retry_after_seconds: int | None = None
    is_known: bool = True
    may_have_arrived: bool = False
    reply: ProviderReply | None = field(default=None, compare=False)


@dataclass(frozen=True)
class InDoubt:
    """The reply can't be understood. Its raw body stays in the escrow; the token is unchanged.

    `why` is a code of this service, such as `not_json`; `code` is the provider's error code, if the reply has one.
    """

    why: str
    code: str | None = None
    reply: ProviderReply | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ClientFault:
    """The provider refuses this service's client registration, not the token.

    `code` is the provider's error code, or a code of this service such as `another_issuer`; `setting` names the
    configuration key to correct, if it is known. `reason` is the reason of an attempt that ends by this refusal.
    """

    code: str
    setting: str | None = None
    reason: Reason = Reason.CLIENT_REFUSED
    reply: ProviderReply | None = field(default=None, compare=False)


@dataclass(frozen=True)
class FailedRequests:
    """The token requests of an attempt that failed in a row, up to the last one: how many, and why the last failed.

    `code` is the provider's error code, or a code of this service such as `HTTP 503`.
    """

    reason: Reason
    code: str
    count: int


AcquisitionOutcome = Granted | Pending | AttemptOver | Transient | InDoubt | ClientFault
RenewalOutcome = Granted | GrantDead | Transient | InDoubt | ClientFault
