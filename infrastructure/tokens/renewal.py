"""Renewal: an access token is served, renewed first if too little of its life is left.

Of all threads, processes and nodes that need a generation renewed, the owner of its claim asks the provider, and the
others wait for the outcome. A renewal that fails for a reason that may pass does not change the token, and the access
token is served until it expires.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import structlog
from eventsourcing.persistence import PersistenceError

from domain.errors import ProviderRefused, Refused, Unreachable, VaultDamaged, about
from domain.outcomes import REPLY_FACTS, Credential
from domain.renewal import is_due, remaining_seconds
from domain.token import Token
from domain.token_state import Generation, served, why_invalid
from infrastructure.counters import Counters
from infrastructure.queries.setting_status import SettingStatus, read_believed_status
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.tokens.backoff import Backoff
from infrastructure.tokens.exchange import TokenExchange
from infrastructure.tokens.reply_effects import WORKER
from infrastructure.tokens.status_reader import StatusReader

log = structlog.get_logger("mailtoken")

_WAIT_FOR_OTHER_SECONDS = 90.0
_LOOK_AGAIN_SECONDS = 0.05


@dataclass(frozen=True)
class ServedAccessToken:
    """An access token for a mail client. `mailbox` is the SASL user."""

    credential: Credential
    account: str
    mailbox: str
    generation: int
    token_id: UUID


class Renewals:
    """The use cases around an access token: to serve it and to renew it."""

    def __init__(self, exchange: TokenExchange, statuses: StatusReader, backoff: Backoff, counters: Counters) -> None:
        self._exchange = exchange
        self._events = exchange.events
        self._clock = exchange.clock
        self._statuses = statuses
        self._backoff = backoff
        self._counters = counters
        self.served_at: dict[UUID, datetime] = {}
        """The instant at which this run last served each token."""

    def access_token(self, name: str, min_ttl_seconds: int | None, by: str) -> ServedAccessToken:
        """The access token of a setting, renewed first if too little of its life is left.

        Raises:
            NotFound: no such profile.
            Refused: there is no token to serve, or it needs a renewal and the store is on hold; the error says why.
            InvalidValue: `min_ttl_seconds` is more than the token's whole life.
            Unreachable: the token has expired, or soon will, and can't be renewed now: try again.
        """
        # `_renew` and `_serve` check the rows; this look only says whether the token is due.
        status = self._statuses.of(name)
        current = self._served(status, self._clock.now())
        words: dict[str, Any] = {}
        if self._should_renew(status, current, min_ttl_seconds):
            try:
                self._renew(status.profile.token_id, current.number, by)
            except Unreachable as error:
                words = {fact: error.fields[fact] for fact in REPLY_FACTS if fact in error.fields}
                log.warning("renewal_failed", profile=name, error=str(error))
            except PersistenceError as error:
                log.warning("renewal_failed", profile=name, error=str(error))
        return self._serve(name, min_ttl_seconds, words)

    def renew(self, name: str, by: str) -> SettingStatus:
        """Renew at once, regardless of the backoff, as a person asked for it. This can reinstate an Invalid token.

        Raises:
            NotFound: no such profile.
            Refused: the token has no credential that can be renewed.
            Unreachable: the provider; the token is unchanged.
            ProviderRefused: the provider has definitely rejected the grant.
        """
        status = self._statuses.believed(name)
        # A dead credential may be renewed. Without a credential, `_served` raises the refusal.
        credential = status.token.credential or self._served(status, self._clock.now())
        if not credential.renewable:
            raise Refused("no_refresh_token", profile=name)
        self._renew(status.profile.token_id, credential.number, by)
        after = self._statuses.of(name)
        if after.token.dead:
            raise ProviderRefused(
                "token_update_failed", profile=name, **why_invalid(after.token), **self._words_about(after)
            )
        return after

    def renew_generation(self, token_id: UUID, generation: int) -> None:
        """Renew this generation, for a worker or the relay, if it is still the newest generation.

        Raises:
            Unreachable: the generation can't be renewed now.
            VaultDamaged: the sealed row of the generation does not open.
        """
        self._renew(token_id, generation, WORKER)

    def _should_renew(self, status: SettingStatus, current: Generation, min_ttl_seconds: int | None) -> bool:
        now = self._clock.now()
        if not is_due(current, now, min_ttl_seconds) or not current.renewable or self._exchange.holds.is_on():
            return False
        in_need = remaining_seconds(current, now) <= (min_ttl_seconds or 0)
        provider = status.token.provider or ""
        return self._backoff.acquire(status.profile.token_id, provider, now, in_need=in_need)

    def _served(self, status: SettingStatus, now: datetime) -> Generation:
        """The live credential.

        Raises:
            Refused: there is none; the error says why, also in the provider's own words.
        """
        try:
            with about(status.profile.name):
                return served(status.token, now)
        except Refused as refused:
            refused.fields |= self._words_about(status)
            raise

    def _words_about(self, status: SettingStatus) -> Mapping[str, Any]:
        """The provider's own words about the reason of the token's state, as an error's fields."""
        reply = self._exchange.refusals.of(status.profile.token_id)
        return reply.facts if reply and reply.code == status.token.code else {}

    def _serve(self, name: str, min_ttl_seconds: int | None, words: Mapping[str, Any]) -> ServedAccessToken:
        """The access token as it is; `words` are the provider's about a renewal that just failed."""
        now = self._clock.now()
        with self._events.store.reading() as query:
            status = read_believed_status(query, self._events.store.row_checks, name, now)
            current = self._served(status, now)
            try:
                credential = self._exchange.vault.credential(query, status.profile.token_id, current.number)
            except VaultDamaged as damaged:
                self._exchange.alarms.quarantine(status.profile.token_id, damaged)
                raise
        left = remaining_seconds(current, now)
        if left <= 0 or (min_ttl_seconds is not None and left < min_ttl_seconds):
            self._exchange.holds.check()
        if left <= 0:
            raise Unreachable("access_token_expired", profile=name, **words)
        if min_ttl_seconds is not None and left < min_ttl_seconds:
            raise Unreachable("access_token_expires_soon", profile=name, seconds_left=int(left), **words)
        self.served_at[status.profile.token_id] = now
        self._counters.token_served()
        account = status.token.account or ""
        mailbox = status.profile.mailbox or account
        return ServedAccessToken(credential, account, mailbox, current.number, status.profile.token_id)

    def _renew(self, token_id: UUID, parent: int, by: str) -> None:
        """Renew generation `parent`, or wait until the owner of its claim has renewed it: only one request is sent.

        Raises:
            Unreachable: the provider; or there is no space for its reply; or another renewal does not finish.
        """
        state = self._events.token(token_id).state
        claim_key = ClaimKey("renewal", token_id, uuid4().hex, parent, state.provider, state.account)
        if not self._claim_or_wait(claim_key):
            return
        try:
            if not self._exchange.conclude(token_id):
                raise Unreachable("earlier_reply_unread")
            token = self._events.token(token_id)
            if token.state.credential and token.state.credential.number == parent:
                self._refresh(claim_key, token, by)
        except VaultDamaged as damaged:
            # A deletion or a newer generation removes the sealed row; its absence is then no damage.
            credential = self._events.token(token_id).state.credential
            if credential and credential.number == parent:
                self._exchange.alarms.quarantine(token_id, damaged)
                raise
        finally:
            self._exchange.release(claim_key)

    def _refresh(self, claim_key: ClaimKey, token: Token, by: str) -> None:
        """Ask the provider, and report the outcome to the backoff."""
        provider = token.state.provider or ""
        entry = self._exchange.reserve(claim_key)
        try:
            self._exchange.refresh(entry, token, by)
        except Unreachable as unreachable:
            self._counters.provider_unreachable(provider)
            self._backoff.failed(token.id, provider, self._clock.now(), unreachable.retry_after_seconds)
            raise
        self._backoff.answered(token.id, provider)

    def _claim_or_wait(self, claim_key: ClaimKey) -> bool:
        """Claim a renewal, or wait for the end of the renewal that has the claim; True if the caller has the claim now.

        Raises:
            Unreachable: the other renewal failed or does not finish; another request at once would not help.
        """
        if self._exchange.claim(claim_key):
            return True
        # Monotonic time: a step of the wall clock must not change how long a thread waits.
        until = time.monotonic() + _WAIT_FOR_OTHER_SECONDS
        while self._exchange.claims.is_taken(claim_key):
            if time.monotonic() > until:
                raise Unreachable("other_renewal_unfinished")
            # The other renewal may have ended and left its reply in the escrow, where no other thread will read it.
            if not self._exchange.conclude(claim_key.subject_id):
                raise Unreachable("earlier_reply_unread")
            time.sleep(_LOOK_AGAIN_SECONDS)
        state = self._events.token(claim_key.subject_id).state
        if state.credential and state.credential.number == claim_key.generation and not state.dead:
            raise Unreachable("other_renewal_failed")
        return False
