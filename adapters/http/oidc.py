"""Signing in at the organisation's OpenID provider: authorization code with PKCE, `state`, `nonce` and `iss`.

The account and its groups are believed for one session; nothing the provider gave is stored.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from adapters.bootstrap import provider_settings
from adapters.providers.client_credentials import client_credentials
from adapters.providers.discovery import Discovery, WrongAuthority
from adapters.providers.http_client import HttpClient, NoReply, json_object
from adapters.providers.id_tokens import InvalidIdToken, UnknownKey, account_of, validated_claims
from adapters.providers.microsoft import LOGIN, is_entra
from adapters.providers.oidc import GOOGLE_ISSUER, Authlib
from adapters.providers.settings import ProviderSettings
from adapters.providers.sign_in import SignIn, read_redirect
from domain.administrator import ROLES
from domain.errors import Failed, InvalidValue, NotPermitted, Unreachable
from domain.ports import Clock, Reply
from domain.secret import Secret
from infrastructure.config import Config, SignInTable

_NAME = "sign_in"
_AT_ONCE = 8
"""Whoever comes has us ask the provider; if it hangs, that must leave threads for everybody who is here already."""


@dataclass(frozen=True)
class Member:
    """Who signed in, and the roles of their groups."""

    account: str
    roles: tuple[str, ...]


class OrganisationSignIn:
    """The organisation's provider, as `[server.sign_in]` describes it."""

    def __init__(self, config: Config, table: SignInTable, clock: Clock) -> None:
        """Make it; nothing is sent.

        Raises:
            InvalidValue: it names a provider that is not there, or what can't be read.
        """
        self._table = table
        self._settings = _settings(config, table)
        self._http = HttpClient(clock, ca_file=self._settings.ca_file, proxy=self._settings.proxy)
        self._discovery = _discovery(self._settings, self._http)
        credential = next(iter(client_credentials(self._settings).values()), None)
        self._library = Authlib(self._settings, credential, {})
        self._admitted = threading.BoundedSemaphore(_AT_ONCE)

    @property
    def name(self) -> str:
        """What people call it."""
        return self._table.provider or urlsplit(self._settings.issuer or "").hostname or _NAME

    def begin(self, redirect_uri: str) -> tuple[str, Secret]:
        """Where to send the browser, and what to remember until it comes back to `redirect_uri`.

        Raises:
            Unreachable: the provider, or too many sign in at once.
            Failed: what answers is not the provider of the configuration, or it can't sign people in.
        """
        with self._asking():
            metadata = self._discovery.metadata()
            if metadata.authorization_endpoint is None:
                raise Failed(f"{self.name} has no authorization_endpoint: correct [server.sign_in]")
            if "{tenantid}" in metadata.issuer:
                raise Failed(f"{self.name} speaks for every tenant: name your own in the provider's tenant")
            with self._http.session() as session:
                uri, sign_in = self._library.request_browser(session, metadata, self._table.scopes, redirect_uri, "")
        return uri, sign_in.seal()

    def read(self, begun: Secret, redirected_to: str) -> Secret:
        """The code in the URL a browser was sent back to.

        Raises:
            InvalidValue: it is not of this sign-in (`state`) or not of this provider (`iss`).
            NotPermitted: it says that nobody has signed in.
        """
        found = read_redirect(SignIn.unseal(begun), redirected_to, {})
        if not isinstance(found, Secret):
            raise NotPermitted(f"{self.name} signed nobody in: try again")
        return found

    def finish(self, begun: Secret, code: Secret) -> Member:
        """Redeem the code; who it is of.

        Raises:
            NotPermitted: the provider refuses, its proof does not hold, or no group of theirs has a role.
            Unreachable: the provider, or too many sign in at once.
            Failed: what answers is not the provider of the configuration.
        """
        sign_in = SignIn.unseal(begun)
        with self._asking():
            metadata = self._discovery.metadata()
            reply = self._http.post(lambda session: self._library.redeem_code(session, metadata, sign_in, code))
            try:
                claims = self._claims(reply, sign_in)
            except InvalidIdToken as invalid:
                raise NotPermitted(f"{self.name}'s proof of who signed in does not hold ({invalid.check})") from None
        return self._member(claims)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """A conversation with the provider, one of few at once; says what is wrong in our words."""
        if not self._admitted.acquire(blocking=False):
            raise Unreachable("too many sign-ins at once: try again")
        try:
            yield
        except NoReply as trouble:
            raise Unreachable(f"{self.name} can't be reached ({trouble}): try again") from None
        except WrongAuthority as wrong:
            raise Failed(f"{self.name}: {wrong}") from None
        finally:
            self._admitted.release()

    def _claims(self, reply: Reply, sign_in: SignIn) -> Mapping[str, Any]:
        document = json_object(reply.body) or {}
        if reply.status >= 500:
            raise Unreachable(f"{self.name} can't sign anybody in now (HTTP {reply.status}): try again")
        if reply.status != 200:
            raise NotPermitted(f"{self.name} did not accept the sign-in (HTTP {reply.status}): try again")
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
            raise NotPermitted(f"{self.name} does not say who signed in: correct account_claims in [server.sign_in]")
        roles = roles_of(claims.get(self._table.groups_claim), self._table.groups)
        if not roles:
            raise NotPermitted(
                f"{account} is in no group that may sign in here: [server.sign_in] groups says which are"
            )
        # With an @ it is never taken for an administrator of this service's own.
        host = urlsplit(str(claims["iss"])).hostname
        return Member(account if "@" in account else f"{account}@{host}", roles)


def roles_of(groups: object, table: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The roles of these groups, as an ID token lists them; what is no list of texts has none."""
    names = {group for group in groups if isinstance(group, str)} if isinstance(groups, list) else set()
    held = {role for name in names for role in table.get(name, ())}
    return tuple(role for role in ROLES if role in held)


def _settings(config: Config, table: SignInTable) -> ProviderSettings:
    if table.provider:
        named = config.providers.get(table.provider)
        if named is None:
            known = ", ".join(config.providers) or "none"
            raise InvalidValue("[server.sign_in] provider", f"there is no {table.provider!r}; [providers] has: {known}")
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


def _discovery(settings: ProviderSettings, http: HttpClient) -> Discovery:
    if settings.kind == "microsoft" and not settings.issuer:
        return Discovery(http, f"{LOGIN}/{settings.tenant}/v2.0", "tenant", is_entra)
    issuer = settings.issuer or GOOGLE_ISSUER
    return Discovery(http, issuer, "issuer", lambda found: found == issuer)
