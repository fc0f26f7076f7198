"""Changes to machines, settings, SMTP groups and clients that are decided together and saved in one transaction."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TypeVar
from uuid import UUID, uuid4

from domain.api_client import ApiClient
from domain.catalogue import Catalogue, CatalogueSetting, catalogue
from domain.errors import NotFound, Refused, about
from domain.machine import Machine, check_name_is_free
from domain.profile import Profile, check_unmapped
from domain.profile_fields import AUTHORIZATION_FIELDS
from domain.smtp_group import SmtpGroup, check_linkable, join, leave
from domain.stored_provider import StoredProvider
from domain.token import Token
from infrastructure.store.event_log import AnyAggregate, EventLog
from infrastructure.store.query import Query
from infrastructure.store.row_macs import readable
from infrastructure.store.rows import relay_user_state, view
from infrastructure.store.store import UnitOfWork

Named = TypeVar("Named", Machine, Profile, SmtpGroup, ApiClient, StoredProvider)

_TABLES: Mapping[type[AnyAggregate], str] = {
    Machine: "machine",
    Profile: "profile",
    SmtpGroup: "smtp_group",
    ApiClient: "client",
    StoredProvider: "provider",
}
_ORDER = (StoredProvider, Machine, Token, Profile, SmtpGroup, ApiClient)


class FleetChanges:
    """The aggregates that a decision reads or changes: each is loaded once, and all are saved together.

    `by` makes the changes, at the instant `now`. Every method but `save` changes the aggregates in memory only.
    """

    def __init__(self, log: EventLog, by: str, now: datetime) -> None:
        self._log = log
        self._by = by
        self._now = now
        self._loaded: dict[UUID, AnyAggregate] = {}
        self._ids: dict[tuple[type[AnyAggregate], str], UUID] = {}

    def find_profile(self, name: str) -> Profile | None:
        """The profile of this name, if there is one."""
        return self._find(Profile, name)

    def profile(self, name: str) -> Profile:
        """The profile of this name.

        Raises:
            NotFound: there is none.
        """
        profile = self._find(Profile, name)
        if profile is None:
            raise NotFound("profile_not_found", profile=name)
        return profile

    def check_name_is_free(self, name: str) -> None:
        """Check that a new machine can have this name.

        Raises:
            Refused: a machine or a group has the name.
        """
        check_name_is_free(
            name,
            machine_exists=self._find(Machine, name) is not None,
            group_exists=self._find(SmtpGroup, name) is not None,
        )

    def add_machine(self, name: str, model: Catalogue) -> list[Profile]:
        """Add a machine with the settings of its catalogue; the linked settings form a group of the machine's name.

        Raises:
            InvalidValue: not a name.
        """
        machine = Machine.add(uuid4(), name, model.name, by=self._by, now=self._now)
        self._take_named(machine)
        group = self._new_group(name) if model.has_linked_settings else None
        return [self._new_profile(machine, setting, group if setting.linked else None) for setting in model.settings]

    def remove_machine(self, name: str) -> None:
        """Remove a machine and its settings.

        Raises:
            NotFound: no such machine.
            Refused: as for `remove_profile`.
        """
        machine, profiles = self._machine(name), self._profiles_of(name)
        for profile in profiles:
            self._check_unmapped(profile)
        for profile in profiles:
            self._remove(profile)
        machine.remove(by=self._by, now=self._now)

    def tag_machine(self, name: str, tags: Iterable[str]) -> None:
        """Give a machine these tags in place of those that it has.

        Raises:
            NotFound: no such machine.
            InvalidValue: what is no tag, or too many.
        """
        self._machine(name).tag(tags, by=self._by, now=self._now)

    def change_tags(self, name: str, add: Collection[str], remove: Collection[str]) -> tuple[str, ...]:
        """Add tags to a machine and take others away; returns the tags that it has then.

        Raises:
            NotFound: no such machine.
            InvalidValue: what is no tag, or too many.
        """
        machine = self._machine(name)
        machine.change_tags(add, remove, by=self._by, now=self._now)
        return machine.state.tags

    def rename_machine(self, name: str, new_name: str) -> list[Profile]:
        """Give a machine, its settings and the group of its name another name; returns the settings.

        Raises:
            NotFound: no such machine.
            InvalidValue: not a name.
            Refused: a machine or a group has the new name, or a sign-in of one of the settings is under way.
        """
        machine = self._machine(name)
        self.check_name_is_free(new_name)
        machine.rename(new_name, by=self._by, now=self._now)
        profiles = self._profiles_of(name)
        for profile in profiles:
            self._permit("rename", profile)
            profile.rename_machine(new_name, by=self._by, now=self._now)
        if group := self._find(SmtpGroup, name):
            group.rename(new_name, by=self._by, now=self._now)
        return profiles

    def rename_provider(self, name: str, new_name: str) -> list[Profile]:
        """Have the settings and tokens of a provider follow its new name; returns the settings.

        Raises:
            NotFound: no setting and no token has this provider.
            Refused: settings have a provider of the new name already, or a sign-in at the provider is under way.
        """
        profiles = self._follow_provider(name, new_name)
        if not profiles:
            raise NotFound("provider_without_settings", provider=name)
        return profiles

    def rename_stored_provider(self, name: str, new_name: str, *, with_settings: bool) -> list[Profile]:
        """Give a stored provider another name, which its settings and tokens follow; returns those settings.

        Raises:
            NotFound: no stored provider has this name.
            InvalidValue: not a name.
            Refused: settings have a provider of the new name already, or a sign-in at the provider is under way.
        """
        provider = self._stored_provider(name)
        provider.rename(new_name, by=self._by, now=self._now)
        return self._follow_provider(name, new_name) if with_settings else []

    def _follow_provider(self, name: str, new_name: str) -> list[Profile]:
        profiles = self._profiles_with_provider(name)
        if self._profiles_with_provider(new_name):
            raise Refused("provider_in_use", provider=new_name)
        for profile in profiles:
            self._permit("rename", profile)
            if profile.state.settings.provider == name:
                profile.configure({"provider": new_name}, by=self._by, now=self._now)
        for token in {profile.state.token_id: self._token(profile.state.token_id) for profile in profiles}.values():
            if token.state.provider == name:
                token.rename_provider(new_name, by=self._by, now=self._now)
        return profiles

    def add_provider(self, name: str, kind: str, fields: Mapping[str, str], secrets: Iterable[str]) -> None:
        """Add a provider whose secrets are awaited.

        Raises:
            InvalidValue: the kind, the name, a field or the name of a secret is not acceptable.
        """
        provider = StoredProvider.add(uuid4(), name, kind, fields, by=self._by, now=self._now)
        provider.await_secrets(secrets, by=self._by, now=self._now)
        self._take_named(provider)

    def set_provider(self, name: str, fields: Mapping[str, str], secrets: Iterable[str]) -> None:
        """Set fields of a stored provider, and await further secrets.

        Raises:
            NotFound: no such stored provider.
            InvalidValue: a field or the name of a secret is not acceptable.
            Refused: another issuer would get the tokens or secrets of the one before.
        """
        provider = self._stored_provider(name)
        with self._log.store.reading() as query:
            holders = names_of_profiles_with_token(query, name)
        provider.change(fields, holders=holders, by=self._by, now=self._now)
        provider.await_secrets(secrets, by=self._by, now=self._now)

    @property
    def providers(self) -> Sequence[StoredProvider]:
        """The stored providers that were added, changed or renamed."""
        return [one for one in self._loaded.values() if isinstance(one, StoredProvider)]

    def add_profile(self, name: str) -> Profile:
        """Bring back a setting of its machine's catalogue that was removed, with a token of its own.

        Raises:
            NotFound: no such machine, or no such setting in its catalogue.
        """
        machine_name, _, setting = name.partition("/")
        machine = self._find(Machine, machine_name)
        if machine is None:
            raise NotFound("profile_not_found", profile=name)
        return self._new_profile(machine, catalogue(machine.state.catalogue).setting(setting), None)

    def remove_profile(self, name: str) -> None:
        """Remove a setting.

        Raises:
            NotFound: no such profile.
            Refused: it is the last one of a token that is held or under way, or a relay user is mapped to it.
        """
        profile = self.profile(name)
        self._check_unmapped(profile)
        self._remove(profile)

    def set_fields(self, name: str, texts: Mapping[str, str]) -> None:
        """Fill in fields of a setting; an empty text clears a field.

        Raises:
            NotFound: no such profile.
            InvalidValue: names the field and what is accepted.
            Refused: provider or account can't change in this state of the token.
        """
        profile = self.profile(name)
        changes = profile.changes(texts)
        if AUTHORIZATION_FIELDS & changes.keys():
            self._permit("change", profile)
        if changes:
            profile.configure(changes, by=self._by, now=self._now)

    def link(self, name: str, group_name: str) -> None:
        """Link an SMTP setting into a group, which is created if it does not exist.

        Raises:
            NotFound: no such profile.
            InvalidValue: the profile is not an SMTP setting, or the new group's name is not a name.
            Refused: the setting's own token is held or under way.
        """
        profile = self.profile(name)
        group = self._find(SmtpGroup, group_name) or self._new_group(group_name)
        if profile.state.group_id == group.id:
            return
        check_linkable(name, profile.state.protocol)
        self._permit("link", profile)
        self._leave(profile)
        join(profile, group, self._token(group.state.token_id), by=self._by, now=self._now)

    def unlink(self, name: str) -> None:
        """Take a setting out of its group; it gets a token of its own, Not Retrieved.

        Raises:
            NotFound: no such profile.
            Refused: it is in no group, an attempt is under way, or it is the last one of a token that is held.
        """
        profile = self.profile(name)
        if not profile.state.group_id:
            raise Refused("not_linked", profile=name)
        self._permit("unlink", profile)
        self._leave(profile)
        profile.unlink(self._new_token().id, by=self._by, now=self._now)

    def add_client(self, name: str) -> None:
        """Add a client without a key.

        Raises:
            InvalidValue: not a name.
        """
        self._take_named(ApiClient.add(uuid4(), name, by=self._by, now=self._now))

    def grant(self, client: str, profile: str) -> None:
        """Let a client read the access token of a profile.

        Raises:
            NotFound: no such client or profile.
        """
        self._client(client).grant([self.profile(profile)], by=self._by, now=self._now)

    def revoke(self, client: str, profile: str) -> None:
        """Let a client no longer read the access token of a profile.

        Raises:
            NotFound: no such client or profile.
        """
        self._client(client).revoke([self.profile(profile)], by=self._by, now=self._now)

    def save(self) -> None:
        """Store all changes in one transaction.

        Raises:
            Conflict: somebody else changed one of the aggregates that were read or changed, or took a name, first.
        """
        aggregates = sorted(self._loaded.values(), key=_place_in_log)
        if any(aggregate.pending_events for aggregate in aggregates):
            expects = {aggregate.id: aggregate.version for aggregate in aggregates if not aggregate.pending_events}
            self._log.save(*aggregates, unit_of_work=UnitOfWork(expects=expects))

    def _remove(self, profile: Profile) -> None:
        self._leave(profile)
        profile.remove(by=self._by, now=self._now)

    def _leave(self, profile: Profile) -> None:
        group = self._load(SmtpGroup, profile.state.group_id) if profile.state.group_id else None
        leave(profile, group, self._token(profile.state.token_id), by=self._by, now=self._now)

    def _permit(self, act: str, profile: Profile) -> None:
        with about(profile.state.name):
            self._token(profile.state.token_id).permit(act, self._now)

    def _check_unmapped(self, profile: Profile) -> None:
        check_unmapped(profile.state.name, self._relay_users.get(profile.id, ()))

    @cached_property
    def _relay_users(self) -> Mapping[UUID, list[str]]:
        with self._log.store.reading() as query:
            return relay_users_by_profile(query)

    def _new_profile(self, machine: Machine, setting: CatalogueSetting, group: SmtpGroup | None) -> Profile:
        profile = Profile.create(
            uuid4(),
            machine_id=machine.id,
            machine=machine.state.name,
            setting=setting.name,
            protocol=setting.protocol,
            token_id=group.state.token_id if group else self._new_token().id,
            group_id=group.id if group else None,
            by=self._by,
            now=self._now,
        )
        if group:
            group.link(profile.id, by=self._by, now=self._now)
        self._take_named(profile)
        return profile

    def _new_group(self, name: str) -> SmtpGroup:
        group = SmtpGroup.create(uuid4(), name, self._new_token().id, by=self._by, now=self._now)
        self._take_named(group)
        return group

    def _new_token(self) -> Token:
        token = Token.create(uuid4(), by=self._by, now=self._now)
        self._loaded[token.id] = token
        return token

    def _take_named(self, aggregate: Machine | Profile | SmtpGroup | ApiClient | StoredProvider) -> None:
        self._loaded[aggregate.id] = aggregate
        self._ids[type(aggregate), aggregate.state.name] = aggregate.id

    def _machine(self, name: str) -> Machine:
        machine = self._find(Machine, name)
        if machine is None:
            raise NotFound("machine_not_found", machine=name)
        return machine

    def _profiles_of(self, machine: str) -> list[Profile]:
        with self._log.store.reading() as query:
            rows = query.rows("SELECT name FROM profile WHERE machine = ? ORDER BY name", (machine,))
        return [profile for row in rows if (profile := self._find(Profile, row["name"]))]

    def _profiles_with_provider(self, provider: str) -> list[Profile]:
        """The profiles whose setting, token or sign-in under way has this provider."""
        with self._log.store.reading() as query:
            names = names_of_profiles_with(query, provider)
        return [profile for name in names if (profile := self._find(Profile, name))]

    def _client(self, name: str) -> ApiClient:
        client = self._find(ApiClient, name)
        if client is None:
            raise NotFound("client_not_found", name=name)
        return client

    def _stored_provider(self, name: str) -> StoredProvider:
        provider = self._find(StoredProvider, name)
        if provider is None:
            raise NotFound("stored_provider_not_found", provider=name)
        return provider

    def _find(self, kind: type[Named], name: str) -> Named | None:
        if (kind, name) not in self._ids:
            with self._log.store.reading() as query:
                rows = query.rows(f"SELECT id FROM {_TABLES[kind]} WHERE name = ?", (name,))  # noqa: S608 - our tables
            if not rows:
                return None
            self._ids[kind, name] = UUID(rows[0]["id"])
        aggregate = self._load(kind, self._ids[kind, name])
        # Removed by an earlier change of this transaction, or by somebody else since its name was looked up.
        row = view(aggregate.id, aggregate.version, aggregate.state)
        return aggregate if row and row.row else None

    def _load(self, kind: type[Named], id: UUID) -> Named:
        if id not in self._loaded:
            self._loaded[id] = self._log.load(kind, id)
        aggregate = self._loaded[id]
        assert isinstance(aggregate, kind)
        return aggregate

    def _token(self, id: UUID) -> Token:
        if id not in self._loaded:
            self._loaded[id] = self._log.token(id)
        token = self._loaded[id]
        assert isinstance(token, Token)
        return token


def names_of_profiles_with(query: Query, provider: str) -> list[str]:
    """The names of the profiles whose setting, token or sign-in under way has this provider."""
    rows = query.rows("SELECT id FROM token WHERE provider = ? OR attempt_provider = ?", (provider,) * 2)
    tokens = {row["id"] for row in rows}
    return [
        row["name"]
        for row in query.rows("SELECT name, token_id, settings FROM profile ORDER BY name")
        if row["token_id"] in tokens or json.loads(row["settings"])["provider"] == provider
    ]


def names_of_profiles_with_token(query: Query, provider: str) -> list[str]:
    """The names of the profiles whose token is of this provider."""
    statement = "SELECT name FROM profile JOIN token ON token.id = profile.token_id WHERE token.provider = ?"
    return [row["name"] for row in query.rows(statement, (provider,))]


def relay_users_by_profile(query: Query) -> dict[UUID, list[str]]:
    """The names of the relay users that are mapped to each profile, by the profile's id."""
    users: dict[UUID, list[str]] = {}
    for user in readable(relay_user_state, query.rows("SELECT * FROM relay_user")):
        for profile_id in user.profiles.values():
            users.setdefault(profile_id, []).append(user.name)
    return users


def _place_in_log(aggregate: AnyAggregate) -> tuple[bool, int]:
    """Existing tokens before profiles, new tokens and groups after them.

    Each event then finds, in the log, the profiles that it concerns.
    """
    is_new = aggregate.version == len(aggregate.pending_events)
    return is_new and isinstance(aggregate, Token | SmtpGroup), _ORDER.index(type(aggregate))
