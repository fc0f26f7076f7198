"""What a provider or a mail server answered, as values.

An expected answer is a value, matched to the end with `assert_never`; only a broken promise is an exception.
Reasons are codes: the sentence for a person is made where it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from domain.secret import Secret


class Reason(StrEnum):
    """Why an attempt ended or a token stopped working."""

    # The attempt is over; what was held before stays (RFC 8628 section 3.5, RFC 6749 section 5.2).
    EXPIRED_TOKEN = "expired_token"  # noqa: S105 - the RFC's name for a device code that ran out
    ACCESS_DENIED = "access_denied"
    CODE_REJECTED = "code_rejected"
    CANCELLED = "cancelled"
    WRONG_ACCOUNT = "wrong_account"
    ID_TOKEN_INVALID = "id_token_invalid"  # noqa: S105 - a reason, not a password
    CONFIGURATION = "configuration"
    # The provider's definite word about a grant.
    INVALID_GRANT = "invalid_grant"
    REPLY_LOST = "reply_lost"
    SIGN_IN_FREQUENCY = "sign_in_frequency"
    INTERACTION_REQUIRED = "interaction_required"
    ACCOUNT_NOT_AVAILABLE = "account_not_available"
    # Either: an administrator of the provider has to act.
    POLICY = "policy"
    CONSENT_REQUIRED = "consent_required"
    # Nothing to renew with, and the access token's time is over.
    EXPIRED = "expired"


@dataclass(frozen=True)
class Identity:
    """Who signed in, from a validated ID token: the address and the provider's own ids for it."""

    account: str
    subject: str
    tenant: str | None


@dataclass(frozen=True)
class Credential:
    """One generation of secret material. `scope` is space-separated (RFC 6749 section 3.3); instants are UTC.

    `grant_expires_at` is when the provider said the refresh token ends, if it did.
    """

    access_token: Secret
    refresh_token: Secret | None
    scope: str
    issued_at: datetime
    expires_at: datetime
    grant_expires_at: datetime | None = None


@dataclass(frozen=True)
class DeviceAuthorization:
    """A provider's permission to obtain a token (RFC 8628 section 3.2), kept sealed until the attempt is over.

    `state` is what the provider's adapter needs to go on polling after a restart; it holds the device code.
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

    `state` is what the provider's adapter needs to check the redirect and redeem its code, also after a restart; it
    holds the code verifier. It is not the parameter of that name, which whoever sees `authorization_uri` knows.
    """

    authorization_uri: str
    expires_at: datetime
    state: Secret


@dataclass(frozen=True)
class Granted:
    """A token endpoint gave a credential. `identity` is absent at a renewal whose reply has no ID token."""

    credential: Credential
    identity: Identity | None
    warning: str | None = None


@dataclass(frozen=True)
class Pending:
    """The person has not finished yet; poll again after `interval_seconds`."""

    interval_seconds: int


@dataclass(frozen=True)
class AttemptOver:
    """The authorization attempt can't succeed any more. `code` is the provider's own."""

    reason: Reason
    code: str | None = None


@dataclass(frozen=True)
class GrantDead:
    """The provider's definite word that this grant does not work."""

    reason: Reason
    code: str | None = None


@dataclass(frozen=True)
class Transient:
    """Nothing is known about the token: try again, not before `retry_after_seconds` if the provider said so.

    `is_known` is whether the provider's answer is one of those there are; a person has to look at any other.
    """

    why: str
    retry_after_seconds: int | None = None
    is_known: bool = True


@dataclass(frozen=True)
class InDoubt:
    """The reply makes no sense. The raw body stays in the escrow; the token is unchanged."""

    why: str


@dataclass(frozen=True)
class ClientFault:
    """The provider refuses our client registration, not the token. `setting` is what to correct, if known."""

    code: str
    setting: str | None = None


AcquisitionOutcome = Granted | Pending | AttemptOver | Transient | InDoubt | ClientFault
RenewalOutcome = Granted | GrantDead | Transient | InDoubt | ClientFault


class Fault(StrEnum):
    """Whose fault it is that a mail server did not do what was asked."""

    NONE = "none"
    NETWORK = "network"
    CERTIFICATE = "certificate"
    CONFIGURATION = "configuration"
    TOKEN = "token"  # noqa: S105 - whose fault, not a password
    MAILBOX = "mailbox"
    PERMISSION = "permission"
    SENDER = "sender"
    SERVER = "server"


@dataclass(frozen=True)
class Step:
    """One step of a conversation with a mail server, with what it answered."""

    name: str
    ok: bool
    seconds: float
    detail: str


@dataclass(frozen=True)
class MailReport:
    """A conversation step by step and its verdict. `reply` is the server's last reply when it refused."""

    steps: tuple[Step, ...]
    fault: Fault
    verdict: str
    reply: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every step did what was asked."""
        return self.fault is Fault.NONE
