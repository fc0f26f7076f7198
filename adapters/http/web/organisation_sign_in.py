"""Signing in at the organisation's OpenID provider: authorization code with PKCE, `state`, `nonce` and `iss`.

The account and its groups are valid for one session; nothing from the provider is stored.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from adapters.http_client import HttpClient, NoReply, json_object
from adapters.providers.authlib_client import Authlib
from adapters.providers.authorization_request import AuthorizationRequest, read_redirect
from adapters.providers.client_authentication import client_credentials
from adapters.providers.discovery import Discovery, WrongAuthority
from adapters.providers.id_tokens import InvalidIdToken, UnknownKey, account_of, validated_claims
from adapters.providers.kinds import preset_of
from adapters.providers.preset import address_rule
from adapters.providers.settings import ProviderSettings, provider_settings
from domain.administrator import ROLES
from domain.errors import Failed, InvalidValue, NotPermitted, Unreachable
from domain.ports import Clock, Reply
from domain.scope import Scope
from domain.secret import Secret
from infrastructure.config.tables import Config, SignInTable

_NAME = "sign_in"
_AT_ONCE = 8
"""The most requests to the provider at a time. Anybody can cause one; if the provider hangs, threads must be left."""


@dataclass(frozen=True)
class Member:
    """A member of the organisation who has signed in, with the roles of their groups and the limits of these roles."""

    account: str
    roles: tuple[str, ...]
    scopes: Mapping[str, Scope]


class OrganisationSignIn:
    """The organisation's provider, as `[server.sign_in]` describes it."""

    def __init__(self, config: Config, table: SignInTable, clock: Clock) -> None:
        """Read the table, without a request to the provider.

        Raises:
            InvalidValue: the table names a provider that is not configured, or a file that can't be read.
        """
        self._table = table
        self._settings = _settings(config, table)
        authority = preset_of(self._settings).authority(self._settings)
        rule = address_rule(self._settings, authority)
        self._http = HttpClient(clock, ca_file=self._settings.ca_file, proxy=self._settings.proxy, address_rule=rule)
        self._discovery = Discovery(self._http, authority)
        credential = next(iter(client_credentials(self._settings).values()), None)
        self._library = Authlib(self._settings, credential, {})
        self._admitted = threading.BoundedSemaphore(_AT_ONCE)

    @property
    def name(self) -> str:
        """The provider's name for people."""
        return self._table.provider or urlsplit(self._settings.issuer or "").hostname or _NAME

    def begin(self, redirect_uri: str) -> tuple[str, Secret]:
        """The URL to send the browser to, and the state to keep until it comes back to `redirect_uri`.

        Raises:
            Unreachable: the provider does not answer, or too many people sign in at once.
            Failed: the server that answers is not the configured provider, or can't sign people in.
        """
        with self._provider_answering():
            metadata = self._discovery.metadata()
            if metadata.authorization_endpoint is None:
                raise Failed("no_authorization_endpoint", name=self.name)
            if "{tenantid}" in metadata.issuer:
                raise Failed("authority_of_every_tenant", name=self.name)
            with self._http.session() as session:
                uri, sign_in = self._library.request_browser(session, metadata, self._table.scopes, redirect_uri, "")
        return uri, sign_in.seal()

    def read(self, begun: Secret, redirected_to: str) -> Secret:
        """The code in the URL a browser was sent back to.

        Raises:
            InvalidValue: the URL belongs to another sign-in (`state`) or another provider (`iss`).
            NotPermitted: the URL reports that nobody has signed in.
        """
        found = read_redirect(AuthorizationRequest.unseal(begun), redirected_to, {})
        if not isinstance(found, Secret):
            raise NotPermitted("nobody_signed_in", name=self.name)
        return found

    def finish(self, begun: Secret, code: Secret) -> Member:
        """Redeem the code; returns the member who signed in.

        Raises:
            NotPermitted: the provider refuses, its ID token is not valid, or none of the member's groups has a role.
            Unreachable: the provider does not answer, or too many people sign in at once.
            Failed: the server that answers is not the configured provider.
        """
        sign_in = AuthorizationRequest.unseal(begun)
        with self._provider_answering():
            metadata = self._discovery.metadata()
            reply = self._http.post(lambda session: self._library.redeem_code(session, metadata, sign_in, code))
            try:
                claims = self._claims(reply, sign_in)
            except InvalidIdToken as invalid:
                raise NotPermitted("id_token_invalid", name=self.name, check=invalid.check) from None
        return self._member(claims)

    @contextmanager
    def _provider_answering(self) -> Iterator[None]:
        """Limit the requests to the provider at a time, and turn their failures into the domain's errors."""
        if not self._admitted.acquire(blocking=False):
            raise Unreachable("too_many_sign_ins")
        try:
            yield
        except NoReply as trouble:
            raise Unreachable("provider_unreachable", provider=self.name, why=trouble.why) from None
        except WrongAuthority as wrong:
            raise Failed("authority_not_usable", provider=self.name, why=wrong.why, setting=wrong.setting) from None
        finally:
            self._admitted.release()

    def _claims(self, reply: Reply, sign_in: AuthorizationRequest) -> Mapping[str, Any]:
        document = json_object(reply.body) or {}
        if reply.status >= 500:
            raise Unreachable("sign_in_unavailable", name=self.name, status=reply.status)
        if reply.status != 200:
            raise NotPermitted("sign_in_not_accepted", name=self.name, status=reply.status)
        for newest in (False, True):
            try:
                return validated_claims(
                    document.get("id_token"),
                    self._discovery.keys(newest=newest),
                    issuer=sign_in.issuer,
                    client_id=self._settings.client_id,
                    received_at=reply.received_at,
                    nonce=sign_in.nonce,
                )
            except UnknownKey:
                if newest:
                    raise
        raise AssertionError("the second time ends it")

    def _member(self, claims: Mapping[str, Any]) -> Member:
        account = account_of(claims, self._table.account_claims)
        if account is None:
            raise NotPermitted("account_not_named", name=self.name)
        groups = groups_in(claims.get(self._table.groups_claim))
        roles = roles_of(groups, self._table.groups)
        if not roles:
            raise NotPermitted("account_without_group", account=account)
        # No administrator's name has an @, so the event log never confuses a member with an administrator.
        host = urlsplit(str(claims["iss"])).hostname
        return Member(account if "@" in account else f"{account}@{host}", roles, self._table.limits(groups))


def groups_in(claim: object) -> frozenset[str]:
    """The groups in an ID token; a claim that is no list of texts has none."""
    return frozenset(group for group in claim if isinstance(group, str)) if isinstance(claim, list) else frozenset()


def roles_of(groups: Iterable[str], table: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The roles of these groups."""
    held = {role for name in groups for role in table.get(name, ())}
    return tuple(role for role in ROLES if role in held)


def _settings(config: Config, table: SignInTable) -> ProviderSettings:
    if table.provider:
        named = config.providers.get(table.provider)
        if named is None:
            raise InvalidValue(
                "[server.sign_in] provider",
                "provider_not_configured",
                provider=table.provider,
                configured=list(config.providers),
            )
        return provider_settings(config, table.provider, named)
    secret = table.client_secret_file
    return ProviderSettings(
        name=_NAME,
        kind="oidc",
        client_id=table.client_id or "",
        client_secrets=(Secret(config.secret("[server.sign_in] client_secret_file", secret)),) if secret else (),
        issuer=table.issuer,
        ca_file=config.path(table.ca_file) if table.ca_file else None,
        proxy=table.proxy,
    )
