"""What an administrator does with machines, their settings and SMTP groups. Load, decide, save once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from domain.catalogue import Catalogue, Protocol, catalogue
from domain.errors import InvalidValue, NotFound, Outdated, Refused, about
from domain.machine import Machine
from domain.ports import Clock
from domain.profile import AUTHORIZATION_FIELDS, Profile, ProfileState
from domain.smtp_group import SmtpGroup, leave
from domain.token import Token
from infrastructure.log import EventLog
from infrastructure.rows import profile_state, relay_user_state
from infrastructure.status import SettingStatus, edition, read_statuses
from infrastructure.store import Alongside


@dataclass(frozen=True)
class Group:
    """An SMTP group and its settings as a reader sees them."""

    name: str
    members: tuple[SettingStatus, ...]


@dataclass(frozen=True)
class AssembledMachine:
    """A machine that is not saved yet, with the settings of its catalogue, their tokens, and the group it begins with.

    The linked SMTP settings are one group from the start, called as the machine.
    """

    machine: Machine
    profiles: Sequence[Profile]
    tokens: Sequence[Token]
    groups: Sequence[SmtpGroup]


def assemble_machine(name: str, model: Catalogue, by: str, now: datetime) -> AssembledMachine:
    """Make a machine of this model.

    Raises:
        InvalidValue: not a name.
    """
    machine = Machine.add(uuid4(), name, model.name, by=by, now=now)
    tokens, groups, profiles = list[Token](), list[SmtpGroup](), list[Profile]()
    for setting in model.settings:
        if setting.linked and groups:
            token = tokens[0]
        else:
            token = Token.create(uuid4(), by=by, now=now)
            tokens.insert(0, token) if setting.linked else tokens.append(token)
            if setting.linked:
                groups.append(SmtpGroup.create(uuid4(), name, token.id, by=by, now=now))
        profile = Profile.create(
            uuid4(),
            machine_id=machine.id,
            machine=name,
            setting=setting.name,
            protocol=setting.protocol,
            token_id=token.id,
            group_id=groups[0].id if setting.linked else None,
            by=by,
            now=now,
        )
        if setting.linked:
            groups[0].link(profile.id, by=by, now=now)
        profiles.append(profile)
    return AssembledMachine(machine, profiles, tokens, groups)


class SettingsService:
    """Machines, profiles and groups. `providers` are the names the configuration has."""

    def __init__(self, log: EventLog, clock: Clock, providers: Collection[str]) -> None:
        self._log = log
        self._clock = clock
        self._providers = providers

    def machines(self) -> list[Mapping[str, Any]]:
        """Name and catalogue of every machine."""
        with self._log.store.reading() as query:
            rows = query.rows("SELECT name, catalogue FROM machine")
        return sorted(({"name": row["name"], "catalogue": row["catalogue"]} for row in rows), key=lambda m: m["name"])

    def add_machine(self, name: str, catalogue_name: str, by: str) -> list[str]:
        """Add a machine with the settings its catalogue has; returns their profiles' names.

        The linked SMTP settings are one group from the start, called as the machine.

        Raises:
            Refused: the name is taken, by a machine or by a group.
            NotFound: no such catalogue.
            InvalidValue: not a name.
        """
        added = assemble_machine(name, catalogue(catalogue_name), by, self._clock.now())
        with self._log.store.reading() as query:
            for table in ("machine", "smtp_group"):
                if query.rows(f"SELECT 1 FROM {table} WHERE name = ?", (name,)):  # noqa: S608 - our own table names
                    raise Refused(f"{name}: there is a {table.replace('_', ' ')} with this name already")
        # Profiles first: so each later event of the log finds the profiles it concerns.
        self._log.save(added.machine, *added.profiles, *added.tokens, *added.groups)
        return [profile.state.name for profile in added.profiles]

    def remove_machine(self, name: str, by: str) -> None:
        """Remove a machine and its settings.

        Raises:
            NotFound: no such machine.
            Refused: one of its tokens is held or under way, or a relay user is mapped to one of its settings.
        """
        with self._log.store.reading() as query:
            rows = query.rows("SELECT id FROM machine WHERE name = ?", (name,))
            if not rows:
                raise NotFound(f"no machine is called {name!r}: see mailtoken machine list")
            ids = [UUID(row["id"]) for row in query.rows("SELECT id FROM profile WHERE machine = ?", (name,))]
        machine = self._log.load(Machine, UUID(rows[0]["id"]))
        leaving = _Leaving(self._log, [self._log.load(Profile, id) for id in ids])
        leaving.remove(by, self._clock)
        machine.remove(by=by, now=self._clock.now())
        self._log.save(machine, *leaving.changed, beside=leaving.beside)

    def profiles(self) -> list[ProfileState]:
        """Every profile, in the order of their names."""
        with self._log.store.reading() as query:
            states = [profile_state(row) for row in query.rows("SELECT * FROM profile")]
        return sorted(states, key=lambda state: state.name)

    def profile_names(self, machine: str) -> list[str]:
        """What the profiles of a machine are called, in order."""
        with self._log.store.reading() as query:
            return sorted(row["name"] for row in query.rows("SELECT name FROM profile WHERE machine = ?", (machine,)))

    def some_profile_names(self, limit: int) -> list[str]:
        """What so many of the profiles are called, in order; which of them is the database's choice."""
        with self._log.store.reading() as query:
            return sorted(row["name"] for row in query.rows("SELECT name FROM profile ORDER BY name LIMIT ?", (limit,)))

    def set_profile(
        self, name: str, texts: Mapping[str, str], by: str, only_if: Collection[str] | None = None
    ) -> ProfileState:
        """Fill in fields of a setting; an empty text clears one. A removed setting of the catalogue comes back.

        With `only_if` it has to be of one of these editions.

        Raises:
            Outdated: it is not.
            InvalidValue: names the field and what is accepted.
            NotFound: no such machine or setting, or the provider is not in the configuration.
            Refused: provider or account can't change in this state of the token.
        """
        profile, created = self._find_or_recreate(name, by)
        _check_edition(profile, only_if)
        changes = profile.changes(texts)
        provider = changes.get("provider")
        if provider and provider not in self._providers:
            known = ", ".join(self._providers) or "none"
            raise NotFound(f"provider: {provider!r} is not in the configuration; it has: {known}")
        token = self._log.token(profile.state.token_id) if not created else None
        if token and AUTHORIZATION_FIELDS & changes.keys():
            with about(name):
                token.permit("change", self._clock.now())
        if changes:
            profile.configure(changes, by=by, now=self._clock.now())
        expects = {token.id: token.version} if token else {}
        if profile.pending_events:
            self._log.save(profile, *created, beside=Alongside(expects=expects))
        return profile.state

    def remove_profile(self, name: str, by: str, only_if: Collection[str] | None = None) -> None:
        """Remove a setting; with `only_if` it has to be of one of these editions.

        Raises:
            Outdated: it is not.
            NotFound: no such profile.
            Refused: it is the last one of a token that is held or under way, or a relay user is mapped to it.
        """
        profile = self._log.profile_called(name)
        _check_edition(profile, only_if)
        leaving = _Leaving(self._log, [profile])
        leaving.remove(by, self._clock)
        self._log.save(*leaving.changed, beside=leaving.beside)

    def groups(self) -> list[Group]:
        """Every SMTP group with its settings, in the order of their names."""
        with self._log.store.reading() as query:
            statuses = read_statuses(query, self._clock.now())
        members: dict[str, list[SettingStatus]] = {}
        for status in statuses:
            if status.group:
                members.setdefault(status.group, []).append(status)
        return [Group(name, tuple(members[name])) for name in sorted(members)]

    def link(self, group_name: str, names: Sequence[str], by: str) -> None:
        """Link SMTP settings into a group, which is made if it is not there. All of them or none.

        Raises:
            NotFound: no such profile.
            InvalidValue: not an SMTP setting; only those are linked.
            Refused: a setting's own token is held or under way.
        """
        now = self._clock.now()
        group, token = self._group(group_name, by)
        joining = [profile for name in names if (profile := self._log.profile_called(name)).state.group_id != group.id]
        for profile in joining:
            if profile.state.protocol is not Protocol.SMTP:
                raise InvalidValue(profile.state.name, "is not an SMTP setting: POP and IMAP settings are independent")
            with about(profile.state.name):
                self._log.token(profile.state.token_id).permit("link", now)
        leaving = _Leaving(self._log, joining)
        leaving.leave(by, self._clock)
        # Also while somebody signs in again: what is held may well stay.
        received = token.state.credential is not None
        for profile in joining:
            profile.link(
                group_id=group.id,
                token_id=token.id,
                provider=token.state.provider if received else None,
                account=token.state.account if received else None,
                by=by,
                now=now,
            )
            group.link(profile.id, by=by, now=now)
        expects = dict(leaving.beside.expects)
        if not token.pending_events:
            expects[token.id] = token.version
        self._log.save(*leaving.changed, token, group, beside=Alongside(expects=expects))

    def unlink(self, name: str, by: str) -> None:
        """Take a setting out of its group; it gets a token of its own, Not Retrieved.

        Raises:
            NotFound: no such profile.
            Refused: it is in no group, an attempt is under way, or it is the last one of a token that is held.
        """
        now = self._clock.now()
        profile = self._log.profile_called(name)
        if not profile.state.group_id:
            raise Refused(f"{name}: it is not linked to any SMTP group")
        token = self._log.token(profile.state.token_id)
        with about(name):
            token.permit("unlink", now)
        leaving = _Leaving(self._log, [profile])
        leaving.leave(by, self._clock)
        own = Token.create(uuid4(), by=by, now=now)
        profile.unlink(own.id, by=by, now=now)
        self._log.save(*leaving.changed, own, beside=leaving.beside)

    def _find_or_recreate(self, name: str, by: str) -> tuple[Profile, Sequence[Token]]:
        try:
            return self._log.profile_called(name), ()
        except NotFound:
            machine_name, _, setting_name = name.partition("/")
            with self._log.store.reading() as query:
                rows = query.rows("SELECT id, catalogue FROM machine WHERE name = ?", (machine_name,))
            if not rows:
                raise
        setting, now = catalogue(rows[0]["catalogue"]).setting(setting_name), self._clock.now()
        token = Token.create(uuid4(), by=by, now=now)
        profile = Profile.create(
            uuid4(),
            machine_id=UUID(rows[0]["id"]),
            machine=machine_name,
            setting=setting.name,
            protocol=setting.protocol,
            token_id=token.id,
            group_id=None,
            by=by,
            now=now,
        )
        return profile, (token,)

    def _group(self, name: str, by: str) -> tuple[SmtpGroup, Token]:
        with self._log.store.reading() as query:
            rows = query.rows("SELECT id, token_id FROM smtp_group WHERE name = ?", (name,))
        if rows:
            return self._log.load(SmtpGroup, UUID(rows[0]["id"])), self._log.token(UUID(rows[0]["token_id"]))
        token = Token.create(uuid4(), by=by, now=self._clock.now())
        return SmtpGroup.create(uuid4(), name, token.id, by=by, now=self._clock.now()), token


