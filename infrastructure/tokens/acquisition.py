"""Acquisition: an authorization is requested, waited for, and completed, cancelled or ended by its deadline.

A token becomes Waiting after the provider has been asked, in the transaction that seals the attempt's device code or
code verifier. Every token request of an attempt is made under the attempt's claim, and a reply in the escrow is read
before another request is made.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import structlog

from domain.errors import Conflict, InvalidValue, NotFound, Refused, Unreachable, VaultDamaged, about
from domain.outcomes import BrowserAuthorization, DeviceAuthorization, Reason
from domain.ports import Provider
from domain.profile import Profile, ProfileState
from domain.profile_fields import read_settings
from domain.token import Token
from domain.token_state import Attempt
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.store.store import UnitOfWork
from infrastructure.store.vault import VaultRow
from infrastructure.tokens.exchange import TokenExchange
from infrastructure.tokens.reply_effects import RETRY_SECONDS, WORKER
from infrastructure.tokens.status_reader import StatusReader

log = structlog.get_logger("mailtoken")

_NO_JUMP_SECONDS = 1.0
_APP_ATTEMPT = timedelta(minutes=5)
"""The longest time for an attempt with the application's own credentials, repetitions included."""


@dataclass(frozen=True)
class AuthorizationStarted:
    """The facts that the person needs to sign in; None for a fact that the flow does not have."""

    profile: str
    flow: str
    attempt_id: str
    user_code: str | None
    verification_uri: str | None
    verification_uri_complete: str | None
    authorization_uri: str | None
    expires_at: datetime


