"""The state of a token: folded from its events and stored in its row."""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from domain.errors import IllegalHistory, Refused
from domain.lifecycle import End, Held, Phase, TokenStatus, target
from domain.outcomes import GrantWarning, Identity, Reason


@dataclass(frozen=True, slots=True)
class Attempt:
    """An authorization under way. `ordinal` counts the token's attempts and names the attempt's sealed row.

    `takes_over`: an administrator has said that `account` is right, even if its address or subject is not pinned.
    """

    id: str
    ordinal: int
    flow: str
    provider: str
    account: str
    expires_at: datetime
    takes_over: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """The facts about a credential that are not secret.

    `number` counts the credentials of the token and is never used again. `grant` is the number of the generation that
    the acquisition brought; `flow`, `granted_by` and `granted_at` are the flow, attempt and instant of that
    acquisition. `attempt_id` is the acquisition or renewal that brought this generation.
    `grant_expires_at` is the end of the grant as the provider announced it, or None. `end_set_at` is the issue time
    of the generation whose renewal last moved that end.
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


# The same reply can be applied twice only if it is read from the escrow after a crash, which happens soon or never.
_REPLIES_REMEMBERED = 32


@dataclass(frozen=True, slots=True)
class TokenState:
    """The state that the events of a token add up to.

    `reason` is the reason why the last attempt or token ended. `dead` is the reason why the held credential does not
    work; later attempts do not change it. `sign_in_seconds` is the age of a grant at which the provider's policy last
    required a new sign-in of this account. `failures` is how many requests of the last attempt failed in a row before
    its time was over. `warning` is why a person is needed for a credential that works.
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
    failures: int = 0
    warning: GrantWarning | None = None

    @property
    def phase(self) -> Phase:
        """The status of the token, or its end."""
        return End.RETIRED if self.retired else self.status

    @property
    def held(self) -> Held:
        """The kind of credential that the vault has for this token."""
        if self.credential is None:
            return Held.NOTHING
        return Held.DEAD if self.dead else Held.LIVE

    @property
    def authorization(self) -> tuple[str | None, str | None]:
        """Provider and account of the credential that is held, also while a person signs in again; else None twice."""
        return (self.provider, self.account) if self.credential else (None, None)

    @property
    def address_to_take_over(self) -> str | None:
        """The account's address, if an administrator must say that it is right; None if there is nothing to say."""
        if self.reason is Reason.ACCOUNT_RECREATED:
            return self.account
        has_new = self.reason is Reason.ACCOUNT_RENAMED or self.warning is GrantWarning.NEW_ADDRESS
        return self.signed_in_as if has_new else None

    @property
    def attention(self) -> Reason | GrantWarning | None:
        """The reason why a person is needed for this token, or None."""
        if self.status is TokenStatus.INVALID:
            return self.dead
        return concern(self.credential, self.warning) if self.credential and not self.dead else None

    def at(self, now: datetime) -> TokenState:
        """This state as of `now`: an attempt or a credential that has expired by then is over."""
        state = self
        while over := state.ran_out(now):
            if isinstance(over, Attempt):
                state = state.attempt_over(Reason.EXPIRED_TOKEN, None, None, over.expires_at)
            else:
                state = state.grant_dead(Reason.EXPIRED, None, over.expires_at)
        return state

    def expired(self, now: datetime) -> Generation | None:
        """The credential, if it has expired by `now` and can't be renewed; otherwise None."""
        credential = self.credential
        if credential and not self.dead and not credential.renewable and credential.expires_at <= now:
            return credential
        return None

    def ran_out(self, now: datetime) -> Attempt | Generation | None:
        """The attempt or the non-renewable credential, whichever expired first by `now`; None if neither has."""
        expired, attempt = self.expired(now), self.attempt
        if attempt and attempt.expires_at <= now and not (expired and expired.expires_at <= attempt.expires_at):
            return attempt
        return expired

    def attempt_over(
        self, reason: Reason, code: str | None, signed_in_as: str | None, when: datetime, failures: int = 0
    ) -> TokenState:
        """The state after the attempt has ended for this reason: the status follows from the held credential."""
        return replace(
            self,
            status=self.next_status("end_attempt"),
            since=when,
            attempt=None,
            reason=reason,
            code=code,
            signed_in_as=signed_in_as or (self.signed_in_as if self.warning else None),
            failures=failures,
        )

    def grant_dead(self, reason: Reason, code: str | None, when: datetime) -> TokenState:
        """The state with a dead credential, which stays in the vault but is not served. Waiting stays Waiting."""
        status = self.next_status("find_dead")
        # `when` may precede `since`: a reply that is read late may bring an access token that has already expired.
        since = max(when, self.since) if status is not self.status else self.since
        return replace(
            self,
            status=status,
            since=since,
            dead=reason,
            reason=reason,
            code=code,
            signed_in_as=None,
            failures=0,
            warning=None,
            sign_in_seconds=self._sign_in_age(when) if reason is Reason.SIGN_IN_FREQUENCY else self.sign_in_seconds,
        )

    def _sign_in_age(self, when: datetime) -> int | None:
        return int((when - self.credential.granted_at).total_seconds()) if self.credential else None

    def with_credential(self, credential: Generation, **changes: Any) -> TokenState:
        """The state with this credential, held and live, and with these other changes."""
        age = (credential.issued_at - credential.granted_at).total_seconds()
        # A grant older than `sign_in_seconds` shows that the provider's policy has changed.
        outlived = self.sign_in_seconds is not None and age > self.sign_in_seconds
        return replace(
            self,
            generations=credential.number,
            replies=self.replies_and(credential.attempt_id),
            credential=credential,
            dead=None,
            reason=None,
            code=None,
            failures=0,
            sign_in_seconds=None if outlived else self.sign_in_seconds,
            **{"signed_in_as": None, "warning": None, **changes},
        )

    def replies_and(self, attempt_id: str) -> tuple[str, ...]:
        """The attempt ids of the last replies that were adopted or discarded, this one included."""
        return (*self.replies[-(_REPLIES_REMEMBERED - 1) :], attempt_id)

    def next_phase(self, command: str) -> Phase:
        """The phase to which `command` leads.

        Raises:
            IllegalHistory: the lifecycle does not permit the command.
        """
        reached = target(self.phase, command, self.held)
        if reached is None:
            raise IllegalHistory("command_not_legal", command=command, status=self.phase.value)
        return reached

    def next_status(self, command: str) -> TokenStatus:
        """The status to which `command` leads, for a command after which the token still exists."""
        reached = self.next_phase(command)
        assert isinstance(reached, TokenStatus)
        return reached


