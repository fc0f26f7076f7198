"""The practice provider's OAuth 2.0: Authlib's grants and endpoints over the provider's registry.

Authlib decides on each request; the classes of this module only connect it to the registry.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from authlib.integrations.flask_oauth2 import AuthorizationServer as FlaskAuthorizationServer
from authlib.oauth2 import rfc7009, rfc7662, rfc8628, rfc9207
from authlib.oauth2.rfc6749 import InvalidGrantError, grants
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core.grants.code import OpenIDToken
from flask import Flask
from joserfc import jwt
from joserfc.jwk import RSAKey

from adapters.practice.client_assertions import METHOD, ClientAssertions
from adapters.practice.registry import (
    AuthorizationCode,
    Client,
    Decision,
    DeviceCode,
    Family,
    Registry,
    Token,
)

CLIENT_AUTH_METHODS = [METHOD, "client_secret_basic", "client_secret_post", "none"]
DEVICE_CODE_LENGTH = 43
REFRESH_TOKEN_LENGTH = 64
AUTHORIZATION_CODE_LENGTH = 48
AUTHORIZATION_CODE_SECONDS = 600
ID_TOKEN_SECONDS = 3600
SIGNING_ALGORITHM = "RS256"


def new_signing_key() -> RSAKey:
    """An RSA key for ID tokens, with a key id of its own."""
    return RSAKey.generate_key(2048, {"use": "sig", "alg": SIGNING_ALGORITHM}, auto_kid=True)


class AuthorizationServer(FlaskAuthorizationServer):  # type: ignore[misc]
    """Authlib's server with all grants and endpoints of the practice provider registered."""

    new_signing_key = staticmethod(new_signing_key)

    def __init__(
        self,
        app: Flask,
        registry: Registry,
        *,
        tenant: str,
        accounts: tuple[str, ...],
    ) -> None:
        super().__init__(app, query_client=registry.clients.get, save_token=self._save_token)
        self.registry = registry
        self.origin = ""  # known once the provider has a port
        self.accounts = accounts
        self.tenant = tenant
        self.tenant_id = str(uuid5(NAMESPACE_DNS, tenant))
        self.signing_key = self.new_signing_key()
        self.register_client_auth_method(METHOD, ClientAssertions(registry, self._audiences))
        self.register_token_generator("default", self._bearer_token_generator())
        id_token = _IdTokenExtension(self)
        self.register_grant(_DeviceCodeGrant, [id_token])
        self.register_grant(_AuthorizationCodeGrant, [_CodeChallengeS256(required=True), id_token])
        self.register_grant(_RefreshTokenGrant, [id_token])
        self.register_grant(_ClientCredentialsGrant)
        self.register_endpoint(_DeviceAuthorizationEndpoint)
        self.register_endpoint(_RevocationEndpoint)
        self.register_endpoint(_IntrospectionEndpoint)
        self.register_extension(_IssuerParameter(self))

    @property
    def issuer(self) -> str:
        """The issuer identifier."""
        return f"{self.origin}/{self.tenant}"

    @property
    def token_endpoint(self) -> str:
        """The URL of the token endpoint."""
        return f"{self.issuer}/oauth2/token"

    def subject(self, account: str) -> str:
        """The account's `sub`, the same in every provider of this tenant, so that it survives a restart of the demo."""
        return str(uuid5(NAMESPACE_DNS, f"{self.tenant_id}.{account.casefold()}"))

    def signed_in(self, account: str, grant_type: str) -> str:
        """The account that tokens of this grant type are issued for, after the person chose `account` on the page."""
        return account

    def sign_id_token(self, claims: Mapping[str, Any], grant_type: str) -> str:
        """The claims of an ID token for a grant of this type, signed with the key that the provider publishes."""
        return self.signed(claims, self.signing_key)

    def signed(self, claims: Mapping[str, Any], key: RSAKey) -> str:
        """A JWT signed by `key`; its header always names the published key."""
        header = {"alg": SIGNING_ALGORITHM, "kid": self.signing_key.kid}
        return jwt.encode(header, dict(claims), key, [SIGNING_ALGORITHM])

    def _audiences(self) -> list[str]:
        return [self.token_endpoint, self.issuer]

    def _save_token(self, token: Mapping[str, Any], request: Any) -> None:
        if isinstance(request.refresh_token, Token):
            family = request.refresh_token.family
        else:
            family = Family(request.client.client_id, request.user, token.get("scope", ""))
        if isinstance(request.credential, DeviceCode):
            request.credential.redeemed = True
        self.registry.add_tokens(family, token["access_token"], token.get("refresh_token"))

    def _bearer_token_generator(self) -> BearerTokenGenerator:
        rules = self.registry.rules
        return BearerTokenGenerator(
            access_token_generator=lambda **_: self.registry.new_secret(rules.access_token_length),
            refresh_token_generator=lambda **_: self.registry.new_secret(REFRESH_TOKEN_LENGTH),
            expires_generator=lambda client, grant_type: rules.access_token_seconds,
        )


