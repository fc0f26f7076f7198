"""The token: its events and their fold. Every change of it is one of these events, and nothing else is.

`TokenState` is what the events add up to; the aggregate `Token` decides which event comes next. Time is an input:
a stored state is judged with `at(now)`, so what ran out in between is over even if nobody looked.
An event says who did it (`by`), carries reason codes and references by generation, and never a secret.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Any
from uuid import UUID

from eventsourcing.domain import Aggregate

from domain.errors import IllegalHistory, Refused
from domain.lifecycle import Held, TokenStatus, gate, permit, target
from domain.outcomes import GrantDead, Granted, Identity, Reason


@dataclass(frozen=True, slots=True)
class Attempt:
    """One authorization under way. `ordinal` counts the attempts of the token and names its sealed row."""

    id: str
    ordinal: int
    flow: str
    provider: str
    account: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Generation:
    """What may be known of a credential: everything but its secrets.

    `number` counts the credentials of the token and is never used again; `grant` is the number of the acquisition
    this one descends from, `flow` how that was made, `granted_by` its attempt and `granted_at` its instant;
    `attempt_id` is the acquisition or renewal that brought this generation.
    `grant_expires_at` is when the provider said the grant itself ends, if it did, and `end_set_at` since when it has
    said so: the issue of the generation whose renewal moved that end last.
    """

    number: int
    grant: int
    attempt_id: str
    scope: str
    issued_at: datetime
    expires_at: datetime
    renewable: bool
    flow: str
    granted_by: str
    granted_at: datetime
    grant_expires_at: datetime | None
    end_set_at: datetime


# A reply comes again when it is read from the escrow after a crash: soon, or never.
_REPLIES_REMEMBERED = 32
# Providers say in whole seconds from now when a grant ends, so the same end is never said twice to the second.
_SAME_END = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class TokenState:
    """What the events of a token add up to.

    `reason` says why the last attempt or token ended; `dead` why the credential that is held does not work, whatever
    attempt has ended since. `sign_in_seconds` is the age at which the provider last wanted a new sign-in of this
    account, as its policy has it.
    """

    status: TokenStatus
    since: datetime
    provider: str | None = None
    account: str | None = None
    subject: str | None = None
    tenant: str | None = None
    credential: Generation | None = None
    dead: Reason | None = None
    attempt: Attempt | None = None
    reason: Reason | None = None
    code: str | None = None
    signed_in_as: str | None = None
    generations: int = 0
    attempts: int = 0
    replies: tuple[str, ...] = ()
    sign_in_seconds: int | None = None
    retired: bool = False

    @property
    def held(self) -> Held:
        """What the vault has for this token."""
        if self.credential is None:
            return Held.NOTHING
        return Held.DEAD if self.dead else Held.LIVE

    def at(self, now: datetime) -> TokenState:
        """This state as a reader at `now` must see it: whatever ran out by then is over."""
        state = self
        while over := state.ran_out(now):
            if isinstance(over, Attempt):
                state = state.attempt_over(Reason.EXPIRED_TOKEN, None, None, over.expires_at)
            else:
                state = state.grant_dead(Reason.EXPIRED, None, over.expires_at)
        return state

    def expired(self, now: datetime) -> Generation | None:
        """The credential, if its time was over by `now` and nothing can renew it."""
        credential = self.credential
        if credential and not self.dead and not credential.renewable and credential.expires_at <= now:
            return credential
        return None

    def ran_out(self, now: datetime) -> Attempt | Generation | None:
        """What ran out first by `now`: the attempt, or a credential that nothing can renew."""
        expired, attempt = self.expired(now), self.attempt
        if attempt and attempt.expires_at <= now and not (expired and expired.expires_at <= attempt.expires_at):
            return attempt
        return expired

    def attempt_over(self, reason: Reason, code: str | None, signed_in_as: str | None, when: datetime) -> TokenState:
        """Back to what is held, with why."""
        return replace(
            self,
            status=self.next_status("end_attempt"),
            since=when,
            attempt=None,
            reason=reason,
            code=code,
            signed_in_as=signed_in_as,
        )

    def grant_dead(self, reason: Reason, code: str | None, when: datetime) -> TokenState:
        """The credential stays in the vault but is not served; while Waiting the display does not change."""
        status = self.next_status("find_dead")
        # A reply that is looked at late may bring an access token whose time is over: it was never seen before.
        since = max(when, self.since) if status is not self.status else self.since
        return replace(
            self,
            status=status,
            since=since,
            dead=reason,
            reason=reason,
            code=code,
            signed_in_as=None,
            sign_in_seconds=self._sign_in_age(when) if reason is Reason.SIGN_IN_FREQUENCY else self.sign_in_seconds,
        )

    def _sign_in_age(self, when: datetime) -> int | None:
        return int((when - self.credential.granted_at).total_seconds()) if self.credential else None

    def holding(self, credential: Generation, **changes: Any) -> TokenState:
        """Alive with this credential, which its own attempt brought, and otherwise changed so."""
        age = (credential.issued_at - credential.granted_at).total_seconds()
        # A grant that has outlived the age shows that the policy has changed.
        outlived = self.sign_in_seconds is not None and age > self.sign_in_seconds
        return replace(
            self,
            generations=credential.number,
            replies=self.replies_and(credential.attempt_id),
            credential=credential,
            dead=None,
            reason=None,
            code=None,
            signed_in_as=None,
            sign_in_seconds=None if outlived else self.sign_in_seconds,
            **changes,
        )

    def replies_and(self, attempt_id: str) -> tuple[str, ...]:
        """The attempt ids of the last replies that were adopted or discarded, this one included."""
        return (*self.replies[-(_REPLIES_REMEMBERED - 1) :], attempt_id)

    def next_status(self, command: str) -> TokenStatus:
        """Where `command` leads from here.

        Raises:
            IllegalHistory: nowhere.
        """
        if self.retired:
            raise IllegalHistory(f"{command} is not legal when the token is retired")
        status = target(self.status, command, self.held)
        if status is None:
            raise IllegalHistory(f"{command} is not legal when the token is {self.status}")
        return status


class Reception(Enum):
    """What became of a provider's reply."""

    ADOPTED = auto()
    DUPLICATE = auto()
    LATE = auto()


