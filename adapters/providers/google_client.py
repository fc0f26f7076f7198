"""The client library for Google: Authlib, and google-auth for a service account with domain-wide delegation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import requests

from adapters.providers.authlib_client import Authlib
from adapters.providers.discovery import Metadata
from domain.secret import Secret


class GoogleClient(Authlib):
    """Authlib, whose app-only request is that of a service account (RFC 7523 section 2.1)."""

    def request_app_token(
        self, session: requests.Session, metadata: Metadata, scopes: Sequence[str], account: str
    ) -> None:
        """Post a request for an access token to the mailbox of `account`, which the service account may use."""
        # Imported here: google-auth takes a fifth of a second, and few installations have a service account.
        from google.auth.transport.requests import Request

        assert self._settings.service_account is not None
        credentials = service_account_credentials(
            self._settings.service_account, token_uri=metadata.token_endpoint, scopes=scopes, subject=account or None
        )
        credentials.refresh(Request(session))


def service_account_credentials(
    key: Secret, *, token_uri: str, scopes: Sequence[str] = (), subject: str | None = None
) -> Any:
    """The credentials of google-auth for a service account's key, which is JSON.

    Raises:
        ValueError: it is no such key.
    """
    from google.oauth2.service_account import Credentials

    info = json.loads(key.reveal())
    if not isinstance(info, dict):
        raise ValueError("no JSON object")
    return Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
        {**info, "token_uri": token_uri}, scopes=list(scopes), subject=subject
    )
