"""What the configuration says about one provider: `[providers.NAME]`, already read and with its secret loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from domain.secret import Secret

Kind = Literal["microsoft", "google", "oidc"]


@dataclass(frozen=True)
class ProviderSettings:
    """One authorization server and our client registration there; a public client if it has no secret.

    `microsoft` needs `tenant`, or `issuer` for a private authority; `oidc` needs `issuer`. `account_claims` are the
    ID token claims that may hold the account's address, first match. `proxy` may hold a password.
    """

    name: str
    kind: Kind
    client_id: str
    client_secret: Secret | None = None
    tenant: str | None = None
    issuer: str | None = None
    scopes: tuple[str, ...] = ()
    account_claims: tuple[str, ...] = ("preferred_username", "email", "upn")
    ca_file: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    timeout_seconds: float = 30
