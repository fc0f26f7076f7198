"""Any OpenID provider with a device authorization endpoint, and Google, through Authlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.client import OAuth2Client

from adapters.providers.discovery import Discovery, Metadata
from adapters.providers.http_client import HttpClient
from adapters.providers.provider import OpenIDProvider
from adapters.providers.settings import ProviderSettings
from domain.outcomes import Credential
from domain.secret import Secret

DEVICE_CODE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
DEFAULT_SCOPES = ("openid", "email", "offline_access")
GOOGLE_ISSUER = "https://accounts.google.com"
# Google gives a refresh token without `offline_access`, a scope it refuses.
GOOGLE_SCOPES = ("openid", "email", "https://mail.google.com/")


def oidc_provider(settings: ProviderSettings, http: HttpClient) -> OpenIDProvider:
    """The provider whose issuer is `settings.issuer`; its configured scopes are asked for besides the usual."""
    assert settings.issuer
    return _provider(settings, http, settings.issuer, DEFAULT_SCOPES)


def google_provider(settings: ProviderSettings, http: HttpClient) -> OpenIDProvider:
    """Google, whose device code flow refuses the mail scope: it can renew here, and says so when asked for a code."""
    return _provider(settings, http, settings.issuer or GOOGLE_ISSUER, GOOGLE_SCOPES)


def _provider(
    settings: ProviderSettings, http: HttpClient, issuer: str, default_scopes: Sequence[str]
) -> OpenIDProvider:
    discovery = Discovery(http, issuer, "issuer", lambda found: found == issuer)
    scopes = tuple(dict.fromkeys((*default_scopes, *settings.scopes)))
    return OpenIDProvider(settings, http, discovery, Authlib(settings), dict.fromkeys(("smtp", "pop", "imap"), scopes))


class Authlib:
    """Authlib as a `ClientLibrary`."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings

    def request_device_code(self, session: requests.Session, metadata: Metadata, scopes: Sequence[str]) -> None:
        """Post a device authorization request, which Authlib has no method for; the client authenticates as ever."""
        assert metadata.device_authorization_endpoint
        client = self._client(session, metadata)
        auth = client.client_auth(client.token_endpoint_auth_method)
        session.post(metadata.device_authorization_endpoint, data={"scope": " ".join(scopes)}, auth=auth)

    def poll(self, session: requests.Session, metadata: Metadata, device_code: Secret) -> None:
        """Post a device access token request."""
        client = self._client(session, metadata)
        client.fetch_token(metadata.token_endpoint, grant_type=DEVICE_CODE_GRANT, device_code=device_code.reveal())

    def refresh(self, session: requests.Session, metadata: Metadata, refresh_token: Secret, scope: str) -> None:
        """Post a refresh request, without the scope: that stays what was granted."""
        self._client(session, metadata).refresh_token(metadata.token_endpoint, refresh_token.reveal())

    def revoke(self, session: requests.Session, metadata: Metadata, credential: Credential) -> None:
        """Post a revocation request for the refresh token, and with it for the grant."""
        token = (credential.refresh_token or credential.access_token).reveal()
        self._client(session, metadata).revoke_token(metadata.revocation_endpoint, token)

    def _client(self, session: requests.Session, metadata: Metadata) -> Any:
        secret = self._settings.client_secret
        method = _auth_method(metadata) if secret else "none"
        return _Client(
            session,
            self._settings.client_id,
            secret.reveal() if secret else None,
            token_endpoint_auth_method=method,
            revocation_endpoint_auth_method=method,
        )


class _Client(OAuth2Client):  # type: ignore[misc]
    """Authlib's client on a session of ours, with the client authentication of its own requests session."""

    client_auth_class = OAuth2Session.client_auth_class


def _auth_method(metadata: Metadata) -> str:
    """How a client with a secret authenticates: `client_secret_basic` unless only the other is offered."""
    methods = metadata.token_endpoint_auth_methods
    only_post = "client_secret_post" in methods and "client_secret_basic" not in methods
    return "client_secret_post" if only_post else "client_secret_basic"