def _check_edition(profile: Profile, only_if: Collection[str] | None) -> None:
    if only_if is not None and edition(profile.id, profile.version) not in only_if:
        raise Outdated(f"{profile.state.name} has changed since it was looked at: look again and repeat it")


class _Leaving:
    """Profiles that leave their groups or tokens behind, and everything that changes with them.

    A token whose last profile leaves is retired, which it refuses while anything is held or under way.
    """

    def __init__(self, log: EventLog, profiles: Sequence[Profile]) -> None:
        self._log = log
        self._profiles = profiles
        self._groups = {id: log.load(SmtpGroup, id) for id in {p.state.group_id for p in profiles} if id}
        self._tokens = {id: log.token(id) for id in {p.state.token_id for p in profiles}}

    @property
    def changed(self) -> Sequence[Profile | SmtpGroup | Token]:
        """All aggregates that may have something to save.

        Tokens first: so the end of one finds, in the log, the profile that was its last.
        """
        return (*self._tokens.values(), *self._profiles, *self._groups.values())

    @property
    def beside(self) -> Alongside:
        """The tokens that were looked at and not changed must still be as they were."""
        return Alongside(expects={id: t.version for id, t in self._tokens.items() if not t.pending_events})

    def leave(self, by: str, clock: Clock) -> None:
        """Leave the groups; the profiles themselves go on."""
        for profile in self._profiles:
            group = self._groups.get(profile.state.group_id) if profile.state.group_id else None
            leave(profile, group, self._tokens[profile.state.token_id], by=by, now=clock.now())

    def remove(self, by: str, clock: Clock) -> None:
        """Leave, and go.

        Raises:
            Refused: a relay user is mapped to one of them.
        """
        self._check_mappings()
        self.leave(by, clock)
        for profile in self._profiles:
            profile.remove(by=by, now=clock.now())

    def _check_mappings(self) -> None:
        with self._log.store.reading() as query:
            users = [relay_user_state(row) for row in query.rows("SELECT * FROM relay_user")]
        for profile in self._profiles:
            for user in users:
                if profile.id in user.profiles.values():
                    raise Refused(
                        f"{profile.state.name}: relay user {user.name} is mapped to it: map them to another one "
                        f"(mailtoken relay user map {user.name} PROFILE...) or remove them first"
                    )
