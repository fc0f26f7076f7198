"""Compares the wanted settings, groups and clients with what is there, and lists the changes in their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from domain.catalogue import CATALOGUES, CatalogueSetting, catalogue
from domain.errors import InvalidValue, MailtokenError, NotFound, Refused, facts
from domain.lifecycle import TokenStatus, permit
from domain.machine import check_name_is_free, valid_name, valid_tags
from domain.mail_servers import with_server_of_provider
from domain.plan import (
    AddClient,
    AddMachine,
    AddProfile,
    Change,
    DeleteToken,
    Grant,
    HeldToken,
    Link,
    Place,
    Plan,
    Present,
    PresentProfile,
    Refusal,
    RemoveMachine,
    RemoveProfile,
    Revoke,
    SetFields,
    TagMachine,
    Unlink,
    Wanted,
    WantedMachine,
    WantedSetting,
)
from domain.profile import check_provider, check_unmapped, in_concert
from domain.profile_fields import AUTHORIZATION_FIELDS, Settings, changed_fields, texts_of
from domain.provider_planner import plan_providers
from domain.smtp_group import check_linkable


def plan(wanted: Wanted, present: Present) -> Plan:
    """The changes that turn the `present` settings, groups, clients and providers into the `wanted` ones."""
    planner = _Planner(wanted, present)
    planner.add()
    planner.remove()
    planner.fill_in()
    # Linking comes first: a group whose members are all replaced is never empty, so it keeps its token.
    planner.link()
    planner.unlink()
    planner.check_authorizations()
    planner.grant()
    deletions = [change for change in planner.changes if isinstance(change, DeleteToken)]
    others = [change for change in planner.changes if not isinstance(change, DeleteToken)]
    providers = list(plan_providers(wanted, present))
    changed = [one for one in providers if not isinstance(one, Refusal)]
    refused = [one for one in providers if isinstance(one, Refusal)]
    return Plan((*deletions, *changed, *others), (*refused, *planner.refusals))


class _Planner:
    """Makes the wanted changes on a copy of the present state, and collects the changes and the refusals."""

    def __init__(self, wanted: Wanted, present: Present) -> None:
        self._wanted = wanted
        self._present = present
        self._kinds = {**{name: one.kind for name, one in wanted.providers.items()}, **present.kinds}
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
                    self.refusals.append(Refusal(("machines", machine), "absent_machine_with_settings"))
                continue
            with self._at("machines", machine):
                self._add_machine(machine, wanted)
            with self._at("machines", machine, "tags"):
                self._tag_machine(machine, wanted)
            for setting in wanted.settings if machine in self._machines else ():
                with self._at("machines", machine, "settings", setting):
                    self._add_setting(machine, setting)

    def remove(self) -> None:
        """Remove the machines and settings that the file says are absent."""
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
        """Link into each group the settings that the file names and that are not in it yet."""
        seen: dict[str, str] = {}
        for group, names in self._wanted.groups.items():
            for name in names:
                with self._at("groups", group):
                    if seen.setdefault(name, group) != group:
                        raise Refused("in_two_groups", profile=name, group=seen[name])
                    self._link(name, group)

    def unlink(self) -> None:
        """Take out of each group of the file the settings that the file does not name there."""
        for group, names in self._wanted.groups.items():
            for name in sorted(self._members.get(group, set()) - set(names)):
                with self._at("groups", group):
                    self._unlink(name, group)

    def check_authorizations(self) -> None:
        """Refuse a provider or account that differs from that of the group's token which the setting has joined."""
        for name, wanted in self._settings():
            profile = self._profiles.get(name)
            if profile is None or wanted.absent:
                continue
            after = texts_of(profile.settings)
            for one in sorted(AUTHORIZATION_FIELDS & wanted.fields.keys()):
                if name in self._joined and after[one].casefold() != wanted.fields[one].casefold():
                    differs = {"group": profile.group, "held": after[one], "value": wanted.fields[one]}
                    self.refusals.append(Refusal((*self._place_of(name), one), "other_than_the_groups_token", differs))

    def grant(self) -> None:
        """Add missing clients, and let each client of the file read exactly the tokens that the file names."""
        for client, names in self._wanted.clients.items():
            with self._at("clients", client):
                self._grant(client, names)

    # Single changes

    def _remove_profile(self, name: str) -> None:
        profile = self._profiles[name]
        check_unmapped(name, profile.relay_users)
        self._leave(name)
        del self._profiles[name]
        self.changes.append(RemoveProfile(name))

    def _add_machine(self, name: str, wanted: WantedMachine) -> None:
        there = self._machines.get(name)
        if there is not None:
            if wanted.catalogue not in (None, there):
                raise Refused("other_catalogue", catalogue=there, wanted=wanted.catalogue)
            return
        model = catalogue(wanted.catalogue or "generic")
        valid_name("machine", name)
        check_name_is_free(name, machine_exists=False, group_exists=name in self._members)
        self._machines[name] = model.name
        for setting in model.settings:
            self._put(f"{name}/{setting.name}", _new(name, setting))
        self.changes.append(AddMachine(name, model.name))

    def _tag_machine(self, name: str, wanted: WantedMachine) -> None:
        if wanted.tags is None or name not in self._machines:
            return
        before, after = tuple(self._present.tags.get(name, ())), valid_tags(wanted.tags)
        if before != after:
            self.changes.append(TagMachine(name, before, after))

    def _add_setting(self, machine: str, setting: str) -> None:
        name = f"{machine}/{setting}"
        known = CATALOGUES[self._machines[machine]].setting(setting)
        _, wanted = self._wanted_of(name)
        if wanted.absent and wanted.fields:
            raise Refused("absent_setting_with_fields")
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
            texts = with_server_of_provider(wanted.fields, profile.protocol, profile.settings, self._kinds)
            changes = changed_fields(profile.protocol, profile.settings, texts)
            if "account" in changes and _is_same(changes["account"], profile.settings.account):
                del changes["account"]
        except InvalidValue as invalid:
            self.refusals.append(Refusal((*place, invalid.field), invalid.code, invalid.fields))
            return
        try:
            check_provider(changes.get("provider"), {*self._present.providers, *self._wanted.providers})
        except NotFound as missing:
            self.refusals.append(Refusal((*place, "provider"), missing.code, missing.fields))
            return
        if not changes:
            return
        with self._at(*place):
            if AUTHORIZATION_FIELDS & changes.keys():
                self._permit("change", name)
            before, after = texts_of(profile.settings), replace(profile.settings, **changes)
            self._profiles[name] = replace(profile, settings=after)
            filled = texts_of(after)
            self.changes.append(
                SetFields(name, {one: before[one] for one in changes}, {one: filled[one] for one in changes})
            )

    def _link(self, name: str, group: str) -> None:
        profile = self._profile(name)
        if profile.group == group:
            return
        valid_name("group", group)
        check_linkable(name, profile.protocol)
        if profile.group and self._tokens[profile.token].status is not TokenStatus.NOT_RETRIEVED:
            # The old group keeps its token; the setting joins the new group with the new token that unlinking gives it.
            self._unlink(name, profile.group)
            profile = self._profiles[name]
        self._permit("link", name)
        self._leave(name)
        token = self._group_tokens.get(group, _token_of(group))
        joined = replace(profile, group=group, token=token)
        held = self._tokens.get(token, HeldToken())
        self._put(name, replace(joined, settings=in_concert(joined.settings, held.provider, held.account)))
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

    # The state so far

    def _profile(self, name: str) -> PresentProfile:
        if name not in self._profiles:
            raise NotFound("profile_not_found", profile=name)
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
        """Take a profile out of its group and off its token; the last profile leaves only a token that is not held."""
        profile = self._profiles[name]
        if self._users[profile.token] == {name}:
            self._permit("remove", name)
        self._users[profile.token].discard(name)
        if profile.group:
            self._members[profile.group].discard(name)
            if not self._members[profile.group]:
                del self._members[profile.group], self._group_tokens[profile.group]

    def _permit(self, act: str, name: str) -> None:
        """Check that the token permits `act`, and delete the token first where it does not and the file allows that.

        Raises:
            Refused: the token does not permit it, and the file does not allow its deletion.
        """
        token = self._profiles[name].token
        status = self._tokens[token].status
        try:
            permit(act, status)
        except Refused:
            if not self._may_delete_token(name):
                code = "sign_in_in_the_way" if status is TokenStatus.WAITING else "token_in_the_way"
                raise Refused(code, profile=name, status=status) from None
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
            self.refusals.append(Refusal(place, error.code, facts(error)))


def _new(machine: str, setting: CatalogueSetting) -> PresentProfile:
    name = f"{machine}/{setting.name}"
    group = machine if setting.linked else None
    return PresentProfile(setting.protocol, Settings(), _token_of(group or name), group)


def _is_same(account: str | None, other: str | None) -> bool:
    return account is not None and other is not None and account.casefold() == other.casefold()


def _token_of(profile_or_group: str) -> str:
    return f"token of {profile_or_group}"
