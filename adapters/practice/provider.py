"""A practice OAuth 2.0 and OpenID provider: a real authorization server, over TLS, on loopback.

It keeps everything in memory, remembers every request and every secret, and misbehaves when told to.
"""

import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

from cryptography import x509
from flask import Flask, Response, jsonify, request
from joserfc.jwk import KeySet

from adapters.practice.authorization_server import SIGNING_ALGORITHM, AuthorizationServer
from adapters.practice.ca import PracticeCA
from adapters.practice.client_assertions import ALGORITHMS, METHOD, thumbprint
from adapters.practice.http_server import HTTPSServer, NoAnswer
from adapters.practice.misbehaviour import Misbehaviour, Misbehaviours
from adapters.practice.provider_faults import (
    Endpoint,
    Instead,
    PauseBeforeAnswer,
    PauseBeforeWork,
    Spoil,
    fault,
)
from adapters.practice.registry import Client, ClientCertificate, RefreshBehaviour, Registry, Rules, same_account
from adapters.practice.sign_in_pages import SignInPages

DEVICE_CODE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
USER_GRANTS = frozenset({DEVICE_CODE_GRANT, "authorization_code", "refresh_token"})


def utc_now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)


@dataclass
class RequestRecord:
    """One request the provider received.

    `outcome` is the `error` it was answered with, else the HTTP status; "no answer" if the connection was closed
    without one; None while it is being served.
    """

    endpoint: Endpoint
    grant_type: str | None
    at: datetime
    outcome: str | None = None


