"""An exchange with a token endpoint: a request under a claim, and the effect of its reply on the token.

The claim comes first, then space in the escrow, then the request. The reply is in the escrow before it is parsed;
`infrastructure.tokens.reply_effects` has what follows.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import structlog
from eventsourcing.persistence import PersistenceError

from domain.errors import MailtokenError, NotFound, StorageFull
from domain.outcomes import (
    AcquisitionOutcome,
    BrowserAuthorization,
    DeviceAuthorization,
    Pending,
    RenewalOutcome,
)
from domain.ports import Provider
from domain.token import Token
from domain.token_state import Attempt, TokenState
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.store.vault import replace_vault_row
from infrastructure.tokens.claims import ClaimResult
from infrastructure.tokens.escrow import EscrowEntry
from infrastructure.tokens.reply_effects import RETRY_SECONDS, WORKER, ReplyEffects

log = structlog.get_logger("mailtoken")


class TokenExchange(ReplyEffects):
    """Sends requests to the providers' token endpoints, and has the replies applied at once or after a crash."""

    # Before a request

    def check_storage(self) -> None:
        """Check that a token could be stored now.

        Raises:
            StorageFull: the store or the escrow has no space.
            PersistenceError: the store takes no writes.
        """
        if not self.events.store.has_room():
            raise StorageFull("no_space_in_store")
        self.events.store.check_writes()
        self._escrow.check_room()

    def claim(self, claim_key: ClaimKey) -> bool:
        """Take the claim; False if another request, which may still be under way, has it.

        Raises:
            Refused: the store is on hold, so no provider is asked.
            StorageFull: the store has no space for the request's result.
            Unreachable: this process is about to end.
        """
        self.exchanges.begin(claim_key)
        has_claim = False
        try:
            has_claim = self._take(claim_key)
        finally:
            if not has_claim:
                self.exchanges.end(claim_key)
        return has_claim

    def _take(self, claim_key: ClaimKey) -> bool:
        self.holds.check()
        if not self.events.store.has_room():
            raise StorageFull("no_space_in_store")
        result = self.claims.take(claim_key)
        if result is ClaimResult.TAKEN_OVER:
            # The earlier owner may have received a reply, which no other process can read.
            self._escrow.note_lost(claim_key)
        return result is not ClaimResult.REFUSED

    def release(self, claim_key: ClaimKey) -> None:
        """Release the claim, but not while a reply is in the escrow: another node would make the request again."""
        try:
            if not self._escrow.has_reply_to(claim_key):
                self.claims.release(claim_key)
        except PersistenceError as error:
            # The claim becomes stale by itself, and the result is in the event log or in the escrow.
            log.error("claim_not_released", token=str(claim_key.subject_id), error=str(error))
        finally:
            self.exchanges.end(claim_key)

    def reserve(self, claim_key: ClaimKey) -> EscrowEntry:
        """Allocate the space for the reply to the request.

        Raises:
            StorageFull: there is no space, so the request must not be made.
        """
        return self._escrow.reserve(claim_key)

    def provider(self, name: str | None) -> Provider:
        """The provider of this name.

        Raises:
            NotFound: the configuration has no such provider.
        """
        if name is None or name not in self.providers:
            raise NotFound("provider_not_configured", provider=name, configured=list(self.providers))
        return self.providers[name]

    # The exchange

    def redeem(self, entry: EscrowEntry, attempt: Attempt, redirected_to: str | None = None) -> float | None:
        """Ask for the token of an attempt, or read its kept reply; None if the attempt is over, else seconds to wait.

        Raises:
            InvalidValue: `redirected_to` belongs to another attempt; this attempt goes on.
        """
        interval = RETRY_SECONDS
        with self._keeping(entry):
            provider, now = self.provider(attempt.provider), self.clock.now()
            pending = self.pending(entry.claim_key.subject_id, attempt)
            outcome: AcquisitionOutcome | RenewalOutcome
            match pending:
                case DeviceAuthorization():
                    interval = pending.interval_seconds
                    outcome = provider.redeem_device_code(pending, entry, now)
                    if isinstance(outcome, Pending) and outcome.interval_seconds > interval:
                        self._slow_down(entry.claim_key, pending, outcome.interval_seconds)
                case BrowserAuthorization():
                    outcome = provider.redeem_code(pending, redirected_to, entry, now)
                case None:
                    scopes = self._app_scopes(provider, entry.claim_key.subject_id)
                    outcome = provider.request_app_token(scopes, attempt.account, entry, now)
            return self._take_acquisition(entry, outcome, attempt, interval)

    def refresh(self, entry: EscrowEntry, token: Token, by: str) -> None:
        """Request the renewal of the held credential, or read the kept reply.

        Raises:
            Unreachable: the renewal failed for a reason that may pass; the token is unchanged.
            VaultDamaged: the sealed row of the credential does not open.
        """
        assert token.state.credential is not None
        with self._keeping(entry):
            with self.events.store.reading() as query:
                held = self.vault.credential(query, token.id, token.state.credential.number)
            provider, now = self.provider(token.state.provider), self.clock.now()
            if token.state.credential.flow == "app":
                scopes = self._app_scopes(provider, token.id)
                outcome = provider.request_app_token(scopes, token.state.account or "", entry, now)
            else:
                outcome = provider.refresh(held, entry, now)
            self._take_renewal(entry, outcome, token.state, by)

    def pending(self, token_id: UUID, attempt: Attempt) -> DeviceAuthorization | BrowserAuthorization | None:
        """The sealed part of an attempt under way; None for an attempt with the application's own credentials.

        Raises:
            VaultDamaged: the sealed row of the attempt does not open.
        """
        with self.events.store.reading() as query:
            if attempt.flow == "device":
                return self.vault.device_code(query, token_id, attempt.ordinal)
            if attempt.flow == "browser":
                return self.vault.code_verifier(query, token_id, attempt.ordinal)
        return None

    def _slow_down(self, claim_key: ClaimKey, pending: DeviceAuthorization, interval_seconds: int) -> None:
        """Store the interval that `slow_down` asked for (RFC 8628 section 3.5), for other nodes and the next run.

        The interval is sealed and deleted with the rest of the attempt. It is no event: `slow_down` can come every few
        seconds and changes nothing that is displayed. The escrow is cleared afterwards, so a crash in between lengthens
        the interval once more, which does no harm.
        """
        slower = replace(pending, interval_seconds=interval_seconds)
        with self.events.store.writing() as query:
            replace_vault_row(query, self.vault.seal_device_code(claim_key.subject_id, claim_key.generation, slower))

    # Leftover replies

    def recover(self) -> int:
        """Read the replies that earlier runs left in the escrow, then drop the claims of dead processes.

        Returns the number of replies. On hold the replies stay in the escrow: to read one may need its provider.
        """
        replies = 0
        try:
            if self.holds.is_on():
                return replies
        except PersistenceError as error:
            # No reply can be stored now, but the claims of the replies must not become stale.
            log.error("hold_not_read", error=str(error).splitlines()[0])
        for token_id in self._escrow.tokens():
            with self._reading_of(token_id):
                for entry in self._escrow.left_over(token_id):
                    replies += entry.reply is not None
                    try:
                        self._conclude(entry)
                    except (MailtokenError, PersistenceError, OSError) as error:
                        log.error("reply_left_in_escrow", token=str(token_id), error=str(error))
                    if entry.path.exists():
                        self.claims.hold(entry.claim_key)
        self.claims.clear_dead()
        return replies

    def conclude(self, token_id: UUID) -> bool:
        """Read the replies that an earlier run or an earlier error left; False if a reply can't be applied yet."""
        with self._reading_of(token_id):
            concluded = [self._conclude(entry) for entry in self._escrow.left_over(token_id)]
        return all(concluded)

    def forget(self, token_id: UUID) -> None:
        """Wipe all traces of a token outside the store."""
        self.conclude(token_id)
        self._escrow.wipe_traces(token_id)
        self.refusals.forget(token_id)
        self.alarms.end(token_id)

    def _reading_of(self, token_id: UUID) -> threading.Lock:
        """The lock for reading a token's leftover replies.

        Without it a second thread would find no reply and repeat the request whose reply the first thread is reading.
        """
        return self._reading.setdefault(token_id, threading.Lock())

    def _conclude(self, entry: EscrowEntry) -> bool:
        try:
            with self._keeping(entry):
                self._read_reply(entry)
        except (MailtokenError, PersistenceError, OSError):
            raise
        except Exception as error:
            # The same reply would fail again, at each renewal and each start; the other tokens' replies must be read.
            self.alarms.begin(entry.claim_key.subject_id, "reply_in_doubt", type(error).__name__)
            self._escrow.set_aside(entry)
        if entry.path.exists():
            return False
        self.release(entry.claim_key)
        return True

    def _read_reply(self, entry: EscrowEntry) -> None:
        claim_key = entry.claim_key
        try:
            token = self.events.token(claim_key.subject_id)
        except NotFound:
            self._escrow.clear(entry)
            return
        attempt = token.state.attempt
        if claim_key.attempt_id in token.state.replies:
            self._settle(entry)
        elif entry.reply is None:
            if _is_wanted(claim_key, token.state):
                self._escrow.note_lost(claim_key)
            self._escrow.clear(entry)
        elif claim_key.kind == "acquisition" and attempt and attempt.id == claim_key.attempt_id:
            self.redeem(entry, attempt)
        elif claim_key.kind == "renewal" and token.state.credential:
            self.refresh(entry, token, WORKER)
        else:
            self._discard(entry)

    def _discard(self, entry: EscrowEntry) -> None:
        """Record a reply to an attempt or token that is over, wipe it, and have the provider revoke its grant."""
        claim_key, reply = entry.claim_key, entry.reply
        self.decide(
            claim_key.subject_id, lambda token: token.discard(claim_key.attempt_id, by=WORKER, now=self.clock.now())
        )
        self._settle(entry)
        if reply and claim_key.provider and claim_key.account and claim_key.provider in self.providers:
            credential = self.providers[claim_key.provider].read_grant(reply)
            if credential:
                self.revocation.revoke(claim_key.provider, claim_key.account, credential)

    def _app_scopes(self, provider: Provider, token_id: UUID) -> Sequence[str]:
        with self.events.store.reading() as query:
            rows = query.rows("SELECT DISTINCT protocol FROM profile WHERE token_id = ?", (str(token_id),))
        return provider.scopes(rows[0]["protocol"], "app")


def _is_wanted(claim_key: ClaimKey, token: TokenState) -> bool:
    """Whether the reply is still needed: its attempt is under way, or its token still has a credential to renew."""
    if claim_key.kind == "acquisition":
        return token.attempt is not None and token.attempt.id == claim_key.attempt_id
    return token.credential is not None