class _DeviceAuthorizationEndpoint(rfc8628.DeviceAuthorizationEndpoint):  # type: ignore[misc]
    server: AuthorizationServer
    CLIENT_AUTH_METHODS = CLIENT_AUTH_METHODS

    def authenticate_client(self, request: Any) -> Client:
        """Give a device code to a client with a certificate for its id alone, as Entra does; it authenticates later."""
        client = self.server.registry.clients.get(request.payload.client_id)
        if client and self.server.registry.has_certificate(client.client_id) and not _authenticates(request):
            request.client = client
            return client
        return super().authenticate_client(request)  # type: ignore[no-any-return]

    @property
    def EXPIRES_IN(self) -> int:  # noqa: N802 - Authlib's name
        return self.server.registry.rules.device_code_seconds

    @property
    def INTERVAL(self) -> int:  # noqa: N802 - Authlib's name
        return self.server.registry.rules.interval

    def generate_device_code(self) -> str:
        return self.server.registry.new_secret(DEVICE_CODE_LENGTH)

    def get_verification_uri(self) -> str:
        return f"{self.server.origin}/device"

    def save_device_credential(self, client_id: str, scope: str | None, data: Mapping[str, Any]) -> None:
        self.server.registry.add_device_code(data["device_code"], data["user_code"], client_id, scope or "")


class _DeviceCodeGrant(rfc8628.DeviceCodeGrant):  # type: ignore[misc]
    server: AuthorizationServer
    TOKEN_ENDPOINT_AUTH_METHODS = CLIENT_AUTH_METHODS

    def query_device_credential(self, device_code: str) -> DeviceCode:
        credential = self.server.registry.device_codes.get(device_code)
        if credential is None or credential.redeemed:
            raise InvalidGrantError("The device code is unknown or was redeemed.")
        self.request.credential = credential
        return credential

    def query_user_grant(self, user_code: str) -> tuple[str, bool] | None:
        decision: Decision | None = self.request.credential.decision
        if decision is None:
            return None
        if not decision.approved:
            return decision.account, False
        return self.server.signed_in(decision.account, self.GRANT_TYPE), True

    def should_slow_down(self, credential: DeviceCode) -> bool:
        return credential.polled_too_soon()


class _AuthorizationCodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc]
    server: AuthorizationServer
    TOKEN_ENDPOINT_AUTH_METHODS = CLIENT_AUTH_METHODS

    def generate_authorization_code(self) -> str:
        return self.server.registry.new_secret(AUTHORIZATION_CODE_LENGTH)

    def save_authorization_code(self, code: str, request: Any) -> None:
        asked, now = request.payload.data, self.server.registry.now()
        self.server.registry.authorization_codes[code] = AuthorizationCode(
            code=code,
            client_id=request.client.client_id,
            account=request.user,
            redirect_uri=request.payload.redirect_uri,
            scope=request.scope,
            nonce=asked.get("nonce"),
            code_challenge=asked.get("code_challenge"),
            code_challenge_method=asked.get("code_challenge_method"),
            signed_in_at=now,
            expires_at=now + timedelta(seconds=AUTHORIZATION_CODE_SECONDS),
        )

    def query_authorization_code(self, code: str, client: Client) -> AuthorizationCode | None:
        found = self.server.registry.authorization_codes.get(code)
        usable = found and found.client_id == client.client_id and self.server.registry.now() < found.expires_at
        return found if usable else None

    def delete_authorization_code(self, authorization_code: AuthorizationCode) -> None:
        del self.server.registry.authorization_codes[authorization_code.code]

    def authenticate_user(self, authorization_code: AuthorizationCode) -> str:
        return self.server.signed_in(authorization_code.account, self.GRANT_TYPE)