class PracticeProvider:
    """An authorization server for one tenant, from `start` to `close`; a second `start` keeps port and memory.

    `client_id` is a public client, `confidential_client_id` with `client_secret`, or a certificate that was registered,
    a confidential one that may also use client credentials; `mail_server_client_id` with its secret may introspect.
    `rules` may be changed while it runs. `now` dates everything; a test gives its own.
    """

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
        self.requests: list[RequestRecord] = []
        self.rules = Rules(
            access_token_length=access_token_length,
            access_token_seconds=access_token_seconds,
            device_code_seconds=device_code_seconds,
            interval=interval,
            refresh=refresh,
            refresh_grace_seconds=refresh_grace_seconds,
        )
        self._registry = Registry(self.rules, now, {client.client_id: client for client in self._clients()})
        self._misbehaviours = Misbehaviours()
        self._app = Flask(__name__)
        self._oauth = AuthorizationServer(
            self._app, self._registry, self._misbehaviours, tenant=tenant, accounts=accounts
        )
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
        """Let go of every request that waits, cut every connection, stop listening."""
        self._misbehaviours.disarm()
        if self._https is not None:
            self._https.close()
            self._https = None

    @property
    def port(self) -> int:
        """The TCP port; 0 until the first `start` if none was asked for."""
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
        """Where a mail server asks about a token (RFC 7662)."""
        return f"{self.issuer}/oauth2/introspect"

    def subject(self, account: str) -> str:
        """Return the `sub` of an account's id_tokens."""
        return self._oauth.subject(account)

    def register_certificate(self, pem: str) -> None:
        """Let the confidential client authenticate with the RSA key of this certificate too, while it is valid."""
        certificate = x509.load_pem_x509_certificate(pem.encode())
        with self._registry.lock:
            self._registry.certificates[thumbprint(certificate)] = ClientCertificate(
                self.confidential_client_id, certificate
            )

    # What it saw and issued

    @property
    def issued_secrets(self) -> list[str]:
        """Every access token, refresh token, device code and authorization code ever issued."""
        return list(self._registry.issued_secrets)

    @property
    def issued_user_codes(self) -> list[str]:
        """Every user code ever issued: people read these, so they aren't secrets."""
        return list(self._registry.issued_user_codes)

    @property
    def grant_counts(self) -> Counter[str]:
        """How many requests the token endpoint received, by `grant_type`."""
        return Counter(record.grant_type for record in list(self.requests) if record.grant_type)

    def live_refresh_tokens(self, account: str) -> list[str]:
        """Return the account's refresh tokens that can still be used."""
        with self._registry.lock:
            return [token.value for token in self._registry.live_refresh_tokens(account)]

    def live_access_tokens(self, account: str) -> list[str]:
        """Return the account's access tokens that introspection calls active."""
        with self._registry.lock:
            tokens = self._registry.access_tokens.values()
            return [token.value for token in tokens if token.is_live and same_account(token.family.account, account)]

    # What happens to accounts

    def revoke_account(self, account: str) -> None:
        """End all of the account's grants, as a changed password or an administrator does."""
        with self._registry.lock:
            for token in self._registry.live_refresh_tokens(account):
                token.family.revoked = True

    def disable_account(self, account: str) -> None:
        """Refuse the account with AADSTS50057 until it is enabled again; its grants stay."""
        self._registry.disabled_accounts.add(account.casefold())

    def enable_account(self, account: str) -> None:
        """Undo `disable_account`."""
        self._registry.disabled_accounts.discard(account.casefold())

    def spend_refresh_tokens(self, account: str) -> None:
        """Mark the account's refresh tokens as used, as if somebody else had used them."""
        with self._registry.lock:
            for token in self._registry.live_refresh_tokens(account):
                self._registry.spend_refresh_token(token)

    def expire_access_tokens(self, account: str) -> None:
        """End the account's access tokens now, whatever was promised."""
        with self._registry.lock:
            for value in self.live_access_tokens(account):
                self._registry.access_tokens[value].expires_at = self._registry.now()

    # How it misbehaves

    def misbehave(
        self,
        mode: str,
        *,
        endpoint: Endpoint = "token",
        grant_type: str | None = None,
        times: int | None = 1,
        **details: Any,
    ) -> Misbehaviour:
        """Misbehave at the next `times` matching requests, or until told to `behave` if `times` is None.

        `mode` is a key of `provider_faults.MODES` or the name of an OAuth error; `details` are the fields of the
        fault that it makes. Faults that spoil an answer pass by the requests that are refused anyway.
        """
        return self._misbehaviours.arm(Misbehaviour(fault(mode, **details), endpoint, grant_type, times))

    def hold(
        self, *, endpoint: Endpoint = "token", grant_type: str | None = None, before_work: bool = False
    ) -> Misbehaviour:
        """Hold the next matching request: its answer after the work is done, or all of it if `before_work`.

        Then `wait_until_held` and `release`.
        """
        pause = PauseBeforeWork() if before_work else PauseBeforeAnswer()
        return self._misbehaviours.arm(Misbehaviour(pause, endpoint, grant_type, 1))

    def behave(self) -> None:
        """End every misbehaviour, and let go of the requests that wait."""
        self._misbehaviours.disarm()

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
        record = RequestRecord(endpoint, request.form.get("grant_type"), self._registry.now())
        self.requests.append(record)
        answer = self._answer(endpoint, record.grant_type, work)
        record.outcome = _outcome(answer)
        return answer

    def _answer(self, endpoint: Endpoint, grant_type: str | None, work: Callable[[], Response]) -> Response:
        meet = self._misbehaviours.meet
        if pause := meet(PauseBeforeWork, endpoint, grant_type):
            pause.hold()
        if instead := meet(Instead, endpoint, grant_type):
            return instead.answer()
        with self._registry.lock:
            answer = work()
        if answer.status_code >= 400:
            return answer
        if spoil := meet(Spoil, endpoint, grant_type):
            answer = spoil.spoil(answer)
        if pause_before_answer := meet(PauseBeforeAnswer, endpoint, grant_type):
            pause_before_answer.hold()
        return answer

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


def _outcome(answer: Response) -> str:
    if isinstance(answer, NoAnswer):
        return "no answer"
    body = answer.get_json(silent=True) if answer.status_code >= 400 else None
    return str(body["error"]) if body else str(answer.status_code)
