"""What is done with tokens: get, poll, renew, hand out, cancel, delete, recover. Load, decide, save once.

A grant or renewal loses nothing: the claim first, then room in the escrow, then the request; the reply is in the
escrow before anything parses it, and leaves it only after the transaction that stores it. Any error in between leaves
the reply there, to be read again. An error from the store does not mean that nothing was stored: load and decide again.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import structlog
from eventsourcing.persistence import PersistenceError

from domain.errors import (
    Conflict,
    Failed,
    InvalidValue,
    MailtokenError,
    NotFound,
    Refused,
    StorageFull,
    Unreachable,
    VaultDamaged,
    about,
)
from domain.outcomes import (
    AcquisitionOutcome,
    AttemptOver,
    BrowserAuthorization,
    ClientFault,
    Credential,
    DeviceAuthorization,
    GrantDead,
    Granted,
    InDoubt,
    Pending,
    Reason,
    RenewalOutcome,
    Transient,
)
from domain.ports import Clock, Provider
from domain.profile import Profile, ProfileState
from domain.renewal import is_due, remaining_seconds
from domain.smtp_group import update_in_concert
from domain.token import Attempt, Generation, Reception, Token, TokenState, is_expected, served
from infrastructure.claims import Claims
from infrastructure.escrow import Escrow, Slot, Work
from infrastructure.log import EventLog
from infrastructure.patience import Patience
from infrastructure.status import SettingStatus, read_status, read_statuses
from infrastructure.store import Alongside, VaultRow
from infrastructure.vault import Vault

log = structlog.get_logger("mailtoken")

WORKER = "worker"
_CONFLICTS = 20
"""How often to decide again; each time somebody else got something done."""
_WAIT_FOR_OTHER_SECONDS = 90.0
_LOOK_AGAIN_SECONDS = 0.05
_RETRY_SECONDS = 10.0
_APP_ATTEMPT = timedelta(minutes=5)
"""How long an attempt with the application's own credentials may take, trying again included."""


@dataclass(frozen=True)
class AuthorizationStarted:
    """What the person who signs in needs to know; None where the flow has no such thing."""

    profile: str
    flow: str
    attempt_id: str
    user_code: str | None
    verification_uri: str | None
    verification_uri_complete: str | None
    authorization_uri: str | None
    expires_at: datetime


@dataclass(frozen=True)
class HandOut:
    """An access token for a mail client. `mailbox` is the SASL user."""

    credential: Credential
    account: str
    mailbox: str
    generation: int


@dataclass(frozen=True)
class Deletion:
    """What deleting did: the settings that changed, and whether the provider was told to forget the grant."""

    profiles: tuple[str, ...]
    revoked: bool


@dataclass(frozen=True)
class DeletionPreview:
    """What deleting would do: the settings that lose the token, and those it must not harm.

    `spared` are settings with a live token of their own for the same account: a provider may end them with this one,
    so it is not told to forget anything as long as there are some.
    """

    profiles: tuple[str, ...]
    spared: tuple[str, ...]


