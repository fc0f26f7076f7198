"""One provider: the conversations that are the same for every client library.

Invariant: an outcome is read only from the reply that the exchange keeps. If the exchange has a reply already, no
request is composed or sent to the token endpoint; a renewal can then be read even without a network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import requests
import structlog

from adapters.http_client import HttpClient, NoReply, PrivateAddress
from adapters.providers.authorization_request import LIFETIME_SECONDS, AuthorizationRequest, read_redirect
from adapters.providers.client_library import ClientLibrary
from adapters.providers.credential_rotation import CredentialRotation
from adapters.providers.discovery import Discovery, Metadata, WrongAuthority
from adapters.providers.error_table import UNKNOWN_ERROR, read_overrides
from adapters.providers.id_tokens import NoAddress, UnknownKey, address_of, identity_of
from adapters.providers.provider_words import has_secret, without_secrets
from adapters.providers.settings import ProviderSettings
from adapters.providers.token_responses import (
    read_app_grant,
    read_device_authorization,
    read_grant,
    read_poll,
    read_redemption,
    read_renewal,
)
from domain.errors import Failed, MailtokenError, Unreachable
from domain.outcomes import (
    AcquisitionOutcome,
    AttemptOver,
    BrowserAuthorization,
    ClientFault,
    Credential,
    DeviceAuthorization,
    GrantDead,
    Identity,
    InDoubt,
    Reason,
    RenewalOutcome,
    Transient,
)
from domain.ports import Exchange, Reply
from domain.secret import Secret

log = structlog.get_logger("mailtoken")
Outcome = TypeVar("Outcome")


class OpenIDProvider:
    """A `domain.ports.Provider` that speaks OpenID Connect.

    `libraries` are by the name of their credential; `scopes` are the scopes to request, by protocol, and `app_scopes`
    those of the app-only flow.
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
        self.revokes_one_grant = settings.revokes_one_grant
        self._settings = settings
        self._http = http
        self._discovery = discovery
        self._overrides = read_overrides(settings)
        self._rotation = CredentialRotation(libraries, self._overrides)
        self._scopes = scopes
        self._app_scopes = app_scopes

    @property
    def client_faults(self) -> Mapping[str, ClientFault]:
        """The fault of each client secret or certificate that the provider refuses while another works."""
        return self._rotation.faults

    def request_device_code(self, scopes: Sequence[str], now: datetime) -> DeviceAuthorization:
        """Request a device code (RFC 8628 section 3.1). Its lifetime counts from the reply, not from `now`.

        Raises:
            Unreachable: no answer came, or the answer decides nothing.
            Failed: the provider refuses; `setting` names what to correct.
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
        except WrongAuthority as wrong:
            raise self._not_usable(wrong) from None
        authorization = self._read(
            lambda: read_device_authorization(
                self.name, reply, " ".join(scopes), self._overrides, self._settings.client_secrets
            )
        )
        if isinstance(authorization, InDoubt):
            raise Unreachable("no_device_code", provider=self.name, status=reply.status)
        return authorization

    def redeem_device_code(self, pending: DeviceAuthorization, exchange: Exchange, now: datetime) -> AcquisitionOutcome:
        """Poll once whether the person has finished (RFC 8628 section 3.4), or read the kept reply."""
        state = json.loads(pending.state.reveal())
        device_code = Secret(state["device_code"])
        try:
            reply = self._ask(exchange, lambda library, session, metadata: library.poll(session, metadata, device_code))
            outcome = self._read(lambda: read_poll(reply, pending, state["scope"], self._identify, self._overrides))
            return _scrubbed(outcome, [*self._settings.client_secrets, device_code])
        except NoReply as trouble:
            return Transient(trouble.why, may_have_arrived=trouble.may_have_arrived)
        except WrongAuthority as wrong:
            return _misconfigured(wrong)

    def request_browser(
        self, scopes: Sequence[str], redirect_uri: str, account: str, now: datetime
    ) -> BrowserAuthorization:
        """Make the URL of a sign-in page for `account` that redirects to `redirect_uri`.

        Raises:
            Unreachable: no answer came, or the answer decides nothing.
            Failed: the provider lacks the flow; `setting` names what to correct, or `others` the flows to use instead.
        """
        metadata = self._metadata_for("browser")
        if metadata.authorization_endpoint is None:
            raise self._lacks("browser")
        try:
            with self._http.session() as session:
                uri, sign_in = self._rotation.library.request_browser(session, metadata, scopes, redirect_uri, account)
        except NoReply as trouble:
            raise self._unreachable(trouble) from None
        except Exception:  # the library can't make an address of what the discovery document contains
            raise self._unreachable(NoReply("request_impossible")) from None
        return BrowserAuthorization(uri, now + timedelta(seconds=LIFETIME_SECONDS), sign_in.seal())

    def redeem_code(
        self, pending: BrowserAuthorization, redirected_to: str | None, exchange: Exchange, now: datetime
    ) -> AcquisitionOutcome:
        """Redeem the code in the URL that the browser was redirected to, or read the kept reply.

        Raises:
            InvalidValue: the URL is not of this attempt (`state`) or not from this provider (`iss`).
        """
        sign_in = AuthorizationRequest.unseal(pending.state)
        try:
            reply, code = exchange.reply, None
            secrets = [*self._settings.client_secrets, *sign_in.secrets]
            if reply is None:
                assert redirected_to is not None, "without a redirect there is no code"
                found = read_redirect(sign_in, redirected_to, self._overrides)
                if not isinstance(found, Secret):
                    return _scrubbed(found, secrets)
                code = found
                reply = self._ask(
                    exchange, lambda library, session, metadata: library.redeem_code(session, metadata, sign_in, found)
                )
            identify = partial(self._identify, nonce=sign_in.nonce)
            outcome = self._read(lambda: read_redemption(reply, sign_in.scope, identify, self._overrides))
            # The code of a kept reply is not known any more.
            return _scrubbed(outcome, [*secrets, code] if code else None)
        except NoReply as trouble:
            return Transient(trouble.why, may_have_arrived=trouble.may_have_arrived)
        except WrongAuthority as wrong:
            return _misconfigured(wrong)

    def request_app_token(
        self, scopes: Sequence[str], account: str, exchange: Exchange, now: datetime
    ) -> RenewalOutcome:
        """Get an access token as the application itself (RFC 6749 section 4.4), or read the kept reply.

        No person signs in, so the identity is `account` with the client id as its subject.
        """
        if exchange.reply is None and "app" not in self.flows:
            return ClientFault("no_client_secret", "client_secret_file")
        try:
            reply = self._ask(
                exchange,
                lambda library, session, metadata: library.request_app_token(session, metadata, scopes, account),
            )
        except NoReply as trouble:
            return Transient(trouble.why, may_have_arrived=trouble.may_have_arrived)
        except WrongAuthority as wrong:
            return _misconfigured(wrong)
        identity = Identity(account, self._settings.client_id, None)
        outcome = self._read(lambda: read_app_grant(reply, " ".join(scopes), identity, self._overrides))
        return _scrubbed(outcome, self._settings.client_secrets)

    def refresh(self, credential: Credential, exchange: Exchange, now: datetime) -> RenewalOutcome:
        """Exchange the refresh token for a new access token (RFC 6749 section 6), or read the kept reply.

        The old refresh token stays if the reply has no new refresh token.
        """
        refresh_token = credential.refresh_token
        assert refresh_token is not None, "a credential without a refresh token can't be renewed"
        try:
            reply = self._ask(
                exchange,
                lambda library, session, metadata: library.refresh(
                    session, metadata, refresh_token, credential.requested_scope or credential.scope
                ),
            )
            outcome = self._read(lambda: read_renewal(reply, credential, self._identify, self._overrides))
            return _scrubbed(outcome, [*self._settings.client_secrets, refresh_token])
        except NoReply as trouble:
            return Transient(trouble.why, may_have_arrived=trouble.may_have_arrived)
        except WrongAuthority as wrong:
            return _misconfigured(wrong)

    def read_grant(self, reply: Reply) -> Credential | None:
        """The grant in a reply that no request waits for any more; None if the reply grants nothing."""
        grant = self._read(lambda: read_grant(reply))
        return None if isinstance(grant, InDoubt) else grant

    def revoke(self, credential: Credential) -> bool:
        """Revoke the grant at the provider (RFC 7009); False if it has no revocation endpoint or refused."""
        try:
            metadata = self._discovery.metadata()
            if metadata.revocation_endpoint is None:
                return False
            reply = self._post(lambda library, session: library.revoke(session, metadata, credential), exchange=None)
        except (NoReply, WrongAuthority):
            return False
        return reply.status == 200

    def scopes(self, protocol: str, flow: str = "device") -> Sequence[str]:
        """The scopes to request in this flow for a profile of this protocol."""
        return self._app_scopes if flow == "app" else self._scopes[protocol]

    def _ask(self, exchange: Exchange, ask: Callable[[ClientLibrary, requests.Session, Metadata], None]) -> Reply:
        if exchange.reply is not None:
            return exchange.reply
        # Discovery is needed only if a request has to be sent.
        metadata = self._discovery.metadata()
        return self._post(lambda library, session: ask(library, session, metadata), exchange)

    def _read(self, read: Callable[[], Outcome]) -> Outcome | InDoubt:
        """The outcome of a reply. No content of a reply may end the work on other tokens, whatever it makes fail."""
        try:
            return read()
        except MailtokenError:
            raise
        except Exception as error:
            # The text of the error may have parts of the reply.
            log.error("reply_not_read", provider=self.name, error=type(error).__name__)
            return InDoubt("reply_unreadable")

    def _post(self, ask: Callable[[ClientLibrary, requests.Session], None], exchange: Exchange | None) -> Reply:
        try:
            return self._rotation.ask(lambda library: self._http.post(partial(ask, library), exchange))
        except PrivateAddress as refused:
            raise WrongAuthority(refused.why, "allow_private") from None

    def _metadata_for(self, flow: str) -> Metadata:
        if flow not in self.flows:
            raise self._lacks(flow)
        try:
            return self._discovery.metadata()
        except NoReply as trouble:
            raise self._unreachable(trouble) from None
        except WrongAuthority as wrong:
            raise self._not_usable(wrong) from None

    def _lacks(self, flow: str) -> Failed:
        others = [other for other in self.flows if other != flow]
        if not others:
            return Failed("no_flow_available", provider=self.name, flow=flow)
        return Failed("flow_not_available", provider=self.name, flow=flow, others=others)

    def _not_usable(self, wrong: WrongAuthority) -> Failed:
        words = wrong.reply.facts if wrong.reply else {}
        return Failed("authority_not_usable", provider=self.name, why=wrong.why, setting=wrong.setting, **words)

    def _unreachable(self, trouble: NoReply) -> Unreachable:
        return Unreachable("provider_unreachable", provider=self.name, why=trouble.why)

    def _identify(
        self, id_token: object, received_at: datetime, access_token: Secret | None, nonce: str | None = None
    ) -> Identity:
        """The identity in an ID token, or at UserInfo if the token has no address (OpenID Connect Core section 5.4).

        UserInfo counts only with the token's own subject (section 5.3.2), and is not asked without an access token.
        """
        try:
            return self._signed_identity(id_token, received_at, nonce)
        except NoAddress as token:
            claims = self._discovery.userinfo(access_token) if access_token else {}
            account = address_of(claims, self._settings.account_claims)
            if account is None or claims.get("sub") != token.subject:
                raise
            return Identity(account, token.subject, token.tenant)

    def _signed_identity(self, id_token: object, received_at: datetime, nonce: str | None) -> Identity:
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


def _misconfigured(wrong: WrongAuthority) -> ClientFault:
    return ClientFault(wrong.why, wrong.setting, Reason.CONFIGURATION, wrong.reply)


def _scrubbed(outcome: Outcome, secrets: Sequence[Secret] | None) -> Outcome:
    """The outcome without these secrets in the provider's code and words; without any words if they are not known."""
    match outcome:
        case AttemptOver() | GrantDead() | Transient() | InDoubt() | ClientFault() if outcome.reply:
            reply = replace(outcome.reply, words=None) if secrets is None else without_secrets(outcome.reply, secrets)
            if not has_secret(reply.code, secrets or ()):
                return replace(outcome, reply=reply)
            reply = replace(reply, code=UNKNOWN_ERROR)
            if isinstance(outcome, Transient):
                return replace(outcome, why=UNKNOWN_ERROR, reply=reply)
            return replace(outcome, code=UNKNOWN_ERROR, reply=reply)
    return outcome
