"""An administrator: a name without an @, one or more roles, and a password by number."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest

from domain.administrator import Administrator, AdministratorState, valid_roles
from domain.errors import InvalidValue, NotPermitted, Refused

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
ID = UUID(int=1)
ROOT = "administrator:root"


def anna(*roles: str) -> Administrator:
    return Administrator.add(ID, "anna", roles or ("operator",), by=ROOT, now=NOW)


def test_a_new_administrator_has_roles_and_no_password() -> None:
    new = AdministratorState("anna", ("administrator", "auditor"), password=0, removed=False)
    assert anna("auditor", "administrator").state == new


@pytest.mark.parametrize("name", ["", "two words", "anna@contoso.com", "a" * 64, "-anna", "ann\n", "Ännä"])
def test_a_name_is_one_that_no_account_of_a_provider_could_be(name: str) -> None:
    with pytest.raises(InvalidValue, match=r"^administrator: "):
        Administrator.add(ID, name, ["operator"], by=ROOT, now=NOW)


@pytest.mark.parametrize("roles", [[], ["client"], ["relay"], ["operator", "root"]])
def test_a_person_holds_only_roles_of_people(roles: list[str]) -> None:
    with pytest.raises(
        InvalidValue,
        match=r"^roles: (unknown_role|roles_missing) .*accepted=\('administrator', 'operator', 'auditor'\)",
    ):
        anna(*roles) if roles else valid_roles(roles)


def test_a_refusal_names_the_roles_that_no_person_can_hold() -> None:
    with pytest.raises(InvalidValue) as refused:
        valid_roles(["root", "operator", "client"])
    assert (refused.value.field, refused.value.fields["values"]) == ("roles", ["client", "root"])


def test_roles_are_changed_only_if_they_are_others() -> None:
    administrator = anna("operator", "auditor")
    version = administrator.version
    administrator.set_roles(["auditor", "operator", "operator"], others=(), by=ROOT, now=NOW)
    assert administrator.version == version
    administrator.set_roles(["administrator"], others=(), by=ROOT, now=NOW)
    assert administrator.state.roles == ("administrator",)


def test_each_password_has_a_number_of_its_own() -> None:
    administrator = anna()
    administrator.change_password(by=ROOT, now=NOW)
    administrator.change_password(by="administrator:anna", now=NOW)
    assert administrator.state.password == 2
    administrator.remove(others=(), by=ROOT, now=NOW)
    assert administrator.state.removed
    assert [event.by for event in administrator.collect_events()] == [ROOT, ROOT, "administrator:anna", ROOT]


OTHERS = {
    "administrator with a password": (AdministratorState("eve", ("administrator",), password=1), True),
    "administrator without a password": (AdministratorState("eve", ("administrator",)), False),
    "administrator who was removed": (AdministratorState("eve", ("administrator",), password=1, removed=True), False),
    "operator": (AdministratorState("eve", ("operator", "auditor"), password=1), False),
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_last_administrator_who_can_sign_in_is_not_removed_and_stays_administrator(other: str) -> None:
    eve, can_administer = OTHERS[other]
    changes: list[Callable[[Administrator], None]] = [
        lambda one: one.remove(others=[eve], by=ROOT, now=NOW),
        lambda one: one.set_roles(["operator"], others=[eve], by=ROOT, now=NOW),
    ]
    for change in changes:
        administrator = anna("administrator")
        administrator.change_password(by=ROOT, now=NOW)
        version = administrator.version
        if can_administer:
            change(administrator)
            assert administrator.version == version + 1
            continue
        with pytest.raises(Refused, match="last_administrator name='anna'"):
            change(administrator)
        assert administrator.version == version


@pytest.mark.parametrize("roles", [("operator",), ("administrator",)])
def test_who_administers_nothing_yet_can_be_removed(roles: tuple[str, ...]) -> None:
    one = anna(*roles)
    if roles == ("operator",):
        one.change_password(by=ROOT, now=NOW)
    one.remove(others=(), by=ROOT, now=NOW)
    assert one.state.removed


def test_a_second_factor_is_numbered_anew_each_time_and_each_recovery_code_counts_once() -> None:
    one = anna()
    one.enrol_second_factor(by="operator:anna", now=NOW)
    with pytest.raises(Refused, match="second_factor_exists"):
        one.enrol_second_factor(by="operator:anna", now=NOW)
    one.use_recovery_code(3, by="operator:anna", now=NOW)
    with pytest.raises(NotPermitted, match="wrong_code"):
        one.use_recovery_code(3, by="operator:anna", now=NOW)
    one.use_recovery_code(1, by="operator:anna", now=NOW)
    assert (one.state.second_factor, one.state.used_codes) == (1, (3, 1))
    one.remove_second_factor(by="operator:anna", now=NOW)
    with pytest.raises(NotPermitted, match="wrong_code"):
        one.use_recovery_code(2, by="operator:anna", now=NOW)
    one.enrol_second_factor(by="operator:anna", now=NOW)
    assert (one.state.second_factor, one.state.used_codes) == (2, ())


def test_somebody_else_resets_a_second_factor_that_is_there() -> None:
    one = anna()
    acts: list[Callable[[], None]] = [
        lambda: one.remove_second_factor(by=ROOT, now=NOW),
        lambda: one.reset_second_factor(is_own=False, by=ROOT, now=NOW),
    ]
    for act in acts:
        with pytest.raises(Refused, match="second_factor_missing name='anna'"):
            act()
    one.enrol_second_factor(by="operator:anna", now=NOW)
    with pytest.raises(Refused, match="second_factor_own"):
        one.reset_second_factor(is_own=True, by="administrator:anna", now=NOW)
    one.reset_second_factor(is_own=False, by=ROOT, now=NOW)
    assert one.state.second_factor == 0