class TokenService:
    """The use cases around tokens. `providers` are those the configuration has, by name."""

    def __init__(
        self,
        events: EventLog,
        vault: Vault,
        escrow: Escrow,
        claims: Claims,
        providers: Mapping[str, Provider],
        clock: Clock,
    ) -> None:
        self._events = events
        self._vault = vault
        self._escrow = escrow
        self._claims = claims
        self._providers = providers
        self._clock = clock
        self._to_forget = True
        self._faults_told: dict[str, dict[str, str]] = {}
        self._reading: dict[UUID, threading.Lock] = {}
        self._slowed_down: dict[str, int] = {}
        self.patience = Patience()
        self.served_at: dict[UUID, datetime] = {}
        """When each token was handed out last, by this run."""
        self.alarms: dict[UUID, str] = {}
        """Tokens a person should look at for a reason the log does not tell, by a code."""

    # Reading

    def statuses(self) -> list[SettingStatus]:
        """Every setting now: one consistent snapshot."""
        with self._events.store.reading() as query:
            return read_statuses(query, self._clock.now())

    def status(self, name: str) -> SettingStatus:
        """One setting now.

        Raises:
            NotFound: no such profile.
        """
        with self._events.store.reading() as query:
            return read_status(query, name, self._clock.now())

    def flows(self, provider: str) -> Sequence[str]:
        """The ways to get a token from this provider, the default first.

        Raises:
            NotFound: it is not in the configuration.
        """
        return self._provider(provider).flows

    def client_faults(self) -> dict[str, dict[str, str]]:
        """By provider, each client secret or certificate that it refuses while another one works, and its code."""
        faults = {
            name: {credential: fault.code for credential, fault in provider.client_faults.items()}
            for name, provider in self._providers.items()
        }
        for name, refused in faults.items():
            for credential in refused.keys() - self._faults_told.get(name, {}).keys():
                log.error("client_credential_refused", provider=name, why=f"{credential}: {refused[credential]}")
        self._faults_told = faults
        return faults

    # Get Token

    def request(self, name: str, flow: str | None, by: str, redirect_uri: str | None = None) -> AuthorizationStarted:
        """Ask the provider first, then record the request and what is needed to go on, sealed, together.

        `flow` is by default the provider's first. A browser comes back to `redirect_uri`. With the application's own
        credentials nobody has to sign in: the attempt is over when this returns.

        Raises:
            NotFound: no such profile, or its provider is not in the configuration.
            Refused: an attempt is under way, or provider or account are not filled in.
            InvalidValue: not a flow of this provider, or a browser has nowhere to come back to.
            Unreachable: the provider; nothing has changed.
            Failed: the provider refuses; the message names the setting to correct.
        """
        profile = self._events.profile(self.status(name).profile_id)
        provider, account = self._provider_of(profile)
        flow = flow or provider.flows[0]
        if flow not in provider.flows:
            known = ", ".join(provider.flows)
            raise InvalidValue("flow", f"{flow!r} is not a flow of provider {provider.name}; it has: {known}")
        self._conclude_all(profile.state.token_id)
        token = self._events.token(profile.state.token_id)
        with about(name):
            token.check_request(self._clock.now())
        begun = self._begin(provider, flow, profile.state, account, redirect_uri)
        attempt_id = uuid4().hex
        with about(name):
            token.request(
                attempt_id,
                flow=flow,
                profile=name,
                provider=provider.name,
                account=account,
                expires_at=begun.expires_at if begun else self._clock.now() + _APP_ATTEMPT,
                by=by,
                now=self._clock.now(),
            )
        put = [self._seal(token, begun)] if begun else []
        self._events.save(token, beside=Alongside(put=put, expects={profile.id: profile.version}))
        if flow == "app":
            self.poll(token.id)
        attempt = token.state.attempt
        assert attempt is not None
        return _started(name, attempt, begun)

    def complete(self, name: str, redirected_to: str) -> None:
        """Redeem the code in the URL a browser was sent back to.

        Raises:
            NotFound: no such profile.
            Refused: no browser sign-in is under way.
            InvalidValue: the URL belongs to another attempt or another provider; this attempt goes on.
            Unreachable: the provider; repeat it with the same URL.
        """
        self._complete(name, self.status(name).profile.token_id, redirected_to)

    def complete_by_state(self, redirected_to: str) -> str:
        """Redeem the code in the URL a browser was sent back to, for whichever attempt its `state` is of.

        Returns the profile the token was asked for.

        Raises:
            as `complete`; InvalidValue also if it is of no attempt that is under way.
        """
        state = _state_of(redirected_to)
        for token_id, _ in self.waiting():
            attempt = self._events.token(token_id).state.attempt
            pending = self._pending(token_id, attempt) if attempt and attempt.flow == "browser" else None
            if isinstance(pending, BrowserAuthorization) and _same(state, _state_of(pending.authorization_uri)):
                name = next(one.profile.name for one in self.statuses() if one.profile.token_id == token_id)
                self._complete(name, token_id, redirected_to)
                return name
        raise InvalidValue("redirect", "it belongs to no sign-in that is under way: get the token again")

    def _complete(self, name: str, token_id: UUID, redirected_to: str) -> None:
        attempt = self._events.token(token_id).state.at(self._clock.now()).attempt
        if not attempt or attempt.flow != "browser":
            raise Refused(f"{name}: no browser sign-in is under way: get a token first (mailtoken token get)")
        # A code is good for once: what it brought may be here already, and not have been readable.
        if not self._conclude_all(token_id):
            raise Unreachable(f"{name}: the provider's reply is kept and can't be read yet: see mailtoken status")
        if self._events.token(token_id).state.attempt != attempt:
            return
        work = Work("acquisition", token_id, attempt.id, attempt.ordinal)
        if not self._claims.take(work):
            raise Unreachable(f"{name}: this sign-in is being completed already: see mailtoken status")
        try:
            wait = self._redeem(self._reserve(work), attempt, redirected_to)
        finally:
            self._release(work)
        if wait is not None:
            raise Unreachable(f"{name}: the provider can't be reached now: repeat it")

    def under_way(self, name: str) -> AuthorizationStarted:
        """What the person needs to know of the attempt that is under way.

        Raises:
            NotFound: no such profile.
            Refused: there is none.
        """
        status = self.status(name)
        attempt = status.token.attempt
        if not attempt:
            raise Refused(f"{name}: the token is {status.token.status}: no sign-in is under way")
        return _started(name, attempt, self._pending(status.profile.token_id, attempt))

    def _begin(
        self, provider: Provider, flow: str, profile: ProfileState, account: str, redirect_uri: str | None
    ) -> DeviceAuthorization | BrowserAuthorization | None:
        now, scopes = self._clock.now(), provider.scopes(profile.protocol, flow)
        if flow == "device":
            return provider.request_device_code(scopes, now)
        if flow == "browser":
            if not redirect_uri:
                raise InvalidValue("redirect_uri", "a browser needs an address to come back to")
            return provider.request_browser(scopes, redirect_uri, account, now)
        return None

    def _seal(self, token: Token, pending: DeviceAuthorization | BrowserAuthorization) -> VaultRow:
        if isinstance(pending, DeviceAuthorization):
            return self._vault.seal_device_code(token.id, token.state.attempts, pending)
        return self._vault.seal_code_verifier(token.id, token.state.attempts, pending)

    def _pending(self, token_id: UUID, attempt: Attempt) -> DeviceAuthorization | BrowserAuthorization | None:
        with self._events.store.reading() as query:
            if attempt.flow == "device":
                return self._vault.device_code(query, token_id, attempt.ordinal)
            if attempt.flow == "browser":
                return self._vault.code_verifier(query, token_id, attempt.ordinal)
        return None

    def cancel(self, name: str, by: str) -> None:
        """End the attempt under way; with none, nothing changes."""
        token_id = self.status(name).profile.token_id
        self._decide(token_id, lambda token: token.cancel(by=by, now=self._clock.now()))

    def waiting(self) -> list[tuple[UUID, str]]:
        """The tokens with an attempt under way, and its id."""
        with self._events.store.reading() as query:
            rows = query.rows("SELECT id, attempt_id FROM token WHERE attempt_id IS NOT NULL")
        return [(UUID(row["id"]), row["attempt_id"]) for row in rows]

    def poll(self, token_id: UUID) -> float | None:
        """Ask the provider once whether the person has finished; None when the attempt is over, else seconds to wait.

        An attempt past its deadline ends here, after whatever reply to it is still in the escrow has been read.
        """
        token = self._events.token(token_id)
        attempt = token.state.attempt
        if not attempt:
            return None
        try:
            return self._poll_once(Work("acquisition", token_id, attempt.id, attempt.ordinal))
        except VaultDamaged as damaged:
            # Cancelled or deleted meanwhile, the row went with the attempt: that is no damage.
            if self._events.token(token_id).state.attempt != attempt:
                return None
            self._quarantine(token_id, damaged)
        except (Unreachable, NotFound, Conflict) as error:
            log.error("poll_failed", token=str(token_id), error=str(error))
        return _RETRY_SECONDS

    def _poll_once(self, work: Work) -> float | None:
        # A reply that was left keeps its claim until it is read, so that comes first.
        if not self._conclude_all(work.token_id) or not self._claims.take(work):
            return _RETRY_SECONDS
        try:
            return self._poll_claimed(work)
        finally:
            self._release(work)

    def _poll_claimed(self, work: Work) -> float | None:
        token = self._events.token(work.token_id)
        attempt = token.state.attempt
        if not attempt or attempt.id != work.attempt_id:
            return None
        if token.state.at(self._clock.now()).attempt is None:
            self._decide(work.token_id, lambda token: token.settle(self._clock.now()))
            return None
        if attempt.flow == "browser":
            # The browser brings what there is to redeem; until then there is only the deadline to watch.
            return min((attempt.expires_at - self._clock.now()).total_seconds(), _RETRY_SECONDS)
        return self._redeem(self._reserve(work), attempt)

    # Hand out and renew

    def access_token(self, name: str, min_ttl_seconds: int | None, by: str) -> HandOut:
        """The access token of a setting, renewed first if too little of its life is left.

        Raises:
            NotFound: no such profile.
            Refused: there is no token to serve; says why.
            InvalidValue: `min_ttl_seconds` is more than the token's whole life.
            Unreachable: it has expired, or is about to, and can't be renewed now: try again.
        """
        status = self.status(name)
        with about(name):
            current = served(status.token, self._clock.now())
        if self._should_renew(status, current, min_ttl_seconds):
            try:
                self._renew(status.profile.token_id, current.number, by)
            except Unreachable as unreachable:
                log.warning("renewal_failed", profile=name, error=str(unreachable))
        return self._hand_out(name, min_ttl_seconds)

    def renew(self, name: str, by: str) -> SettingStatus:
        """Renew now, past any backoff: an administrator's word. Out of Invalid this reinstates the token.

        Raises:
            NotFound: no such profile.
            Refused: there is nothing to renew with.
            Unreachable: the provider; the token is unchanged.
            Failed: the provider's definite word that the grant does not work.
        """
        status = self.status(name)
        credential = status.token.credential
        if not credential or not credential.renewable:
            why = "no refresh token is held" if credential else f"the token is {status.token.status}"
            raise Refused(f"{name}: {why}: get a token (mailtoken token get)")
        self._renew(status.profile.token_id, credential.number, by)
        after = self.status(name)
        if after.token.dead:
            raise Failed(
                f"{name}: Token update failed. Please delete the token and obtain it again. "
                f"({after.token.code or after.token.reason})"
            )
        return after

    def renew_generation(self, token_id: UUID, generation: int) -> None:
        """Renew this generation if it is still the newest: the worker's word.

        Raises:
            Unreachable: not now.
            VaultDamaged: it does not open.
        """
        self._renew(token_id, generation, WORKER)

    def _should_renew(self, status: SettingStatus, current: Generation, min_ttl_seconds: int | None) -> bool:
        now = self._clock.now()
        if not is_due(current, now, min_ttl_seconds) or not current.renewable:
            return False
        in_need = remaining_seconds(current, now) <= (min_ttl_seconds or 0)
        provider = status.token.provider or ""
        return self.patience.may_try(status.profile.token_id, provider, now, in_need=in_need)

    def _hand_out(self, name: str, min_ttl_seconds: int | None) -> HandOut:
        now = self._clock.now()
        with self._events.store.reading() as query:
            status = read_status(query, name, now)
            with about(name):
                current = served(status.token, now)
            try:
                credential = self._vault.credential(query, status.profile.token_id, current.number)
            except VaultDamaged as damaged:
                self._quarantine(status.profile.token_id, damaged)
                raise
        left = remaining_seconds(current, now)
        if left <= 0 or (min_ttl_seconds is not None and left < min_ttl_seconds):
            state = "has expired" if left <= 0 else f"has only {int(left)} seconds left"
            raise Unreachable(f"{name}: the access token {state} and could not be renewed: try again")
        self.served_at[status.profile.token_id] = now
        account = status.token.account or ""
        return HandOut(credential, account, status.profile.mailbox or account, current.number)

    def _renew(self, token_id: UUID, parent: int, by: str) -> None:
        """Renew generation `parent`, or let whoever is at it finish: one request leaves.

        Raises:
            Unreachable: the provider, or room, or whoever is at it does not finish.
        """
        work = Work("renewal", token_id, uuid4().hex, parent)
        if not self._claim_or_wait(work):
            return
        try:
            if not self._conclude_all(token_id):
                raise Unreachable("an earlier reply can't be read yet: try again")
            token = self._events.token(token_id)
            if token.state.credential and token.state.credential.number == parent:
                self._refresh_patiently(work, token, by)
        except VaultDamaged as damaged:
            # Deleted or replaced meanwhile, the row went with the generation: that is no damage.
            credential = self._events.token(token_id).state.credential
            if credential and credential.number == parent:
                self._quarantine(token_id, damaged)
                raise
        finally:
            self._release(work)

    def _refresh_patiently(self, work: Work, token: Token, by: str) -> None:
        provider = token.state.provider or ""
        slot = self._reserve(work)
        try:
            self._refresh(slot, token, by)
        except Unreachable as unreachable:
            self.patience.failed(token.id, provider, self._clock.now(), unreachable.retry_after_seconds)
            raise
        self.patience.answered(token.id, provider)

    def _claim_or_wait(self, work: Work) -> bool:
        """Claim a renewal, or see what became of the one that is under way: True if it is ours to do.

        Raises:
            Unreachable: the other one failed or does not finish; asking the provider again at once would not help.
        """
        if self._claims.take(work):
            return True
        # Real time, not the clock's: how long a thread waits has nothing to do with what time it is.
        until = time.monotonic() + _WAIT_FOR_OTHER_SECONDS
        while self._claims.is_taken(work):
            if time.monotonic() > until:
                raise Unreachable("another renewal of this token does not finish: try again")
            # It may be over and its reply left here: then nobody else is going to read it.
            if not self._conclude_all(work.token_id):
                raise Unreachable("an earlier reply can't be read yet: try again")
            time.sleep(_LOOK_AGAIN_SECONDS)
        state = self._events.token(work.token_id).state
        if state.credential and state.credential.number == work.generation and not state.dead:
            raise Unreachable("another renewal of this token has just failed: try again")
        return False

    # Replies

    def conclude(self, slot: Slot) -> bool:
        """Read a reply that an earlier run, or an earlier error, left in the escrow; False if it has to stay there."""
        with self._keeping(slot):
            self._read_reply(slot)
        if slot.path.exists():
            return False
        self._release(slot.work)
        return True

    def _read_reply(self, slot: Slot) -> None:
        work = slot.work
        try:
            token = self._events.token(work.token_id)
        except NotFound:
            self._escrow.clear(slot)
            return
        attempt = token.state.attempt
        if slot.reply is None or work.attempt_id in token.state.replies:
            self._escrow.clear(slot)
        elif work.kind == "acquisition" and attempt and attempt.id == work.attempt_id:
            self._redeem(slot, attempt)
        elif work.kind == "renewal" and token.state.credential:
            self._refresh(slot, token, WORKER)
        else:
            self._decide(work.token_id, lambda token: token.discard(work.attempt_id, by=WORKER, now=self._clock.now()))
            self._escrow.clear(slot)

    def recover(self) -> int:
        """Read what earlier runs left in the escrow, then drop the claims of dead processes.

        Returns how many replies there were.
        """
        replies = 0
        for token_id in self._escrow.tokens():
            with self._reading_of(token_id):
                for slot in self._escrow.left_over(token_id):
                    replies += slot.reply is not None
                    try:
                        self.conclude(slot)
                    except (MailtokenError, PersistenceError) as error:
                        log.error("reply_left_in_escrow", token=str(token_id), error=str(error))
                    if slot.path.exists():
                        self._claims.hold(slot.work)
        self._claims.clear_dead()
        return replies

    def _conclude_all(self, token_id: UUID) -> bool:
        with self._reading_of(token_id):
            concluded = [self.conclude(slot) for slot in self._escrow.left_over(token_id)]
        return all(concluded)

    def _reading_of(self, token_id: UUID) -> threading.Lock:
        """One at a time reads what was left over: the next would find nothing, and ask for what is being read."""
        return self._reading.setdefault(token_id, threading.Lock())

    def _redeem(self, slot: Slot, attempt: Attempt, redirected_to: str | None = None) -> float | None:
        interval = self._slowed_down.get(attempt.id, _RETRY_SECONDS)
        with self._keeping(slot):
            provider, now = self._provider(attempt.provider), self._clock.now()
            pending = self._pending(slot.work.token_id, attempt)
            outcome: AcquisitionOutcome | RenewalOutcome
            match pending:
                case DeviceAuthorization():
                    # What slow_down added stays added (RFC 8628 section 3.5).
                    interval = self._slowed_down.get(attempt.id, pending.interval_seconds)
                    pending = replace(pending, interval_seconds=int(interval))
                    outcome = provider.redeem_device_code(pending, slot, now)
                case BrowserAuthorization():
                    outcome = provider.redeem_code(pending, redirected_to, slot, now)
                case None:
                    scopes = self._app_scopes(provider, slot.work.token_id)
                    outcome = provider.request_app_token(scopes, attempt.account, slot, now)
            return self._take_acquisition(slot, outcome, attempt, int(interval))

    def _app_scopes(self, provider: Provider, token_id: UUID) -> Sequence[str]:
        with self._events.store.reading() as query:
            rows = query.rows("SELECT DISTINCT protocol FROM profile WHERE token_id = ?", (str(token_id),))
        return provider.scopes(rows[0]["protocol"], "app")

    def _refresh(self, slot: Slot, token: Token, by: str) -> None:
        assert token.state.credential is not None
        with self._keeping(slot):
            with self._events.store.reading() as query:
                held = self._vault.credential(query, token.id, token.state.credential.number)
            provider, now = self._provider(token.state.provider), self._clock.now()
            if token.state.credential.flow == "app":
                scopes = self._app_scopes(provider, token.id)
                outcome = provider.request_app_token(scopes, token.state.account or "", slot, now)
            else:
                outcome = provider.refresh(held, slot, now)
            self._take_renewal(slot, outcome, token.state, by)

    @contextmanager
    def _keeping(self, slot: Slot) -> Iterator[None]:
        """Whatever goes wrong before a reply is stored, it stays in the escrow."""
        try:
            yield
        except BaseException:
            self._leave(slot)
            raise

    def _take_acquisition(
        self, slot: Slot, outcome: AcquisitionOutcome | RenewalOutcome, attempt: Attempt, interval_seconds: int
    ) -> float | None:
        match outcome:
            case Pending():
                self._escrow.clear(slot)
                if outcome.interval_seconds > interval_seconds:
                    self._slowed_down[attempt.id] = outcome.interval_seconds
                return outcome.interval_seconds
            case Granted():
                self._acquire(slot, outcome, attempt)
                return None
            case AttemptOver() | GrantDead():
                self._end_attempt(slot, outcome.reason, outcome.code, None)
                return None
            case ClientFault():
                self._alarm(slot.work.token_id, "client_registration", outcome.code)
                self._escrow.clear(slot)
                return max(interval_seconds, _RETRY_SECONDS)
            case InDoubt():
                self._alarm(slot.work.token_id, "reply_in_doubt", outcome.why)
                self._escrow.set_aside(slot)
                return interval_seconds
            case Transient():
                self._put_off(slot, outcome)
                return max(interval_seconds, outcome.retry_after_seconds or 0)
            case _:
                assert_never(outcome)

    def _acquire(self, slot: Slot, grant: Granted, attempt: Attempt) -> None:
        identity = grant.identity
        assert identity is not None
        for _ in range(_CONFLICTS):
            token = self._events.token(slot.work.token_id)
            if not is_expected(identity, attempt.account, token.state):
                self._end_attempt(slot, Reason.WRONG_ACCOUNT, None, identity.account)
                self._revoke(attempt.provider, identity.account, grant.credential)
                return
            reception = token.retrieve(attempt.id, grant, identity, by=WORKER, now=self._clock.now())
            if self._store_grant(slot, token, reception, grant.credential):
                if reception is Reception.LATE:
                    self._revoke(attempt.provider, identity.account, grant.credential)
                return
        raise Conflict("the token changes faster than its reply can be stored")

    def _take_renewal(self, slot: Slot, outcome: RenewalOutcome, before: TokenState, by: str) -> None:
        work = slot.work
        match outcome:
            case Granted():
                self._adopt_renewal(slot, outcome, before, by)
            case GrantDead():
                self._decide(
                    work.token_id,
                    lambda token: token.find_dead(work.generation, outcome, by=by, now=self._clock.now()),
                )
                self._escrow.clear(slot)
            case ClientFault():
                self._alarm(work.token_id, "client_registration", outcome.code)
                self._escrow.clear(slot)
                raise Unreachable(
                    f"the provider refuses our client registration ({outcome.code}): "
                    f"correct {outcome.setting or 'client_id or client_secret_file'}; the token is unchanged"
                )
            case InDoubt():
                self._alarm(work.token_id, "reply_in_doubt", outcome.why)
                self._escrow.set_aside(slot)
                raise Unreachable(f"the provider's reply makes no sense ({outcome.why}); it is kept, try again")
            case Transient():
                self._put_off(slot, outcome)
                raise Unreachable(
                    f"the provider can't renew it now ({outcome.why}): try again", outcome.retry_after_seconds
                )
            case _:
                assert_never(outcome)

    def _adopt_renewal(self, slot: Slot, grant: Granted, before: TokenState, by: str) -> None:
        work = slot.work
        for _ in range(_CONFLICTS):
            token = self._events.token(work.token_id)
            reception = token.renew(work.attempt_id, work.generation, grant, by=by, now=self._clock.now())
            if self._store_grant(slot, token, reception, grant.credential):
                if reception is Reception.LATE and before.provider and before.account:
                    self._revoke(before.provider, before.account, grant.credential)
                return
        raise Conflict("the token changes faster than its reply can be stored")

    def _store_grant(self, slot: Slot, token: Token, reception: Reception, credential: Credential) -> bool:
        """Store what the domain decided about a grant, then wipe the escrow; False if it has to decide again."""
        put: list[VaultRow] = []
        linked: list[Profile] = []
        expects: dict[UUID, int] = {}
        if reception is Reception.ADOPTED:
            put = [self._vault.seal_credential(token.id, token.state.generations, credential)]
            linked, expects = self._linked(token)
        try:
            if token.pending_events:
                self._events.save(token, *linked, beside=Alongside(put=put, release=[slot.work], expects=expects))
        except Conflict:
            return False
        self._escrow.clear(slot)
        self._escrow.wipe_doubts(token.id)
        self.alarms.pop(token.id, None)
        return True

    def _linked(self, token: Token) -> tuple[list[Profile], dict[UUID, int]]:
        """The profiles that the token's last event changes, and the group that must still be as it was read."""
        event = token.pending_events[-1]
        assert isinstance(event, Token.Event)
        if not isinstance(event, Token.Retrieved | Token.Deleted):
            return [], {}
        with self._events.store.reading() as query:
            ids = query.rows("SELECT id FROM profile WHERE token_id = ?", (str(token.id),))
            groups = query.rows("SELECT id, version FROM smtp_group WHERE token_id = ?", (str(token.id),))
        linked = [self._events.profile(UUID(row["id"])) for row in ids]
        return list(update_in_concert(event, linked)), {UUID(row["id"]): row["version"] for row in groups}

    def _end_attempt(self, slot: Slot, reason: Reason, code: str | None, signed_in_as: str | None) -> None:
        work = slot.work
        self._decide(
            work.token_id,
            lambda token: token.end_attempt(
                work.attempt_id, reason, code, signed_in_as, by=WORKER, now=self._clock.now()
            ),
        )
        self._escrow.clear(slot)

    # Delete

    def delete(self, name: str, by: str) -> Deletion:
        """Delete the token for good, and tell the provider where no other credential of ours would die with it.

        Raises:
            NotFound: no such profile.
            Refused: the token is Not Retrieved.
        """
        token_id = self.status(name).profile.token_id
        # A grant whose reply is still in the escrow is the one to revoke; what can't be read now is wiped below.
        with suppress(MailtokenError):
            self._conclude_all(token_id)
        for _ in range(_CONFLICTS):
            token = self._events.token(self.status(name).profile.token_id)
            provider, account, credential = token.state.provider, token.state.account, self._try_open(token)
            with about(name):
                token.delete(by=by, now=self._clock.now())
            linked, expects = self._linked(token)
            try:
                self._events.save(token, *linked, beside=Alongside(expects=expects))
            except Conflict:
                continue
            self._wipe(token.id)
            revoked = bool(credential and provider and account and self._revoke(provider, account, credential))
            return Deletion(tuple(sorted(profile.state.name for profile in linked)), revoked)
        raise Conflict(f"{name}: the token changes faster than it can be deleted: try again")

    def preview_deletion(self, name: str) -> DeletionPreview:
        """What deleting the token would do.

        Raises:
            NotFound: no such profile.
        """
        statuses, status = self.statuses(), self.status(name)
        token_id = status.profile.token_id
        return DeletionPreview(
            tuple(one.profile.name for one in statuses if one.profile.token_id == token_id),
            tuple(
                one.profile.name
                for one in statuses
                if one.profile.token_id != token_id and _same_grant(one.token, status.token)
            ),
        )

    def forget(self) -> None:
        """Make the database forget what was deleted, by this run or an earlier one, once readers allow."""
        if self._to_forget:
            self._to_forget = not self._events.store.forget()

    def _wipe(self, token_id: UUID) -> None:
        self._conclude_all(token_id)
        self._escrow.wipe_doubts(token_id)
        self.alarms.pop(token_id, None)
        self._to_forget = True
        self.forget()

    def _try_open(self, token: Token) -> Credential | None:
        if token.state.credential is None:
            return None
        try:
            with self._events.store.reading() as query:
                return self._vault.credential(query, token.id, token.state.credential.number)
        except VaultDamaged:
            return None

    def _revoke(self, provider: str, account: str, credential: Credential) -> bool:
        """Tell the provider to forget a grant, unless another live credential of ours could die with it."""
        with self._events.store.reading() as query:
            others = query.rows(
                "SELECT account FROM token WHERE provider = ? AND generation IS NOT NULL AND dead IS NULL", (provider,)
            )
        if provider not in self._providers or any(row["account"].casefold() == account.casefold() for row in others):
            return False
        return self._providers[provider].revoke(credential)

    # Shared

    def _decide(self, token_id: UUID, decide: Callable[[Token], object]) -> None:
        """Load, decide and save, again and again while somebody else was first."""
        for _ in range(_CONFLICTS):
            token = self._events.token(token_id)
            decide(token)
            if not token.pending_events:
                return
            try:
                self._events.save(token)
            except Conflict:
                continue
            return
        raise Conflict("the token changes faster than anything can be decided: try again")

    def _put_off(self, slot: Slot, outcome: Transient) -> None:
        """A reply that is a grant stays in the escrow until it can be understood; any other says nothing."""
        log.warning("provider_transient", token=str(slot.work.token_id), why=outcome.why)
        self._leave(slot)

    def _leave(self, slot: Slot) -> None:
        if slot.reply is None or slot.reply.status != 200:
            self._escrow.clear(slot)
        else:
            self._escrow.leave(slot)

    def _reserve(self, work: Work) -> Slot:
        if not self._events.store.has_room():
            raise StorageFull("no space to store a new token: free space where the store is")
        return self._escrow.reserve(work)

    def _release(self, work: Work) -> None:
        """Give the claim up, but not while a reply waits in the escrow: another node would ask for it again."""
        if self._escrow.has_reply_to(work):
            return
        try:
            self._claims.release(work)
        except PersistenceError as error:
            # It goes stale by itself; what matters is in the log or in the escrow.
            log.error("claim_not_released", token=str(work.token_id), error=str(error))

    def _provider(self, name: str | None) -> Provider:
        if name is None or name not in self._providers:
            known = ", ".join(self._providers) or "none"
            raise NotFound(f"provider: {name!r} is not in the configuration; it has: {known}")
        return self._providers[name]

    def _provider_of(self, profile: Profile) -> tuple[Provider, str]:
        settings, name = profile.state.settings, profile.state.name
        missing = [field for field in ("provider", "account") if not getattr(settings, field)]
        if not settings.provider or not settings.account:
            words = " ".join(f"{field}=..." for field in missing)
            raise Refused(f"{name}: {' and '.join(missing)} not filled in: mailtoken profile set {name} {words}")
        return self._provider(settings.provider), settings.account

    def _quarantine(self, token_id: UUID, damaged: VaultDamaged) -> None:
        self._alarm(token_id, "vault_damaged", str(damaged))

    def _alarm(self, token_id: UUID, code: str, why: str) -> None:
        self.alarms[token_id] = code
        log.error(code, token=str(token_id), why=why)


def _state_of(url: str) -> str:
    """The parameter `state` of a URL (RFC 6749 section 4.1.1 and 4.1.2); empty if there is none."""
    return parse_qs(urlsplit(url).query).get("state", [""])[0]


def _same(one: str, other: str) -> bool:
    return bool(one) and hmac.compare_digest(one.encode(), other.encode())


def _same_grant(other: TokenState, token: TokenState) -> bool:
    """Whether revoking the one could end the other: both live, for the same account at the same provider."""
    if not (other.credential and not other.dead and token.credential and other.account and token.account):
        return False
    return (other.provider, other.account.casefold()) == (token.provider, token.account.casefold())


def _started(
    name: str, attempt: Attempt, pending: DeviceAuthorization | BrowserAuthorization | None
) -> AuthorizationStarted:
    shown: tuple[str | None, str | None, str | None, str | None] = (None, None, None, None)
    match pending:
        case DeviceAuthorization():
            shown = (pending.user_code, pending.verification_uri, pending.verification_uri_complete, None)
        case BrowserAuthorization():
            shown = (None, None, None, pending.authorization_uri)
    return AuthorizationStarted(name, attempt.flow, attempt.id, *shown, attempt.expires_at)
