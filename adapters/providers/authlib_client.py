"""Authlib as the client library for any OpenID provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import requests
from authlib.common.urls import add_params_to_qs
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.client import OAuth2Client
from authlib.oauth2.rfc7523 import PrivateKeyJWT

from adapters.providers.authorization_request import AuthorizationRequest, new_secret
from adapters.providers.client_authentication import Certificate, ClientCredential, FederatedAssertion
from adapters.providers.discovery import Metadata
from adapters.providers.settings import ProviderSettings
from domain.outcomes import Credential
from domain.secret import Secret

_FEDERATED = "federated_assertion"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
DEVICE_CODE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Authlib:
    """Authlib as a `ClientLibrary`; `sign_in_parameters` are additional parameters of the authorization request."""

    def __init__(
        self,
        settings: ProviderSettings,
        credential: ClientCredential | None,
        sign_in_parameters: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._credential = credential
        self._sign_in_parameters = sign_in_parameters

    def request_device_code(self, session: requests.Session, metadata: Metadata, scopes: Sequence[str]) -> None:
        """Post a device authorization request, for which Authlib has no method; the client authenticates as usual."""
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
    ) -> tuple[str, AuthorizationRequest]:
        """Compose an authorization request."""
        sign_in = AuthorizationRequest(
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

    def redeem_code(
        self, session: requests.Session, metadata: Metadata, sign_in: AuthorizationRequest, code: Secret
    ) -> None:
        """Post an access token request."""
        self._client(session, metadata).fetch_token(
            metadata.token_endpoint,
            grant_type="authorization_code",
            code=code.reveal(),
            redirect_uri=sign_in.redirect_uri,
            code_verifier=sign_in.code_verifier,
        )

    def request_app_token(
        self, session: requests.Session, metadata: Metadata, scopes: Sequence[str], account: str
    ) -> None:
        """Post a client credentials request."""
        client = self._client(session, metadata)
        client.fetch_token(metadata.token_endpoint, grant_type="client_credentials", scope=" ".join(scopes))

    def refresh(self, session: requests.Session, metadata: Metadata, refresh_token: Secret, scope: str) -> None:
        """Post a refresh request. Without a `scope` parameter the granted scope stays."""
        self._client(session, metadata).refresh_token(metadata.token_endpoint, refresh_token.reveal())

    def revoke(self, session: requests.Session, metadata: Metadata, credential: Credential) -> None:
        """Post a revocation request for the refresh token, which ends the grant."""
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
            # The audience is always the token endpoint (RFC 7523 section 3), also in a request to another endpoint.
            headers = {"x5t#S256": self._credential.thumbprint}
            client.register_client_auth_method(PrivateKeyJWT(metadata.token_endpoint, headers=headers))
        if isinstance(self._credential, FederatedAssertion):
            client.register_client_auth_method((_FEDERATED, partial(_with_assertion, self._credential.read())))
        return client


def _with_assertion(
    assertion: Secret, auth: Any, _method: str, uri: str, headers: dict[str, str], body: str
) -> tuple[str, dict[str, str], str]:
    """Add the client's assertion to the body of a request, as Authlib does with an assertion that it signs itself."""
    named = [
        ("client_id", auth.client_id),
        ("client_assertion_type", _ASSERTION_TYPE),
        ("client_assertion", assertion.reveal()),
    ]
    body = add_params_to_qs(body or "", named)
    if "Content-Length" in headers:
        headers["Content-Length"] = str(len(body))
    return uri, headers, body


class _Client(OAuth2Client):  # type: ignore[misc]
    """Authlib's client on a session of `HttpClient`, with the client authentication of Authlib's own session."""

    client_auth_class = OAuth2Session.client_auth_class


def _authentication(credential: ClientCredential | None, metadata: Metadata) -> tuple[str, str | None]:
    """The authentication method and the secret: `client_secret_basic` unless only `client_secret_post` is offered."""
    match credential:
        case None:
            return "none", None
        case Certificate(private_key=private_key):
            return "private_key_jwt", private_key.reveal()
        case FederatedAssertion():
            return _FEDERATED, None
        case secret:
            methods = metadata.token_endpoint_auth_methods
            only_post = "client_secret_post" in methods and "client_secret_basic" not in methods
            return "client_secret_post" if only_post else "client_secret_basic", secret.reveal()