class _CodeChallengeS256(CodeChallenge):  # type: ignore[misc]
    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)


class _RefreshTokenGrant(grants.RefreshTokenGrant):  # type: ignore[misc]
    server: AuthorizationServer
    TOKEN_ENDPOINT_AUTH_METHODS = CLIENT_AUTH_METHODS

    @property
    def INCLUDE_NEW_REFRESH_TOKEN(self) -> bool:  # noqa: N802 - Authlib's name
        return self.server.registry.rules.refresh != "static"

    def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
        return self.server.registry.accept_refresh_token(refresh_token)

    def authenticate_user(self, refresh_token: Token) -> str:
        return self.server.signed_in(str(refresh_token.family.account), self.GRANT_TYPE)

    def revoke_old_credential(self, refresh_token: Token) -> None:
        self.server.registry.spend_refresh_token(refresh_token)


class _ClientCredentialsGrant(grants.ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = (METHOD, "client_secret_basic", "client_secret_post")


class _RevocationEndpoint(rfc7009.RevocationEndpoint):  # type: ignore[misc]
    server: AuthorizationServer
    CLIENT_AUTH_METHODS = CLIENT_AUTH_METHODS

    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        return _find_token(self.server.registry, token_string)

    def revoke_token(self, token: Token, request: Any) -> None:
        """Revoke a refresh token with its whole family, or an access token alone (RFC 7009 section 2.1)."""
        if token.value in self.server.registry.refresh_tokens:
            token.family.revoked = True
        else:
            token.revoked = True


class _IntrospectionEndpoint(rfc7662.IntrospectionEndpoint):  # type: ignore[misc]
    server: AuthorizationServer
    CLIENT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")

    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        return self.server.registry.introspected(token_string)

    def check_permission(self, token: Token, client: Client, request: Any) -> bool:
        return client.may_introspect

    def introspect_token(self, token: Token) -> dict[str, Any]:
        """Describe a live token; the account of an app-only token is its client (RFC 7662 section 2.2)."""
        family = token.family
        username = family.account or family.client_id
        assert token.expires_at is not None
        return {
            "active": True,
            "iss": self.server.issuer,
            "sub": self.server.subject(username),
            "client_id": family.client_id,
            "username": username,
            "email": username,
            "scope": family.scope,
            "token_type": "Bearer",
            "exp": int(token.expires_at.timestamp()),
            "iat": int(token.issued_at.timestamp()),
        }


class _IssuerParameter(rfc9207.IssuerParameter):  # type: ignore[misc]
    """Puts `iss` into every redirect, also into a redirect with an error."""

    def __init__(self, server: AuthorizationServer) -> None:
        self._server = server

    def get_issuer(self) -> str:
        return self._server.issuer


class _IdTokenExtension(OpenIDToken):  # type: ignore[misc]
    """Adds an ID token if the scope has `openid`, dated by the registry's clock."""

    def __init__(self, server: AuthorizationServer) -> None:
        self._server = server

    def encode_id_token(self, token: Mapping[str, Any], request: Any) -> str:
        """Collect the claims and sign them."""
        code = request.authorization_code
        claims = {
            **self.get_client_claims(request.client),
            **(self.get_authorization_code_claims(code) if code else {}),
            **self.generate_user_info(request.user, token["scope"]),
        }
        return self._server.sign_id_token(claims, request.payload.grant_type)

    def get_client_claims(self, client: Client) -> dict[str, Any]:
        now = int(self._server.registry.now().timestamp())
        return {
            "iss": self._server.issuer,
            "aud": client.client_id,
            "iat": now,
            "exp": now + ID_TOKEN_SECONDS,
            "tid": self._server.tenant_id,
        }

    def generate_user_info(self, user: str, scope: str) -> dict[str, Any]:
        return {"sub": self._server.subject(user), "preferred_username": user, "email": user}


def _authenticates(request: Any) -> bool:
    return "Authorization" in request.headers or not {"client_secret", "client_assertion"}.isdisjoint(request.form)


def _find_token(registry: Registry, value: str) -> Token | None:
    return registry.refresh_tokens.get(value) or registry.access_tokens.get(value)
