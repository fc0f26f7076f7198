"""A plan is right by itself: carried out on what is there, it leaves nothing to do, and it touches no token unasked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from effort import amount
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.catalogue import CATALOGUES, Protocol
from domain.lifecycle import TokenStatus
from domain.plan import (
    AddClient,
    AddMachine,
    AddProfile,
    DeleteToken,
    Grant,
    HeldToken,
    Link,
    Plan,
    Present,
    PresentProfile,
    RemoveMachine,
    RemoveProfile,
    Revoke,
    SetFields,
    TagMachine,
    Unlink,
    Wanted,
    WantedMachine,
    WantedSetting,
    as_json,
)
from domain.planner import plan
from domain.profile_fields import Settings, changed_fields, texts_of

SCANNER, FAX = "scan@contoso.com", "fax@contoso.com"
HELD = HeldToken(TokenStatus.RETRIEVED, "contoso", SCANNER)


def present(
    machines: dict[str, str], tokens: dict[str, HeldToken] | None = None, clients: dict[str, set[str]] | None = None
) -> Present:
    """Machines as they are added, filled in for the scanner's account; `tokens` by the name of a setting or group."""
    profiles = {}
    for machine, model in machines.items():
        for setting in CATALOGUES[model].settings:
            group = machine if setting.linked else None
            name = f"{machine}/{setting.name}"
            settings = Settings(provider="contoso", account=SCANNER)
            profiles[name] = PresentProfile(setting.protocol, settings, group or name, group)
    held = {one.token: (tokens or {}).get(one.token, HeldToken()) for one in profiles.values()}
    return Present(machines, profiles, held, clients or {}, ["contoso"])


class World:
    """What carrying out a plan makes of what is there."""

    def __init__(self, before: Present) -> None:
        self.machines = dict(before.machines)
        self.profiles = dict(before.profiles)
        self.tokens = dict(before.tokens)
        self.tags = {machine: tuple(tags) for machine, tags in before.tags.items()}
        self.clients = {name: set(profiles) for name, profiles in before.clients.items()}
        self._before = before

    def present(self) -> Present:
        return Present(self.machines, self.profiles, self.tokens, self.clients, self._before.providers, self.tags)

    def carry_out(self, change: Any) -> None:
        match change:
            case DeleteToken():
                self.tokens[self.profiles[change.profile].token] = HeldToken()
            case AddMachine():
                self.machines[change.machine] = change.catalogue
                for setting in CATALOGUES[change.catalogue].settings:
                    group = change.machine if setting.linked else None
                    self._place(f"{change.machine}/{setting.name}", setting.protocol, group)
            case TagMachine():
                assert self.tags.get(change.machine, ()) == change.tags_before
                self.tags[change.machine] = change.tags
            case RemoveMachine():
                del self.machines[change.machine]
            case AddProfile():
                machine, _, setting_name = change.profile.partition("/")
                self._place(change.profile, CATALOGUES[self.machines[machine]].setting(setting_name).protocol, None)
            case RemoveProfile():
                del self.profiles[change.profile]
            case SetFields():
                one = self.profiles[change.profile]
                assert {field: texts_of(one.settings)[field] for field in change.before} == change.before
                changes = changed_fields(one.protocol, one.settings, change.after)
                self.profiles[change.profile] = replace(one, settings=replace(one.settings, **changes))
            case Unlink():
                one = self.profiles[change.profile]
                assert one.group == change.group
                token = f"own {change.profile}"
                self.tokens[token] = HeldToken()
                self.profiles[change.profile] = replace(one, group=None, token=token)
            case Link():
                self._link(change.profile, change.group)
            case AddClient():
                assert change.client not in self.clients
                self.clients[change.client] = set()
            case Grant():
                self.clients[change.client].add(change.profile)
            case Revoke():
                self.clients[change.client].remove(change.profile)

    def _place(self, name: str, protocol: Protocol, group: str | None) -> None:
        token = f"new {group or name}"
        self.tokens[token] = HeldToken()
        self.profiles[name] = PresentProfile(protocol, Settings(), token, group)

    def _link(self, name: str, group: str) -> None:
        tokens = {one.token for one in self.profiles.values() if one.group == group}
        assert len(tokens) <= 1
        token = tokens.pop() if tokens else f"linked {group}"
        held = self.tokens.setdefault(token, HeldToken())
        one = self.profiles[name]
        settings = one.settings
        if held.account:
            settings = replace(settings, provider=held.provider, account=held.account)
        self.profiles[name] = replace(one, group=group, token=token, settings=settings)


