"""One exchange with a token endpoint: claimed, asked, kept in the escrow, decided, stored, and then wiped there.

The claim first, then room in the escrow, then the request; the reply is in the escrow before anything parses it, and
leaves it only after the transaction that stores it. Any error in between leaves the reply there, to be read again. An
error from the store does not mean that nothing was stored: load and decide again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import assert_never
from uuid import UUID

import structlog
from eventsourcing.persistence import PersistenceError

from domain.errors import Conflict, MailtokenError, NotFound, StorageFull, Unreachable
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
from domain.profile import Profile
from domain.smtp_group import update_in_concert
from domain.token import Attempt, Reception, Token, TokenState, is_expected
from infrastructure.claims import Claims, Taking
from infrastructure.escrow import Escrow, Slot, Work
from infrastructure.log import CONFLICTS, EventLog
from infrastructure.store import Alongside, VaultRow, replace_vault_row
from infrastructure.vault import Vault

log = structlog.get_logger("mailtoken")

WORKER = "worker"
RETRY_SECONDS = 10.0


class Exchanges:
    """Asks the providers' token endpoints, and does what their replies say, now or after a crash.

    `providers` are those the configuration has, by name.
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
        self.alarms: dict[UUID, str] = {}
        """Tokens a person should look at for a reason the log does not tell, by a code."""
        self.unproven: set[UUID] = set()
        """Tokens with a renewal that came before their grant was found dead, and was read after: see if it works."""

    # Before a request

    def claim(self, work: Work) -> bool:
        """Claim `work`; False if somebody alive is at it.

        Raises:
            StorageFull: there is no room for what it would bring.
        """
        if not self.events.store.has_room():
            raise StorageFull("no space to store a new token: free space where the store is")
        taking = self.claims.take(work)
        if taking is Taking.TAKEN_OVER:
            # Whoever was at it may have had a reply, which only they could read.
            self._escrow.note_lost(work)
        return taking is not Taking.REFUSED

    def release(self, work: Work) -> None:
        """Give the claim up, but not while a reply waits in the escrow: another node would ask for it again."""
        if self._escrow.has_reply_to(work):
            return
        try:
            self.claims.release(work)
        except PersistenceError as error:
            # It goes stale by itself; what matters is in the log or in the escrow.
            log.error("claim_not_released", token=str(work.token_id), error=str(error))

    def reserve(self, work: Work) -> Slot:
        """Take room for the reply to `work`.

        Raises:
            StorageFull: there is none; don't ask.
        """
        return self._escrow.reserve(work)

    def provider(self, name: str | None) -> Provider:
        """The provider of this name.

        Raises:
            NotFound: it is not in the configuration.
        """
        if name is None or name not in self.providers:
            known = ", ".join(self.providers) or "none"
            raise NotFound(f"provider: {name!r} is not in the configuration; it has: {known}")
        return self.providers[name]

    # The exchange

    def redeem(self, slot: Slot, attempt: Attempt, redirected_to: str | None = None) -> float | None:
        """Ask for the token of an attempt, or read the reply that is kept; None when the attempt is over, else the
        seconds to wait.

        Raises:
            InvalidValue: `redirected_to` is not of this attempt; it goes on.
        """
        interval = RETRY_SECONDS
        with self._keeping(slot):
            provider, now = self.provider(attempt.provider), self.clock.now()
            pending = self.pending(slot.work.token_id, attempt)
            outcome: AcquisitionOutcome | RenewalOutcome
            match pending:
                case DeviceAuthorization():
                    interval = pending.interval_seconds
                    outcome = provider.redeem_device_code(pending, slot, now)
                    if isinstance(outcome, Pending) and outcome.interval_seconds > interval:
                        self._slow_down(slot.work, pending, outcome.interval_seconds)
                case BrowserAuthorization():
                    outcome = provider.redeem_code(pending, redirected_to, slot, now)
                case None:
                    scopes = self._app_scopes(provider, slot.work.token_id)
                    outcome = provider.request_app_token(scopes, attempt.account, slot, now)
            return self._take_acquisition(slot, outcome, attempt, interval)

    def refresh(self, slot: Slot, token: Token, by: str) -> None:
        """Ask for the renewal of the credential that is held, or read the reply that is kept.

        Raises:
            Unreachable: nothing came of it; the token is unchanged.
            VaultDamaged: what is held does not open.
        """
        assert token.state.credential is not None
        with self._keeping(slot):
            with self.events.store.reading() as query:
                held = self.vault.credential(query, token.id, token.state.credential.number)
            provider, now = self.provider(token.state.provider), self.clock.now()
            if token.state.credential.flow == "app":
                scopes = self._app_scopes(provider, token.id)
                outcome = provider.request_app_token(scopes, token.state.account or "", slot, now)
            else:
                outcome = provider.refresh(held, slot, now)
            self._take_renewal(slot, outcome, token.state, by)

    def pending(self, token_id: UUID, attempt: Attempt) -> DeviceAuthorization | BrowserAuthorization | None:
        """What an attempt that is under way keeps sealed.

        Raises:
            VaultDamaged: it does not open.
        """
        with self.events.store.reading() as query:
            if attempt.flow == "device":
                return self.vault.device_code(query, token_id, attempt.ordinal)
            if attempt.flow == "browser":
                return self.vault.code_verifier(query, token_id, attempt.ordinal)
        return None

    def _slow_down(self, work: Work, pending: DeviceAuthorization, interval_seconds: int) -> None:
        """What slow_down added stays added (RFC 8628 section 3.5), also for another node and after a restart.

        It is sealed with the rest of the attempt's terms and goes when that is over. No event: it can come every few
        seconds, and nothing that anybody is shown has changed. Before the escrow is cleared: a crash in between adds
        once more, which is too patient and never too eager.
        """
        slower = replace(pending, interval_seconds=interval_seconds)
        with self.events.store.writing() as query:
            replace_vault_row(query, self.vault.seal_device_code(work.token_id, work.generation, slower))

    # What was left over

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
                        self._conclude(slot)
                    except (MailtokenError, PersistenceError) as error:
                        log.error("reply_left_in_escrow", token=str(token_id), error=str(error))
                    if slot.path.exists():
                        self.claims.hold(slot.work)
        self.claims.clear_dead()
        return replies

    def conclude(self, token_id: UUID) -> bool:
        """Read the replies that an earlier run, or an earlier error, left for a token; False if one has to stay."""
        with self._reading_of(token_id):
            concluded = [self._conclude(slot) for slot in self._escrow.left_over(token_id)]
        return all(concluded)

    def forget(self, token_id: UUID) -> None:
        """Wipe what there is of a token beside the store."""
        self.conclude(token_id)
        self._escrow.wipe_traces(token_id)
        self.alarms.pop(token_id, None)

    def _reading_of(self, token_id: UUID) -> threading.Lock:
        """One at a time reads what was left over: the next would find nothing, and ask for what is being read."""
        return self._reading.setdefault(token_id, threading.Lock())

    def _conclude(self, slot: Slot) -> bool:
        with self._keeping(slot):
            self._read_reply(slot)
        if slot.path.exists():
            return False
        self.release(slot.work)
        return True

    def _read_reply(self, slot: Slot) -> None:
        work = slot.work
        try:
            token = self.events.token(work.token_id)
        except NotFound:
            self._escrow.clear(slot)
            return
        attempt = token.state.attempt
        if work.attempt_id in token.state.replies:
            self._escrow.clear(slot)
        elif slot.reply is None:
            if _is_wanted(work, token.state):
                self._escrow.note_lost(work)
            self._escrow.clear(slot)
        elif work.kind == "acquisition" and attempt and attempt.id == work.attempt_id:
            self.redeem(slot, attempt)
        elif work.kind == "renewal" and token.state.credential:
            self.refresh(slot, token, WORKER)
        else:
            self._discard(slot)

    def _discard(self, slot: Slot) -> None:
        """A reply to what is over: say so, wipe it, and have the provider forget what it granted."""
        work, reply = slot.work, slot.reply
        self.decide(work.token_id, lambda token: token.discard(work.attempt_id, by=WORKER, now=self.clock.now()))
        self._escrow.clear(slot)
        if reply and work.provider and work.account and work.provider in self.providers:
            credential = self.providers[work.provider].read_grant(reply)
            if credential:
                self.revoke(work.provider, work.account, credential)

    # Replies

    def _take_acquisition(
        self, slot: Slot, outcome: AcquisitionOutcome | RenewalOutcome, attempt: Attempt, interval_seconds: float
    ) -> float | None:
        match outcome:
            case Pending():
                self._escrow.clear(slot)
                return outcome.interval_seconds
            case Granted():
                self._acquire(slot, outcome, attempt)
                return None
            case AttemptOver() | GrantDead():
                self._end_attempt(slot, self._explained(slot, outcome.reason), outcome.code, None)
                return None
            case ClientFault():
                self.alarm(slot.work.token_id, "client_registration", outcome.code)
                self._escrow.clear(slot)
                return max(interval_seconds, RETRY_SECONDS)
            case InDoubt():
                self.alarm(slot.work.token_id, "reply_in_doubt", outcome.why)
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
        for _ in range(CONFLICTS):
            token = self.events.token(slot.work.token_id)
            if not is_expected(identity, attempt.account, token.state):
                self._end_attempt(slot, Reason.WRONG_ACCOUNT, None, identity.account)
                self.revoke(attempt.provider, identity.account, grant.credential)
                return
            reception = token.retrieve(attempt.id, grant, identity, by=WORKER, now=self.clock.now())
            if self._store_grant(slot, token, reception, grant.credential):
                if reception is Reception.LATE:
                    self.revoke(attempt.provider, identity.account, grant.credential)
                return
        raise Conflict("the token changes faster than its reply can be stored")

    def _take_renewal(self, slot: Slot, outcome: RenewalOutcome, before: TokenState, by: str) -> None:
        work = slot.work
        match outcome:
            case Granted():
                self._adopt_renewal(slot, outcome, before, by)
            case GrantDead():
                verdict = replace(outcome, reason=self._explained(slot, outcome.reason))
                self.decide(
                    work.token_id,
                    lambda token: token.find_dead(work.generation, verdict, by=by, now=self.clock.now()),
                )
                self.unproven.discard(work.token_id)
                self._escrow.clear(slot)
            case ClientFault():
                self.alarm(work.token_id, "client_registration", outcome.code)
                self._escrow.clear(slot)
                setting = outcome.setting or "client_id, client_secret_file or certificate_file"
                raise Unreachable(
                    f"the provider refuses our client registration ({outcome.code}): "
                    f"correct {setting}; the token is unchanged"
                )
            case InDoubt():
                self.alarm(work.token_id, "reply_in_doubt", outcome.why)
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
        for _ in range(CONFLICTS):
            token = self.events.token(work.token_id)
            reception = token.renew(work.attempt_id, work.generation, grant, by=by, now=self.clock.now())
            if self._store_grant(slot, token, reception, grant.credential):
                if reception is Reception.LATE and before.provider and before.account:
                    self.revoke(before.provider, before.account, grant.credential)
                if before.dead and grant.credential.issued_at <= before.since:
                    self.unproven.add(work.token_id)
                else:
                    self.unproven.discard(work.token_id)
                return
        raise Conflict("the token changes faster than its reply can be stored")

    def _explained(self, slot: Slot, reason: Reason) -> Reason:
        """A refusal of what a lost reply has replaced is explained by that loss."""
        is_spent = reason in {Reason.INVALID_GRANT, Reason.CODE_REJECTED}
        return Reason.REPLY_LOST if is_spent and self._escrow.was_lost(slot.work) else reason

    def _store_grant(self, slot: Slot, token: Token, reception: Reception, credential: Credential) -> bool:
        """Store what the domain decided about a grant, then wipe the escrow; False if it has to decide again."""
        put: list[VaultRow] = []
        linked: list[Profile] = []
        expects: dict[UUID, int] = {}
        if reception is Reception.ADOPTED:
            put = [self.vault.seal_credential(token.id, token.state.generations, credential)]
            linked, expects = self.linked(token)
        try:
            if token.pending_events:
                self.events.save(token, *linked, beside=Alongside(put=put, release=[slot.work], expects=expects))
        except Conflict:
            return False
        self._escrow.clear(slot)
        self._escrow.wipe_traces(token.id)
        self.alarms.pop(token.id, None)
        return True

    def _end_attempt(self, slot: Slot, reason: Reason, code: str | None, signed_in_as: str | None) -> None:
        work = slot.work
        self.decide(
            work.token_id,
            lambda token: token.end_attempt(
                work.attempt_id, reason, code, signed_in_as, by=WORKER, now=self.clock.now()
            ),
        )
        self._escrow.wipe_lost(work)
        self._escrow.clear(slot)

    def _put_off(self, slot: Slot, outcome: Transient) -> None:
        """A reply that is a grant stays in the escrow until it can be understood; any other says nothing."""
        log.warning("provider_transient", token=str(slot.work.token_id), why=outcome.why)
        if not outcome.is_known:
            self.alarm(slot.work.token_id, "unknown_error", outcome.why)
        self._leave(slot)

    def _leave(self, slot: Slot) -> None:
        if slot.reply is None or slot.reply.status != 200:
            self._escrow.clear(slot)
        else:
            self._escrow.leave(slot)

    @contextmanager
    def _keeping(self, slot: Slot) -> Iterator[None]:
        """Whatever goes wrong before a reply is stored, it stays in the escrow."""
        try:
            yield
        except BaseException:
            self._leave(slot)
            raise

    def _app_scopes(self, provider: Provider, token_id: UUID) -> Sequence[str]:
        with self.events.store.reading() as query:
            rows = query.rows("SELECT DISTINCT protocol FROM profile WHERE token_id = ?", (str(token_id),))
        return provider.scopes(rows[0]["protocol"], "app")

    # Tokens

    def decide(self, token_id: UUID, decide: Callable[[Token], object]) -> None:
        """Load, decide and save, again and again while somebody else was first.

        Raises:
            Conflict: the token changes faster than that.
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
        raise Conflict("the token changes faster than anything can be decided: try again")

    def linked(self, token: Token) -> tuple[list[Profile], dict[UUID, int]]:
        """The profiles that the token's last event changes, and the group that must still be as it was read."""
        event = token.pending_events[-1]
        assert isinstance(event, Token.Event)
        if not isinstance(event, Token.Retrieved | Token.Deleted):
            return [], {}
        with self.events.store.reading() as query:
            linked = self.events.profiles_of(query, token.id)
            groups = query.rows("SELECT id, version FROM smtp_group WHERE token_id = ?", (str(token.id),))
        return list(update_in_concert(event, linked)), {UUID(row["id"]): row["version"] for row in groups}

    def revoke(self, provider: str, account: str, credential: Credential) -> bool:
        """Tell the provider to forget a grant, unless another live credential of ours could die with it."""
        if provider not in self.providers or self.sharing(provider, account):
            return False
        return self.providers[provider].revoke(credential)

    def sharing(self, provider: str, account: str) -> list[tuple[str, UUID]]:
        """The settings with a live credential that a revocation for this account may end, each with its token."""
        with self.events.store.reading() as query:
            rows = query.rows(
                "SELECT profile.name, profile.token_id, token.account FROM profile "
                "JOIN token ON token.id = profile.token_id "
                "WHERE token.provider = ? AND token.generation IS NOT NULL AND token.dead IS NULL",
                (provider,),
            )
        same = (row for row in rows if row["account"].casefold() == account.casefold())
        return sorted((row["name"], UUID(row["token_id"])) for row in same)

    def alarm(self, token_id: UUID, code: str, why: str) -> None:
        """Have a person look at a token."""
        self.alarms[token_id] = code
        log.error(code, token=str(token_id), why=why)


def _is_wanted(work: Work, token: TokenState) -> bool:
    """Whether what was asked for is still waited for: an attempt or a token that is over loses nothing."""
    if work.kind == "acquisition":
        return token.attempt is not None and token.attempt.id == work.attempt_id
    return token.credential is not None
