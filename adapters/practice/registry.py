"""The practice provider's clients, codes and token families, in memory.

A *family* is all tokens that descend from one sign-in. Callers hold `Registry.lock` during each request, so that two
requests with the same refresh token are served one after the other, never interleaved.
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit

from cryptography import x509

RefreshBehaviour = Literal["rotate", "grace", "static"]


@dataclass
class Rules:
    """The provider's rules for issuing tokens; may be changed while the provider runs.

    `refresh` is one of "rotate" (a spent refresh token revokes its family), "grace" (a spent token is accepted again
    for `refresh_grace_seconds`, then as "rotate") and "static" (a refresh token is never replaced and never spent).
    """

    access_token_length: int
    access_token_seconds: int
    device_code_seconds: int
    interval: int
    refresh: RefreshBehaviour
    refresh_grace_seconds: float

    def __post_init__(self) -> None:
        if self.interval < 1:
            # With the interval 0, msal 1.39 polls without a pause and never checks its exit condition.
            raise ValueError("interval must be at least one second")


@dataclass(frozen=True)
class Client:
    """A registered client, public if it has no secret. Any loopback redirect URI is allowed (RFC 8252 section 7.3)."""

    client_id: str
    grant_types: frozenset[str]
    client_secret: str | None = None
    may_introspect: bool = False

    def get_client_id(self) -> str:
        """Return the client identifier."""
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        """Return None: a request must name its redirect URI."""

    def get_allowed_scope(self, scope: str | None) -> str:
        """Allow every requested scope."""
        return scope or ""

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Tell whether the URI leads back to this machine."""
        return urlsplit(redirect_uri).hostname in {"127.0.0.1", "::1", "localhost"}

    def check_client_secret(self, client_secret: str) -> bool:
        """Compare the secrets in constant time."""
        return secrets.compare_digest(self.client_secret or "", client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Require a confidential client to authenticate at every endpoint."""
        return (method == "none") == (self.client_secret is None)

    def check_response_type(self, response_type: str) -> bool:
        """Allow the response type `code` only."""
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        """Tell whether the client is registered for the grant type."""
        return grant_type in self.grant_types


@dataclass(frozen=True)
class ClientCertificate:
    """A certificate that a client may authenticate with while the certificate is valid."""

    client_id: str
    certificate: x509.Certificate

    def is_valid(self, now: datetime) -> bool:
        """Tell whether `now` is within the certificate's validity."""
        return self.certificate.not_valid_before_utc <= now <= self.certificate.not_valid_after_utc


@dataclass(frozen=True)
class Decision:
    """A person's answer to a sign-in request."""

    account: str
    approved: bool


@dataclass
class DeviceCode:
    """One device authorization (RFC 8628), from the request to its redemption."""

    device_code: str
    user_code: str
    client_id: str
    scope: str
    expires_at: datetime
    interval: float
    now: Callable[[], datetime]
    decision: Decision | None = None
    redeemed: bool = False
    polled_at: datetime | None = None

    def get_client_id(self) -> str:
        """Return the client that the code was issued to."""
        return self.client_id

    def get_scope(self) -> str:
        """Return the requested scope."""
        return self.scope

    def get_user_code(self) -> str:
        """Return the code that the person types."""
        return self.user_code

    def is_expired(self) -> bool:
        """Tell whether the code has expired."""
        return self.now() >= self.expires_at

    def polled_too_soon(self) -> bool:
        """Note a poll; tell whether it came too soon, which adds 5 s to the interval (RFC 8628 section 3.5)."""
        at, before = self.now(), self.polled_at
        self.polled_at = at
        # Two polls can arrive closer together than they were sent.
        too_soon = before is not None and (at - before).total_seconds() < 0.8 * self.interval
        if too_soon:
            self.interval += 5
        return too_soon


@dataclass(frozen=True)
class AuthorizationCode:
    """An authorization code, with the parameters of its request (RFC 6749 section 4.1, RFC 7636)."""

    code: str
    client_id: str
    account: str
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str | None
    code_challenge_method: str | None
    signed_in_at: datetime
    expires_at: datetime

    def get_redirect_uri(self) -> str:
        """Return the redirect URI of the request."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """Return the requested scope."""
        return self.scope

    def get_nonce(self) -> str | None:
        """Return the nonce of the request."""
        return self.nonce

    def get_auth_time(self) -> int:
        """Return the time of the sign-in, in seconds since the epoch."""
        return int(self.signed_in_at.timestamp())

    def get_acr(self) -> None:
        """Return None: the provider claims no authentication context."""

    def get_amr(self) -> None:
        """Return None: the provider claims no authentication method."""


@dataclass
class Family:
    """All tokens of one sign-in; `account` is None for an app-only grant."""

    client_id: str
    account: str | None
    scope: str
    revoked: bool = False


@dataclass
class Token:
    """An access token or a refresh token; only access tokens expire, and only refresh tokens are spent."""

    value: str
    family: Family
    issued_at: datetime
    now: Callable[[], datetime]
    expires_at: datetime | None = None
    spent_at: datetime | None = None
    revoked: bool = False

    def check_client(self, client: Client) -> bool:
        """Tell whether the token was issued to this client."""
        return self.family.client_id == client.client_id

    def get_scope(self) -> str:
        """Return the granted scope."""
        return self.family.scope

    def is_expired(self) -> bool:
        """Tell whether the token has expired."""
        return self.expires_at is not None and self.now() >= self.expires_at

    def is_revoked(self) -> bool:
        """Tell whether the token or its family was revoked."""
        return self.revoked or self.family.revoked

    @property
    def is_live(self) -> bool:
        """Whether the token can be used: not expired, revoked or spent."""
        return not (self.is_expired() or self.is_revoked() or self.spent_at)


@dataclass
class Registry:
    """The provider's memory. A caller holds `lock` while it reads or changes it; `now` is the only clock."""

    rules: Rules
    now: Callable[[], datetime]
    clients: dict[str, Client] = field(default_factory=dict)
    certificates: dict[str, ClientCertificate] = field(default_factory=dict)  # by x5t#S256 (RFC 7515 section 4.1.8)
    spent_assertions: set[tuple[str, str]] = field(default_factory=set)  # client and `jti`
    device_codes: dict[str, DeviceCode] = field(default_factory=dict)
    authorization_codes: dict[str, AuthorizationCode] = field(default_factory=dict)
    access_tokens: dict[str, Token] = field(default_factory=dict)
    refresh_tokens: dict[str, Token] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def new_secret(self, length: int) -> str:
        """Draw `length` random URL-safe characters."""
        return secrets.token_urlsafe(length)[:length]

    def add_device_code(self, device_code: str, user_code: str, client_id: str, scope: str) -> None:
        """Store a device authorization that begins now."""
        self.device_codes[device_code] = DeviceCode(
            device_code=device_code,
            user_code=user_code,
            client_id=client_id,
            scope=scope,
            expires_at=self.now() + timedelta(seconds=self.rules.device_code_seconds),
            interval=self.rules.interval,
            now=self.now,
        )

    def device_code_of(self, user_code: str) -> DeviceCode | None:
        """Find a typed user code, regardless of case, blanks and the hyphen (RFC 8628 section 6.1)."""
        typed = _plain(user_code)
        return next((code for code in self.device_codes.values() if _plain(code.user_code) == typed), None)

    def add_tokens(self, family: Family, access_token: str, refresh_token: str | None) -> None:
        """Store the tokens of one reply."""
        at = self.now()
        expires_at = at + timedelta(seconds=self.rules.access_token_seconds)
        self.access_tokens[access_token] = Token(access_token, family, at, self.now, expires_at)
        if refresh_token is not None:
            self.refresh_tokens[refresh_token] = Token(refresh_token, family, at, self.now)

    def introspected(self, access_token: str) -> Token | None:
        """Find the access token of an introspection request."""
        return self.access_tokens.get(access_token)

    def accept_refresh_token(self, value: str) -> Token | None:
        """Return the token if it may be used now; a token that was spent too long ago revokes its family."""
        token = self.refresh_tokens.get(value)
        if token is None or token.is_revoked():
            return None
        if token.spent_at is None or self._in_grace(token.spent_at):
            return token
        token.family.revoked = True
        return None

    def spend_refresh_token(self, token: Token) -> None:
        """Mark the token as spent, unless the rules are "static"."""
        if self.rules.refresh != "static" and token.spent_at is None:
            token.spent_at = self.now()

    def has_certificate(self, client_id: str) -> bool:
        """Tell whether the client may authenticate by certificate."""
        return any(one.client_id == client_id for one in self.certificates.values())

    def spend_assertion(self, client_id: str, jti: str) -> bool:
        """Mark a client assertion as used; False if it was used before."""
        spent = (client_id, jti) in self.spent_assertions
        self.spent_assertions.add((client_id, jti))
        return not spent

    def live_refresh_tokens(self, account: str) -> list[Token]:
        """Find the account's refresh tokens that can still be used."""
        return [
            token
            for token in self.refresh_tokens.values()
            if token.is_live and same_account(token.family.account, account)
        ]

    def _in_grace(self, spent_at: datetime) -> bool:
        grace = timedelta(seconds=self.rules.refresh_grace_seconds)
        return self.rules.refresh == "grace" and self.now() - spent_at <= grace


def same_account(one: str | None, other: str) -> bool:
    """Tell whether the addresses are equal, ignoring case as providers do."""
    return one is not None and one.casefold() == other.casefold()


def _plain(user_code: str) -> str:
    return "".join(character for character in user_code.upper() if character.isalnum())
