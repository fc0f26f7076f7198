"""The token: its events, and the commands that record them. Every change of a token is one of these events.

`TokenState` is the state that the events add up to; the aggregate `Token` decides which event comes next. Time is an
input: `state.at(now)` ends whatever has expired since the last event.
An event names its author (`by`) and contains reason codes and generation numbers, never a secret.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum, auto
from uuid import UUID

from domain import aggregate
from domain.lifecycle import TokenStatus, gate, permit
from domain.outcomes import FailedRequests, GrantDead, Granted, GrantWarning, Identity, Reason
from domain.token_state import Attempt, Generation, TokenState, is_same_address

# A provider gives a grant's end in whole seconds from now, so two announcements of the same end differ a little.
_SAME_END = timedelta(minutes=1)


class Reception(Enum):
    """The effect of a provider's reply on the token."""

    ADOPTED = auto()
    DUPLICATE = auto()
    LATE = auto()


class Token(aggregate.Aggregate[TokenState]):
    """An authorization to send or receive mail, of an SMTP group or of a single profile."""

    TOPIC = "mailtoken.Token.v1"

    class Event(aggregate.Event[TokenState]):
        """A change of a token, and its author."""

    class Created(Event, aggregate.Created[TokenState]):
        """The token was made for a setting or a group, and is Not Retrieved."""

        TOPIC = "mailtoken.Token.Created.v1"

        def begin(self) -> TokenState:
            return TokenState(TokenStatus.NOT_RETRIEVED, since=self.timestamp)

    class AuthorizationRequested(Event):
        """The provider has permitted an attempt, whose device code is sealed in the vault under `ordinal`."""

        TOPIC = "mailtoken.Token.AuthorizationRequested.v1"
        attempt_id: str
        ordinal: int
        flow: str
        profile: str
        provider: str
        account: str
        expires_at: datetime
        takes_over: bool = False

        def evolve(self, state: TokenState) -> TokenState:
            """The token is Waiting. A credential held before stays in use."""
            attempt = Attempt(
                self.attempt_id,
                self.ordinal,
                self.flow,
                self.provider,
                self.account,
                self.expires_at,
                self.takes_over,
            )
            status = state.next_status("request")
            return replace(state, status=status, since=self.timestamp, attempt=attempt, attempts=self.ordinal)

    class AuthorizationEnded(Event):
        """The attempt is over without a token: denied, expired, cancelled, failed, or of the wrong account."""

        TOPIC = "mailtoken.Token.AuthorizationEnded.v1"
        attempt_id: str
        reason: str
        code: str | None
        signed_in_as: str | None
        failures: int = 0

        def evolve(self, state: TokenState) -> TokenState:
            """The status follows from the held credential. An expired attempt counts as over since its deadline."""
            when = self.timestamp
            if state.attempt and (self.failures or self.reason == Reason.EXPIRED_TOKEN):
                when = min(when, state.attempt.expires_at)
            return state.attempt_over(Reason(self.reason), self.code, self.signed_in_as, when, self.failures)

    class Retrieved(Event):
        """The token was obtained. Its credential is sealed in the vault under `generation`."""

        TOPIC = "mailtoken.Token.Retrieved.v1"
        attempt_id: str
        generation: int
        flow: str
        provider: str
        account: str
        subject: str
        tenant: str | None
        scope: str
        issued_at: datetime
        expires_at: datetime
        renewable: bool
        grant_expires_at: datetime | None

        def evolve(self, state: TokenState) -> TokenState:
            """The token is Retrieved, and the provider's ids of the account are pinned."""
            credential = Generation(
                self.generation,
                self.generation,
                self.attempt_id,
                self.scope,
                self.issued_at,
                self.expires_at,
                self.renewable,
                self.flow,
                self.attempt_id,
                self.issued_at,
                self.grant_expires_at,
                self.issued_at,
            )
            return state.with_credential(
                credential,
                status=state.next_status("retrieve"),
                since=self.timestamp,
                provider=self.provider,
                account=self.account,
                subject=self.subject,
                tenant=self.tenant,
                attempt=None,
            )

    class Renewed(Event):
        """A renewal brought a new access token. An Invalid token is reinstated by it."""

        TOPIC = "mailtoken.Token.Renewed.v1"
        attempt_id: str
        generation: int
        scope: str
        issued_at: datetime
        expires_at: datetime
        renewable: bool
        grant_expires_at: datetime | None
        warning: str | None = None
        signed_in_as: str | None = None

        def evolve(self, state: TokenState) -> TokenState:
            """The token is Retrieved, or still Waiting with a newer credential."""
            status = state.next_status("renew")
            assert state.credential is not None
            since = self.timestamp if status is not state.status else state.since
            warning = GrantWarning(self.warning) if self.warning else None
            return state.with_credential(
                self._next(state.credential),
                status=status,
                since=since,
                warning=warning,
                signed_in_as=self.signed_in_as,
            )

        def _next(self, held: Generation) -> Generation:
            # An earlier announced end stays valid if the reply announces none, unless the grant has outlived it.
            ends_at = self.grant_expires_at or held.grant_expires_at
            if ends_at and ends_at <= self.issued_at:
                ends_at = None
            stands = ends_at and held.grant_expires_at and ends_at - held.grant_expires_at < _SAME_END
            return Generation(
                self.generation,
                held.grant,
                self.attempt_id,
                self.scope,
                self.issued_at,
                self.expires_at,
                self.renewable,
                held.flow,
                held.granted_by,
                held.granted_at,
                ends_at,
                held.end_set_at if stands else self.issued_at,
            )

    class RenewalWithheld(Event):
        """A renewal brought a credential of another account, which is kept sealed and not served."""

        TOPIC = "mailtoken.Token.RenewalWithheld.v1"
        attempt_id: str
        signed_in_as: str

        def evolve(self, state: TokenState) -> TokenState:
            """The credential held before stays in use."""
            return replace(
                state,
                warning=GrantWarning.ANOTHER_ACCOUNT,
                signed_in_as=self.signed_in_as,
                replies=state.replies_and(self.attempt_id),
            )

    class GrantFoundDead(Event):
        """The provider has definitely rejected the grant, or a credential that can't be renewed has expired."""

        TOPIC = "mailtoken.Token.GrantFoundDead.v1"
        generation: int
        reason: str
        code: str | None

        def evolve(self, state: TokenState) -> TokenState:
            """The token is Invalid. An access token that can't be renewed counts as Invalid since its expiry."""
            when = self.timestamp
            if state.credential and self.reason == Reason.EXPIRED:
                when = min(when, state.credential.expires_at)
            return state.grant_dead(Reason(self.reason), self.code, when)

    class Deleted(Event):
        """An administrator deleted the token; its sealed rows are dropped in the same transaction."""

        TOPIC = "mailtoken.Token.Deleted.v1"

        def evolve(self, state: TokenState) -> TokenState:
            """The token is Not Retrieved, with no credential and no pinned account. The counters never decrease."""
            return TokenState(
                state.next_status("delete"),
                since=self.timestamp,
                generations=state.generations,
                attempts=state.attempts,
                replies=state.replies,
            )

    class ProviderRenamed(Event):
        """The provider has another name in the configuration; it is the same authorization server and client."""

        TOPIC = "mailtoken.Token.ProviderRenamed.v1"
        provider: str

        def evolve(self, state: TokenState) -> TokenState:
            return replace(state, provider=self.provider)

    class LateReplyDiscarded(Event):
        """A reply came for an attempt that was already over, and was wiped."""

        TOPIC = "mailtoken.Token.LateReplyDiscarded.v1"
        attempt_id: str

        def evolve(self, state: TokenState) -> TokenState:
            return replace(state, replies=state.replies_and(self.attempt_id))

    class Retired(Event):
        """The last profile left, and the token ended."""

        TOPIC = "mailtoken.Token.Retired.v1"

        def evolve(self, state: TokenState) -> TokenState:
            state.next_phase("remove")
            return replace(state, retired=True)

    @classmethod
    def create(cls, id: UUID, *, by: str, now: datetime) -> Token:
        """Make a token that is Not Retrieved."""
        return cls.start(id, cls.Created, now=now, by=by)

    def settle(self, now: datetime, failed: FailedRequests | None = None) -> None:
        """Record whatever has expired by `now`, so that a command judges the same state that `at(now)` shows.

        `failed`: an attempt whose last requests failed ends for that reason.
        """
        while over := self.state.ran_out(now):
            if isinstance(over, Attempt):
                if failed:
                    self._end(over, failed.reason, failed.code, None, failures=failed.count, by="worker", now=now)
                else:
                    self._end(over, Reason.EXPIRED_TOKEN, None, None, by="worker", now=now)
            else:
                self._expire(over, now)

    def check_request(self, now: datetime) -> None:
        """Check that a token may be requested, before the provider is asked for a code.

        Raises:
            Refused: an attempt is under way.
        """
        seen = self.state.at(now)
        gate("request", seen.phase, seen.held)

    def request(
        self,
        attempt_id: str,
        *,
        flow: str,
        profile: str,
        provider: str,
        account: str,
        expires_at: datetime,
        by: str,
        now: datetime,
        takes_over: bool = False,
    ) -> None:
        """Begin an attempt for which the provider has given a code; the attempt expires at `expires_at`.

        `takes_over`: the administrator says that `account` is right, whatever address and subject are pinned.

        Raises:
            Refused: an attempt is under way.
        """
        self.check_request(now)
        self.settle(now)
        self.record(
            self.AuthorizationRequested,
            attempt_id=attempt_id,
            ordinal=self.state.attempts + 1,
            flow=flow,
            profile=profile,
            provider=provider,
            account=account,
            expires_at=expires_at,
            takes_over=takes_over,
            by=by,
            now=now,
        )

    def retrieve(self, attempt_id: str, grant: Granted, identity: Identity, *, by: str, now: datetime) -> Reception:
        """Apply the reply to this attempt. A reply that came before the deadline counts even if it is read later."""
        state = self.state
        if attempt_id in state.replies:
            return Reception.DUPLICATE
        if state.attempt is None or state.attempt.id != attempt_id:
            return self.discard(attempt_id, by=by, now=now)
        gate("retrieve", state.phase, state.held)
        self.record(
            self.Retrieved,
            attempt_id=attempt_id,
            generation=state.generations + 1,
            flow=state.attempt.flow,
            provider=state.attempt.provider,
            account=identity.account,
            subject=identity.subject,
            tenant=identity.tenant,
            scope=grant.credential.scope,
            issued_at=grant.credential.issued_at,
            expires_at=grant.credential.expires_at,
            renewable=is_renewable(grant, state.attempt.flow),
            grant_expires_at=grant.credential.grant_expires_at,
            by=by,
            now=now,
        )
        return Reception.ADOPTED

    def end_attempt(
        self,
        attempt_id: str,
        reason: Reason,
        code: str | None = None,
        signed_in_as: str | None = None,
        *,
        by: str,
        now: datetime,
    ) -> None:
        """End this attempt without a token. An attempt that is already over is not changed."""
        attempt = self.state.attempt
        if attempt and attempt.id == attempt_id:
            if expired := self.state.expired(now):
                self._expire(expired, now)
            self._end(attempt, reason, code, signed_in_as, by=by, now=now)

    def cancel(self, *, by: str, now: datetime) -> None:
        """End the attempt that is under way; a no-op if no attempt is under way."""
        self.settle(now)
        if self.state.attempt:
            self._end(self.state.attempt, Reason.CANCELLED, None, None, by=by, now=now)

    def renew(self, attempt_id: str, parent: int, grant: Granted, *, by: str, now: datetime) -> Reception:
        """Apply the reply to a renewal of generation `parent`.

        If another generation has replaced `parent`, the reply is adopted only if it is newer and of the same grant.
        """
        state, new = self.state, grant.credential
        current = state.credential
        if attempt_id in state.replies:
            return Reception.DUPLICATE
        overtaken = current and parent != current.number
        if not current or (overtaken and (parent < current.grant or new.issued_at <= current.issued_at)):
            return self.discard(attempt_id, by=by, now=now)
        self.settle(now)
        gate("renew", self.state.phase, self.state.held)
        warning, signed_in_as = self._warning_of(grant)
        self.record(
            self.Renewed,
            attempt_id=attempt_id,
            generation=state.generations + 1,
            scope=new.scope,
            issued_at=new.issued_at,
            expires_at=new.expires_at,
            renewable=is_renewable(grant, current.flow),
            grant_expires_at=new.grant_expires_at,
            warning=warning and warning.value,
            signed_in_as=signed_in_as,
            by=by,
            now=now,
        )
        return Reception.ADOPTED

    def withhold(self, attempt_id: str, signed_in_as: str, *, by: str, now: datetime) -> None:
        """Record that a renewal was of another account; a no-op if the same has been recorded already."""
        known = self.state.warning is GrantWarning.ANOTHER_ACCOUNT and self.state.signed_in_as == signed_in_as
        if self.state.credential and not self.state.dead and not known:
            self.record(self.RenewalWithheld, attempt_id=attempt_id, signed_in_as=signed_in_as, by=by, now=now)

    def find_dead(self, parent: int, verdict: GrantDead, *, by: str, now: datetime) -> None:
        """Apply the provider's rejection of generation `parent`; a no-op if another generation has replaced it."""
        credential = self.state.credential
        if not credential or credential.number != parent:
            return
        self.settle(now)
        if self.state.dead and (self.state.reason, self.state.code) == (verdict.reason, verdict.code):
            return
        gate("find_dead", self.state.phase, self.state.held)
        self.record(
            self.GrantFoundDead,
            generation=parent,
            reason=verdict.reason.value,
            code=verdict.code,
            by=by,
            now=now,
        )

    def delete(self, *, by: str, now: datetime) -> None:
        """Delete the credential and the attempt under way.

        Raises:
            Refused: the token is Not Retrieved.
        """
        self.settle(now)
        gate("delete", self.state.phase, self.state.held)
        self.record(self.Deleted, by=by, now=now)

    def rename_provider(self, provider: str, *, by: str, now: datetime) -> None:
        """Record the provider's new name; nothing else changes.

        Raises:
            Refused: an attempt is under way.
        """
        self.permit("rename", now)
        self.record(self.ProviderRenamed, provider=provider, by=by, now=now)

    def permit(self, act: str, now: datetime) -> None:
        """Check that a setting of this token may be changed at `now`; see `lifecycle.permit`.

        Raises:
            Refused: the present state does not permit it.
        """
        permit(act, self.state.at(now).phase)

    def retire(self, *, by: str, now: datetime) -> None:
        """End the token, as its last profile leaves.

        Raises:
            Refused: a credential is held or an attempt is under way.
        """
        self.settle(now)
        permit("remove", self.state.phase)
        self.record(self.Retired, by=by, now=now)

    def _expire(self, credential: Generation, now: datetime) -> None:
        self.record(
            self.GrantFoundDead,
            generation=credential.number,
            reason=Reason.EXPIRED.value,
            code=None,
            by="worker",
            now=now,
        )

    def _end(
        self,
        attempt: Attempt,
        reason: Reason,
        code: str | None,
        signed_in_as: str | None,
        *,
        failures: int = 0,
        by: str,
        now: datetime,
    ) -> None:
        self.record(
            self.AuthorizationEnded,
            attempt_id=attempt.id,
            reason=reason.value,
            code=code,
            signed_in_as=signed_in_as,
            failures=failures,
            by=by,
            now=now,
        )

    def _warning_of(self, grant: Granted) -> tuple[GrantWarning | None, str | None]:
        """What is wrong with a renewed credential, and the account's address in the reply if it has changed."""
        state, identity = self.state, grant.identity
        if grant.missing_scope:
            return GrantWarning.SCOPE_MISSING, None
        if identity and state.account and not is_same_address(identity.account, state.account):
            return GrantWarning.NEW_ADDRESS, identity.account
        # A reply without an ID token says nothing about the address.
        if identity is None and state.warning is GrantWarning.NEW_ADDRESS:
            return state.warning, state.signed_in_as
        return None, None

    def discard(self, attempt_id: str, *, by: str, now: datetime) -> Reception:
        """Record that a reply to an attempt that is over was wiped."""
        self.record(self.LateReplyDiscarded, attempt_id=attempt_id, by=by, now=now)
        return Reception.LATE


def is_renewable(grant: Granted, flow: str) -> bool:
    """Whether the grant can be renewed: by a refresh token, or by the application's own credentials."""
    return flow == "app" or grant.credential.refresh_token is not None