class Acquisitions:
    """The use cases around an authorization."""

    def __init__(self, exchange: TokenExchange, statuses: StatusReader) -> None:
        self._exchange = exchange
        self._events = exchange.events
        self._vault = exchange.vault
        self._clock = exchange.clock
        self._statuses = statuses
        self._deadlines: dict[str, float] = {}

    # Starting and ending

    def request(
        self, name: str, flow: str | None, by: str, redirect_uri: str | None = None, new_account: str | None = None
    ) -> AuthorizationStarted:
        """Ask the provider, then record the attempt and seal its device code or code verifier in the same transaction.

        `flow` is the provider's first flow by default. A browser is redirected to `redirect_uri`. With the flow "app",
        the application's own credentials, no person signs in, and the attempt is over when this method returns, unless
        the provider can't be reached.

        `new_account` is the administrator's word that the account has this address now, or was made anew: the token
        takes it over, whatever address and subject it had.

        The refusal for an attempt under way comes before the refusal for an empty field. A linked setting may lack its
        account while its group's token is awaited; the field can't be changed then, and the token fills it in.

        Raises:
            NotFound: no such profile, or its provider is not in the configuration.
            Refused: the store is on hold, an attempt is under way, or provider or account are not filled in.
            InvalidValue: the provider does not have this flow, or the browser flow has no `redirect_uri`, or
                `new_account` is no address.
            Unreachable: the provider; nothing has changed.
            Failed: the provider refuses; the error names the setting to correct.
        """
        profile = self._events.load(Profile, self._statuses.believed(name).profile_id)
        self._exchange.holds.check()
        self._exchange.conclude(profile.state.token_id)
        token = self._events.token(profile.state.token_id)
        with about(name):
            token.check_request(self._clock.now())
        provider, account = self._provider_of(profile, new_account)
        flow = flow or provider.flows[0]
        if flow not in provider.flows:
            raise InvalidValue("flow", "unknown_flow", value=flow, provider=provider.name, known=list(provider.flows))
        pending = self._begin(provider, flow, profile.state, account, redirect_uri)
        attempt_id = uuid4().hex
        with about(name):
            token.request(
                attempt_id,
                flow=flow,
                profile=name,
                provider=provider.name,
                account=account,
                takes_over=new_account is not None,
                expires_at=pending.expires_at if pending else self._clock.now() + _APP_ATTEMPT,
                by=by,
                now=self._clock.now(),
            )
        put = [self._seal(token, pending)] if pending else []
        self._events.save(token, unit_of_work=UnitOfWork(put=put, expects={profile.id: profile.version}))
        if flow == "app":
            self.poll(token.id)
        attempt = token.state.attempt
        assert attempt is not None
        return _started(name, attempt, pending)

    def under_way(self, name: str) -> AuthorizationStarted:
        """The facts that the person needs to sign in to the attempt under way.

        Raises:
            NotFound: no such profile.
            Refused: no attempt is under way.
        """
        status = self._statuses.believed(name)
        attempt = status.token.attempt
        if not attempt:
            raise Refused("no_sign_in_under_way", profile=name, status=status.token.status.value)
        try:
            pending = self._exchange.pending(status.profile.token_id, attempt)
        except VaultDamaged:
            # The sealed part is deleted with the end of the attempt, which may have come since the status was read.
            status = self._statuses.believed(name)
            if status.token.attempt == attempt:
                raise
            raise Refused("no_sign_in_under_way", profile=name, status=status.token.status.value) from None
        return _started(name, attempt, pending)

    def cancel(self, name: str, by: str) -> None:
        """End the attempt under way; a no-op if no attempt is under way."""
        token_id = self._statuses.believed(name).profile.token_id
        attempt = self._events.token(token_id).state.attempt
        self._exchange.decide(token_id, lambda token: token.cancel(by=by, now=self._clock.now()))
        if attempt:
            self._exchange.attempt_over(_claim_key_of(token_id, attempt))

    def end_for_changed_client(self, provider: str) -> None:
        """End the attempts under way at a provider, as their codes were issued to another client registration."""
        with self._events.store.reading() as query:
            statement = "SELECT id FROM token WHERE attempt_id IS NOT NULL AND attempt_provider = ?"
            rows = query.rows(statement, (provider,))
        for token_id in (UUID(row["id"]) for row in rows):
            if attempt := self._attempt_of(token_id):
                self._end_for_changed_client(token_id, attempt)

    def _end_for_changed_client(self, token_id: UUID, attempt: Attempt) -> None:
        def end(token: Token) -> None:
            token.end_attempt(attempt.id, Reason.CLIENT_CHANGED, by=WORKER, now=self._clock.now())

        self._exchange.decide(token_id, end)
        self._exchange.attempt_over(_claim_key_of(token_id, attempt))

    def _attempt_of(self, token_id: UUID) -> Attempt | None:
        """The attempt of a token; None also for a token whose row was altered, which must not stop the others."""
        try:
            return self._events.token(token_id).state.attempt
        except Refused:
            return None

    # Browser

    def complete(self, name: str, redirected_to: str) -> None:
        """Redeem the code in the URL that a browser was redirected to (RFC 6749 section 4.1.2).

        Raises:
            NotFound: no such profile.
            Refused: no browser sign-in is under way.
            InvalidValue: the URL belongs to another attempt or another provider; this attempt goes on.
            Unreachable: the provider; repeat the call with the same URL.
        """
        self._complete(name, self._statuses.believed(name).profile.token_id, redirected_to)

    def complete_by_state(self, redirected_to: str) -> str:
        """Redeem the code in the URL that a browser was redirected to, for the attempt to which its `state` belongs.

        Returns the name of the profile for which the token was requested.

        Raises:
            as `complete`; InvalidValue also if the `state` belongs to no attempt that is under way.
        """
        state = _state_of(redirected_to)
        for token_id, _ in self.waiting():
            attempt = self._attempt_of(token_id)
            pending = self._exchange.pending(token_id, attempt) if attempt and attempt.flow == "browser" else None
            if isinstance(pending, BrowserAuthorization) and _is_same(state, _state_of(pending.authorization_uri)):
                name = self._statuses.of_token(token_id)[0].profile.name
                self._complete(name, token_id, redirected_to)
                return name
        raise InvalidValue("redirect", "redirect_of_no_sign_in")

    def _complete(self, name: str, token_id: UUID, redirected_to: str) -> None:
        attempt = self._events.token(token_id).state.at(self._clock.now()).attempt
        if not attempt or attempt.flow != "browser":
            raise Refused("no_browser_sign_in", profile=name)
        # A code can be redeemed once only, and the reply may be in the escrow already, kept by an earlier call.
        if not self._exchange.conclude(token_id):
            raise Unreachable("sign_in_reply_unread", profile=name)
        if self._events.token(token_id).state.attempt != attempt:
            return
        claim_key = _claim_key_of(token_id, attempt)
        if not self._exchange.claim(claim_key):
            raise Unreachable("sign_in_being_completed", profile=name)
        try:
            wait = self._exchange.redeem(self._exchange.reserve(claim_key), attempt, redirected_to)
        finally:
            self._exchange.release(claim_key)
        if wait is not None:
            raise Unreachable("sign_in_not_completed", profile=name)

    # Polling

    def waiting(self) -> list[tuple[UUID, str]]:
        """The ids of tokens with an attempt under way, and of the attempts. Drops the deadlines of other attempts."""
        with self._events.store.reading() as query:
            rows = query.rows("SELECT id, attempt_id FROM token WHERE attempt_id IS NOT NULL")
        for over in self._deadlines.keys() - {row["attempt_id"] for row in rows}:
            self._deadlines.pop(over, None)
        return [(UUID(row["id"]), row["attempt_id"]) for row in rows]

    def seconds_between_polls(self, token_id: UUID) -> float:
        """The provider's `interval` for the attempt that is under way (RFC 8628 section 3.5).

        Raises:
            VaultDamaged: the sealed row of the attempt does not open.
        """
        attempt = self._events.token(token_id).state.attempt
        pending = self._exchange.pending(token_id, attempt) if attempt else None
        return pending.interval_seconds if isinstance(pending, DeviceAuthorization) else 0

    def poll(self, token_id: UUID) -> float | None:
        """Ask the provider once whether the person has finished; None if the attempt is over, else the seconds to wait.

        An attempt past its deadline ends here, after a reply to it that is still in the escrow has been read.
        """
        try:
            attempt = self._events.token(token_id).state.attempt
        except Refused as refused:
            log.error("poll_failed", token=str(token_id), error=str(refused))
            return RETRY_SECONDS
        if not attempt:
            return None
        try:
            return self._poll_once(_claim_key_of(token_id, attempt))
        except VaultDamaged as damaged:
            # A cancellation or deletion removes the attempt's sealed row; its absence is then no damage.
            if self._events.token(token_id).state.attempt != attempt:
                return None
            self._exchange.alarms.quarantine(token_id, damaged)
        except (Unreachable, NotFound, Conflict, Refused) as error:
            log.error("poll_failed", token=str(token_id), error=str(error))
        return RETRY_SECONDS

    def _poll_once(self, claim_key: ClaimKey) -> float | None:
        # A leftover reply keeps its claim until it is read, so the reply is read before the claim is taken.
        if not self._exchange.conclude(claim_key.subject_id) or not self._exchange.claim(claim_key):
            return RETRY_SECONDS
        try:
            return self._poll_claimed(claim_key)
        finally:
            self._exchange.release(claim_key)

    def _poll_claimed(self, claim_key: ClaimKey) -> float | None:
        token = self._events.token(claim_key.subject_id)
        attempt = token.state.attempt
        if not attempt or attempt.id != claim_key.attempt_id:
            return None
        if self._has_run_out(attempt) and token.state.at(self._clock.now()).attempt is None:
            failed = self._exchange.failures.of(attempt.id)
            self._exchange.decide(claim_key.subject_id, lambda token: token.settle(self._clock.now(), failed))
            self._exchange.attempt_over(claim_key)
            return None
        if attempt.flow == "browser":
            # The browser brings the code to redeem; until then only the deadline is checked.
            left = (attempt.expires_at - self._clock.now()).total_seconds()
            return left if 0 < left < RETRY_SECONDS else RETRY_SECONDS
        return self._exchange.redeem(self._exchange.reserve(claim_key), attempt)

    def _has_run_out(self, attempt: Attempt) -> bool:
        """Whether an attempt's time is over by the monotonic clock, counted from the first call in this process."""
        elapsed = self._clock.elapsed()
        left = (attempt.expires_at - self._clock.now()).total_seconds()
        return elapsed + _NO_JUMP_SECONDS >= self._deadlines.setdefault(attempt.id, elapsed + left)

    # Asking the provider

    def _provider_of(self, profile: Profile, new_account: str | None) -> tuple[Provider, str]:
        settings, name = profile.state.settings, profile.state.name
        if new_account is not None:
            settings = replace(settings, **read_settings(profile.state.protocol, {"account": new_account}))
        if not settings.provider or not settings.account:
            missing = [field for field in ("provider", "account") if not getattr(settings, field)]
            words = " ".join(f"{field}=..." for field in missing)
            raise Refused("not_filled_in", profile=name, missing=" and ".join(missing), assignments=words)
        return self._exchange.provider(settings.provider), settings.account

    def _begin(
        self, provider: Provider, flow: str, profile: ProfileState, account: str, redirect_uri: str | None
    ) -> DeviceAuthorization | BrowserAuthorization | None:
        now, scopes = self._clock.now(), provider.scopes(profile.protocol, flow)
        if flow == "device":
            return provider.request_device_code(scopes, now)
        if flow == "browser":
            if not redirect_uri:
                raise InvalidValue("redirect_uri", "redirect_uri_missing")
            return provider.request_browser(scopes, redirect_uri, account, now)
        return None

    def _seal(self, token: Token, pending: DeviceAuthorization | BrowserAuthorization) -> VaultRow:
        if isinstance(pending, DeviceAuthorization):
            return self._vault.seal_device_code(token.id, token.state.attempts, pending)
        return self._vault.seal_code_verifier(token.id, token.state.attempts, pending)


def _claim_key_of(token_id: UUID, attempt: Attempt) -> ClaimKey:
    return ClaimKey("acquisition", token_id, attempt.id, attempt.ordinal, attempt.provider, attempt.account)


def _state_of(url: str) -> str:
    """The parameter `state` of a URL (RFC 6749 section 4.1.1 and 4.1.2); empty if there is none."""
    return parse_qs(urlsplit(url).query).get("state", [""])[0]


def _is_same(state: str, other: str) -> bool:
    return bool(state) and hmac.compare_digest(state.encode(), other.encode())


def _started(
    name: str, attempt: Attempt, pending: DeviceAuthorization | BrowserAuthorization | None
) -> AuthorizationStarted:
    facts: tuple[str | None, str | None, str | None, str | None] = (None, None, None, None)
    match pending:
        case DeviceAuthorization():
            facts = (pending.user_code, pending.verification_uri, pending.verification_uri_complete, None)
        case BrowserAuthorization():
            facts = (None, None, None, pending.authorization_uri)
    return AuthorizationStarted(name, attempt.flow, attempt.id, *facts, attempt.expires_at)