class Token(Aggregate):
    """One authorization to send or receive mail: of an SMTP group, or of one POP or IMAP profile."""

    TOPIC = "mailtoken.Token.v1"

    if TYPE_CHECKING:  # an annotation that runs would make the library write an __init__ that asks for it
        state: TokenState

    class Event(Aggregate.Event):
        """Something that happened to a token, and who did it."""

        by: str

        def evolve(self, state: TokenState) -> TokenState:
            """The state after this event.

            Raises:
                IllegalHistory: the lifecycle has no such step.
            """
            raise NotImplementedError

        def apply(self, token: Token) -> None:
            """Fold this event into the aggregate."""
            try:
                token.state = self.evolve(token.state)
            except IllegalHistory as illegal:
                name = f"{type(self).__qualname__}, event {self.originator_version} of {self.originator_id}"
                raise IllegalHistory(f"{name}: {illegal}") from None

    class Created(Event, Aggregate.Created):
        """A setting or a group of settings can have a token from now on."""

        TOPIC = "mailtoken.Token.Created.v1"

        def begin(self) -> TokenState:
            """Not Retrieved."""
            return TokenState(TokenStatus.NOT_RETRIEVED, since=self.timestamp)

        def apply(self, token: Token) -> None:
            """Begin."""
            token.state = self.begin()

    class AuthorizationRequested(Event):
        """The provider has given permission to obtain; the sealed device code is the vault's `ordinal`."""

        TOPIC = "mailtoken.Token.AuthorizationRequested.v1"
        attempt_id: str
        ordinal: int
        flow: str
        profile: str
        provider: str
        account: str
        expires_at: datetime

        def evolve(self, state: TokenState) -> TokenState:
            """Waiting; a credential that is held goes on serving."""
            attempt = Attempt(self.attempt_id, self.ordinal, self.flow, self.provider, self.account, self.expires_at)
            status = state.next_status("request")
            return replace(state, status=status, since=self.timestamp, attempt=attempt, attempts=self.ordinal)

    class AuthorizationEnded(Event):
        """The attempt is over without a token: denied, ran out, cancelled, failed, or the wrong person."""

        TOPIC = "mailtoken.Token.AuthorizationEnded.v1"
        attempt_id: str
        reason: str
        code: str | None
        signed_in_as: str | None

        def evolve(self, state: TokenState) -> TokenState:
            """Back to what is held. An attempt that ran out was over at its deadline, whoever noticed when."""
            when = self.timestamp
            if state.attempt and self.reason == Reason.EXPIRED_TOKEN:
                when = min(when, state.attempt.expires_at)
            return state.attempt_over(Reason(self.reason), self.code, self.signed_in_as, when)

    class Retrieved(Event):
        """The token has been obtained and is activated. The sealed credential is the vault's `generation`."""

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
            """Retrieved, with the account's ids pinned."""
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
            return state.holding(
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
        """The grant gave a new access token. Out of Invalid this reinstates the token."""

        TOPIC = "mailtoken.Token.Renewed.v1"
        attempt_id: str
        generation: int
        scope: str
        issued_at: datetime
        expires_at: datetime
        renewable: bool
        grant_expires_at: datetime | None

        def evolve(self, state: TokenState) -> TokenState:
            """Retrieved, or still Waiting with a fresh credential held."""
            status = state.next_status("renew")
            assert state.credential is not None
            since = self.timestamp if status is not state.status else state.since
            return state.holding(self._next(state.credential), status=status, since=since)

        def _next(self, held: Generation) -> Generation:
            # An end that is not said again still stands, unless the grant has outlived it.
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

    class GrantFoundDead(Event):
        """The provider's definite word that the grant does not work, or its time was over with no renewal."""

        TOPIC = "mailtoken.Token.GrantFoundDead.v1"
        generation: int
        reason: str
        code: str | None

        def evolve(self, state: TokenState) -> TokenState:
            """Invalid; an access token without renewal was so from the moment it expired."""
            when = self.timestamp
            if state.credential and self.reason == Reason.EXPIRED:
                when = min(when, state.credential.expires_at)
            return state.grant_dead(Reason(self.reason), self.code, when)

    class Deleted(Event):
        """An administrator deleted the token; its sealed rows are dropped in the same transaction."""

        TOPIC = "mailtoken.Token.Deleted.v1"

        def evolve(self, state: TokenState) -> TokenState:
            """Not Retrieved: nothing is held and no account is pinned. The counters never go back."""
            return TokenState(
                state.next_status("delete"),
                since=self.timestamp,
                generations=state.generations,
                attempts=state.attempts,
                replies=state.replies,
            )

    class LateReplyDiscarded(Event):
        """A reply to an attempt that was over: wiped, and said so."""

        TOPIC = "mailtoken.Token.LateReplyDiscarded.v1"
        attempt_id: str

        def evolve(self, state: TokenState) -> TokenState:
            """Nothing else changes."""
            return replace(state, replies=state.replies_and(self.attempt_id))

    class Retired(Event):
        """The last profile left: there is no such token any more."""

        TOPIC = "mailtoken.Token.Retired.v1"

        def evolve(self, state: TokenState) -> TokenState:
            """Only a token that is Not Retrieved can go."""
            if state.status is not TokenStatus.NOT_RETRIEVED or state.retired:
                raise IllegalHistory(f"retire is not legal when the token is {state.status}")
            return replace(state, retired=True)

    @classmethod
    def create(cls, id: UUID, *, by: str, now: datetime) -> Token:
        """A token that is Not Retrieved."""
        return cls._create(cls.Created, id=id, timestamp=now, by=by)

    def settle(self, now: datetime) -> None:
        """Record what ran out by `now`, so that commands judge by what a reader sees."""
        while over := self.state.ran_out(now):
            if isinstance(over, Attempt):
                self._end(over, Reason.EXPIRED_TOKEN, None, None, by="worker", now=now)
            else:
                self._expire(over, now)

    def check_request(self, now: datetime) -> None:
        """See whether Get Token is possible, before the provider is asked for a code.

        Raises:
            Refused: an attempt is under way.
        """
        seen = self.state.at(now)
        if seen.retired:
            raise Refused("the token is gone: its last profile was removed")
        gate("request", seen.status, seen.held)

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
    ) -> None:
        """Begin an attempt the provider has given a code for; it runs out at `expires_at`.

        Raises:
            Refused: an attempt is under way.
        """
        self.check_request(now)
        self.settle(now)
        self.trigger_event(
            self.AuthorizationRequested,
            attempt_id=attempt_id,
            ordinal=self.state.attempts + 1,
            flow=flow,
            profile=profile,
            provider=provider,
            account=account,
            expires_at=expires_at,
            by=by,
            timestamp=now,
        )

    def retrieve(self, attempt_id: str, grant: Granted, identity: Identity, *, by: str, now: datetime) -> Reception:
        """Take the reply of this attempt. A reply that came in time counts, however late it is looked at."""
        state = self.state
        if attempt_id in state.replies:
            return Reception.DUPLICATE
        if state.attempt is None or state.attempt.id != attempt_id:
            return self.discard(attempt_id, by=by, now=now)
        gate("retrieve", state.status, state.held)
        self.trigger_event(
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
            timestamp=now,
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
        """The attempt is over without a token; an attempt that is over already stays as it ended."""
        attempt = self.state.attempt
        if attempt and attempt.id == attempt_id:
            if expired := self.state.expired(now):
                self._expire(expired, now)
            self._end(attempt, reason, code, signed_in_as, by=by, now=now)

    def cancel(self, *, by: str, now: datetime) -> None:
        """End the attempt that is under way; with none this is a no-op, as the attempt has ended."""
        self.settle(now)
        if self.state.attempt:
            self._end(self.state.attempt, Reason.CANCELLED, None, None, by=by, now=now)

    def renew(self, attempt_id: str, parent: int, grant: Granted, *, by: str, now: datetime) -> Reception:
        """Take the reply to a renewal of generation `parent`.

        A reply that comes after another took over is adopted if it is newer and of the same grant.
        """
        state, new = self.state, grant.credential
        current = state.credential
        if attempt_id in state.replies:
            return Reception.DUPLICATE
        overtaken = current and parent != current.number
        if not current or (overtaken and (parent < current.grant or new.issued_at <= current.issued_at)):
            return self.discard(attempt_id, by=by, now=now)
        self.settle(now)
        gate("renew", self.state.status, self.state.held)
        self.trigger_event(
            self.Renewed,
            attempt_id=attempt_id,
            generation=state.generations + 1,
            scope=new.scope,
            issued_at=new.issued_at,
            expires_at=new.expires_at,
            renewable=is_renewable(grant, current.flow),
            grant_expires_at=new.grant_expires_at,
            by=by,
            timestamp=now,
        )
        return Reception.ADOPTED

    def find_dead(self, parent: int, verdict: GrantDead, *, by: str, now: datetime) -> None:
        """Take the provider's word about generation `parent`; about any other it says nothing."""
        credential = self.state.credential
        if not credential or credential.number != parent:
            return
        self.settle(now)
        if self.state.dead and (self.state.reason, self.state.code) == (verdict.reason, verdict.code):
            return
        gate("find_dead", self.state.status, self.state.held)
        self.trigger_event(
            self.GrantFoundDead,
            generation=parent,
            reason=verdict.reason.value,
            code=verdict.code,
            by=by,
            timestamp=now,
        )

    def delete(self, *, by: str, now: datetime) -> None:
        """Forget everything that is held or under way.

        Raises:
            Refused: the token is Not Retrieved.
        """
        self.settle(now)
        gate("delete", self.state.status, self.state.held)
        self.trigger_event(self.Deleted, by=by, timestamp=now)

    def permit(self, act: str, now: datetime) -> None:
        """Let `act` on a setting pass as of `now`; see `lifecycle.permit`.

        Raises:
            Refused: not in this state.
        """
        permit(act, self.state.at(now).status)

    def retire(self, *, by: str, now: datetime) -> None:
        """Go, as the last profile goes.

        Raises:
            Refused: a token is held or under way.
        """
        self.settle(now)
        permit("remove", self.state.status)
        self.trigger_event(self.Retired, by=by, timestamp=now)

    def _expire(self, credential: Generation, now: datetime) -> None:
        self.trigger_event(
            self.GrantFoundDead,
            generation=credential.number,
            reason=Reason.EXPIRED.value,
            code=None,
            by="worker",
            timestamp=now,
        )

    def _end(
        self,
        attempt: Attempt,
        reason: Reason,
        code: str | None,
        signed_in_as: str | None,
        *,
        by: str,
        now: datetime,
    ) -> None:
        self.trigger_event(
            self.AuthorizationEnded,
            attempt_id=attempt.id,
            reason=reason.value,
            code=code,
            signed_in_as=signed_in_as,
            by=by,
            timestamp=now,
        )

    def discard(self, attempt_id: str, *, by: str, now: datetime) -> Reception:
        """Say that a reply to an attempt that is over was wiped."""
        self.trigger_event(self.LateReplyDiscarded, attempt_id=attempt_id, by=by, timestamp=now)
        return Reception.LATE


def is_renewable(grant: Granted, flow: str) -> bool:
    """Whether there is something to renew with: a refresh token, or the application's own credentials."""
    return flow == "app" or grant.credential.refresh_token is not None


def is_expected(identity: Identity, account: str, state: TokenState) -> bool:
    """Whether the person who signed in is the one asked for, and the one pinned at the first acquisition.

    Addresses compare without regard to case; a held credential pins the provider's subject and tenant too.
    """
    if identity.account.casefold() != account.casefold():
        return False
    if state.subject is None or state.account is None or state.account.casefold() != account.casefold():
        return True
    return (identity.subject, identity.tenant) == (state.subject, state.tenant)


def served(state: TokenState, now: datetime) -> Generation:
    """The credential to hand out as of `now`: the live one that is held.

    Raises:
        Refused: there is none; says why.
    """
    seen = state.at(now)
    if seen.credential and not seen.dead:
        return seen.credential
    if seen.status is TokenStatus.INVALID:
        raise Refused(f"the token is {seen.status} ({seen.code or seen.reason}): delete it and get a new one")
    raise Refused(
        f"the token is {seen.status}: get a token first (mailtoken token get)"
        if seen.status is TokenStatus.NOT_RETRIEVED
        else f"the token is {seen.status}: finish the sign-in first"
    )
