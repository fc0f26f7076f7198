"""What the configuration says about one provider: `[providers.NAME]`, already read and with its secrets loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from domain.errors import InvalidValue
from domain.secret import Secret

Kind = Literal["microsoft", "google", "oidc"]


@dataclass(frozen=True)
class ProviderSettings:
    """One authorization server and our client registration there; a public client without secret and certificate.

    `microsoft` needs `tenant`, or `issuer` for a private authority; `oidc` needs `issuer`. `account_claims` are the
    ID token claims that may hold the account's address, first match. `proxy` may hold a password.

    The client authenticates with the first of `certificates`, then `client_secrets`, that the provider does not
    refuse. A certificate is PEM with its private key beside it. `app_scopes` are for the app-only flow.
    `error_overrides` put error codes in another class, see `errors.CLASSES`.
    """

    name: str
    kind: Kind
    client_id: str
    tenant: str | None = None
    issuer: str | None = None
    scopes: tuple[str, ...] = ()
    account_claims: tuple[str, ...] = ("preferred_username", "email", "upn")
    ca_file: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    timeout_seconds: float = 30
    client_secrets: tuple[Secret, ...] = ()
    certificates: tuple[Secret, ...] = ()
    app_scopes: tuple[str, ...] = ()
    error_overrides: Mapping[str, str] = field(default_factory=dict)

    def invalid(self, key: str, problem: str) -> InvalidValue:
        """The error that names one of these settings as the configuration does."""
        return InvalidValue(f"providers.{self.name}.{key}", problem)
