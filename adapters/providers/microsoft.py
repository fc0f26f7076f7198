"""Microsoft Entra through msal, which knows Entra's authorities, scopes and client authentication.

msal remembers failures and tokens and is not safe to share between threads: each request has an application of its
own, with a cache that stores nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import msal
import requests
from msal.exceptions import MsalServiceError

from adapters.providers.discovery import Discovery, Metadata
from adapters.providers.http_client import HttpClient, NoReply
from adapters.providers.provider import OpenIDProvider
from adapters.providers.settings import ProviderSettings
from domain.outcomes import Credential
from domain.secret import Secret

# Microsoft's "Authenticate an IMAP, POP or SMTP connection using OAuth".
DEFAULT_SCOPES = MappingProxyType(
    {
        "smtp": ("https://outlook.office.com/SMTP.Send",),
        "pop": ("https://outlook.office.com/POP.AccessAsUser.All",),
        "imap": ("https://outlook.office.com/IMAP.AccessAsUser.All",),
    }
)
# msal adds these itself and refuses them from anybody else.
RESERVED_SCOPES = frozenset({"openid", "profile", "offline_access"})
LOGIN = "https://login.microsoftonline.com"
# A tenant's own issuer has its id; that of `organizations` and `common` a place for it.
_ISSUER = re.compile(re.escape(LOGIN) + r"/(\{tenantid\}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})/v2\.0")


def microsoft_provider(settings: ProviderSettings, http: HttpClient) -> OpenIDProvider:
    """Entra's tenant `settings.tenant`, or the private authority `settings.issuer`."""
    if settings.issuer:
        discovery = Discovery(http, settings.issuer, "issuer", lambda issuer: issuer == settings.issuer)
    else:
        discovery = Discovery(http, f"{LOGIN}/{settings.tenant}/v2.0", "tenant", _is_entra)
    scopes = {protocol: settings.scopes or default for protocol, default in DEFAULT_SCOPES.items()}
    return OpenIDProvider(settings, http, discovery, Msal(settings), scopes)


class Msal:
    """msal as a `ClientLibrary`."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings

    def request_device_code(self, session: requests.Session, metadata: Metadata, scopes: Sequence[str]) -> None:
        """Post a device authorization request."""
        self._application(session).initiate_device_flow(_unreserved(scopes))

    def poll(self, session: requests.Session, metadata: Metadata, device_code: Secret) -> None:
        """Post a device access token request, once."""
        flow = {"device_code": device_code.reveal()}
        self._application(session).acquire_token_by_device_flow(flow, exit_condition=lambda _: True)

    def refresh(self, session: requests.Session, metadata: Metadata, refresh_token: Secret, scope: str) -> None:
        """Post a refresh request."""
        self._application(session).acquire_token_by_refresh_token(refresh_token.reveal(), _unreserved(scope.split()))

    def revoke(self, session: requests.Session, metadata: Metadata, credential: Credential) -> None:
        """Post a revocation request to a private authority that has the endpoint; Entra has none, nor has msal."""
        assert metadata.revocation_endpoint
        secret = self._settings.client_secret
        data = {"token": (credential.refresh_token or credential.access_token).reveal()}
        data["client_id"] = self._settings.client_id
        if secret is not None:
            data["client_secret"] = secret.reveal()
        session.post(metadata.revocation_endpoint, data=data)

    def _application(self, session: requests.Session) -> Any:
        settings, secret = self._settings, self._settings.client_secret
        options: dict[str, Any] = {"http_client": session, "http_cache": _Forgetful()}
        if settings.issuer:
            options["oidc_authority"] = settings.issuer
        else:
            options["authority"] = f"{LOGIN}/{settings.tenant}"
        try:
            if secret is None:
                return msal.PublicClientApplication(settings.client_id, **options)
            # With `azure_region` left open an environment variable could send us to another endpoint.
            return _ConfidentialApplication(
                settings.client_id, client_credential=secret.reveal(), azure_region=False, **options
            )
        except (KeyError, ValueError, MsalServiceError) as error:
            raise NoReply(f"msal can't use the discovery document ({type(error).__name__})") from None


class _ConfidentialApplication(msal.ConfidentialClientApplication):  # type: ignore[misc]
    """msal has the device code flow for public clients only; Entra has it for both, and wants the secret then."""

    DEVICE_FLOW_CORRELATION_ID = msal.PublicClientApplication.DEVICE_FLOW_CORRELATION_ID
    acquire_token_by_device_flow = msal.PublicClientApplication.acquire_token_by_device_flow

    def initiate_device_flow(self, scopes: list[str]) -> None:
        """Post a device authorization request with the secret (RFC 8628 section 3.1)."""
        data = {"client_secret": self.client_credential}
        self.client.initiate_device_flow(scope=self._decorate_scope(scopes), data=data)


class _Forgetful(dict[str, object]):
    """msal's memory of HTTP replies: with it, a retry after an error would not leave the process."""

    def __setitem__(self, key: str, value: object) -> None:
        """Store nothing."""


def _unreserved(scopes: Sequence[str]) -> list[str]:
    return [scope for scope in scopes if scope not in RESERVED_SCOPES]


def _is_entra(issuer: str) -> bool:
    return _ISSUER.fullmatch(issuer) is not None
