"""Any OpenID provider, and Google, through Authlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.client import OAuth2Client
from authlib.oauth2.rfc7523 import PrivateKeyJWT

from adapters.providers.client_credentials import Certificate, ClientCredential, client_credentials
from adapters.providers.discovery import Discovery, Metadata
from adapters.providers.http_client import HttpClient
from adapters.providers.provider import OpenIDProvider
from adapters.providers.settings import ProviderSettings
from adapters.providers.sign_in import SignIn, new_secret
from domain.outcomes import Credential
from domain.secret import Secret

DEVICE_CODE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
DEFAULT_SCOPES = ("openid", "email", "offline_access")
GOOGLE_ISSUER = "https://accounts.google.com"
# Google gives a refresh token without `offline_access`, a scope it refuses.
GOOGLE_SCOPES = ("openid", "email", "https://mail.google.com/")
# Without consent on the page a refresh token may not come (OpenID Connect Core section 11), from Google never twice.
SIGN_IN_PARAMETERS = MappingProxyType({"prompt": "consent"})
GOOGLE_SIGN_IN_PARAMETERS = MappingProxyType({"prompt": "consent", "access_type": "offline"})


def oidc_provider(settings: ProviderSettings, http: HttpClient) -> OpenIDProvider:
    """The provider whose issuer is `settings.issuer`; its configured scopes are asked for besides the usual.

    The application itself asks for the configured ones alone.
    """
    assert settings.issuer
    credentials = client_credentials(settings)
    return OpenIDProvider(
        settings,
        http,
        _discovery(http, settings.issuer),
        _libraries(settings, credentials, SIGN_IN_PARAMETERS),
        flows=("device", "browser", "app") if credentials else ("device", "browser"),
        scopes=_scopes(settings, DEFAULT_SCOPES),
        app_scopes=settings.app_scopes or settings.scopes,
    )


def google_provider(settings: ProviderSettings, http: HttpClient) -> OpenIDProvider:
    """Google: in the browser alone, as its device code flow refuses the mail scope."""
    return OpenIDProvider(
        settings,
        http,
        _discovery(http, settings.issuer or GOOGLE_ISSUER),
        _libraries(settings, client_credentials(settings), GOOGLE_SIGN_IN_PARAMETERS),
        flows=("browser",),
        scopes=_scopes(settings, GOOGLE_SCOPES),
        app_scopes=(),
    )


def _discovery(http: HttpClient, issuer: str) -> Discovery:
    return Discovery(http, issuer, "issuer", lambda found: found == issuer)


def _scopes(settings: ProviderSettings, default_scopes: Sequence[str]) -> Mapping[str, Sequence[str]]:
    return dict.fromkeys(("smtp", "pop", "imap"), tuple(dict.fromkeys((*default_scopes, *settings.scopes))))


def _libraries(
    settings: ProviderSettings, credentials: Mapping[str, ClientCredential], parameters: Mapping[str, str]
) -> Mapping[str, Authlib]:
    if not credentials:
        return {"": Authlib(settings, None, parameters)}
    return {name: Authlib(settings, credential, parameters) for name, credential in credentials.items()}


class Authlib:
    """Authlib as a `ClientLibrary`; `sign_in_parameters` are what the authorization request has besides the usual."""

    def __init__(
        self,
        settings: ProviderSettings,
        credential: ClientCredential | None,
        sign_in_parameters: Mapping[str, str] = SIGN_IN_PARAMETERS,
    ) -> None:
        self._settings = settings
        self._credential = credential
        self._sign_in_parameters = sign_in_parameters

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

    def request_browser(
        self, session: requests.Session, metadata: Metadata, scopes: Sequence[str], redirect_uri: str, account: str
    ) -> tuple[str, SignIn]:
        """Compose an authorization request."""
        sign_in = SignIn(
            issuer=metadata.issuer,
            names_itself=metadata.names_itself,
            redirect_uri=redirect_uri,
            scope=" ".join(scopes),
            state=new_secret(),
            nonce=new_secret(),
            code_verifier=new_secret(),
        )
        uri, _ = self._client(session, metadata).create_authorization_url(
            metadata.authorization_endpoint,
            state=sign_in.state,
            code_verifier=sign_in.code_verifier,
            redirect_uri=redirect_uri,
            scope=sign_in.scope,
            nonce=sign_in.nonce,
            login_hint=account,
            **self._sign_in_parameters,
        )
        return uri, sign_in

    def redeem_code(self, session: requests.Session, metadata: Metadata, sign_in: SignIn, code: Secret) -> None:
        """Post an access token request."""
        self._client(session, metadata).fetch_token(
            metadata.token_endpoint,
            grant_type="authorization_code",
            code=code.reveal(),
            redirect_uri=sign_in.redirect_uri,
            code_verifier=sign_in.code_verifier,
        )

    def request_app_token(self, session: requests.Session, metadata: Metadata, scopes: Sequence[str]) -> None:
        """Post a client credentials request."""
        client = self._client(session, metadata)
        client.fetch_token(metadata.token_endpoint, grant_type="client_credentials", scope=" ".join(scopes))

    def refresh(self, session: requests.Session, metadata: Metadata, refresh_token: Secret, scope: str) -> None:
        """Post a refresh request, without the scope: that stays what was granted."""
        self._client(session, metadata).refresh_token(metadata.token_endpoint, refresh_token.reveal())

    def revoke(self, session: requests.Session, metadata: Metadata, credential: Credential) -> None:
        """Post a revocation request for the refresh token, and with it for the grant."""
        token = (credential.refresh_token or credential.access_token).reveal()
        self._client(session, metadata).revoke_token(metadata.revocation_endpoint, token)

    def _client(self, session: requests.Session, metadata: Metadata) -> Any:
        method, secret = _authentication(self._credential, metadata)
        client = _Client(
            session,
            self._settings.client_id,
            secret,
            token_endpoint_auth_method=method,
            revocation_endpoint_auth_method=method,
            code_challenge_method="S256",
        )
        if isinstance(self._credential, Certificate):
            # For its own endpoint alone (RFC 7523 section 3), also where another one is asked.
            headers = {"x5t#S256": self._credential.thumbprint}
            client.register_client_auth_method(PrivateKeyJWT(metadata.token_endpoint, headers=headers))
        return client


class _Client(OAuth2Client):  # type: ignore[misc]
    """Authlib's client on a session of ours, with the client authentication of its own requests session."""

    client_auth_class = OAuth2Session.client_auth_class


def _authentication(credential: ClientCredential | None, metadata: Metadata) -> tuple[str, str | None]:
    """The method and the secret: `client_secret_basic` unless only the other is offered."""
    match credential:
        case None:
            return "none", None
        case Certificate(private_key=private_key):
            return "private_key_jwt", private_key.reveal()
        case secret:
            methods = metadata.token_endpoint_auth_methods
            only_post = "client_secret_post" in methods and "client_secret_basic" not in methods
            return "client_secret_post" if only_post else "client_secret_basic", secret.reveal()
