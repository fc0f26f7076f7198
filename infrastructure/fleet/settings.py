"""What an administrator does with machines, their settings and SMTP groups, one change at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from domain.catalogue import catalogue
from domain.errors import NotFound, Outdated
from domain.mail_servers import with_server_of_provider
from domain.ports import Clock
from domain.profile import Profile, ProfileState, check_provider
from domain.scope import Scope
from infrastructure.fleet.changes import FleetChanges
from infrastructure.queries.setting_status import SettingStatus, edition, read_statuses, read_statuses_called
from infrastructure.store.event_log import EventLog
from infrastructure.store.query import Query, plain_for_like
from infrastructure.store.row_macs import readable
from infrastructure.store.rows import profile_state


@dataclass(frozen=True)
class Group:
    """An SMTP group with the status of each of its settings."""

    name: str
    members: tuple[SettingStatus, ...]


class SettingsService:
    """Machines, profiles and groups. `providers` are the names of those in use, and `kinds` their kinds."""

    def __init__(
        self, log: EventLog, clock: Clock, providers: Collection[str], kinds: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._log = log
        self._clock = clock
        self._providers = providers
        self._kinds = kinds

    def machines(self) -> list[Mapping[str, Any]]:
        """Name, catalogue and tags of every machine."""
        with self._log.store.reading() as query:
            rows = query.rows("SELECT name, catalogue, tags FROM machine")
        machines = ({"name": row["name"], "catalogue": row["catalogue"], "tags": row["tags"].split()} for row in rows)
        return sorted(machines, key=lambda machine: machine["name"])

    def machine_names(self) -> list[str]:
        """The name of every machine, sorted."""
        with self._log.store.reading() as query:
            return sorted(row["name"] for row in query.rows("SELECT name FROM machine"))

    def tag_machine(self, name: str, add: Collection[str], remove: Collection[str], by: str) -> tuple[str, ...]:
        """Add tags to a machine and take others away; returns the tags that it has then.

        Raises:
            NotFound: no such machine.
            InvalidValue: what is no tag, or too many.
        """
        changes = self._changes(by)
        tags = changes.change_tags(name, add, remove)
        changes.save()
        return tags

    def add_machine(self, name: str, catalogue_name: str, by: str) -> list[str]:
        """Add a machine with the settings its catalogue has; returns their profiles' names.

        The linked SMTP settings form a group of the machine's name.

        Raises:
            Refused: a machine or a group has the name.
            NotFound: no such catalogue.
            InvalidValue: not a name.
        """
        model = catalogue(catalogue_name)
        changes = self._changes(by)
        changes.check_name_is_free(name)
        profiles = changes.add_machine(name, model)
        changes.save()
        return [profile.state.name for profile in profiles]

    def remove_machine(self, name: str, by: str) -> None:
        """Remove a machine and its settings.

        Raises:
            NotFound: no such machine.
            Refused: one of its tokens is held or under way, or a relay user is mapped to one of its settings.
        """
        changes = self._changes(by)
        changes.remove_machine(name)
        changes.save()

    def set_tags(self, name: str, tags: Sequence[str], by: str) -> None:
        """Give a machine these tags in place of those that it has.

        Raises:
            NotFound: no such machine.
            InvalidValue: what is no tag, or too many.
        """
        changes = self._changes(by)
        changes.tag_machine(name, tags)
        changes.save()

    def tags_of(self, name: str) -> list[str]:
        """The tags of a machine, sorted.

        Raises:
            NotFound: no such machine.
        """
        with self._log.store.reading() as query:
            rows = query.rows("SELECT tags FROM machine WHERE name = ?", (name,))
        if not rows:
            raise NotFound("machine_not_found", machine=name)
        tags: str = rows[0]["tags"]
        return tags.split()

    def rename_machine(self, name: str, new_name: str, by: str) -> list[str]:
        """Give a machine another name, and with it its settings and its group; returns the settings' new names.

        Tokens, clients' grants and relay users follow.

        Raises:
            NotFound: no such machine.
            InvalidValue: not a name.
            Refused: a machine or a group has the new name, or a sign-in of one of the settings is under way.
        """
        changes = self._changes(by)
        profiles = changes.rename_machine(name, new_name)
        changes.save()
        return [profile.state.name for profile in profiles]

    def rename_provider(self, name: str, new_name: str, by: str) -> list[str]:
        """Have settings and tokens follow a provider that has another name in the configuration; returns the settings.

        Raises:
            NotFound: the configuration has no provider of the new name, or nothing here has one of the old name.
            Refused: settings have a provider of the new name already, or a sign-in at the provider is under way.
        """
        check_provider(new_name, self._providers)
        changes = self._changes(by)
        profiles = changes.rename_provider(name, new_name)
        changes.save()
        return [profile.state.name for profile in profiles]

    def profiles(self) -> list[ProfileState]:
        """All profiles, sorted by name."""
        with self._log.store.reading() as query:
            states = list(readable(profile_state, query.rows("SELECT * FROM profile")))
        return sorted(states, key=lambda state: state.name)

    def check_machine(self, name: str) -> None:
        """Check that there is a machine of this name.

        Raises:
            NotFound: no such machine.
        """
        self.tags_of(name)

    def profile_names(self, machine: str) -> list[str]:
        """The names of a machine's profiles, sorted."""
        with self._log.store.reading() as query:
            return sorted(row["name"] for row in query.rows("SELECT name FROM profile WHERE machine = ?", (machine,)))

    def profiles_sharing(self, name: str) -> list[str]:
        """The names of the profiles that use the token of the profile `name`; none if it does not exist."""
        sharing = "SELECT name FROM profile WHERE token_id = (SELECT token_id FROM profile WHERE name = ?)"
        with self._log.store.reading() as query:
            return sorted(row["name"] for row in query.rows(sharing, (name,)))

    def some_profile_names(self, limit: int, like: str = "") -> list[str]:
        """The names of up to `limit` profiles that have the text `like` somewhere, in any case, sorted."""
        with self._log.store.reading() as query:
            return _some_names(query, "profile", limit, like)

    def set_profile(
        self, name: str, texts: Mapping[str, str], by: str, only_if: Collection[str] | None = None
    ) -> ProfileState:
        """Fill in fields of a setting; an empty text clears a field. A removed setting of the catalogue comes back.

        A setting that gets a provider and has no server gets that of the provider's kind.

        Raises:
            Outdated: `only_if` is given, and the setting's edition is not among these.
            InvalidValue: names the field and what is accepted.
            NotFound: no such machine or setting, or the provider is not in the configuration.
            Refused: provider or account can't change in this state of the token.
        """
        changes = self._changes(by)
        profile = changes.find_profile(name) or changes.add_profile(name)
        _check_edition(profile, only_if)
        texts = with_server_of_provider(texts, profile.state.protocol, profile.state.settings, self._kinds)
        check_provider(profile.changes(texts).get("provider"), self._providers)
        changes.set_fields(name, texts)
        changes.save()
        return profile.state

    def remove_profile(self, name: str, by: str, only_if: Collection[str] | None = None) -> None:
        """Remove a setting.

        Raises:
            Outdated: `only_if` is given, and the setting's edition is not among these.
            NotFound: no such profile.
            Refused: it is the last one of a token that is held or under way, or a relay user is mapped to it.
        """
        changes = self._changes(by)
        _check_edition(changes.profile(name), only_if)
        changes.remove_profile(name)
        changes.save()

    def groups(self) -> list[Group]:
        """All SMTP groups, sorted by name."""
        with self._log.store.reading() as query:
            statuses = read_statuses(query, self._clock.now())
        members: dict[str, list[SettingStatus]] = {}
        for status in statuses:
            if status.group:
                members.setdefault(status.group, []).append(status)
        return [Group(name, tuple(members[name])) for name in sorted(members)]

    def group(self, name: str) -> Group | None:
        """The SMTP group of this name; None if there is none."""
        with self._log.store.reading() as query:
            rows = query.rows(
                "SELECT profile.name FROM profile JOIN smtp_group ON smtp_group.id = profile.group_id"
                " WHERE smtp_group.name = ?",
                (name,),
            )
            members = read_statuses_called(query, [row["name"] for row in rows], self._clock.now())
        return Group(name, tuple(members)) if members else None

    def some_group_names(self, limit: int, like: str = "") -> list[str]:
        """The names of up to `limit` groups that have the text `like` somewhere, in any case, sorted."""
        with self._log.store.reading() as query:
            return _some_names(query, "smtp_group", limit, like)

    def groups_within(self, scope: Scope) -> list[Group]:
        """The SMTP groups with members on the machines of this scope, and these members, sorted by name."""
        inside = (
            replace(one, members=tuple(member for member in one.members if scope.has_machine(member.profile.machine)))
            for one in self.groups()
        )
        return [group for group in inside if group.members]

    def link(self, group_name: str, names: Sequence[str], by: str) -> None:
        """Link all of these SMTP settings into a group, which is created if it does not exist, or none of them.

        Raises:
            NotFound: no such profile.
            InvalidValue: a profile is not an SMTP setting, or the new group's name is not a name.
            Refused: a setting's own token is held or under way.
        """
        changes = self._changes(by)
        for name in names:
            changes.link(name, group_name)
        changes.save()

    def unlink(self, name: str, by: str) -> None:
        """Take a setting out of its group; it gets a token of its own, Not Retrieved.

        Raises:
            NotFound: no such profile.
            Refused: it is in no group, an attempt is under way, or it is the last one of a token that is held.
        """
        changes = self._changes(by)
        changes.unlink(name)
        changes.save()

    def _changes(self, by: str) -> FleetChanges:
        return FleetChanges(self._log, by, self._clock.now())


def _some_names(query: Query, table: str, limit: int, like: str) -> list[str]:
    rows = query.rows(
        f"SELECT name FROM {table} WHERE lower(name) LIKE ? ESCAPE '\\' ORDER BY name LIMIT ?",  # noqa: S608 - ours
        (f"%{plain_for_like(like.lower())}%", limit),
    )
    return sorted(row["name"] for row in rows)


def _check_edition(profile: Profile, only_if: Collection[str] | None) -> None:
    if only_if is not None and edition(profile.id, profile.version) not in only_if:
        raise Outdated("profile_outdated", profile=profile.state.name)
