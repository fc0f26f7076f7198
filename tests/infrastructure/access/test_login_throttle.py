"""The rule of the login throttle, which the pages and the relay share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes import FakeClock

from domain.errors import TooManyRequests
from infrastructure.access.login_throttle import LoginThrottle, ThrottleRule, WrongTries, source_of

RULE = ThrottleRule(free_tries=3, first_seconds=1.0, longest_seconds=10.0, forgotten_after_seconds=60.0)


@pytest.fixture
def tries(clock: FakeClock) -> WrongTries:
    return WrongTries(RULE, clock.elapsed, most=3)


def add(tries: WrongTries, times: int, name: str = "anna") -> None:
    for _ in range(times):
        tries.add(name)


def test_mistakes_cost_nothing_and_each_wrong_try_after_them_costs_twice_as_much_up_to_a_limit() -> None:
    assert [RULE.wait_seconds(wrong) for wrong in range(9)] == [0, 0, 0, 1, 2, 4, 8, 10, 10]
    assert RULE.wait_seconds(1_000_000) == 10


def test_a_wait_passes_and_the_next_one_is_as_long_in_all(tries: WrongTries, clock: FakeClock) -> None:
    add(tries, 5)
    clock.step(seconds=1)
    assert (tries.wait_seconds("anna"), tries.remaining_seconds("anna")) == (4, 3)
    clock.step(seconds=30)
    assert (tries.wait_seconds("anna"), tries.remaining_seconds("anna")) == (4, 0)
    assert (tries.wait_seconds("bob"), tries.remaining_seconds("bob")) == (0, 0)


def test_what_was_wrong_is_forgotten_after_a_while_without_a_wrong_try(tries: WrongTries, clock: FakeClock) -> None:
    add(tries, 5)
    clock.step(seconds=59)
    add(tries, 1)
    clock.step(seconds=59)
    assert tries.wait_seconds("anna") == 8
    clock.step(seconds=1)
    assert tries.wait_seconds("anna") == 0


def test_a_try_that_was_right_is_taken_back_and_a_new_password_starts_again(tries: WrongTries) -> None:
    add(tries, 5)
    tries.take_back("anna")
    assert tries.wait_seconds("anna") == 2
    tries.forget("anna")
    tries.take_back("anna")
    assert tries.wait_seconds("anna") == 0


def test_the_memory_is_bounded_and_what_was_quiet_for_longest_makes_room(tries: WrongTries) -> None:
    for name in ("anna", "bob", "carol", "anna", "dave"):
        add(tries, 4, name)
    assert [tries.wait_seconds(name) for name in ("anna", "bob", "carol", "dave")] == [10, 0, 2, 2]


def test_the_memory_of_the_sign_in_page_is_bounded_in_names_and_in_their_length(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock)
    for number in range(10_001):
        throttle.begin(f"{number}{'x' * 100}", f"source {number}")
    assert len(throttle._accounts._counts) == len(throttle._sources._counts) == 10_000
    assert {len(name) for name in throttle._accounts._counts} == {64}


def test_what_ends_the_wait_of_a_name_that_is_too_long_ends_it_under_the_name_that_is_kept(clock: FakeClock) -> None:
    throttle, name = LoginThrottle(clock), "x" * 100
    ways: tuple[Callable[[], None], ...] = (
        lambda: throttle.succeeded(name, "192.0.2.1"),
        lambda: throttle.forget(name),
    )
    for end_wait in ways:
        for number in range(6):
            clock.step(minutes=15)
            throttle.begin(name, f"source {number}")
        end_wait()
        throttle.begin(name, "192.0.2.2")


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("the Unix socket", "the Unix socket"),
    ],
)
def test_a_source_is_an_ipv4_address_or_the_64_bits_of_an_ipv6_network(address: str, source: str) -> None:
    assert source_of(address) == source


def guess(throttle: LoginThrottle, clock: FakeClock, tries: int) -> None:
    for number in range(tries):
        clock.step(minutes=15)
        throttle.begin("anna", f"198.51.100.{number}")


def test_guesses_from_elsewhere_keep_nobody_out_who_has_signed_in_from_here(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock)
    throttle.begin("anna", "192.0.2.1")
    throttle.succeeded("anna", "192.0.2.1")
    guess(throttle, clock, 8)
    with pytest.raises(TooManyRequests):
        throttle.begin("anna", "203.0.113.9")
    throttle.begin("anna", "192.0.2.1")


def test_a_place_that_signed_in_has_as_many_guesses_as_any_other(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock)
    throttle.begin("anna", "192.0.2.1")
    throttle.succeeded("anna", "192.0.2.1")
    for _ in range(5):
        throttle.begin("anna", "192.0.2.1")
    with pytest.raises(TooManyRequests):
        throttle.begin("anna", "192.0.2.1")
    with pytest.raises(TooManyRequests):
        throttle.begin("bob", "192.0.2.1")


def test_a_new_password_ends_the_waits_of_every_place(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock)
    for place in ("2001:db8:1:1::1", "2001:db8:1:2::1"):
        throttle.begin("anna", place)
        throttle.succeeded("anna", place)
    for _ in range(5):
        throttle.begin("anna", "2001:db8:1:1::1")
    throttle.forget("anna")
    assert throttle._accounts._counts == {}


def test_the_places_that_are_remembered_are_bounded(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock)
    for number in range(10_001):
        throttle.begin("anna", f"source {number}")
        throttle.succeeded("anna", f"source {number}")
    assert len(throttle._signed_in) == 10_000
