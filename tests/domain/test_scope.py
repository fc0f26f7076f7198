"""The machines that somebody is limited to: patterns of names, and the limits of several sources of roles."""

from __future__ import annotations

import pytest

from domain.errors import InvalidValue
from domain.scope import EVERY_MACHINE, NO_MACHINE, Scope, check_limitable, scopes_of, valid_patterns

HAMBURG, LOBBY = Scope(("hamburg-*",)), Scope(("lobby",))


def test_a_pattern_is_a_name_in_which_a_star_stands_for_anything() -> None:
    assert [
        name for name in ("hamburg-1", "hamburg-", "Hamburg-1", "xhamburg-1", "lobby") if HAMBURG.has_machine(name)
    ] == [
        "hamburg-1",
        "hamburg-",
    ]
    assert Scope(("*-mfp",)).has_machine("office-mfp")
    assert not LOBBY.has_machine("lobby-2")
    assert HAMBURG.has_profile("hamburg-1/smtp")
    assert not HAMBURG.has_profile("lobby/hamburg-1")


def test_all_of_several_machines_are_inside_and_there_is_one() -> None:
    assert HAMBURG.has_machines(["hamburg-1", "hamburg-2"])
    assert not HAMBURG.has_machines(["hamburg-1", "lobby"])
    assert not EVERY_MACHINE.has_machines([])
    assert not NO_MACHINE.has_machine("lobby")


@pytest.mark.parametrize("pattern", ["", "two words", "ham[b]urg", "hamburg?", "a" * 65, "x/y", "\n"])
def test_what_is_like_no_name_is_no_pattern(pattern: str) -> None:
    with pytest.raises(InvalidValue, match="machines: not_a_pattern"):
        valid_patterns(["lobby", pattern])


def test_patterns_are_kept_once_in_their_order() -> None:
    assert valid_patterns(["lobby", "hamburg-*", "lobby"]) == ("lobby", "hamburg-*")


def test_an_administrator_is_never_limited() -> None:
    with pytest.raises(InvalidValue, match="machines: administrator_limited"):
        check_limitable(["operator", "administrator"], ["lobby"])
    check_limitable(["administrator"], [])
    check_limitable(["operator", "auditor"], ["lobby"])


def test_each_role_has_the_machines_of_the_sources_that_give_it() -> None:
    sources = [(["operator"], ["hamburg-*"]), (["operator", "auditor"], ["lobby"]), (["auditor"], [])]
    assert scopes_of(sources) == {"operator": Scope(("hamburg-*", "lobby"))}
    assert scopes_of([(["administrator", "client"], [])]) == {}
