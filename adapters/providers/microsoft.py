"""Microsoft Entra through msal, which knows Entra's authorities, scopes and client authentication.

msal remembers failures and tokens and is not safe to share between threads: each request has an application of its
own, with a cache that stores nothing.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msal
import requests
from msal.exceptions import MsalServiceError

from adapters.providers.client_credentials import Certificate, ClientCredential, client_credentials
from adapters.providers.discovery import Discovery, Metadata
from adapters.providers.http_client import HttpClient, NoReply
from adapters.providers.provider import OpenIDProvider
from adapters.providers.settings import ProviderSettings
from adapters.providers.sign_in import SignIn, new_secret
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
APP_SCOPES = ("https://outlook.office365.com/.default",)
# msal adds these itself and refuses them from anybody else.
RESERVED_SCOPES = frozenset({"openid", "profile", "offline_access"})
# An application is at home in one tenant: none of these gives it a token.
MULTI_TENANT = frozenset({"common", "organizations", "consumers"})
LOGIN = "https://login.microsoftonline.com"
# A tenant's own issuer has its id; that of `organizations` and `common` a place for it.
_ISSUER = re.compile(re.escape(LOGIN) + r"/(\{tenantid\}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})/v2\.0")

# msal wants the code in a form post. We are given the redirect as a URL, also one that a person copied; a code that is
# seen in it is of no use without the verifier.
warnings.filterwarnings("ignore", message="response_mode='form_post' is recommended", category=UserWarning)


def microsoft_provider(settings: ProviderSettings, http: HttpClient) -> OpenIDProvider:
    """Entra's tenant `settings.tenant`, or the private authority `settings.issuer`."""
    if settings.issuer:
        discovery = Discovery(http, settings.issuer, "issuer", lambda issuer: issuer == settings.issuer)
    else:
        discovery = Discovery(http, f"{LOGIN}/{settings.tenant}/v2.0", "tenant", is_entra)
    scopes = {protocol: settings.scopes or default for protocol, default in DEFAULT_SCOPES.items()}
    credentials = client_credentials(settings)
    has_app = credentials and (settings.tenant or "") not in MULTI_TENANT
    return OpenIDProvider(
        settings,
        http,
        discovery,
        _libraries(settings, credentials),
        flows=("device", "browser", "app") if has_app else ("device", "browser"),
        scopes=scopes,
        app_scopes=settings.app_scopes or APP_SCOPES,
    )


def _libraries(settings: ProviderSettings, credentials: Mapping[str, ClientCredential]) -> Mapping[str, Msal]:
    if not credentials:
        return {"": Msal(settings, None)}
    return {name: Msal(settings, credential) for name, credential in credentials.items()}


