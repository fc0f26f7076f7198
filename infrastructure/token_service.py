"""What is done with tokens: get, poll, renew, hand out, cancel, delete, recover. Load, decide, save once.

What is asked of a token endpoint, and what its replies do, is in `exchanges`.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
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
    Unreachable,
    VaultDamaged,
    about,
)
from domain.outcomes import (
    BrowserAuthorization,
    Credential,
    DeviceAuthorization,
)
from domain.ports import Provider
from domain.profile import Profile, ProfileState
from domain.renewal import is_due, remaining_seconds
from domain.token import Attempt, Generation, Token, served
from infrastructure.escrow import Work
from infrastructure.exchanges import RETRY_SECONDS, WORKER, Exchanges
from infrastructure.log import CONFLICTS
from infrastructure.patience import Patience
from infrastructure.status import SettingStatus, read_status, read_statuses, read_statuses_about
from infrastructure.store import Alongside, VaultRow
from infrastructure.tally import Tally

log = structlog.get_logger("mailtoken")

_WAIT_FOR_OTHER_SECONDS = 90.0
_LOOK_AGAIN_SECONDS = 0.05
_NO_JUMP_SECONDS = 1.0
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
    token_id: UUID


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
    """The use cases around tokens, over the same store, vault and providers as the `exchanges`."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges
        self._events = exchanges.events
        self._vault = exchanges.vault
        self._claims = exchanges.claims
        self._providers = exchanges.providers
        self._clock = exchanges.clock
        self._to_forget = True
        self._faults_told: dict[str, dict[str, str]] = {}
        self._deadlines: dict[str, float] = {}
        self.patience = Patience()
        self.tally = Tally()
        self.served_at: dict[UUID, datetime] = {}
        """When each token was handed out last, by this run."""
        self.alarms = exchanges.alarms
        self.unproven = exchanges.unproven

    # Reading

    def statuses(self, after: str = "", limit: int | None = None) -> list[SettingStatus]:
        """Every setting now, or the next `limit` behind a name: one consistent snapshot."""
        with self._events.store.reading() as query:
            return read_statuses(query, self._clock.now(), after, limit)

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
        return self._exchanges.provider(provider).flows

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

        An attempt that is under way is what is said first, also at a linked setting that is not filled in: it displays
        Waiting like the others, can't be filled in meanwhile, and will be, in concert, when the token is obtained.

        Raises:
            NotFound: no such profile, or its provider is not in the configuration.
            Refused: an attempt is under way, or provider or account are not filled in.
            InvalidValue: not a flow of this provider, or a browser has nowhere to come back to.
            Unreachable: the provider; nothing has changed.
            Failed: the provider refuses; the message names the setting to correct.
        """
        profile = self._events.load(Profile, self.status(name).profile_id)
        self._exchanges.conclude(profile.state.token_id)
        token = self._events.token(profile.state.token_id)
        with about(name):
            token.check_request(self._clock.now())
        provider, account = self._provider_of(profile)
        flow = flow or provider.flows[0]
        if flow not in provider.flows:
            known = ", ".join(provider.flows)
            raise InvalidValue("flow", f"{flow!r} is not a flow of provider {provider.name}; it has: {known}")
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
            pending = self._exchanges.pending(token_id, attempt) if attempt and attempt.flow == "browser" else None
            if isinstance(pending, BrowserAuthorization) and _same(state, _state_of(pending.authorization_uri)):
                with self._events.store.reading() as query:
                    name = read_statuses_about(query, token_id, self._clock.now())[0].profile.name
                self._complete(name, token_id, redirected_to)
                return name
        raise InvalidValue("redirect", "it belongs to no sign-in that is under way: get the token again")

    def _complete(self, name: str, token_id: UUID, redirected_to: str) -> None:
        attempt = self._events.token(token_id).state.at(self._clock.now()).attempt
        if not attempt or attempt.flow != "browser":
            raise Refused(f"{name}: no browser sign-in is under way: get a token first (mailtoken token get)")
        # A code is good for once: what it brought may be here already, and not have been readable.
        if not self._exchanges.conclude(token_id):
            raise Unreachable(f"{name}: the provider's reply is kept and can't be read yet: see mailtoken status")
        if self._events.token(token_id).state.attempt != attempt:
            return
        work = _work_of(token_id, attempt)
        if not self._exchanges.claim(work):
            raise Unreachable(f"{name}: this sign-in is being completed already: see mailtoken status")
        try:
            wait = self._exchanges.redeem(self._exchanges.reserve(work), attempt, redirected_to)
        finally:
            self._exchanges.release(work)
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
        return _started(name, attempt, self._exchanges.pending(status.profile.token_id, attempt))

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

    def cancel(self, name: str, by: str) -> None:
        """End the attempt under way; with none, nothing changes."""
        token_id = self.status(name).profile.token_id
        self._exchanges.decide(token_id, lambda token: token.cancel(by=by, now=self._clock.now()))

    def waiting(self) -> list[tuple[UUID, str]]:
        """The tokens with an attempt under way, and its id. What is remembered of any other attempt is forgotten."""
        with self._events.store.reading() as query:
            rows = query.rows("SELECT id, attempt_id FROM token WHERE attempt_id IS NOT NULL")
        for over in self._deadlines.keys() - {row["attempt_id"] for row in rows}:
            self._deadlines.pop(over, None)
        return [(UUID(row["id"]), row["attempt_id"]) for row in rows]

    def seconds_between_polls(self, token_id: UUID) -> float:
        """How long the provider wants to be left alone after it was asked about the attempt that is under way.

        Raises:
            VaultDamaged: what the attempt keeps sealed does not open.
        """
        attempt = self._events.token(token_id).state.attempt
        pending = self._exchanges.pending(token_id, attempt) if attempt else None
        return pending.interval_seconds if isinstance(pending, DeviceAuthorization) else 0

    def poll(self, token_id: UUID) -> float | None:
        """Ask the provider once whether the person has finished; None when the attempt is over, else seconds to wait.

        An attempt past its deadline ends here, after whatever reply to it is still in the escrow has been read.
        """
        token = self._events.token(token_id)
        attempt = token.state.attempt
        if not attempt:
            return None
        try:
            return self._poll_once(_work_of(token_id, attempt))
        except VaultDamaged as damaged:
            # Cancelled or deleted meanwhile, the row went with the attempt: that is no damage.
            if self._events.token(token_id).state.attempt != attempt:
                return None
            self._quarantine(token_id, damaged)
        except (Unreachable, NotFound, Conflict) as error:
            log.error("poll_failed", token=str(token_id), error=str(error))
        return RETRY_SECONDS

    def _poll_once(self, work: Work) -> float | None:
        # A reply that was left keeps its claim until it is read, so that comes first.
        if not self._exchanges.conclude(work.token_id) or not self._exchanges.claim(work):
            return RETRY_SECONDS
        try:
            return self._poll_claimed(work)
        finally:
            self._exchanges.release(work)

    def _poll_claimed(self, work: Work) -> float | None:
        token = self._events.token(work.token_id)
        attempt = token.state.attempt
        if not attempt or attempt.id != work.attempt_id:
            return None
        if self._has_run_out(attempt) and token.state.at(self._clock.now()).attempt is None:
            self._exchanges.decide(work.token_id, lambda token: token.settle(self._clock.now()))
            return None
        if attempt.flow == "browser":
            # The browser brings what there is to redeem; until then there is only the deadline to watch.
            left = (attempt.expires_at - self._clock.now()).total_seconds()
            return left if 0 < left < RETRY_SECONDS else RETRY_SECONDS
        return self._exchanges.redeem(self._exchanges.reserve(work), attempt)

    def _has_run_out(self, attempt: Attempt) -> bool:
        """Whether the time for an attempt is over by a clock that does not jump, since this run has seen it first."""
        elapsed = self._clock.elapsed()
        left = (attempt.expires_at - self._clock.now()).total_seconds()
        return elapsed + _NO_JUMP_SECONDS >= self._deadlines.setdefault(attempt.id, elapsed + left)

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
            except (Unreachable, PersistenceError) as error:
                log.warning("renewal_failed", profile=name, error=str(error))
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
        self.tally.handed_out()
        account = status.token.account or ""
        mailbox = status.profile.mailbox or account
        return HandOut(credential, account, mailbox, current.number, status.profile.token_id)

    def _renew(self, token_id: UUID, parent: int, by: str) -> None:
        """Renew generation `parent`, or let whoever is at it finish: one request leaves.

        Raises:
            Unreachable: the provider, or room, or whoever is at it does not finish.
        """
        state = self._events.token(token_id).state
        work = Work("renewal", token_id, uuid4().hex, parent, state.provider, state.account)
        if not self._claim_or_wait(work):
            return
        try:
            if not self._exchanges.conclude(token_id):
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
            self._exchanges.release(work)

    def _refresh_patiently(self, work: Work, token: Token, by: str) -> None:
        provider = token.state.provider or ""
        slot = self._exchanges.reserve(work)
        try:
            self._exchanges.refresh(slot, token, by)
        except Unreachable as unreachable:
            self.tally.unreachable(provider)
            self.patience.failed(token.id, provider, self._clock.now(), unreachable.retry_after_seconds)
            raise
        self.patience.answered(token.id, provider)

    def _claim_or_wait(self, work: Work) -> bool:
        """Claim a renewal, or see what became of the one that is under way: True if it is ours to do.

        Raises:
            Unreachable: the other one failed or does not finish; asking the provider again at once would not help.
        """
        if self._exchanges.claim(work):
            return True
        # Real time, not the clock's: how long a thread waits has nothing to do with what time it is.
        until = time.monotonic() + _WAIT_FOR_OTHER_SECONDS
        while self._claims.is_taken(work):
            if time.monotonic() > until:
                raise Unreachable("another renewal of this token does not finish: try again")
            # It may be over and its reply left here: then nobody else is going to read it.
            if not self._exchanges.conclude(work.token_id):
                raise Unreachable("an earlier reply can't be read yet: try again")
            time.sleep(_LOOK_AGAIN_SECONDS)
        state = self._events.token(work.token_id).state
        if state.credential and state.credential.number == work.generation and not state.dead:
            raise Unreachable("another renewal of this token has just failed: try again")
        return False

    def recover(self) -> int:
        """Read what earlier runs left in the escrow; returns how many replies there were."""
        return self._exchanges.recover()

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
            self._exchanges.conclude(token_id)
        for _ in range(CONFLICTS):
            token = self._events.token(self.status(name).profile.token_id)
            provider, account, credential = token.state.provider, token.state.account, self._try_open(token)
            with about(name):
                token.delete(by=by, now=self._clock.now())
            linked, expects = self._exchanges.linked(token)
            try:
                self._events.save(token, *linked, beside=Alongside(expects=expects))
            except Conflict:
                continue
            self._wipe(token.id)
            revoked = bool(
                credential and provider and account and self._exchanges.revoke(provider, account, credential)
            )
            return Deletion(tuple(sorted(profile.state.name for profile in linked)), revoked)
        raise Conflict(f"{name}: the token changes faster than it can be deleted: try again")

    def preview_deletion(self, name: str) -> DeletionPreview:
        """What deleting the token would do.

        Raises:
            NotFound: no such profile.
        """
        status = self.status(name)
        token_id, token = status.profile.token_id, status.token
        with self._events.store.reading() as query:
            linked = read_statuses_about(query, token_id, self._clock.now())
        may_end = self._exchanges.sharing(token.provider, token.account) if token.provider and token.account else []
        return DeletionPreview(
            tuple(one.profile.name for one in linked),
            tuple(spared for spared, held_by in may_end if held_by != token_id),
        )

    def forget(self) -> None:
        """Make the database forget what was deleted, by this run or an earlier one, once readers allow."""
        if self._to_forget:
            self._to_forget = not self._events.store.forget()

    def _wipe(self, token_id: UUID) -> None:
        self._exchanges.forget(token_id)
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

    # Shared

    def _provider_of(self, profile: Profile) -> tuple[Provider, str]:
        settings, name = profile.state.settings, profile.state.name
        missing = [field for field in ("provider", "account") if not getattr(settings, field)]
        if not settings.provider or not settings.account:
            words = " ".join(f"{field}=..." for field in missing)
            raise Refused(f"{name}: {' and '.join(missing)} not filled in: mailtoken profile set {name} {words}")
        return self._exchanges.provider(settings.provider), settings.account

    def _quarantine(self, token_id: UUID, damaged: VaultDamaged) -> None:
        self._exchanges.alarm(token_id, "vault_damaged", str(damaged))


def _work_of(token_id: UUID, attempt: Attempt) -> Work:
    return Work("acquisition", token_id, attempt.id, attempt.ordinal, attempt.provider, attempt.account)


def _state_of(url: str) -> str:
    """The parameter `state` of a URL (RFC 6749 section 4.1.1 and 4.1.2); empty if there is none."""
    return parse_qs(urlsplit(url).query).get("state", [""])[0]


def _same(one: str, other: str) -> bool:
    return bool(one) and hmac.compare_digest(one.encode(), other.encode())


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
