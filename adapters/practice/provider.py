"""A practice OAuth 2.0 and OpenID provider: a real authorization server, over TLS, on loopback.

The provider keeps everything in memory, until it is closed.
"""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Literal, Self

from cryptography import x509
from flask import Flask, Response, jsonify
from joserfc.jwk import KeySet

from adapters.practice.authorization_server import SIGNING_ALGORITHM, AuthorizationServer
from adapters.practice.ca import PracticeCA
from adapters.practice.client_assertions import ALGORITHMS, METHOD, thumbprint
from adapters.practice.http_server import HTTPSServer
from adapters.practice.registry import Client, ClientCertificate, RefreshBehaviour, Registry, Rules, same_account
from adapters.practice.sign_in_pages import SignInPages

DEVICE_CODE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
Endpoint = Literal["discovery", "jwks", "authorization", "device_authorization", "token", "revocation", "introspection"]
USER_GRANTS = frozenset({DEVICE_CODE_GRANT, "authorization_code", "refresh_token"})


def utc_now() -> datetime:
    """The present instant, in UTC."""
    return datetime.now(UTC)


class PracticeProvider:
    """An authorization server for one tenant, from `start` to `close`; a second `start` keeps port and memory.

    `client_id` is a public client. `confidential_client_id` authenticates with `client_secret` or a registered
    certificate, and may also use client credentials. `mail_server_client_id` may use introspection, with its secret.
    `rules` may be changed while the provider runs. `now` is the clock for all dates; a test gives its own.
    """

    registry_class = Registry
    authorization_server_class = AuthorizationServer
    client_id = "practice-public-client"
    confidential_client_id = "practice-confidential-client"
    mail_server_client_id = "practice-mail-server"

    def __init__(
        self,
        ca: PracticeCA,
        *,
        tenant: str = "contoso",
        port: int = 0,
        accounts: tuple[str, ...] = ("scan@contoso.com", "fax@contoso.com", "admin@contoso.com"),
        access_token_length: int = 1500,
        access_token_seconds: int = 3600,
        device_code_seconds: int = 900,
        interval: int = 5,
        refresh: RefreshBehaviour = "rotate",
        refresh_grace_seconds: float = 60,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.ca_file = ca.ca_file
        self.tenant = tenant
        self.accounts = accounts
        self.client_secret = secrets.token_urlsafe(32)
        self.mail_server_client_secret = secrets.token_urlsafe(32)
        self.rules = Rules(
            access_token_length=access_token_length,
            access_token_seconds=access_token_seconds,
            device_code_seconds=device_code_seconds,
            interval=interval,
            refresh=refresh,
            refresh_grace_seconds=refresh_grace_seconds,
        )
        self._registry = self.registry_class(self.rules, now, {client.client_id: client for client in self._clients()})
        self._app = Flask("adapters.practice.provider")
        self._oauth = self.authorization_server_class(self._app, self._registry, tenant=tenant, accounts=accounts)
        self._pages = SignInPages(self._app, self._oauth)
        self._route()
        self._tls = ca.issue().ssl_context()
        self._port = port
        self._https: HTTPSServer | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        """Listen and serve, in threads."""
        self._https = HTTPSServer(self._app, self._tls, port=self._port)
        self._port = self._https.port
        self._oauth.origin = f"https://localhost:{self._port}"
        self._https.start()
        return self

    def close(self) -> None:
        """Stop listening, and cut every connection."""
        if self._https is not None:
            self._https.close()
            self._https = None

    @property
    def port(self) -> int:
        """The TCP port; 0 until the first `start` unless a port was given."""
        return self._port

    @property
    def issuer(self) -> str:
        """The issuer identifier, `https://localhost:PORT/TENANT`; known from the first `start` on."""
        return self._oauth.issuer

    @property
    def tenant_id(self) -> str:
        """The `tid` of the id_tokens."""
        return self._oauth.tenant_id

    @property
    def introspection_endpoint(self) -> str:
        """The URL at which a mail server asks about a token (RFC 7662)."""
        return f"{self.issuer}/oauth2/introspect"

    def subject(self, account: str) -> str:
        """Return the `sub` of an account's id_tokens."""
        return self._oauth.subject(account)

    def register_certificate(self, pem: str) -> None:
        """Let the confidential client also authenticate with this certificate's RSA key, while it is valid."""
        certificate = x509.load_pem_x509_certificate(pem.encode())
        with self._registry.lock:
            self._registry.certificates[thumbprint(certificate)] = ClientCertificate(
                self.confidential_client_id, certificate
            )

    def live_refresh_tokens(self, account: str) -> list[str]:
        """Return the account's refresh tokens that can still be used."""
        with self._registry.lock:
            return [token.value for token in self._registry.live_refresh_tokens(account)]

    def live_access_tokens(self, account: str) -> list[str]:
        """Return the account's access tokens that introspection calls active."""
        with self._registry.lock:
            tokens = self._registry.access_tokens.values()
            return [token.value for token in tokens if token.is_live and same_account(token.family.account, account)]

    def revoke_account(self, account: str) -> None:
        """End all of the account's grants, as a changed password or an administrator does."""
        with self._registry.lock:
            for token in self._registry.live_refresh_tokens(account):
                token.family.revoked = True

    def _clients(self) -> tuple[Client, ...]:
        return (
            Client(self.client_id, USER_GRANTS),
            Client(self.confidential_client_id, USER_GRANTS | {"client_credentials"}, self.client_secret),
            Client(
                self.mail_server_client_id,
                frozenset(),
                self.mail_server_client_secret,
                may_introspect=True,
            ),
        )

    def _route(self) -> None:
        oauth = self._oauth
        base = f"/{self.tenant}"
        self._endpoint("discovery", f"{base}/.well-known/openid-configuration", self._metadata, "GET")
        self._endpoint("jwks", f"{base}/discovery/keys", self._jwks, "GET")
        self._endpoint("authorization", f"{base}/oauth2/authorize", self._pages.authorize, "GET", "POST")
        self._endpoint("token", f"{base}/oauth2/token", oauth.create_token_response, "POST")
        for endpoint, path in _AUTHLIB_ENDPOINTS.items():
            self._endpoint(endpoint, base + path, partial(oauth.create_endpoint_response, endpoint), "POST")

    def _endpoint(self, endpoint: Endpoint, path: str, work: Callable[[], Response], *methods: str) -> None:
        self._app.add_url_rule(path, endpoint, lambda: self._serve(endpoint, work), methods=methods)

    def _serve(self, endpoint: Endpoint, work: Callable[[], Response]) -> Response:
        with self._registry.lock:
            return work()

    def _metadata(self) -> Response:
        """Describe the provider (OpenID Connect Discovery section 3, RFC 8414, RFC 8628 section 4, RFC 9207)."""
        client_auth_methods = ["none", "client_secret_basic", "client_secret_post", METHOD]
        return jsonify(
            issuer=self.issuer,
            authorization_endpoint=f"{self.issuer}/oauth2/authorize",
            token_endpoint=self._oauth.token_endpoint,
            jwks_uri=f"{self.issuer}/discovery/keys",
            **{f"{name}_endpoint": self.issuer + path for name, path in _AUTHLIB_ENDPOINTS.items()},
            scopes_supported=["openid", "profile", "email", "offline_access"],
            claims_supported=["iss", "sub", "aud", "exp", "iat", "preferred_username", "email", "tid"],
            response_types_supported=["code"],
            response_modes_supported=["query"],
            grant_types_supported=sorted(USER_GRANTS | {"client_credentials"}),
            subject_types_supported=["public"],
            id_token_signing_alg_values_supported=[SIGNING_ALGORITHM],
            token_endpoint_auth_methods_supported=client_auth_methods,
            token_endpoint_auth_signing_alg_values_supported=ALGORITHMS,
            revocation_endpoint_auth_methods_supported=client_auth_methods,
            revocation_endpoint_auth_signing_alg_values_supported=ALGORITHMS,
            introspection_endpoint_auth_methods_supported=client_auth_methods[1:3],
            code_challenge_methods_supported=["S256"],
            authorization_response_iss_parameter_supported=True,
        )

    def _jwks(self) -> Response:
        return jsonify(KeySet([self._oauth.signing_key]).as_dict(private=False))


_AUTHLIB_ENDPOINTS: dict[Endpoint, str] = {
    "device_authorization": "/oauth2/devicecode",
    "revocation": "/oauth2/revoke",
    "introspection": "/oauth2/introspect",
}