class Msal:
    """msal as a `ClientLibrary`."""

    def __init__(self, settings: ProviderSettings, credential: ClientCredential | None) -> None:
        self._settings = settings
        self._credential = credential

    def request_device_code(self, session: requests.Session, metadata: Metadata, scopes: Sequence[str]) -> None:
        """Post a device authorization request."""
        self._application(session).initiate_device_flow(_unreserved(scopes))

    def poll(self, session: requests.Session, metadata: Metadata, device_code: Secret) -> None:
        """Post a device access token request, once."""
        flow = {"device_code": device_code.reveal()}
        self._application(session).acquire_token_by_device_flow(flow, exit_condition=lambda _: True)

    def request_browser(
        self, session: requests.Session, metadata: Metadata, scopes: Sequence[str], redirect_uri: str, account: str
    ) -> tuple[str, SignIn]:
        """Compose an authorization request; Entra needs no consent page, and asks nobody who is signed in already."""
        flow = self._application(session).initiate_auth_code_flow(
            _unreserved(scopes), redirect_uri=redirect_uri, state=new_secret(), login_hint=account
        )
        # msal sends a hash of the nonce it returns, and what was sent is what comes back.
        [nonce] = parse_qs(urlsplit(flow["auth_uri"]).query)["nonce"]
        return flow["auth_uri"], SignIn(
            issuer=metadata.issuer,
            names_itself=metadata.names_itself,
            redirect_uri=redirect_uri,
            scope=" ".join(scopes),
            state=flow["state"],
            nonce=nonce,
            code_verifier=flow["code_verifier"],
        )

    def redeem_code(self, session: requests.Session, metadata: Metadata, sign_in: SignIn, code: Secret) -> None:
        """Post an access token request."""
        flow = {
            "state": sign_in.state,
            "redirect_uri": sign_in.redirect_uri,
            "scope": sorted({*sign_in.scope.split(), *RESERVED_SCOPES}),
            "code_verifier": sign_in.code_verifier,
        }
        redirect = {"state": sign_in.state, "code": code.reveal()}
        self._application(session).acquire_token_by_auth_code_flow(flow, redirect)

    def request_app_token(self, session: requests.Session, metadata: Metadata, scopes: Sequence[str]) -> None:
        """Post a client credentials request."""
        self._application(session).acquire_token_for_client(list(scopes))

    def refresh(self, session: requests.Session, metadata: Metadata, refresh_token: Secret, scope: str) -> None:
        """Post a refresh request."""
        self._application(session).acquire_token_by_refresh_token(refresh_token.reveal(), _unreserved(scope.split()))

    def revoke(self, session: requests.Session, metadata: Metadata, credential: Credential) -> None:
        """Post a revocation request to a private authority that has the endpoint; Entra has none, nor has msal."""
        assert metadata.revocation_endpoint
        data = {"token": (credential.refresh_token or credential.access_token).reveal()}
        data["client_id"] = self._settings.client_id
        if isinstance(self._credential, Secret):
            data["client_secret"] = self._credential.reveal()
        session.post(metadata.revocation_endpoint, data=data)

    def _application(self, session: requests.Session) -> Any:
        settings, credential = self._settings, self._credential
        options: dict[str, Any] = {"http_client": session, "http_cache": _Forgetful()}
        if settings.issuer:
            options["oidc_authority"] = settings.issuer
        else:
            options["authority"] = f"{LOGIN}/{settings.tenant}"
        try:
            if credential is None:
                return msal.PublicClientApplication(settings.client_id, **options)
            # With `azure_region` left open an environment variable could send us to another endpoint.
            return _ConfidentialApplication(
                settings.client_id, client_credential=_for_msal(credential), azure_region=False, **options
            )
        except (KeyError, ValueError, MsalServiceError) as error:
            raise NoReply(f"msal can't use the discovery document ({type(error).__name__})") from None


class _ConfidentialApplication(msal.ConfidentialClientApplication):  # type: ignore[misc]
    """msal has the device code flow for public clients only; Entra has it for both, and wants the secret then."""

    DEVICE_FLOW_CORRELATION_ID = msal.PublicClientApplication.DEVICE_FLOW_CORRELATION_ID
    acquire_token_by_device_flow = msal.PublicClientApplication.acquire_token_by_device_flow

    def initiate_device_flow(self, scopes: list[str]) -> None:
        """Post a device authorization request with the secret (RFC 8628 section 3.1); Entra wants no assertion."""
        data = {"client_secret": self.client_credential} if isinstance(self.client_credential, str) else None
        self.client.initiate_device_flow(scope=self._decorate_scope(scopes), data=data)


class _Forgetful(dict[str, object]):
    """msal's memory of HTTP replies: with it, a retry after an error would not leave the process."""

    def __setitem__(self, key: str, value: object) -> None:
        """Store nothing."""


def _for_msal(credential: ClientCredential) -> str | dict[str, str]:
    if isinstance(credential, Certificate):
        return {"private_key": credential.private_key.reveal(), "public_certificate": credential.certificate}
    return credential.reveal()


def _unreserved(scopes: Sequence[str]) -> list[str]:
    return [scope for scope in scopes if scope not in RESERVED_SCOPES]


def is_entra(issuer: str) -> bool:
    """Whether this is an issuer of Entra: of one tenant by its id, or the template for many."""
    return _ISSUER.fullmatch(issuer) is not None
