"""One provider: the conversations that are the same whichever client library composes their requests.

Invariant: an outcome is read from the reply the exchange keeps and from nothing else. With a reply kept already,
no library is asked and nothing is sent to the token endpoint; a renewal is then read even without a network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Protocol

import requests

from adapters.providers.discovery import Discovery, Metadata, WrongAuthority
from adapters.providers.errors import read_overrides
from adapters.providers.http_client import HttpClient, NoReply
from adapters.providers.id_tokens import UnknownKey, identity_of
from adapters.providers.registration import Registration
from adapters.providers.replies import (
    read_app_grant,
    read_device_authorization,
    read_grant,
    read_poll,
    read_redemption,
    read_renewal,
)
from adapters.providers.settings import ProviderSettings
from adapters.providers.sign_in import LIFETIME_SECONDS, SignIn, read_redirect
from domain.errors import Failed, Unreachable
from domain.outcomes import (
    AcquisitionOutcome,
    BrowserAuthorization,
    ClientFault,
    Credential,
    DeviceAuthorization,
    Identity,
    RenewalOutcome,
    Transient,
)
from domain.ports import Exchange, Reply
from domain.secret import Secret

_FLOWS = MappingProxyType({"device": "device code", "browser": "browser", "app": "app-only"})


class ClientLibrary(Protocol):
    """Composes the requests of our client registration and posts them through the session it is given.

    It never sees a reply: `HttpClient.post` takes it.
    """

    def request_device_code(self, session: requests.Session, metadata: Metadata, scopes: Sequence[str]) -> None:
        """Post a device authorization request (RFC 8628 section 3.1)."""
        ...

    def poll(self, session: requests.Session, metadata: Metadata, device_code: Secret) -> None:
        """Post a device access token request (RFC 8628 section 3.4)."""
        ...

    def request_browser(
        self, session: requests.Session, metadata: Metadata, scopes: Sequence[str], redirect_uri: str, account: str
    ) -> tuple[str, SignIn]:
        """Compose an authorization request (RFC 6749 section 4.1.1); nothing is posted."""
        ...

    def redeem_code(self, session: requests.Session, metadata: Metadata, sign_in: SignIn, code: Secret) -> None:
        """Post an access token request (RFC 6749 section 4.1.3) with the code verifier (RFC 7636 section 4.5)."""
        ...

    def request_app_token(self, session: requests.Session, metadata: Metadata, scopes: Sequence[str]) -> None:
        """Post a client credentials request (RFC 6749 section 4.4.2)."""
        ...

    def refresh(self, session: requests.Session, metadata: Metadata, refresh_token: Secret, scope: str) -> None:
        """Post a refresh request (RFC 6749 section 6); `scope` is what was granted."""
        ...

    def revoke(self, session: requests.Session, metadata: Metadata, credential: Credential) -> None:
        """Post a revocation request (RFC 7009 section 2.1)."""
        ...


class OpenIDProvider:
    """A `domain.ports.Provider` that speaks OpenID Connect.

    `libraries` are by the name of what each authenticates with; `scopes` are what to ask for by protocol,
    `app_scopes` what the application itself asks for.
    """

    def __init__(
        self,
        settings: ProviderSettings,
        http: HttpClient,
        discovery: Discovery,
        libraries: Mapping[str, ClientLibrary],
        *,
        flows: Sequence[str],
        scopes: Mapping[str, Sequence[str]],
        app_scopes: Sequence[str],
    ) -> None:
        self.name = settings.name
        self.flows = flows
        self._settings = settings
        self._http = http
        self._discovery = discovery
        self._overrides = read_overrides(settings)
        self._registration = Registration(libraries, self._overrides)
        self._scopes = scopes
        self._app_scopes = app_scopes

    @property
    def client_faults(self) -> Mapping[str, ClientFault]:
        """Each client secret or certificate the provider refuses while another one works."""
        return self._registration.faults

    def request_device_code(self, scopes: Sequence[str], now: datetime) -> DeviceAuthorization:
        """Ask for a device code (RFC 8628 section 3.1). It counts from the reply, not from `now`.

        Raises:
            Unreachable: no answer, or not one that says anything.
            Failed: the provider refuses; the message names the setting to correct.
        """
        metadata = self._metadata_for("device")
        if metadata.device_authorization_endpoint is None:
            raise self._lacks("device")
        try:
            reply = self._post(
                lambda library, session: library.request_device_code(session, metadata, scopes), exchange=None
            )
        except NoReply as trouble:
            raise self._unreachable(trouble) from None
        return read_device_authorization(self.name, reply, " ".join(scopes), self._overrides)

    def redeem_device_code(self, pending: DeviceAuthorization, exchange: Exchange, now: datetime) -> AcquisitionOutcome:
        """Ask once whether the person has finished (RFC 8628 section 3.4), or read the reply that is kept."""
        state = json.loads(pending.state.reveal())
        device_code = Secret(state["device_code"])
        try:
            reply = self._ask(exchange, lambda library, session, metadata: library.poll(session, metadata, device_code))
            return read_poll(reply, pending, state["scope"], self._identify, self._overrides)
        except NoReply as trouble:
            return Transient(str(trouble))
        except WrongAuthority as wrong:
            return ClientFault(wrong.code, wrong.setting)

    def request_browser(
        self, scopes: Sequence[str], redirect_uri: str, account: str, now: datetime
    ) -> BrowserAuthorization:
        """Make the address of a sign-in page for `account` that leads back to `redirect_uri`.

        Raises:
            Unreachable: no answer, or not one that says anything.
            Failed: the provider can't do it; the message names the setting to correct or another flow.
        """
        metadata = self._metadata_for("browser")
        if metadata.authorization_endpoint is None:
            raise self._lacks("browser")
        try:
            with self._http.session() as session:
                uri, sign_in = self._registration.library.request_browser(
                    session, metadata, scopes, redirect_uri, account
                )
        except NoReply as trouble:
            raise self._unreachable(trouble) from None
        return BrowserAuthorization(uri, now + timedelta(seconds=LIFETIME_SECONDS), sign_in.seal())

    def redeem_code(
        self, pending: BrowserAuthorization, redirected_to: str | None, exchange: Exchange, now: datetime
    ) -> AcquisitionOutcome:
        """Redeem the code in the URL the browser was sent back to, or read the reply that is kept.

        Raises:
            InvalidValue: the URL is not of this attempt (`state`) or not of this provider (`iss`).
        """
        sign_in = SignIn.unseal(pending.state)
        try:
            reply = exchange.reply
            if reply is None:
                assert redirected_to is not None, "without a redirect there is no code"
                code = read_redirect(sign_in, redirected_to, self._overrides)
                if not isinstance(code, Secret):
                    return code
                reply = self._ask(
                    exchange, lambda library, session, metadata: library.redeem_code(session, metadata, sign_in, code)
                )
            identify = partial(self._identify, nonce=sign_in.nonce)
            return read_redemption(reply, sign_in.scope, identify, self._overrides)
        except NoReply as trouble:
            return Transient(str(trouble))
        except WrongAuthority as wrong:
            return ClientFault(wrong.code, wrong.setting)

    def request_app_token(
        self, scopes: Sequence[str], account: str, exchange: Exchange, now: datetime
    ) -> RenewalOutcome:
        """Get an access token as the application itself (RFC 6749 section 4.4), or read the reply that is kept.

        The identity is `account` with the client id as its subject: nobody signed in.
        """
        if exchange.reply is None and "app" not in self.flows:
            return ClientFault("no client secret", "client_secret_file")
        try:
            reply = self._ask(
                exchange, lambda library, session, metadata: library.request_app_token(session, metadata, scopes)
            )
        except NoReply as trouble:
            return Transient(str(trouble))
        except WrongAuthority as wrong:
            return ClientFault(wrong.code, wrong.setting)
        identity = Identity(account, self._settings.client_id, None)
        return read_app_grant(reply, " ".join(scopes), identity, self._overrides)

    def refresh(self, credential: Credential, exchange: Exchange, now: datetime) -> RenewalOutcome:
        """Exchange the refresh token for a new access token (RFC 6749 section 6), or read the reply that is kept.

        Keeps the old refresh token if the reply has none.
        """
        refresh_token = credential.refresh_token
        assert refresh_token is not None, "a credential without a refresh token can't be renewed"
        try:
            reply = self._ask(
                exchange,
                lambda library, session, metadata: library.refresh(session, metadata, refresh_token, credential.scope),
            )
            return read_renewal(reply, credential, self._identify, self._overrides)
        except NoReply as trouble:
            return Transient(str(trouble))
        except WrongAuthority as wrong:
            return ClientFault(wrong.code, wrong.setting)

    def read_grant(self, reply: Reply) -> Credential | None:
        """What a reply that nobody waits for any more granted; None if nothing."""
        return read_grant(reply)

    def revoke(self, credential: Credential) -> bool:
        """Tell the provider to forget the grant (RFC 7009); False if it has no such endpoint or did not agree."""
        try:
            metadata = self._discovery.metadata()
            if metadata.revocation_endpoint is None:
                return False
            reply = self._post(lambda library, session: library.revoke(session, metadata, credential), exchange=None)
        except (NoReply, WrongAuthority):
            return False
        return reply.status == 200

    def scopes(self, protocol: str, flow: str = "device") -> Sequence[str]:
        """What to ask for in this flow, for a profile of this protocol."""
        return self._app_scopes if flow == "app" else self._scopes[protocol]

    def _ask(self, exchange: Exchange, ask: Callable[[ClientLibrary, requests.Session, Metadata], None]) -> Reply:
        if exchange.reply is not None:
            return exchange.reply
        # Discovery only once it is sure that something has to be sent.
        metadata = self._discovery.metadata()
        return self._post(lambda library, session: ask(library, session, metadata), exchange)

    def _post(self, ask: Callable[[ClientLibrary, requests.Session], None], exchange: Exchange | None) -> Reply:
        return self._registration.ask(lambda library: self._http.post(partial(ask, library), exchange))

    def _metadata_for(self, flow: str) -> Metadata:
        if flow not in self.flows:
            raise Failed(f"provider {self.name} has no {_FLOWS[flow]} flow: use {self._other_than(flow)}")
        try:
            return self._discovery.metadata()
        except NoReply as trouble:
            raise self._unreachable(trouble) from None
        except WrongAuthority as wrong:
            raise Failed(f"provider {self.name}: {wrong}") from None

    def _lacks(self, flow: str) -> Failed:
        instead = f"check its issuer or use {self._other_than(flow)}"
        return Failed(f"provider {self.name} has no {_FLOWS[flow]} flow: {instead}")

    def _other_than(self, flow: str) -> str:
        return " or ".join(f"the {_FLOWS[other]} flow" for other in self.flows if other != flow) or "another provider"

    def _unreachable(self, trouble: NoReply) -> Unreachable:
        return Unreachable(f"provider {self.name} can't be reached now: {trouble}")

    def _identify(self, id_token: object, received_at: datetime, nonce: str | None = None) -> Identity:
        try:
            return self._validated(id_token, received_at, nonce, newest_keys=False)
        except UnknownKey:
            return self._validated(id_token, received_at, nonce, newest_keys=True)

    def _validated(self, id_token: object, received_at: datetime, nonce: str | None, *, newest_keys: bool) -> Identity:
        return identity_of(
            id_token,
            self._discovery.keys(newest=newest_keys),
            issuer=self._discovery.metadata().issuer,
            client_id=self._settings.client_id,
            account_claims=self._settings.account_claims,
            received_at=received_at,
            nonce=nonce,
        )
