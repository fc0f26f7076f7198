"""A plan: what has to change so that machines, settings, groups and clients are as a file says they should be.

What a file does not name is left as it is. A token is never touched, except that one is deleted first where the file
says `delete_token` and a change needs it: the manual's own rule. Nothing of a plan with a refusal is carried out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from domain.catalogue import CATALOGUES, CatalogueSetting, Protocol, catalogue
from domain.errors import InvalidValue, MailtokenError, NotFound, Refused
from domain.lifecycle import TokenStatus, permit
from domain.machine import valid_name
from domain.profile import AUTHORIZATION_FIELDS, Settings, changed_fields

Place = tuple[str, ...]
"""Where in a file something is said: the keys that lead there."""


# What is wanted


@dataclass(frozen=True)
class WantedSetting:
    """`fields` are texts by name; an empty one clears. `delete_token`: its token may go where a change needs it."""

    fields: Mapping[str, str] = field(default_factory=dict)
    absent: bool = False
    delete_token: bool = False


@dataclass(frozen=True)
class WantedMachine:
    """A machine, or that there is none. Without a `catalogue` it is the one it has, `generic` for a new machine."""

    catalogue: str | None = None
    settings: Mapping[str, WantedSetting] = field(default_factory=dict)
    absent: bool = False
    delete_token: bool = False


@dataclass(frozen=True)
class Wanted:
    """What a file says. `groups` and `clients` name exactly the profiles that are linked, and that may be read."""

    machines: Mapping[str, WantedMachine] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    clients: Mapping[str, Sequence[str]] = field(default_factory=dict)


# What is


@dataclass(frozen=True)
class HeldToken:
    """A token as of now; `provider` and `account` are those of the authorization it has received, if it has."""

    status: TokenStatus = TokenStatus.NOT_RETRIEVED
    provider: str | None = None
    account: str | None = None


@dataclass(frozen=True)
class PresentProfile:
    """A setting that is there. `token` names the token it uses, `relay_users` are mapped to it."""

    protocol: Protocol
    settings: Settings
    token: str
    group: str | None = None
    relay_users: Sequence[str] = ()


@dataclass(frozen=True)
class Present:
    """What is there: machines with their catalogues, profiles, tokens and clients, by name; and the providers."""

    machines: Mapping[str, str]
    profiles: Mapping[str, PresentProfile]
    tokens: Mapping[str, HeldToken]
    clients: Mapping[str, Collection[str]]
    providers: Collection[str]


# What has to be done


@dataclass(frozen=True)
class DeleteToken:
    """Delete the token of `profile`; all of `profiles` lose it."""

    KIND: ClassVar = "delete token"
    profile: str
    profiles: tuple[str, ...]


@dataclass(frozen=True)
class RemoveProfile:
    """Remove a setting."""

    KIND: ClassVar = "remove profile"
    profile: str


@dataclass(frozen=True)
class RemoveMachine:
    """Remove a machine whose settings are gone."""

    KIND: ClassVar = "remove machine"
    machine: str


@dataclass(frozen=True)
class AddMachine:
    """Add a machine with the settings of its catalogue."""

    KIND: ClassVar = "add machine"
    machine: str
    catalogue: str


@dataclass(frozen=True)
class AddProfile:
    """Bring back a setting of the catalogue that was removed."""

    KIND: ClassVar = "add profile"
    profile: str


@dataclass(frozen=True)
class SetFields:
    """Fill in fields, by name: what each holds and what it is to hold, as texts; empty is "not filled in"."""

    KIND: ClassVar = "set fields"
    profile: str
    before: Mapping[str, str]
    after: Mapping[str, str]


@dataclass(frozen=True)
class Unlink:
    """Take a setting out of its group."""

    KIND: ClassVar = "unlink"
    profile: str
    group: str


@dataclass(frozen=True)
class Link:
    """Link a setting into a group, out of the one it is in."""

    KIND: ClassVar = "link"
    profile: str
    group: str


@dataclass(frozen=True)
class AddClient:
    """Add a client, without a key: that is never in a file, and is issued and shown when somebody asks for it."""

    KIND: ClassVar = "add client"
    client: str


@dataclass(frozen=True)
class Grant:
    """Let a client read the access token of a profile."""

    KIND: ClassVar = "grant"
    client: str
    profile: str


@dataclass(frozen=True)
class Revoke:
    """Let a client read the access token of a profile no more."""

    KIND: ClassVar = "revoke"
    client: str
    profile: str


Change = (
    DeleteToken
    | RemoveProfile
    | RemoveMachine
    | AddMachine
    | AddProfile
    | SetFields
    | Unlink
    | Link
    | AddClient
    | Grant
    | Revoke
)


@dataclass(frozen=True)
class Refusal:
    """What can't be, where in the file it is said, and why not."""

    place: Place
    why: str


