"""One provider: the conversations that are the same whichever client library composes their requests.

Invariant: an outcome is read from the reply the exchange keeps and from nothing else. With a reply kept already,
no library is asked and nothing is sent to the token endpoint; a renewal is then read even without a network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import requests

from adapters.providers.discovery import Discovery, Metadata, WrongAuthority
from adapters.providers.http_client import HttpClient, NoReply
from adapters.providers.id_tokens import UnknownKey, identity_of
from adapters.providers.replies import read_device_authorization, read_poll, read_renewal
from adapters.providers.settings import ProviderSettings
from domain.errors import Failed, Unreachable
from domain.outcomes import (
    AcquisitionOutcome,
    ClientFault,
    Credential,
    DeviceAuthorization,
    Identity,
    RenewalOutcome,
    Transient,
)
from domain.ports import Exchange, Reply
from domain.secret import Secret


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

    def refresh(self, session: requests.Session, metadata: Metadata, refresh_token: Secret, scope: str) -> None:
        """Post a refresh request (RFC 6749 section 6); `scope` is what was granted."""
        ...

    def revoke(self, session: requests.Session, metadata: Metadata, credential: Credential) -> None:
        """Post a revocation request (RFC 7009 section 2.1)."""
        ...


class OpenIDProvider:
    """A `domain.ports.Provider` that speaks OpenID Connect; `scopes` are what to ask for by protocol."""

    def __init__(
        self,
        settings: ProviderSettings,
        http: HttpClient,
        discovery: Discovery,
        library: ClientLibrary,
        scopes: Mapping[str, Sequence[str]],
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._http = http
        self._discovery = discovery
        self._library = library
        self._scopes = scopes

    def request_device_code(self, scopes: Sequence[str], now: datetime) -> DeviceAuthorization:
        """Ask for a device code (RFC 8628 section 3.1). It counts from the reply, not from `now`.

        Raises:
            Unreachable: no answer, or not one that says anything.
            Failed: the provider refuses; the message names the setting to correct.
        """
        try:
            metadata = self._discovery.metadata()
            if metadata.device_authorization_endpoint is None:
                raise Failed(f"provider {self.name} has no device code flow: check its issuer or use another flow")
            reply = self._http.post(lambda session: self._library.request_device_code(session, metadata, scopes))
        except NoReply as trouble:
            raise Unreachable(f"provider {self.name} can't be reached now: {trouble}") from None
        except WrongAuthority as wrong:
            raise Failed(f"provider {self.name}: {wrong}") from None
        return read_device_authorization(self.name, reply, " ".join(scopes))

    def redeem_device_code(self, pending: DeviceAuthorization, exchange: Exchange, now: datetime) -> AcquisitionOutcome:
        """Ask once whether the person has finished (RFC 8628 section 3.4), or read the reply that is kept."""
        state = json.loads(pending.state.reveal())
        device_code = Secret(state["device_code"])
        try:
            reply = self._ask(exchange, lambda session, metadata: self._library.poll(session, metadata, device_code))
            return read_poll(reply, pending, state["scope"], self._identify)
        except NoReply as trouble:
            return Transient(str(trouble))
        except WrongAuthority as wrong:
            return ClientFault(wrong.code, wrong.setting)

    def refresh(self, credential: Credential, exchange: Exchange, now: datetime) -> RenewalOutcome:
        """Exchange the refresh token for a new access token (RFC 6749 section 6), or read the reply that is kept.

        Keeps the old refresh token if the reply has none.
        """
        refresh_token = credential.refresh_token
        assert refresh_token is not None, "a credential without a refresh token can't be renewed"
        try:
            reply = self._ask(
                exchange,
                lambda session, metadata: self._library.refresh(session, metadata, refresh_token, credential.scope),
            )
            return read_renewal(reply, credential, self._identify)
        except NoReply as trouble:
            return Transient(str(trouble))
        except WrongAuthority as wrong:
            return ClientFault(wrong.code, wrong.setting)

    def revoke(self, credential: Credential) -> bool:
        """Tell the provider to forget the grant (RFC 7009); False if it has no such endpoint or did not agree."""
        try:
            metadata = self._discovery.metadata()
            if metadata.revocation_endpoint is None:
                return False
            reply = self._http.post(lambda session: self._library.revoke(session, metadata, credential))
        except (NoReply, WrongAuthority):
            return False
        return reply.status == 200

    def scopes(self, protocol: str) -> Sequence[str]:
        """What to ask for, for a profile of this protocol."""
        return self._scopes[protocol]

    def _ask(self, exchange: Exchange, ask: Callable[[requests.Session, Metadata], None]) -> Reply:
        # Discovery only once it is sure that something has to be sent.
        return self._http.post(lambda session: ask(session, self._discovery.metadata()), exchange)

    def _identify(self, id_token: object, received_at: datetime) -> Identity:
        try:
            return self._validated(id_token, received_at, newest_keys=False)
        except UnknownKey:
            return self._validated(id_token, received_at, newest_keys=True)

    def _validated(self, id_token: object, received_at: datetime, *, newest_keys: bool) -> Identity:
        return identity_of(
            id_token,
            self._discovery.keys(newest=newest_keys),
            issuer=self._discovery.metadata().issuer,
            client_id=self._settings.client_id,
            account_claims=self._settings.account_claims,
            received_at=received_at,
        )
