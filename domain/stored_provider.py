"""A stored provider: an authorization server and our client registration there, kept in the store and not in the file.

Its secrets are sealed in the vault; events name and number them. A secret can also be awaited: a file of `apply` says
that there is one, and a person uploads it afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from domain import aggregate
from domain.errors import InvalidValue, InvalidValues, NotFound, Refused
from domain.provider_fields import (
    KINDS,
    PROVIDER_FIELDS,
    changed_provider_fields,
    read_provider_name,
    secrets_of_kind,
)

AWAITED = 0
"""The number of a secret that was not uploaded yet."""


@dataclass(frozen=True, slots=True)
class StoredProviderState:
    """The state of a stored provider. `fields` are the texts of the fields that are filled in, by name.

    `secrets` has the number of each secret, which names its sealed row; `sealed` is the highest number so far.
    """

    name: str
    kind: str
    fields: Mapping[str, str]
    secrets: Mapping[str, int] = field(default_factory=dict)
    sealed: int = 0
    removed: bool = False

    @property
    def awaited(self) -> tuple[str, ...]:
        """The secrets that were not uploaded yet."""
        return tuple(name for name, number in sorted(self.secrets.items()) if number == AWAITED)

    @property
    def registration(self) -> Mapping[str, str]:
        """The fields of the client registration, to which the codes of sign-ins under way were issued."""
        return {name: text for name, text in self.fields.items() if PROVIDER_FIELDS[name].of_registration}


class StoredProvider(aggregate.Aggregate[StoredProviderState]):
    """An authorization server and our client registration there."""

    TOPIC = "mailtoken.Provider.v1"

    class Event(aggregate.Event[StoredProviderState]):
        """A change of a stored provider, and its author."""

    class Created(Event, aggregate.Created[StoredProviderState]):
        """The provider was added."""

        TOPIC = "mailtoken.Provider.Created.v1"
        name: str
        kind: str
        fields: dict[str, str]

        def begin(self) -> StoredProviderState:
            return StoredProviderState(self.name, self.kind, dict(self.fields))

    class Changed(Event):
        """Fields were filled in or, with an empty text, cleared."""

        TOPIC = "mailtoken.Provider.Changed.v1"
        changes: dict[str, str]

        def evolve(self, state: StoredProviderState) -> StoredProviderState:
            fields = {name: text for name, text in {**state.fields, **self.changes}.items() if text}
            return replace(state, fields=fields)

    class Renamed(Event):
        """The provider has another name; `previous` is the name before."""

        TOPIC = "mailtoken.Provider.Renamed.v1"
        name: str
        previous: str

        def evolve(self, state: StoredProviderState) -> StoredProviderState:
            return replace(state, name=self.name)

    class SecretAwaited(Event):
        """The provider has a secret that somebody has to upload."""

        TOPIC = "mailtoken.Provider.SecretAwaited.v1"
        secret: str

        def evolve(self, state: StoredProviderState) -> StoredProviderState:
            return replace(state, secrets={**state.secrets, self.secret: AWAITED})

    class SecretUploaded(Event):
        """A secret was uploaded, and replaces an earlier one; the number names its sealed row."""

        TOPIC = "mailtoken.Provider.SecretUploaded.v1"
        secret: str
        number: int

        def evolve(self, state: StoredProviderState) -> StoredProviderState:
            return replace(state, secrets={**state.secrets, self.secret: self.number}, sealed=self.number)

    class SecretRemoved(Event):
        """The provider has a secret no longer."""

        TOPIC = "mailtoken.Provider.SecretRemoved.v1"
        secret: str

        def evolve(self, state: StoredProviderState) -> StoredProviderState:
            return replace(state, secrets={name: n for name, n in state.secrets.items() if name != self.secret})

    class Removed(Event):
        """The provider was removed with its secrets; another provider may take the name."""

        TOPIC = "mailtoken.Provider.Removed.v1"

        def evolve(self, state: StoredProviderState) -> StoredProviderState:
            return replace(state, removed=True)

    @classmethod
    def add(cls, id: UUID, name: str, kind: str, texts: Mapping[str, str], *, by: str, now: datetime) -> StoredProvider:
        """Make a provider without secrets.

        Raises:
            InvalidValue: the name, the kind or a field is not acceptable; see `InvalidValues`.
        """
        if kind not in KINDS:
            raise InvalidValue("kind", "not_a_choice", value=kind, choices=KINDS)
        problems, fields = list[InvalidValue](), dict[str, str]()
        try:
            name = read_provider_name(name)
        except InvalidValue as invalid:
            problems.append(invalid)
        try:
            fields = changed_provider_fields(kind, {}, texts)
        except InvalidValues as invalid:
            problems += invalid.problems
        if problems:
            raise InvalidValues(problems)
        return cls.start(id, cls.Created, name=name, kind=kind, fields=fields, by=by, now=now)

    def change(
        self,
        texts: Mapping[str, str],
        *,
        holders: Iterable[str] = (),
        given: Collection[str] = (),
        by: str,
        now: datetime,
    ) -> None:
        """Fill in fields; an empty text clears a field.

        Another issuer would get the refresh tokens and the secrets of the one before, also from somebody who may not
        see them. `holders` are the settings with a token of this provider, `given` the secrets that are uploaded or
        removed with this change.

        Raises:
            InvalidValues: some of the texts are not acceptable.
            Refused: the issuer changes while there are holders, or secrets that are not given.
        """
        changes = changed_provider_fields(self.state.kind, self.state.fields, texts)
        if "issuer" in changes:
            self._check_may_move(holders, given)
        if changes:
            self.record(self.Changed, changes=changes, by=by, now=now)

    def _check_may_move(self, holders: Iterable[str], given: Collection[str]) -> None:
        if names := sorted(holders):
            raise Refused("issuer_has_tokens", provider=self.state.name, first=names[0], count=len(names))
        for secret, number in self.state.secrets.items():
            if number != AWAITED and secret not in given:
                raise Refused("issuer_has_secret", provider=self.state.name, secret=secret)

    def rename(self, name: str, *, by: str, now: datetime) -> None:
        """Give the provider another name.

        Raises:
            InvalidValue: `name` is not the name of a provider.
        """
        previous = self.state.name
        self.record(self.Renamed, name=read_provider_name(name), previous=previous, by=by, now=now)

    def await_secrets(self, secrets: Iterable[str], *, by: str, now: datetime) -> None:
        """Say which secrets the provider has; those that are not there yet have to be uploaded.

        Raises:
            InvalidValue: a provider of this kind has no such secret.
        """
        for secret in secrets:
            self._check_secret(secret)
            if secret not in self.state.secrets:
                self.record(self.SecretAwaited, secret=secret, by=by, now=now)

    def upload_secret(self, secret: str, *, by: str, now: datetime) -> int:
        """Record a new secret; the caller seals it in the vault under the number that this returns.

        Raises:
            InvalidValue: a provider of this kind has no such secret.
        """
        self._check_secret(secret)
        number = self.state.sealed + 1
        self.record(self.SecretUploaded, secret=secret, number=number, by=by, now=now)
        return number

    def remove_secret(self, secret: str, *, by: str, now: datetime) -> None:
        """Remove a secret with its sealed row.

        Raises:
            InvalidValue: a provider of this kind has no such secret.
            NotFound: this provider does not have it.
        """
        self._check_secret(secret)
        if secret not in self.state.secrets:
            raise NotFound("provider_secret_not_found", provider=self.state.name, secret=secret)
        self.record(self.SecretRemoved, secret=secret, by=by, now=now)

    def remove(self, users: Iterable[str], *, by: str, now: datetime) -> None:
        """Remove the provider; `users` are the settings whose field, token or sign-in under way has it.

        Raises:
            Refused: there are such settings.
        """
        if names := sorted(users):
            raise Refused("provider_has_settings", provider=self.state.name, first=names[0], count=len(names))
        self.record(self.Removed, by=by, now=now)

    def _check_secret(self, secret: str) -> None:
        known = secrets_of_kind(self.state.kind)
        if secret not in known:
            raise InvalidValue(secret, "not_a_provider_secret", kind=self.state.kind, known=known)
