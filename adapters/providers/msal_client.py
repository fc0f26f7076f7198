"""msal as the client library for Microsoft Entra, or for a private authority with Entra's protocol.

msal caches failures and tokens and is not thread-safe. Each request therefore has an application object of its own,
with a cache that stores nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msal
import requests

from adapters.http_client import NoReply
from adapters.providers.authorization_request import AuthorizationRequest, new_secret
from adapters.providers.client_authentication import Certificate, ClientCredential, FederatedAssertion
from adapters.providers.discovery import Metadata
from adapters.providers.settings import ProviderSettings
from domain.outcomes import Credential
from domain.secret import Secret

# msal adds these scopes itself and refuses them from its caller.
RESERVED_SCOPES = frozenset({"openid", "profile", "offline_access"})

# msal recommends a form post for the code. Mailtoken gets the redirect as a URL, which a person may have copied; a code
# that somebody sees in the URL is of no use without the code verifier.
warnings.filterwarnings("ignore", message="response_mode='form_post' is recommended", category=UserWarning)


class Msal:
    """msal as a `ClientLibrary`. `authority` is Entra's authority for the tenant, None for `settings.issuer`."""

    def __init__(self, settings: ProviderSettings, credential: ClientCredential | None, authority: str | None) -> None:
        self._settings = settings
        self._credential = credential
        self._authority = authority

    def request_device_code(self, session: requests.Session, metadata: Metadata, scopes: Sequence[str]) -> None:
        """Post a device authorization request."""
        self._application(session).initiate_device_flow(_unreserved(scopes))

    def poll(self, session: requests.Session, metadata: Metadata, device_code: Secret) -> None:
        """Post one device access token request."""
        flow = {"device_code": device_code.reveal()}
        self._application(session).acquire_token_by_device_flow(flow, exit_condition=lambda _: True)

    def request_browser(
        self, session: requests.Session, metadata: Metadata, scopes: Sequence[str], redirect_uri: str, account: str
    ) -> tuple[str, AuthorizationRequest]:
        """Compose an authorization request. Entra shows no page to a person who has consented and is signed in."""
        flow = self._application(session).initiate_auth_code_flow(
            _unreserved(scopes), redirect_uri=redirect_uri, state=new_secret(), login_hint=account
        )
        # msal sends a hash of the nonce that it returns; the ID token will contain the hash.
        [nonce] = parse_qs(urlsplit(flow["auth_uri"]).query)["nonce"]
        return flow["auth_uri"], AuthorizationRequest(
            issuer=metadata.issuer,
            names_itself=metadata.names_itself,
            redirect_uri=redirect_uri,
            scope=" ".join(scopes),
            state=flow["state"],
            nonce=nonce,
            code_verifier=flow["code_verifier"],
        )

    def redeem_code(
        self, session: requests.Session, metadata: Metadata, sign_in: AuthorizationRequest, code: Secret
    ) -> None:
        """Post an access token request."""
        flow = {
            "state": sign_in.state,
            "redirect_uri": sign_in.redirect_uri,
            "scope": sorted({*sign_in.scope.split(), *RESERVED_SCOPES}),
            "code_verifier": sign_in.code_verifier,
        }
        redirect = {"state": sign_in.state, "code": code.reveal()}
        self._application(session).acquire_token_by_auth_code_flow(flow, redirect)

    def request_app_token(
        self, session: requests.Session, metadata: Metadata, scopes: Sequence[str], account: str
    ) -> None:
        """Post a client credentials request."""
        self._application(session).acquire_token_for_client(list(scopes))

    def refresh(self, session: requests.Session, metadata: Metadata, refresh_token: Secret, scope: str) -> None:
        """Post a refresh request."""
        self._application(session).acquire_token_by_refresh_token(refresh_token.reveal(), _unreserved(scope.split()))

    def revoke(self, session: requests.Session, metadata: Metadata, credential: Credential) -> None:
        """Post a revocation request to a private authority with the endpoint. Entra has no endpoint, msal no method."""
        assert metadata.revocation_endpoint
        data = {"token": (credential.refresh_token or credential.access_token).reveal()}
        data["client_id"] = self._settings.client_id
        if isinstance(self._credential, Secret):
            data["client_secret"] = self._credential.reveal()
        session.post(metadata.revocation_endpoint, data=data)

    def _application(self, session: requests.Session) -> Any:
        settings, credential = self._settings, self._credential
        options: dict[str, Any] = {"http_client": session, "http_cache": _Forgetful()}
        if self._authority is None:
            options["oidc_authority"] = settings.issuer
        else:
            options["authority"] = self._authority
        try:
            if credential is None:
                return msal.PublicClientApplication(settings.client_id, **options)
            # Without an explicit `azure_region` an environment variable could redirect requests to another endpoint.
            return _ConfidentialApplication(
                settings.client_id, client_credential=_for_msal(credential), azure_region=False, **options
            )
        except NoReply:
            raise
        except Exception:  # msal reads the discovery document itself, and any JSON can be in it
            raise NoReply("discovery_unusable") from None


class _ConfidentialApplication(msal.ConfidentialClientApplication):  # type: ignore[misc]
    """Adds the device code flow: msal offers it to public clients only, Entra also to clients with a secret."""

    DEVICE_FLOW_CORRELATION_ID = msal.PublicClientApplication.DEVICE_FLOW_CORRELATION_ID
    acquire_token_by_device_flow = msal.PublicClientApplication.acquire_token_by_device_flow

    def initiate_device_flow(self, scopes: list[str]) -> None:
        """Post a device authorization request with the secret (RFC 8628 section 3.1); Entra needs no assertion here."""
        data = {"client_secret": self.client_credential} if isinstance(self.client_credential, str) else None
        self.client.initiate_device_flow(scope=self._decorate_scope(scopes), data=data)


class _Forgetful(dict[str, object]):
    """A cache of HTTP replies for msal that stays empty: with a cached error msal would not send a retry."""

    def __setitem__(self, key: str, value: object) -> None:
        """Store nothing."""


def _for_msal(credential: ClientCredential) -> str | Mapping[str, object]:
    if isinstance(credential, FederatedAssertion):
        return {"client_assertion": lambda: credential.read().reveal()}
    if isinstance(credential, Certificate):
        return {"private_key": credential.private_key.reveal(), "public_certificate": credential.certificate}
    return credential.reveal()


def _unreserved(scopes: Sequence[str]) -> list[str]:
    return [scope for scope in scopes if scope not in RESERVED_SCOPES]
