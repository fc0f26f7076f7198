"""Deletion: a token is deleted for good, with every trace of its secrets on this node.

A single transaction stores the event and deletes the sealed rows; then the escrow and the database's free pages are
wiped. The provider is asked to revoke the grant only if no other live credential of this service could end with it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from domain.errors import Conflict, MailtokenError, VaultDamaged, about
from domain.outcomes import Credential
from domain.token import Token
from infrastructure.store.event_log import CONFLICTS
from infrastructure.store.store import UnitOfWork
from infrastructure.tokens.exchange import TokenExchange
from infrastructure.tokens.status_reader import StatusReader


@dataclass(frozen=True)
class Deletion:
    """The result of a deletion: the settings that changed, and whether the provider has revoked the grant."""

    profiles: tuple[str, ...]
    revoked: bool


@dataclass(frozen=True)
class DeletionPreview:
    """The effect that a deletion would have: the settings that lose the token, and the settings it must not harm.

    `spared` are settings with a live token of their own for the same account. A revocation could end those tokens too,
    so the grant is revoked only if `spared` is empty.
    """

    profiles: tuple[str, ...]
    spared: tuple[str, ...]


class Deletions:
    """The use cases around the deletion of a token."""

    def __init__(self, exchange: TokenExchange, statuses: StatusReader) -> None:
        self._exchange = exchange
        self._events = exchange.events
        self._clock = exchange.clock
        self._statuses = statuses
        self._to_forget = True

    def delete(self, name: str, by: str) -> Deletion:
        """Delete the token for good, and have its grant revoked unless another credential here would end with it.

        Raises:
            NotFound: no such profile.
            Refused: the token is Not Retrieved, or the store is on hold, so that its grant can't be revoked.
        """
        token_id = self._statuses.believed(name).profile.token_id
        self._exchange.holds.check()
        # A reply in the escrow may contain the grant to revoke; a reply that can't be read is wiped below.
        with suppress(MailtokenError):
            self._exchange.conclude(token_id)
        for _ in range(CONFLICTS):
            token = self._events.token(self._statuses.believed(name).profile.token_id)
            provider, account, credential = token.state.provider, token.state.account, self._try_open(token)
            with about(name):
                token.delete(by=by, now=self._clock.now())
            linked, expects = self._exchange.linked(token)
            try:
                self._events.save(token, *linked, unit_of_work=UnitOfWork(expects=expects))
            except Conflict:
                continue
            self._exchange.holds.note()
            self._wipe(token.id)
            revoked = bool(
                credential and provider and account and self._exchange.revocation.revoke(provider, account, credential)
            )
            return Deletion(tuple(sorted(profile.state.name for profile in linked)), revoked)
        raise Conflict("token_changes_too_fast", profile=name)

    def preview_deletion(self, name: str) -> DeletionPreview:
        """The effect that deleting the token would have.

        Raises:
            NotFound: no such profile.
        """
        status = self._statuses.believed(name)
        token_id, token = status.profile.token_id, status.token
        may_end = (
            self._exchange.revocation.sharing(token.provider, token.account) if token.provider and token.account else []
        )
        return DeletionPreview(
            tuple(linked.profile.name for linked in self._statuses.of_token(token_id)),
            tuple(spared for spared, held_by in may_end if held_by != token_id),
        )

    def forget(self) -> None:
        """Wipe deleted rows of this run and earlier runs from the database's files, as soon as its readers allow."""
        if self._to_forget:
            self._to_forget = not self._events.store.forget()

    def _wipe(self, token_id: UUID) -> None:
        self._exchange.forget(token_id)
        self._to_forget = True
        self.forget()

    def _try_open(self, token: Token) -> Credential | None:
        if token.state.credential is None:
            return None
        try:
            with self._events.store.reading() as query:
                return self._exchange.vault.credential(query, token.id, token.state.credential.number)
        except VaultDamaged:
            return None
