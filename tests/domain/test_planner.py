"""Plans by example: what a file says, what is there, and the changes and refusals in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from test_plan import FAX, HELD, SCANNER, present

from domain.catalogue import CATALOGUES
from domain.lifecycle import TokenStatus
from domain.plan import (
    AddMachine,
    AddProfile,
    Change,
    DeleteToken,
    Grant,
    HeldToken,
    Link,
    Plan,
    Present,
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
from domain.planner import plan

GONE = WantedSetting(absent=True)
GENERIC = [f"a/{setting.name}" for setting in CATALOGUES["generic"].settings]
LINKED = [f"a/{setting.name}" for setting in CATALOGUES["sharp-bp"].settings if setting.linked]
POP = "a/pop-internet-fax"


def machine(settings: Mapping[str, WantedSetting], **more: Any) -> Wanted:
    """A file that says this of machine `a`."""
    return Wanted({"a": WantedMachine(None, settings, **more)})


def without(there: Present, *names: str) -> Present:
    return replace(there, profiles={name: one for name, one in there.profiles.items() if name not in names})


def changes(wanted: Wanted, there: Present) -> list[Change]:
    planned = plan(wanted, there)
    assert planned.refusals == ()
    return list(planned.changes)


def refused(wanted: Wanted, there: Present) -> Refusal:
    (refusal,) = plan(wanted, there).refusals
    return refusal


# Machines and settings


def test_a_file_says_all_tags_of_a_machine_or_nothing_about_them() -> None:
    there = present({"a": "generic"})
    tagged = replace(there, tags={"a": ("floor-3", "hamburg")})
    assert changes(Wanted({"a": WantedMachine(tags=["Hamburg", "floor-3"])}), tagged) == []
    assert changes(Wanted({"a": WantedMachine()}), tagged) == []
    assert changes(Wanted({"a": WantedMachine(tags=[])}), tagged) == [TagMachine("a", ("floor-3", "hamburg"), ())]
    assert changes(Wanted({"a": WantedMachine(tags=["new"])}), there) == [TagMachine("a", (), ("new",))]
    added = plan(Wanted({"b": WantedMachine(tags=["new"])}), there)
    assert added.changes == (AddMachine("b", "generic"), TagMachine("b", (), ("new",)))


def test_what_is_not_a_tag_is_refused_with_its_place() -> None:
    refusal = Refusal(("machines", "a", "tags"), "not_a_tag", {"field": "tags", "value": "two words"})
    planned = plan(Wanted({"a": WantedMachine(tags=["two words"])}), present({"a": "generic"}))
    assert planned.refusals == (refusal,)


@pytest.mark.parametrize(("catalogue", "model"), [(None, "generic"), ("generic", "generic"), ("sharp-bp", "sharp-bp")])
def test_a_machine_that_is_not_there_is_added_with_its_catalogue(catalogue: str | None, model: str) -> None:
    assert changes(Wanted({"a": WantedMachine(catalogue)}), present({})) == [AddMachine("a", model)]


@pytest.mark.parametrize("catalogue", [None, "sharp-bp"])
def test_a_machine_that_is_there_stays(catalogue: str | None) -> None:
    assert plan(Wanted({"a": WantedMachine(catalogue)}), present({"a": "sharp-bp"})) == Plan()


def test_a_machine_keeps_its_catalogue() -> None:
    refusal = refused(Wanted({"a": WantedMachine("generic")}), present({"a": "sharp-bp"}))
    facts = {"catalogue": "sharp-bp", "wanted": "generic"}
    assert refusal == Refusal(("machines", "a"), "other_catalogue", facts)


@pytest.mark.parametrize(
    ("name", "code", "facts"),
    [
        ("two words", "not_a_name", {"field": "machine", "value": "two words"}),
        ("a", "name_taken", {"name": "a", "kind": "group"}),
    ],
)
def test_a_machine_needs_a_name_of_its_own(name: str, code: str, facts: dict[str, str]) -> None:
    there = replace(present({"a": "sharp-bp"}), machines={})
    assert refused(Wanted({name: WantedMachine()}), there) == Refusal(("machines", name), code, facts)


def test_an_absent_machine_with_settings_is_refused_and_the_next_machine_is_planned() -> None:
    wanted = Wanted({"a": WantedMachine(None, {"smtp": WantedSetting()}, absent=True), "b": WantedMachine()})
    planned = plan(wanted, present({}))
    assert planned == Plan((AddMachine("b", "generic"),), (Refusal(("machines", "a"), "absent_machine_with_settings"),))


def test_nothing_is_filled_in_on_an_absent_machine_that_can_not_be_removed() -> None:
    planned = plan(
        machine({"smtp": WantedSetting({"port": "25"})}, absent=True), present({"a": "generic"}, {"a/smtp": HELD})
    )
    assert [refusal.code for refusal in planned.refusals] == ["absent_machine_with_settings", "token_in_the_way"]
    assert planned.changes == (RemoveProfile("a/pop"), RemoveProfile("a/imap"))


def test_a_setting_that_was_removed_comes_back_on_its_own() -> None:
    there = without(present({"a": "sharp-bp"}), LINKED[0])
    setting = LINKED[0].partition("/")[2]
    back = machine({setting: WantedSetting({"account": FAX})})
    assert changes(back, there) == [AddProfile(LINKED[0]), SetFields(LINKED[0], {"account": ""}, {"account": FAX})]
    linked = replace(machine({setting: WantedSetting()}), groups={"a": LINKED})
    assert changes(linked, there) == [AddProfile(LINKED[0]), Link(LINKED[0], "a")]


@pytest.mark.parametrize(
    ("setting", "wanted", "code"),
    [
        ("fax", WantedSetting(), "catalogue_setting_unknown"),
        ("smtp", WantedSetting({"port": "25"}, absent=True), "absent_setting_with_fields"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_with_its_place(
    setting: str, wanted: WantedSetting, code: str
) -> None:
    refusal = refused(machine({setting: wanted}), present({"a": "generic"}))
    assert (refusal.place, refusal.code) == (("machines", "a", "settings", setting), code)


def test_nothing_is_said_of_the_settings_of_a_machine_that_cant_be_added() -> None:
    refusal = refused(Wanted({"two words": WantedMachine(None, {"fax": WantedSetting()})}), present({}))
    assert refusal.place == ("machines", "two words")


# Removals


def test_an_absent_machine_is_removed_with_its_settings_and_no_other() -> None:
    wanted = Wanted({"b": WantedMachine(absent=True), "a": WantedMachine(absent=True)})
    there = present({"a": "generic", "ab": "generic"})
    assert changes(wanted, there) == [*map(RemoveProfile, GENERIC), RemoveMachine("a")]


def test_a_machine_is_removed_although_the_next_can_not_be() -> None:
    wanted = Wanted({"a": WantedMachine(absent=True), "b": WantedMachine(absent=True)})
    planned = plan(wanted, present({"a": "generic", "b": "generic"}, {"b/smtp": HELD}))
    assert [refusal.place for refusal in planned.refusals] == [("machines", "b")]
    assert planned.changes[:4] == (*map(RemoveProfile, GENERIC), RemoveMachine("a"))


def test_an_absent_setting_is_removed_and_the_machine_stays() -> None:
    assert changes(machine({"smtp": GONE, "pop": WantedSetting()}), present({"a": "generic"})) == [
        RemoveProfile("a/smtp")
    ]
    assert plan(machine({"smtp": GONE}), without(present({"a": "generic"}), "a/smtp")) == Plan()


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        (machine({"smtp": GONE}), ("machines", "a", "settings", "smtp")),
        (machine({}, absent=True), ("machines", "a")),
    ],
)
def test_a_setting_with_a_token_or_a_relay_user_is_not_removed(wanted: Wanted, place: tuple[str, ...]) -> None:
    there = present({"a": "generic"}, {"a/smtp": HELD})
    planned = plan(wanted, there)
    facts = {"profile": "a/smtp", "status": TokenStatus.RETRIEVED}
    assert planned.refusals == (Refusal(place, "token_in_the_way", facts),)
    assert RemoveMachine("a") not in planned.changes
    mapped = replace(there.profiles["a/smtp"], relay_users=["press"])
    refusal = refused(wanted, replace(present({"a": "generic"}), profiles={**there.profiles, "a/smtp": mapped}))
    assert (refusal.place, refusal.fields["profile"]) == (place, "a/smtp")


@pytest.mark.parametrize(
    "wanted",
    [machine({}, absent=True, delete_token=True), machine({"smtp": WantedSetting(absent=True, delete_token=True)})],
)
def test_a_token_that_the_file_lets_go_is_deleted_before_its_last_setting(wanted: Wanted) -> None:
    planned = changes(wanted, present({"a": "generic"}, {"a/smtp": HELD}))
    assert planned[0] == DeleteToken("a/smtp", ("a/smtp",))
    assert RemoveProfile("a/smtp") in planned


def test_the_token_of_a_group_is_in_the_way_of_its_last_setting_alone() -> None:
    names = [name.partition("/")[2] for name in LINKED]
    there = present({"a": "sharp-bp"}, {"a": HELD})
    some, every = dict.fromkeys(names[:-1], GONE), dict.fromkeys(names, GONE)
    assert changes(machine(some), there) == [*map(RemoveProfile, LINKED[:-1])]
    planned = plan(machine(every), there)
    assert [one.place[-1] for one in planned.refusals] == [names[-1]]


# Fields


def test_fields_that_differ_are_set_and_those_that_do_not_are_not() -> None:
    wanted = machine({"smtp": WantedSetting({"account": SCANNER.upper(), "port": "25", "provider": "contoso"})})
    assert changes(wanted, present({"a": "generic"})) == [SetFields("a/smtp", {"port": ""}, {"port": "25"})]
    other = machine({"smtp": WantedSetting({"account": FAX, "provider": ""})})
    before, after = {"account": SCANNER, "provider": "contoso"}, {"account": FAX, "provider": ""}
    assert changes(other, present({"a": "generic"})) == [SetFields("a/smtp", before, after)]


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"port": "none"}, "port", "number_not_in_range"),
        ({"provider": "fabrikam"}, "provider", "provider_not_configured"),
    ],
)
def test_a_value_that_cant_be_is_refused_with_its_place_and_nothing_is_set(
    fields: dict[str, str], field: str, code: str
) -> None:
    planned = plan(machine({"smtp": WantedSetting({"account": FAX, **fields})}), present({"a": "generic"}))
    assert planned.changes == ()
    (refusal,) = planned.refusals
    assert (refusal.place, refusal.code) == (("machines", "a", "settings", "smtp", field), code)
    assert refusal.fields


def test_a_field_that_needs_no_sign_in_is_set_under_a_token() -> None:
    there = present({"a": "generic"}, {"a/smtp": HELD})
    assert changes(machine({"smtp": WantedSetting({"port": "25"})}), there) == [
        SetFields("a/smtp", {"port": ""}, {"port": "25"})
    ]


# Groups


def test_settings_are_linked_into_a_new_group_and_taken_out_of_one() -> None:
    smtp = Wanted(groups={"g": ["a/smtp", "b/smtp"]})
    there = present({"a": "generic", "b": "generic"})
    assert changes(smtp, there) == [Link("a/smtp", "g"), Link("b/smtp", "g")]
    fewer = Wanted(groups={"a": LINKED[1:]})
    assert changes(fewer, present({"a": "sharp-bp"})) == [Unlink(LINKED[0], "a")]
    assert plan(Wanted(groups={"a": LINKED}), present({"a": "sharp-bp"})) == Plan()


def test_a_setting_leaves_the_token_of_its_old_group_there_and_without_a_token_just_moves() -> None:
    moved = Wanted(groups={"g": [LINKED[0]]})
    assert changes(moved, present({"a": "sharp-bp"})) == [Link(LINKED[0], "g")]
    there = present({"a": "sharp-bp"}, {"a": HELD})
    assert changes(moved, there) == [Unlink(LINKED[0], "a"), Link(LINKED[0], "g")]


def test_a_new_machine_s_linked_settings_are_in_its_group_already() -> None:
    wanted = Wanted({"a": WantedMachine("sharp-bp")}, groups={"a": LINKED})
    assert changes(wanted, present({})) == [AddMachine("a", "sharp-bp")]


def test_a_setting_that_moved_to_another_group_is_not_taken_out_of_its_old_one() -> None:
    wanted = Wanted(groups={"g": LINKED[:1], "a": LINKED[1:]})
    assert changes(wanted, present({"a": "sharp-bp"})) == [Link(LINKED[0], "g")]


def test_a_setting_may_get_another_account_and_join_a_group_without_a_token() -> None:
    wanted = replace(machine({"smtp": WantedSetting({"account": FAX})}), groups={"g": ["a/smtp"]})
    assert changes(wanted, present({"a": "generic"})) == [
        SetFields("a/smtp", {"account": SCANNER}, {"account": FAX}),
        Link("a/smtp", "g"),
    ]


def test_no_setting_is_taken_out_of_a_group_during_a_sign_in() -> None:
    there = present({"a": "sharp-bp"}, {"a": HeldToken(TokenStatus.WAITING)})
    facts = {"profile": LINKED[0], "status": TokenStatus.WAITING}
    refusal = refused(Wanted(groups={"a": LINKED[1:]}), there)
    assert refusal == Refusal(("groups", "a"), "sign_in_in_the_way", facts)


def test_the_last_setting_of_a_group_is_not_taken_off_its_token() -> None:
    planned = plan(Wanted(groups={"a": []}), present({"a": "sharp-bp"}, {"a": HELD}))
    *first, last = sorted(LINKED)
    assert planned.changes == tuple(Unlink(name, "a") for name in first)
    facts = {"profile": last, "status": TokenStatus.RETRIEVED}
    assert planned.refusals == (Refusal(("groups", "a"), "token_in_the_way", facts),)


def test_a_group_whose_members_are_all_replaced_keeps_its_token() -> None:
    there = present({"a": "sharp-bp", "b": "generic"}, {"a": HELD})
    assert changes(Wanted(groups={"a": ["b/smtp"]}), there) == [
        Link("b/smtp", "a"),
        *(Unlink(name, "a") for name in sorted(LINKED)),
    ]


@pytest.mark.parametrize(
    ("groups", "group", "code", "facts"),
    [
        ({"a": LINKED, "g": [LINKED[0]]}, "g", "in_two_groups", {"profile": LINKED[0], "group": "a"}),
        ({"g": ["a/none"]}, "g", "profile_not_found", {"profile": "a/none"}),
        ({"two words": [LINKED[0]]}, "two words", "not_a_name", {"field": "group", "value": "two words"}),
        ({"g": [POP]}, "g", "not_an_smtp_setting", {"field": POP}),
    ],
)
def test_a_link_that_cant_be_is_refused_at_its_group(
    groups: dict[str, list[str]], group: str, code: str, facts: dict[str, str]
) -> None:
    assert refused(Wanted(groups=groups), present({"a": "sharp-bp"})) == Refusal(("groups", group), code, facts)


def test_a_token_of_its_own_is_in_the_way_of_a_link() -> None:
    there = present({"a": "generic"}, {"a/smtp": HELD})
    assert refused(Wanted(groups={"g": ["a/smtp"]}), there).code == "token_in_the_way"
    lets_go = replace(machine({"smtp": WantedSetting(delete_token=True)}), groups={"g": ["a/smtp"]})
    assert changes(lets_go, there) == [DeleteToken("a/smtp", ("a/smtp",)), Link("a/smtp", "g")]


def test_a_setting_that_joins_a_group_has_the_account_of_its_token() -> None:
    there = present({"a": "sharp-bp", "b": "generic"}, {"a": HeldToken(TokenStatus.RETRIEVED, "contoso", FAX)})
    joined: Any = {"groups": {"a": [*LINKED, "b/smtp"]}}
    same = replace(Wanted({"b": WantedMachine(None, {"smtp": WantedSetting({"account": FAX.upper()})})}), **joined)
    assert changes(same, there)[-1] == Link("b/smtp", "a")
    other = Wanted({"b": WantedMachine(None, {"pop": GONE, "smtp": WantedSetting({"account": SCANNER})})}, **joined)
    place = ("machines", "b", "settings", "smtp", "account")
    facts = {"group": "a", "held": FAX, "value": SCANNER}
    assert refused(other, there) == Refusal(place, "other_than_the_groups_token", facts)


# Clients


def test_a_client_reads_what_the_file_names_and_nothing_else() -> None:
    there = present({"a": "generic"}, clients={"crm": {"a/pop", "a/smtp"}})
    wanted = Wanted(clients={"crm": ["a/imap", "a/pop", "a/imap"]})
    assert changes(wanted, there) == [Revoke("crm", "a/smtp"), Grant("crm", "a/imap")]


def test_a_new_client_needs_a_name() -> None:
    refusal = refused(Wanted(clients={"two words": []}), present({}))
    facts = {"field": "client", "value": "two words"}
    assert refusal == Refusal(("clients", "two words"), "not_a_name", facts)


def test_a_grant_goes_with_its_setting() -> None:
    there = present({"a": "generic"}, clients={"crm": {"a/pop"}})
    wanted = replace(machine({"pop": GONE}), clients={"crm": []})
    assert changes(wanted, there) == [RemoveProfile("a/pop")]