def concern(credential: Generation, warning: GrantWarning | None) -> GrantWarning | None:
    """Why a person is needed for a credential that works; None if no person is needed."""
    return warning or (None if credential.renewable else GrantWarning.NOT_RENEWABLE)


# Only ASCII letters: other signs have a lower case that looks like another letter, such as the Kelvin sign and `k`.
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def is_same_address(address: str, other: str) -> bool:
    """Whether two addresses name the same account: they are compared without regard to case."""
    return address.translate(_ASCII_LOWER) == other.translate(_ASCII_LOWER)


def account_mismatch(identity: Identity, attempt: Attempt, state: TokenState) -> Reason | None:
    """Why the account that signed in is not the expected account; None if it is the expected one.

    The requested address must match. A held credential also pins the provider's subject and tenant, unless an
    administrator has said that the requested account is right. The application's own credentials have no subject.
    """
    is_named = is_same_address(identity.account, attempt.account)
    if attempt.takes_over or attempt.flow == "app" or not _pins(state, attempt.account):
        return None if is_named else Reason.WRONG_ACCOUNT
    is_pinned = (identity.subject, identity.tenant) == (state.subject, state.tenant)
    if is_named:
        return None if is_pinned else Reason.ACCOUNT_RECREATED
    return Reason.ACCOUNT_RENAMED if is_pinned else Reason.WRONG_ACCOUNT


def _pins(state: TokenState, account: str) -> bool:
    """Whether a person's sign-in has pinned the subject of this account."""
    by_person = state.credential is not None and state.credential.flow != "app"
    return by_person and state.account is not None and is_same_address(state.account, account)


def is_same_subject(identity: Identity, state: TokenState) -> bool:
    """Whether an identity in a renewal is that of the pinned subject. An ID token of a renewal may lack the tenant."""
    same_tenant = identity.tenant is None or state.tenant is None or identity.tenant == state.tenant
    return identity.subject == state.subject and same_tenant


def served(state: TokenState, now: datetime) -> Generation:
    """The live credential to serve at `now`.

    Raises:
        Refused: there is no live credential; the error says why.
    """
    seen = state.at(now)
    if seen.credential and not seen.dead:
        return seen.credential
    if seen.status is TokenStatus.INVALID:
        raise Refused("token_invalid", status=seen.status.value, **why_invalid(seen))
    code = "token_not_retrieved" if seen.status is TokenStatus.NOT_RETRIEVED else "token_waiting"
    raise Refused(code, status=seen.status.value)


def why_invalid(state: TokenState) -> dict[str, str]:
    """The facts about why a token is Invalid, for an error; the same facts as in its status."""
    reason = state.reason or state.dead
    facts = {"reason": reason.value if reason else ""}
    if state.dead and state.dead is not reason:
        facts["dead"] = state.dead.value
    if state.code and state.code != reason:
        facts["provider_code"] = state.code
    if state.signed_in_as and state.account:
        facts |= {"signed_in_as": state.signed_in_as, "account": state.account}
    return facts