@dataclass(frozen=True)
class Plan:
    """What has to be done, in this order, tokens that are deleted first; or why it can't be."""

    changes: tuple[Change, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def plan(wanted: Wanted, present: Present) -> Plan:
    """Decide what has to change so that what is `present` is as it is `wanted`."""
    planner = _Planner(wanted, present)
    planner.add()
    planner.remove()
    planner.fill_in()
    # Link first: so the token of a group whose members all change goes over to the new ones.
    planner.link()
    planner.unlink()
    planner.check_concert()
    planner.grant()
    deletions = [change for change in planner.changes if isinstance(change, DeleteToken)]
    others = [change for change in planner.changes if not isinstance(change, DeleteToken)]
    return Plan((*deletions, *others), tuple(planner.refusals))


def texts_of(settings: Settings) -> dict[str, str]:
    """Each field as the text that fills it in; empty for what is not filled in."""
    values = ((one.name, getattr(settings, one.name)) for one in fields(settings))
    return {name: "" if value is None else str(value) for name, value in values}


class _Planner:
    """Goes through what is wanted on a copy of what is there, and notes each step or why it can't be taken."""

    def __init__(self, wanted: Wanted, present: Present) -> None:
        self._wanted = wanted
        self._present = present
        self._machines = dict(present.machines)
        self._profiles = dict(present.profiles)
        self._tokens = dict(present.tokens)
        self._users: dict[str, set[str]] = {}
        self._members: dict[str, set[str]] = {}
        self._group_tokens: dict[str, str] = {}
        self._joined: set[str] = set()
        for name, profile in present.profiles.items():
            self._put(name, profile)
        self.changes: list[Change] = []
        self.refusals: list[Refusal] = []

    # The steps

    def add(self) -> None:
        """Add machines, and settings of their catalogues that were removed."""
        for machine, wanted in self._wanted.machines.items():
            if wanted.absent:
                if wanted.settings:
                    self.refusals.append(Refusal(("machines", machine), "an absent machine has no settings"))
                continue
            with self._at("machines", machine):
                self._add_machine(machine, wanted)
            for setting in wanted.settings if machine in self._machines else ():
                with self._at("machines", machine, "settings", setting):
                    self._add_setting(machine, setting)

    def remove(self) -> None:
        """Remove what the file says is absent."""
        for machine, wanted in self._wanted.machines.items():
            some_absent = wanted.absent or any(setting.absent for setting in wanted.settings.values())
            if machine not in self._machines or not some_absent:
                continue
            there = [name for name in self._profiles if name.partition("/")[0] == machine]
            gone = [name for name in there if any(one.absent for one in self._wanted_of(name))]
            refused = len(self.refusals)
            for name in gone:
                with self._at(*self._place_of(name, within_absent=wanted.absent)):
                    self._remove_profile(name)
            if wanted.absent and len(self.refusals) == refused:
                del self._machines[machine]
                self.changes.append(RemoveMachine(machine))

    def fill_in(self) -> None:
        """Fill in the fields that differ."""
        for name, wanted in self._settings():
            if name in self._profiles and not wanted.absent:
                self._fill_in(name, wanted)

    def link(self) -> None:
        """Link into each group whoever is not in it yet."""
        seen: dict[str, str] = {}
        for group, names in self._wanted.groups.items():
            for name in names:
                with self._at("groups", group):
                    if seen.setdefault(name, group) != group:
                        raise Refused(f"{name} is in the group {seen[name]} already: a setting is in one group")
                    self._link(name, group)

    def unlink(self) -> None:
        """Take out of each group that the file names whoever it does not name there."""
        for group, names in self._wanted.groups.items():
            for name in sorted(self._members.get(group, set()) - set(names)):
                with self._at("groups", group):
                    self._unlink(name, group)

    def check_concert(self) -> None:
        """See that who joined a group with a token was not wanted to be somebody else."""
        for name, wanted in self._settings():
            profile = self._profiles.get(name)
            if profile is None or wanted.absent:
                continue
            after = texts_of(profile.settings)
            for one in sorted(AUTHORIZATION_FIELDS & wanted.fields.keys()):
                if name in self._joined and after[one].casefold() != wanted.fields[one].casefold():
                    why = f"the token of the group {profile.group} is for {after[one]}, not {wanted.fields[one]!r}"
                    self.refusals.append(Refusal((*self._place_of(name), one), why))

    def grant(self) -> None:
        """Add the clients there are not, and let each that the file names read the tokens it names, and no others."""
        for client, names in self._wanted.clients.items():
            with self._at("clients", client):
                self._grant(client, names)

    # One at a time

    def _remove_profile(self, name: str) -> None:
        profile = self._profiles[name]
        if profile.relay_users:
            user = profile.relay_users[0]
            raise Refused(
                f"{name}: relay user {user} is mapped to it: map them to another one"
                f" (mailtoken relay user map {user} PROFILE...) or remove them first"
            )
        self._leave(name)
        del self._profiles[name]
        self.changes.append(RemoveProfile(name))

    def _add_machine(self, name: str, wanted: WantedMachine) -> None:
        there = self._machines.get(name)
        if there is not None:
            if wanted.catalogue not in (None, there):
                raise Refused(f"its catalogue is {there}, not {wanted.catalogue}: remove the machine first")
            return
        model = catalogue(wanted.catalogue or "generic")
        valid_name("machine", name)
        if name in self._members:
            raise Refused(f"{name}: there is a smtp group with this name already")
        self._machines[name] = model.name
        for setting in model.settings:
            self._put(f"{name}/{setting.name}", _new(name, setting))
        self.changes.append(AddMachine(name, model.name))

    def _add_setting(self, machine: str, setting: str) -> None:
        name = f"{machine}/{setting}"
        known = CATALOGUES[self._machines[machine]].setting(setting)
        _, wanted = self._wanted_of(name)
        if wanted.absent and wanted.fields:
            raise Refused("an absent setting has no fields")
        if name not in self._profiles and not wanted.absent:
            self._put(name, _new(machine, replace(known, linked=False)))
            self.changes.append(AddProfile(name))

    def _unlink(self, name: str, group: str) -> None:
        self._permit("unlink", name)
        self._leave(name)
        self._put(name, replace(self._profiles[name], group=None, token=_token_of(name)))
        self.changes.append(Unlink(name, group))

    def _fill_in(self, name: str, wanted: WantedSetting) -> None:
        profile, place = self._profiles[name], self._place_of(name)
        try:
            changes = changed_fields(profile.protocol, profile.settings, wanted.fields)
            if "account" in changes and _is_same(changes["account"], profile.settings.account):
                del changes["account"]
            provider = changes.get("provider")
            if provider and provider not in self._present.providers:
                known = ", ".join(self._present.providers) or "none"
                raise InvalidValue("provider", f"{provider!r} is not in the configuration; it has: {known}")
        except InvalidValue as invalid:
            why = str(invalid).removeprefix(f"{invalid.field}: ")
            self.refusals.append(Refusal((*place, invalid.field), why))
            return
        if not changes:
            return
        with self._at(*place):
            if AUTHORIZATION_FIELDS & changes.keys():
                self._permit("change", name)
            before, after = texts_of(profile.settings), replace(profile.settings, **changes)
            self._profiles[name] = replace(profile, settings=after)
            texts = texts_of(after)
            self.changes.append(
                SetFields(name, {one: before[one] for one in changes}, {one: texts[one] for one in changes})
            )

    def _link(self, name: str, group: str) -> None:
        profile = self._profile(name)
        if profile.group == group:
            return
        valid_name("group", group)
        if profile.protocol is not Protocol.SMTP:
            raise InvalidValue(name, "is not an SMTP setting: POP and IMAP settings are independent")
        if profile.group and self._tokens[profile.token].status is not TokenStatus.NOT_RETRIEVED:
            # The group's token stays with the others; what joins is the token of its own that it gets.
            self._unlink(name, profile.group)
            profile = self._profiles[name]
        self._permit("link", name)
        self._leave(name)
        token = self._group_tokens.get(group, _token_of(group))
        joined = replace(profile, group=group, token=token)
        self._put(name, replace(joined, settings=self._in_concert(joined)))
        self._joined.add(name)
        self.changes.append(Link(name, group))

    def _grant(self, client: str, names: Sequence[str]) -> None:
        for name in names:
            self._profile(name)
        granted = set(self._present.clients.get(client, ()))
        if client not in self._present.clients:
            self.changes.append(AddClient(valid_name("client", client)))
        left = granted & self._profiles.keys()
        self.changes.extend(Revoke(client, name) for name in sorted(left - set(names)))
        self.changes.extend(Grant(client, name) for name in dict.fromkeys(names) if name not in granted)

    # What is there now

    def _profile(self, name: str) -> PresentProfile:
        if name not in self._profiles:
            raise NotFound(f"no profile is called {name!r}: see mailtoken profile list")
        return self._profiles[name]

    def _settings(self) -> Iterator[tuple[str, WantedSetting]]:
        for machine, wanted in self._wanted.machines.items():
            if not wanted.absent and machine in self._machines:
                for setting, one in wanted.settings.items():
                    yield f"{machine}/{setting}", one

    def _wanted_of(self, name: str) -> tuple[WantedMachine, WantedSetting]:
        machine_name, _, setting = name.partition("/")
        machine = self._wanted.machines.get(machine_name, WantedMachine())
        return machine, machine.settings.get(setting, WantedSetting())

    def _may_delete_token(self, name: str) -> bool:
        return any(wanted.delete_token for wanted in self._wanted_of(name))

    def _put(self, name: str, profile: PresentProfile) -> None:
        self._profiles[name] = profile
        self._tokens.setdefault(profile.token, HeldToken())
        self._users.setdefault(profile.token, set()).add(name)
        if profile.group:
            self._members.setdefault(profile.group, set()).add(name)
            self._group_tokens[profile.group] = profile.token

    def _leave(self, name: str) -> None:
        """Leave the group and the token; whose last profile leaves has to be one that is not held."""
        profile = self._profiles[name]
        if self._users[profile.token] == {name}:
            self._permit("remove", name)
        self._users[profile.token].discard(name)
        if profile.group:
            self._members[profile.group].discard(name)
            if not self._members[profile.group]:
                del self._members[profile.group], self._group_tokens[profile.group]

    def _in_concert(self, profile: PresentProfile) -> Settings:
        token = self._tokens.get(profile.token, HeldToken())
        if not (token.provider and token.account):
            return profile.settings
        return replace(profile.settings, provider=token.provider, account=token.account)

    def _permit(self, act: str, name: str) -> None:
        """Let `act` pass, with its token deleted first if the file says so and only that is in the way."""
        token = self._profiles[name].token
        try:
            permit(act, self._tokens[token].status)
        except Refused as refused:
            if not self._may_delete_token(name):
                raise Refused(f"{name}: {refused}, or say delete_token = true in the file") from None
            self._tokens[token] = HeldToken()
            self.changes.append(DeleteToken(name, tuple(sorted(self._users[token]))))

    def _place_of(self, name: str, *, within_absent: bool = False) -> Place:
        machine, _, setting = name.partition("/")
        return ("machines", machine) if within_absent else ("machines", machine, "settings", setting)

    @contextmanager
    def _at(self, *place: str) -> Iterator[None]:
        try:
            yield
        except MailtokenError as error:
            self.refusals.append(Refusal(place, str(error)))


def _new(machine: str, setting: CatalogueSetting) -> PresentProfile:
    name = f"{machine}/{setting.name}"
    group = machine if setting.linked else None
    return PresentProfile(setting.protocol, Settings(), _token_of(group or name), group)


def _is_same(account: str | None, other: str | None) -> bool:
    return account is not None and other is not None and account.casefold() == other.casefold()


def _token_of(profile_or_group: str) -> str:
    return f"token of {profile_or_group}"


def as_json(change: Change) -> dict[str, Any]:
    """A change as a program reads it: its kind, and what it concerns."""
    return {"change": change.KIND, **{one.name: getattr(change, one.name) for one in fields(change)}}
