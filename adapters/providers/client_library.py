"""The interface of a client library, msal or Authlib, for a provider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import requests

from adapters.providers.authorization_request import AuthorizationRequest
from adapters.providers.discovery import Metadata
from domain.outcomes import Credential
from domain.secret import Secret


class ClientLibrary(Protocol):
    """Composes the requests of the client registration and posts them through the given session.

    The library never sees a reply: `HttpClient.post` keeps it.
    """

    def request_device_code(self, session: requests.Session, metadata: Metadata, scopes: Sequence[str]) -> None:
        """Post a device authorization request (RFC 8628 section 3.1)."""
        ...

    def poll(self, session: requests.Session, metadata: Metadata, device_code: Secret) -> None:
        """Post a device access token request (RFC 8628 section 3.4)."""
        ...

    def request_browser(
        self, session: requests.Session, metadata: Metadata, scopes: Sequence[str], redirect_uri: str, account: str
    ) -> tuple[str, AuthorizationRequest]:
        """Compose an authorization request (RFC 6749 section 4.1.1); nothing is posted."""
        ...

    def redeem_code(
        self, session: requests.Session, metadata: Metadata, sign_in: AuthorizationRequest, code: Secret
    ) -> None:
        """Post an access token request (RFC 6749 section 4.1.3) with the code verifier (RFC 7636 section 4.5)."""
        ...

    def request_app_token(
        self, session: requests.Session, metadata: Metadata, scopes: Sequence[str], account: str
    ) -> None:
        """Post a client credentials request (RFC 6749 section 4.4.2), or another in which no person takes part.

        `account` is the mailbox to be used; a provider that grants all mailboxes alike does not ask for it.
        """
        ...

    def refresh(self, session: requests.Session, metadata: Metadata, refresh_token: Secret, scope: str) -> None:
        """Post a refresh request (RFC 6749 section 6); `scope` is the granted scope."""
        ...

    def revoke(self, session: requests.Session, metadata: Metadata, credential: Credential) -> None:
        """Post a revocation request (RFC 7009 section 2.1)."""
        ...
