"""A machine and the names it may have."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from domain.errors import InvalidValue, Refused
from domain.machine import MOST_TAGS, Machine, MachineState, check_name_is_free, valid_tags

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
MACHINE = UUID(int=1)


@pytest.mark.parametrize("name", ["office-mfp", "m", "7", "Scanner_2.floor-3", "n" * 63])
def test_a_machine_has_a_name_and_a_catalogue(name: str) -> None:
    machine = Machine.add(MACHINE, name, "sharp-bp", by="administrator", now=NOW)
    assert machine.collect_events() == [
        Machine.Created(
            originator_id=MACHINE,
            originator_version=1,
            timestamp=NOW,
            originator_topic=Machine.TOPIC,
            name=name,
            catalogue="sharp-bp",
            by="administrator",
        )
    ]
    assert machine.state == MachineState(name, "sharp-bp")


@pytest.mark.parametrize(("machine_exists", "group_exists"), [(True, False), (False, True), (True, True)])
def test_machines_and_groups_share_their_names(machine_exists: bool, group_exists: bool) -> None:
    check_name_is_free("office-mfp", machine_exists=False, group_exists=False)
    with pytest.raises(Refused) as refused:
        check_name_is_free("office-mfp", machine_exists=machine_exists, group_exists=group_exists)
    kind = "machine" if machine_exists else "group"
    assert (refused.value.code, refused.value.fields) == ("name_taken", {"name": "office-mfp", "kind": kind})


@pytest.mark.parametrize(
    "name",
    ["", " ", "office mfp", "office/mfp", "-mfp", "mfp-", ".mfp", "mfp.", "mfp\n", "büro", "n" * 64, "..", "mfp\x00"],
)
def test_what_is_not_a_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        Machine.add(MACHINE, name, "sharp-bp", by="administrator", now=NOW)
    error = refused.value
    assert (error.field, error.code, error.fields) == ("machine", "not_a_name", {"value": name})


def test_a_machine_gets_another_name_and_keeps_the_rest() -> None:
    machine = Machine.add(MACHINE, "office-mfp", "sharp-bp", by="administrator", now=NOW)
    machine.collect_events()
    machine.rename("lobby-mfp", by="bob", now=NOW)
    assert machine.collect_events() == [
        Machine.Renamed(
            originator_id=MACHINE,
            originator_version=2,
            timestamp=NOW,
            name="lobby-mfp",
            previous="office-mfp",
            by="bob",
        )
    ]
    assert machine.state == MachineState("lobby-mfp", "sharp-bp")


def test_a_name_that_is_none_changes_nothing_at_a_machine() -> None:
    machine = Machine.add(MACHINE, "office-mfp", "sharp-bp", by="administrator", now=NOW)
    machine.collect_events()
    with pytest.raises(InvalidValue) as refused:
        machine.rename("lobby/mfp", by="bob", now=NOW)
    assert (refused.value.field, refused.value.code) == ("machine", "not_a_name")
    assert machine.collect_events() == []


def test_tags_are_words_in_lower_case_each_once() -> None:
    machine = Machine.add(MACHINE, "office-mfp", "sharp-bp", by="administrator", now=NOW)
    machine.collect_events()
    machine.change_tags(["Hamburg", " hamburg", "FLOOR-3", "büro"], [], by="bob", now=NOW)
    machine.change_tags(["site:1"], ["Floor-3"], by="bob", now=NOW)
    machine.change_tags(["hamburg"], ["nowhere"], by="bob", now=NOW)
    tagged = [event.tags for event in machine.collect_events() if isinstance(event, Machine.Tagged)]
    assert tagged == [["büro", "floor-3", "hamburg"], ["büro", "hamburg", "site:1"]]
    assert machine.state.tags == ("büro", "hamburg", "site:1")


@pytest.mark.parametrize("tag", ["", " ", "two words", "-a", "a-", "a/b", "a,b", "t" * 33, "a\x00"])
def test_what_is_not_a_tag_is_refused(tag: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        valid_tags(["hamburg", tag])
    assert (refused.value.field, refused.value.code) == ("tags", "not_a_tag")


def test_a_machine_has_a_bounded_number_of_tags() -> None:
    machine = Machine.add(MACHINE, "office-mfp", "sharp-bp", by="administrator", now=NOW)
    machine.tag([f"tag-{number}" for number in range(MOST_TAGS)], by="bob", now=NOW)
    with pytest.raises(InvalidValue) as refused:
        machine.change_tags(["one-more"], [], by="bob", now=NOW)
    assert (refused.value.code, refused.value.fields) == ("too_many_tags", {"most": MOST_TAGS})
    assert len(machine.state.tags) == MOST_TAGS


def test_a_machine_that_was_removed_knows_it() -> None:
    machine = Machine.add(MACHINE, "office-mfp", "sharp-bp", by="administrator", now=NOW)
    machine.collect_events()
    machine.remove(by="bob", now=NOW)
    assert machine.collect_events() == [
        Machine.Removed(originator_id=MACHINE, originator_version=2, timestamp=NOW, by="bob")
    ]
    assert machine.state == MachineState("office-mfp", "sharp-bp", removed=True)
