"""The use cases of stored providers: an administrator adds, changes and removes them without a file or a restart."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import uuid4

from domain.errors import InvalidValue, NotFound, Outdated, Refused
from domain.ports import Clock
from domain.provider_fields import read_provider_name
from domain.secret import Secret
from domain.stored_provider import StoredProvider, StoredProviderState
from infrastructure.fleet.changes import FleetChanges, names_of_profiles_with, names_of_profiles_with_token
from infrastructure.providers.known_providers import Build, KnownProviders, read_secrets
from infrastructure.store.event_log import EventLog
from infrastructure.store.store import UnitOfWork
from infrastructure.store.stored_provider_rows import StoredProviderRow
from infrastructure.store.vault import Vault, VaultRow

LONGEST_SECRET = 64 * 1024
"""The longest secret that may be uploaded, in characters: a certificate comes with its chain."""


class StoredProviders:
    """Adds, changes and removes stored providers. `end_sign_ins` ends those under way at a provider."""

    def __init__(
        self,
        events: EventLog,
        vault: Vault,
        clock: Clock,
        known: KnownProviders,
        build: Build,
        end_sign_ins: Callable[[str], None],
    ) -> None:
        self._events = events
        self._vault = vault
        self._clock = clock
        self._known = known
        self._build = build
        self._end_sign_ins = end_sign_ins

    def find(self, name: str) -> StoredProviderRow:
        """The stored provider of this name.

        Raises:
            NotFound: there is none.
        """
        for row in self._known.stored:
            if row.state.name == name:
                return row
        raise NotFound("stored_provider_not_found", provider=name)

    def registration(self, name: str) -> tuple[StoredProviderState, Mapping[str, Secret]]:
        """The state of a stored provider with its secrets.

        Raises:
            NotFound: there is none.
            VaultDamaged: a secret does not open.
        """
        row = self.find(name)
        with self._events.store.reading() as query:
            return row.state, read_secrets(self._vault, query, row.id, row.state)

    def settings_of(self, name: str) -> Sequence[str]:
        """The names of the settings that have the stored provider of this name, and not one of the file."""
        if self._known.is_of_file(name):
            return ()
        with self._events.store.reading() as query:
            return names_of_profiles_with(query, name)

    def add(
        self, name: str, kind: str, texts: Mapping[str, str], secrets: Mapping[str, Secret], by: str
    ) -> StoredProviderRow:
        """Add a provider, which is used at once.

        Raises:
            InvalidValue: the name, the kind, a field or a secret is not acceptable; see `InvalidValues`.
            Refused: the configuration file or the store has a provider of this name.
        """
        provider = StoredProvider.add(uuid4(), name, kind, texts, by=by, now=self._clock.now())
        self._check_free(provider.state.name)
        rows = self._upload(provider, secrets, by)
        self._build(provider.state, secrets)
        self._events.save(provider, unit_of_work=UnitOfWork(put=rows))
        return self.find(provider.state.name)

    def change(
        self,
        name: str,
        texts: Mapping[str, str],
        secrets: Mapping[str, Secret | None],
        by: str,
        only_if: Collection[str] | None = None,
    ) -> StoredProviderRow:
        """Fill in fields and upload secrets; an empty text clears a field, and None removes a secret.

        A changed client registration ends the sign-ins under way at the provider.

        Raises:
            Outdated: `only_if` is given, and the provider's edition is not among these.
            NotFound: no such stored provider, or it does not have the secret that is to be removed.
            InvalidValue: a field or a secret is not acceptable; see `InvalidValues`.
            Refused: another issuer would get the tokens or secrets of the one before.
        """
        provider = self._load(name, only_if)
        before = provider.state
        provider.change(texts, holders=self._holders(name), given=secrets, by=by, now=self._clock.now())
        uploaded = {secret: value for secret, value in secrets.items() if value is not None}
        rows = self._upload(provider, uploaded, by)
        for secret in secrets.keys() - uploaded.keys():
            provider.remove_secret(secret, by=by, now=self._clock.now())
        if provider.pending_events:
            self._build(provider.state, {**self._kept(provider, before), **uploaded})
            self._events.save(provider, unit_of_work=UnitOfWork(put=rows))
            if provider.state.registration != before.registration and not self._known.is_of_file(name):
                self._end_sign_ins(name)
        return self.find(name)

    def rename(self, name: str, new_name: str, by: str) -> list[str]:
        """Give a provider another name, which settings and tokens follow; returns the names of those settings.

        While the configuration file has the old name too, the settings belong to the provider there, and stay with it.

        Raises:
            NotFound: no such stored provider.
            InvalidValue: not a name.
            Refused: there is a provider of the new name, settings have it already, or a sign-in is under way.
        """
        self._check_free(new_name)
        changes = FleetChanges(self._events, by, self._clock.now())
        profiles = changes.rename_stored_provider(name, new_name, with_settings=not self._known.is_of_file(name))
        changes.save()
        return [profile.state.name for profile in profiles]

    def remove(self, name: str, by: str, only_if: Collection[str] | None = None) -> None:
        """Remove a provider with its secrets.

        Raises:
            Outdated: `only_if` is given, and the provider's edition is not among these.
            NotFound: no such stored provider.
            Refused: settings, tokens or sign-ins depend on it.
        """
        provider = self._load(name, only_if)
        provider.remove(self.settings_of(name), by=by, now=self._clock.now())
        self._events.save(provider)
        self._events.store.forget()

    def _load(self, name: str, only_if: Collection[str] | None) -> StoredProvider:
        row = self.find(name)
        provider = self._events.load(StoredProvider, row.id)
        if only_if is not None and StoredProviderRow(row.id, provider.version, provider.state).edition not in only_if:
            raise Outdated("provider_outdated", provider=name)
        return provider

    def _holders(self, name: str) -> Sequence[str]:
        """The settings with a token of this provider, or of one of the file that has its name."""
        with self._events.store.reading() as query:
            return names_of_profiles_with_token(query, name)

    def _kept(self, provider: StoredProvider, before: StoredProviderState) -> Mapping[str, Secret]:
        """The secrets that a change leaves as they are."""
        numbers = before.secrets.items() & provider.state.secrets.items()
        kept = StoredProviderState(before.name, before.kind, before.fields, dict(numbers))
        with self._events.store.reading() as query:
            return read_secrets(self._vault, query, provider.id, kept)

    def _upload(self, provider: StoredProvider, secrets: Mapping[str, Secret], by: str) -> Sequence[VaultRow]:
        rows = list[VaultRow]()
        for secret, value in secrets.items():
            number = provider.upload_secret(secret, by=by, now=self._clock.now())
            if not 0 < len(value.reveal()) <= LONGEST_SECRET:
                raise InvalidValue(secret, "provider_secret_size", longest=LONGEST_SECRET)
            rows.append(self._vault.seal_provider_secret(provider.id, secret, number, value))
        return rows

    def _check_free(self, name: str) -> None:
        name = read_provider_name(name)
        if self._known.is_of_file(name):
            raise Refused("provider_in_file", provider=name)
        if any(row.state.name == name for row in self._known.stored):
            raise Refused("provider_exists", provider=name)
