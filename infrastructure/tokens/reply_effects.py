"""The effects of a token endpoint's reply: what it does to the token, and when it may leave the escrow.

A reply leaves the escrow only after the transaction that stores it; after any error in between it stays there, to be
read again. An error from the store does not mean that nothing was stored: the token is loaded and decided on again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, assert_never
from uuid import UUID

import structlog

from domain.errors import Conflict, Unreachable
from domain.outcomes import (
    GRANT_LEFT,
    AcquisitionOutcome,
    AttemptOver,
    ClientFault,
    Credential,
    GrantDead,
    Granted,
    Identity,
    InDoubt,
    Pending,
    Reason,
    RenewalOutcome,
    Transient,
)
from domain.ports import Clock, Provider
from domain.profile import Profile
from domain.smtp_group import update_in_concert
from domain.token import Reception, Token
from domain.token_state import Attempt, TokenState, account_mismatch, is_same_subject
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.store.event_log import CONFLICTS, EventLog
from infrastructure.store.store import UnitOfWork
from infrastructure.store.vault import Vault, VaultRow
from infrastructure.tokens.alarms import Alarms
from infrastructure.tokens.claims import Claims
from infrastructure.tokens.escrow import Escrow, EscrowEntry
from infrastructure.tokens.exchanges import Exchanges
from infrastructure.tokens.failed_requests import RequestFailures
from infrastructure.tokens.log_holds import LogHolds
from infrastructure.tokens.provider_refusals import ProviderRefusals
from infrastructure.tokens.revocation import Revocation

log = structlog.get_logger("mailtoken")

WORKER = "worker"
RETRY_SECONDS = 10.0
_FAILURES_TO_ALARM = 2
"""The number of requests of a sign-in that fail in a row before a person is told: a single failure often passes."""


class ReplyEffects:
    """Applies the replies of the providers' token endpoints to the tokens.

    `providers` are the providers in the configuration, by name.
    """

    def __init__(
        self,
        events: EventLog,
        vault: Vault,
        escrow: Escrow,
        claims: Claims,
        providers: Mapping[str, Provider],
        clock: Clock,
    ) -> None:
        self.events = events
        self.vault = vault
        self.claims = claims
        self.providers = providers
        self.clock = clock
        self._escrow = escrow
        self._reading: dict[UUID, threading.Lock] = {}
        self.exchanges = Exchanges()
        self.alarms = Alarms()
        self.holds = LogHolds(events, clock, escrow.log_memory())
        self.revocation = Revocation(events.store, providers)
        self.failures = RequestFailures()
        self.refusals = ProviderRefusals()
        self.unproven: set[UUID] = set()
        """Tokens that may not work: their last renewal was issued before their grant was found dead, but read later."""

    # Acquisitions

    def _take_acquisition(
        self,
        entry: EscrowEntry,
        outcome: AcquisitionOutcome | RenewalOutcome,
        attempt: Attempt,
        interval_seconds: float,
    ) -> float | None:
        self._note_words(entry, outcome)
        match outcome:
            case Pending():
                if self.failures.clear(attempt.id):
                    self.alarms.end(entry.claim_key.subject_id)
                self._escrow.clear(entry)
                return outcome.interval_seconds
            case Granted():
                self._acquire(entry, outcome, attempt)
                return None
            case AttemptOver() | GrantDead():
                self._end_attempt(entry, self._explained(entry, outcome.reason), outcome.code, None)
                return None
            case ClientFault():
                return self._take_client_fault(entry, outcome, attempt, interval_seconds)
            case InDoubt():
                self.failures.add(attempt.id, Reason.PROVIDER_FAILED, outcome.code or outcome.why)
                self.alarms.begin(entry.claim_key.subject_id, "reply_in_doubt", outcome.code or outcome.why)
                self._escrow.set_aside(entry)
                return interval_seconds
            case Transient():
                self._count_failure(entry, attempt, outcome)
                self._put_off(entry, outcome, attempt.flow)
                return max(interval_seconds, outcome.retry_after_seconds or 0)
            case _:
                assert_never(outcome)

    def _take_client_fault(
        self, entry: EscrowEntry, fault: ClientFault, attempt: Attempt, interval_seconds: float
    ) -> float | None:
        """End the application's own attempt; a sign-in goes on, as a person may correct the registration meanwhile."""
        if attempt.flow == "app":
            self._end_attempt(entry, fault.reason, fault.code, None)
            return None
        self.failures.add(attempt.id, fault.reason, fault.code)
        self.alarms.begin(entry.claim_key.subject_id, "client_registration", fault.code, fault.setting)
        self._escrow.clear(entry)
        return max(interval_seconds, RETRY_SECONDS)

    def _count_failure(self, entry: EscrowEntry, attempt: Attempt, outcome: Transient) -> None:
        failed = self.failures.add(attempt.id, Reason.PROVIDER_FAILED, outcome.why)
        has_grant = entry.reply is not None and entry.reply.status == 200
        if failed.count >= _FAILURES_TO_ALARM or has_grant or attempt.flow == "app":
            self.alarms.begin(entry.claim_key.subject_id, "sign_in_failing", outcome.why)

    def _acquire(self, entry: EscrowEntry, grant: Granted, attempt: Attempt) -> None:
        identity = grant.identity
        assert identity is not None
        for _ in range(CONFLICTS):
            token = self.events.token(entry.claim_key.subject_id)
            if mismatch := account_mismatch(identity, attempt, token.state):
                # Asked for before the end is recorded, which says what became of the grant. A repetition does no harm.
                revoked = self.revocation.revoke_unwanted(attempt.provider, identity.account, grant.credential)
                self._end_attempt(entry, mismatch, None if revoked else GRANT_LEFT, identity.account)
                return
            if grant.missing_scope:
                self.revocation.revoke(attempt.provider, identity.account, grant.credential)
                self._end_attempt(entry, Reason.SCOPE_NOT_GRANTED, grant.missing_scope, None)
                return
            reception = token.retrieve(attempt.id, grant, identity, by=WORKER, now=self.clock.now())
            if self._store_grant(entry, token, reception, grant.credential):
                if reception is Reception.LATE:
                    self.revocation.revoke(attempt.provider, identity.account, grant.credential)
                return
        raise Conflict("token_changes_too_fast")

    def _take_renewal(self, entry: EscrowEntry, outcome: RenewalOutcome, before: TokenState, by: str) -> None:
        claim_key = entry.claim_key
        self._note_words(entry, outcome)
        match outcome:
            case Granted(identity=Identity() as identity) if _is_of_another(identity, before):
                self._withhold(entry, identity, before, by)
            case Granted():
                self._adopt_renewal(entry, outcome, before, by)
            case GrantDead():
                verdict = replace(outcome, reason=self._explained(entry, outcome.reason))
                self.decide(
                    claim_key.subject_id,
                    lambda token: token.find_dead(claim_key.generation, verdict, by=by, now=self.clock.now()),
                )
                self.unproven.discard(claim_key.subject_id)
                self._settle(entry)
            case ClientFault():
                self.alarms.begin(claim_key.subject_id, "client_registration", outcome.code, outcome.setting)
                self._escrow.clear(entry)
                setting = outcome.setting or "client_id, client_secret_file or certificate_file"
                raise Unreachable("client_registration_refused", why=outcome.code, setting=setting, **_words(outcome))
            case InDoubt():
                self.alarms.begin(claim_key.subject_id, "reply_in_doubt", outcome.code or outcome.why)
                self._escrow.set_aside(entry)
                raise Unreachable("reply_in_doubt", why=outcome.why, **_words(outcome))
            case Transient():
                self._put_off(entry, outcome, _flow_of(before))
                raise Unreachable("renewal_put_off", outcome.retry_after_seconds, why=outcome.why, **_words(outcome))
            case _:
                assert_never(outcome)

    def _withhold(self, entry: EscrowEntry, identity: Identity, before: TokenState, by: str) -> None:
        """Keep the credential of another account sealed and unserved, and record whose it is.

        Raises:
            Unreachable: always; the credential before it is served while it lasts.
        """
        claim_key = entry.claim_key
        self._escrow.set_aside(entry)
        self.decide(
            claim_key.subject_id,
            lambda token: token.withhold(claim_key.attempt_id, identity.account, by=by, now=self.clock.now()),
        )
        self.holds.note()
        raise Unreachable("renewed_for_another_account", signed_in_as=identity.account, account=before.account)

    def _adopt_renewal(self, entry: EscrowEntry, grant: Granted, before: TokenState, by: str) -> None:
        claim_key = entry.claim_key
        for _ in range(CONFLICTS):
            token = self.events.token(claim_key.subject_id)
            reception = token.renew(claim_key.attempt_id, claim_key.generation, grant, by=by, now=self.clock.now())
            if self._store_grant(entry, token, reception, grant.credential):
                if reception is Reception.LATE and before.provider and before.account:
                    self.revocation.revoke(before.provider, before.account, grant.credential)
                if before.dead and grant.credential.issued_at <= before.since:
                    self.unproven.add(claim_key.subject_id)
                else:
                    self.unproven.discard(claim_key.subject_id)
                return
        raise Conflict("token_changes_too_fast")

    def _explained(self, entry: EscrowEntry, reason: Reason) -> Reason:
        """The reason to record: a refused code or refresh token may have been spent by a request with a lost reply."""
        is_spent = reason in {Reason.INVALID_GRANT, Reason.CODE_REJECTED}
        return Reason.REPLY_LOST if is_spent and self._escrow.was_lost(entry.claim_key) else reason

    def _store_grant(self, entry: EscrowEntry, token: Token, reception: Reception, credential: Credential) -> bool:
        """Store the decision about a grant, then clear the escrow; False on a conflict: the caller must repeat it."""
        put: list[VaultRow] = []
        linked: list[Profile] = []
        expects: dict[UUID, int] = {}
        if reception is Reception.ADOPTED:
            put = [self.vault.seal_credential(token.id, token.state.generations, credential)]
            linked, expects = self.linked(token)
        try:
            if token.pending_events:
                self.events.save(
                    token, *linked, unit_of_work=UnitOfWork(put=put, release=[entry.claim_key], expects=expects)
                )
        except Conflict:
            return False
        self._settle(entry)
        self._escrow.wipe_traces(token.id)
        self.failures.clear(entry.claim_key.attempt_id)
        self.refusals.forget(token.id)
        self.alarms.end(token.id)
        return True

    def _end_attempt(self, entry: EscrowEntry, reason: Reason, code: str | None, signed_in_as: str | None) -> None:
        claim_key = entry.claim_key
        self.decide(
            claim_key.subject_id,
            lambda token: token.end_attempt(
                claim_key.attempt_id, reason, code, signed_in_as, by=WORKER, now=self.clock.now()
            ),
        )
        self.attempt_over(claim_key)
        self._settle(entry)

    def attempt_over(self, claim_key: ClaimKey) -> None:
        """Drop what was known of the failed requests of an attempt: the event of its end has the reason."""
        if self.failures.clear(claim_key.attempt_id):
            self.alarms.end(claim_key.subject_id)
        self._escrow.wipe_lost(claim_key)

    def _put_off(self, entry: EscrowEntry, outcome: Transient, flow: str | None) -> None:
        """Leave a reply that may contain a grant in the escrow until it can be understood; drop any other reply."""
        # The application's own credentials are not spent by a request.
        if outcome.may_have_arrived and flow != "app":
            self._escrow.note_lost(entry.claim_key)
        log.warning("provider_failed_transiently", token=str(entry.claim_key.subject_id), why=outcome.why)
        if not outcome.is_known:
            self.alarms.begin(entry.claim_key.subject_id, "unknown_error", outcome.why)
        self._leave(entry)

    def _note_words(self, entry: EscrowEntry, outcome: AcquisitionOutcome | RenewalOutcome) -> None:
        """Log and remember what no event keeps: the provider's own words, or how a grant was corrected."""
        token_id = entry.claim_key.subject_id
        match outcome:
            case Granted(warning=str() as warning):
                log.warning("grant_corrected", token=str(token_id), why=warning)
            case Granted() | Pending():
                pass
            case _ if outcome.reply:
                reply = outcome.reply
                ids = f"trace {reply.trace_id}, correlation {reply.correlation_id}" if reply.trace_id else ""
                words = " ".join(filter(None, (reply.words, ids)))
                log.info("provider_refused", token=str(token_id), why=reply.code, error=words)
                self.refusals.add(token_id, reply)

    def _settle(self, entry: EscrowEntry) -> None:
        """Clear an entry whose reply is stored, once this node has noted how far the log goes with it."""
        self.holds.note()
        self._escrow.clear(entry)

    def _leave(self, entry: EscrowEntry) -> None:
        if entry.reply is None or entry.reply.status != 200:
            self._escrow.clear(entry)
        else:
            self._escrow.leave(entry)

    @contextmanager
    def _keeping(self, entry: EscrowEntry) -> Iterator[None]:
        """Leave the reply in the escrow if any error occurs before it is stored."""
        try:
            yield
        except BaseException:
            self._leave(entry)
            raise

    # Tokens

    def decide(self, token_id: UUID, decide: Callable[[Token], object]) -> None:
        """Load the token, decide and save; after a conflict with another writer repeat this, a few times.

        Raises:
            Conflict: another writer came first at every try.
        """
        for _ in range(CONFLICTS):
            token = self.events.token(token_id)
            decide(token)
            if not token.pending_events:
                return
            try:
                self.events.save(token)
            except Conflict:
                continue
            return
        raise Conflict("token_changes_too_fast")

    def linked(self, token: Token) -> tuple[list[Profile], dict[UUID, int]]:
        """The profiles that the token's last event changes, and the version that its group must have, by group id."""
        event = token.pending_events[-1]
        assert isinstance(event, Token.Event)
        if not isinstance(event, Token.Retrieved | Token.Deleted):
            return [], {}
        with self.events.store.reading() as query:
            linked = self.events.profiles_of(query, token.id)
            groups = query.rows("SELECT id, version FROM smtp_group WHERE token_id = ?", (str(token.id),))
        return list(update_in_concert(event, linked)), {UUID(row["id"]): row["version"] for row in groups}


def _words(outcome: ClientFault | InDoubt | Transient) -> Mapping[str, Any]:
    return outcome.reply.facts if outcome.reply else {}


def _is_of_another(identity: Identity, before: TokenState) -> bool:
    """Whether a renewal brought the credential of another account; the application itself signs in as no account."""
    return _flow_of(before) != "app" and not is_same_subject(identity, before)


def _flow_of(state: TokenState) -> str | None:
    return state.credential.flow if state.credential else None
