"""The throttle delays a source with wrong passwords, ever longer, and no other source."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from served import SimulatedTime

from adapters.relay import login_throttle
from adapters.relay.login_throttle import SourceThrottle
from domain.errors import Unreachable

GUESSER, OTHER = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def time() -> SimulatedTime:
    return SimulatedTime()


@pytest.fixture
def throttle(time: SimulatedTime) -> SourceThrottle:
    return SourceThrottle(time.monotonic, time.sleep)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def guess(throttle: SourceThrottle, times: int, address: str = GUESSER) -> None:
    for _ in range(times):
        throttle.count_wrong(address)


def test_a_few_wrong_passwords_cost_nothing_and_more_ever_longer_waits_up_to_a_limit(
    time: SimulatedTime, throttle: SourceThrottle
) -> None:
    async def story() -> None:
        for _ in range(14):
            waiting = asyncio.create_task(throttle.wait(GUESSER))
            await time.advance(60)
            await waiting
            throttle.count_wrong(GUESSER)

    run(story())
    assert time.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0]


def test_nobody_else_waits(time: SimulatedTime, throttle: SourceThrottle) -> None:
    guess(throttle, 10_000)
    run(throttle.wait(OTHER))
    assert time.slept == []


def test_others_come_first_while_the_guesser_waits(time: SimulatedTime, throttle: SourceThrottle) -> None:
    served: list[str] = []

    async def come(address: str) -> None:
        await throttle.wait(address)
        served.append(address)

    async def story() -> None:
        guess(throttle, 20)
        coming = [asyncio.create_task(come(address)) for address in (GUESSER, OTHER, "2001:db8::1")]
        await time.advance(7.9)
        assert served == [OTHER, "2001:db8::1"]
        await time.advance(0.2)
        assert served == [OTHER, "2001:db8::1", GUESSER]
        await asyncio.gather(*coming)

    run(story())


def test_only_so_many_attempts_of_a_source_wait_and_more_are_refused_at_once(
    time: SimulatedTime, throttle: SourceThrottle
) -> None:
    async def story() -> None:
        guess(throttle, 20)
        waiting = [asyncio.create_task(throttle.wait(GUESSER)) for _ in range(4)]
        await time.advance(1)
        with pytest.raises(Unreachable) as refused:
            await throttle.wait(GUESSER)
        assert refused.value.code == "too_many_wrong_passwords_from"
        assert refused.value.fields == {"address": GUESSER}
        with pytest.raises(Unreachable):
            throttle.check(GUESSER)
        throttle.check(OTHER)
        await time.advance(7)
        await asyncio.gather(*waiting)
        throttle.check(GUESSER)

    run(story())


def test_a_guesser_that_leaves_early_and_comes_again_gains_nothing(
    time: SimulatedTime, throttle: SourceThrottle
) -> None:
    async def story() -> None:
        guess(throttle, 20)
        for _ in range(4):
            leaving = asyncio.create_task(throttle.wait(GUESSER))
            await time.advance(0.1)
            leaving.cancel()
        with pytest.raises(Unreachable):
            await throttle.wait(GUESSER)
        await time.advance(8)
        again = asyncio.create_task(throttle.wait(GUESSER))
        await time.advance(8)
        await again

    run(story())


def test_wrong_passwords_are_forgotten_after_a_while_without_one(time: SimulatedTime, throttle: SourceThrottle) -> None:
    guess(throttle, 20)
    time.step(601)
    run(throttle.wait(GUESSER))
    assert time.slept == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_a_source_is_an_ipv4_address_or_the_64_bits_of_an_ipv6_network(
    time: SimulatedTime, one: str, other: str, same: bool
) -> None:
    throttle = SourceThrottle(time.monotonic, time.skip)
    guess(throttle, 20, one)
    run(throttle.wait(other))
    assert (time.slept == [8.0]) is same


def test_the_memory_is_bounded_and_who_guessed_last_stays_in_it(
    time: SimulatedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login_throttle, "_SOURCES", 100)
    throttle = SourceThrottle(time.monotonic, time.skip)
    guess(throttle, 20)
    for number in range(99):
        guess(throttle, 20, f"198.51.100.{number}")
    throttle.count_wrong(GUESSER)
    for number in range(99):
        throttle.count_wrong(f"203.0.113.{number}")
    assert len(throttle._wrong_tries._counts) == 100
    run(throttle.wait(GUESSER))
    run(throttle.wait("198.51.100.5"))
    assert time.slept == [8.0]
