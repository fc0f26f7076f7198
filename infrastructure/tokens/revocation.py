"""The revocation of grants at their providers, which must not end another token of this service."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from domain.outcomes import Credential
from domain.ports import Provider
from domain.token_state import is_same_address
from infrastructure.store.store import Store


class Revocation:
    """Asks the providers in the configuration, by name, to revoke grants."""

    def __init__(self, store: Store, providers: Mapping[str, Provider]) -> None:
        self._store = store
        self._providers = providers

    def revoke(self, provider: str, account: str, credential: Credential) -> bool:
        """Have the provider revoke a grant, unless another live credential of this service could end with it."""
        if provider not in self._providers or self.sharing(provider, account):
            return False
        return self._providers[provider].revoke(credential)

    def revoke_unwanted(self, provider: str, account: str, credential: Credential) -> bool:
        """Have the provider revoke a grant of an account that was not asked for; whether it has.

        The account may have a live token of this service, which must not end with the grant: then only a provider is
        asked that revokes one grant at a time.
        """
        if provider in self._providers and self._providers[provider].revokes_one_grant:
            return self._providers[provider].revoke(credential)
        return self.revoke(provider, account, credential)

    def sharing(self, provider: str, account: str) -> list[tuple[str, UUID]]:
        """The settings with a live credential that a revocation for this account may end, each with its token."""
        with self._store.reading() as query:
            rows = query.rows(
                "SELECT profile.name, profile.token_id, token.account FROM profile "
                "JOIN token ON token.id = profile.token_id "
                "WHERE token.provider = ? AND token.generation IS NOT NULL AND token.dead IS NULL",
                (provider,),
            )
        same = (row for row in rows if is_same_address(row["account"], account))
        return sorted((row["name"], UUID(row["token_id"])) for row in same)