MACHINES = ["a", "b"]
SETTINGS = ["smtp", "pop", "smtp-service", "smtp-alert", "pop-internet-fax"]
NAMES = [f"{machine}/{setting}" for machine in MACHINES for setting in SETTINGS]
TEXTS = st.fixed_dictionaries(
    {}, optional={"port": st.sampled_from(["25", ""]), "account": st.sampled_from([SCANNER, SCANNER.upper(), FAX, ""])}
)
WANTED = st.builds(
    Wanted,
    st.dictionaries(
        st.sampled_from(MACHINES),
        st.builds(
            WantedMachine,
            st.sampled_from([None, "generic", "sharp-bp"]),
            st.dictionaries(st.sampled_from(SETTINGS), st.builds(WantedSetting, TEXTS, st.booleans(), st.booleans())),
            st.booleans(),
            st.booleans(),
        ),
    ),
    st.dictionaries(st.sampled_from(["a", "g"]), st.lists(st.sampled_from(NAMES), max_size=4)),
    st.dictionaries(st.sampled_from(["crm", "backup"]), st.lists(st.sampled_from(NAMES), max_size=3)),
)
HELDS = st.sampled_from([HeldToken(), HELD, HeldToken(TokenStatus.WAITING), HeldToken(TokenStatus.INVALID)])
PRESENT = st.builds(
    present,
    st.dictionaries(st.sampled_from(MACHINES), st.sampled_from(["generic", "sharp-bp"])),
    st.dictionaries(st.sampled_from([*MACHINES, *NAMES]), HELDS),
    st.just({"crm": {"a/pop"}}),
)


@settings(max_examples=amount(60, of=300))
@given(WANTED, PRESENT)
def test_what_a_plan_leaves_behind_needs_no_other_plan(wanted: Wanted, before: Present) -> None:
    planned = plan(wanted, before)
    if planned.refusals:
        return
    world = World(before)
    for change in planned.changes:
        world.carry_out(change)
    assert plan(wanted, world.present()) == Plan()


@settings(max_examples=amount(60, of=300))
@given(WANTED, PRESENT)
def test_only_tokens_the_file_lets_go_are_touched(wanted: Wanted, before: Present) -> None:
    planned = plan(wanted, before)
    if planned.refusals:
        return
    world = World(before)
    gone = set()
    for change in planned.changes:
        if isinstance(change, DeleteToken):
            gone.add(before.profiles[change.profile].token)
            machine, _, setting = change.profile.partition("/")
            said = wanted.machines[machine]
            assert said.delete_token or said.settings[setting].delete_token
        world.carry_out(change)
    used = {one.token for one in world.profiles.values()}
    for token, held in before.tokens.items():
        if held != HeldToken():
            assert (world.tokens[token] == HeldToken()) is (token in gone)
            assert token in used or token in gone, "a token that is held is never left without a setting"


@settings(max_examples=amount(60, of=300))
@given(WANTED, PRESENT)
def test_a_plan_is_the_same_each_time_and_can_be_told_in_json(wanted: Wanted, before: Present) -> None:
    planned = plan(wanted, before)
    assert plan(wanted, before) == planned
    assert [as_json(change)["change"] for change in planned.changes] == [change.KIND for change in planned.changes]


def test_tokens_are_deleted_first() -> None:
    before = present({"a": "generic", "b": "generic"}, {"b/smtp": HELD})
    settings = {"smtp": WantedSetting({"account": FAX}, delete_token=True)}
    planned = plan(Wanted({"a": WantedMachine(None, settings), "b": WantedMachine(None, settings)}), before)
    assert [change.KIND for change in planned.changes] == ["delete token", "set fields", "set fields"]
    assert planned.changes[0] == DeleteToken("b/smtp", ("b/smtp",))


@pytest.mark.parametrize("status", [TokenStatus.WAITING, TokenStatus.RETRIEVED, TokenStatus.INVALID])
def test_a_change_of_account_under_a_token_is_refused_with_its_place(status: TokenStatus) -> None:
    before = present({"a": "generic"}, {"a/smtp": HeldToken(status)})
    planned = plan(Wanted({"a": WantedMachine(None, {"smtp": WantedSetting({"account": FAX})})}), before)
    [refusal] = planned.refusals
    assert refusal.place == ("machines", "a", "settings", "smtp")
    code = "sign_in_in_the_way" if status is TokenStatus.WAITING else "token_in_the_way"
    assert (refusal.code, refusal.fields) == (code, {"profile": "a/smtp", "status": status})


def test_a_client_there_is_not_is_added_before_it_is_granted_anything() -> None:
    planned = plan(Wanted(clients={"crm": ["a/pop"], "backup": []}), present({"a": "generic"}))
    assert planned == Plan((AddClient("crm"), Grant("crm", "a/pop"), AddClient("backup")))


@pytest.mark.parametrize(("client", "profile"), [("two words", "a/pop"), ("crm", "a/fax")])
def test_a_client_that_cant_be_added_is_refused_with_its_place_and_not_added(client: str, profile: str) -> None:
    planned = plan(Wanted(clients={client: [profile]}), present({"a": "generic"}))
    assert planned.changes == ()
    assert [one.place for one in planned.refusals] == [("clients", client)]
