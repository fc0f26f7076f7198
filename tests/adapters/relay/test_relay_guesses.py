"""A source that guesses is slowed, ever more, and nobody else is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from served import SimulatedTime

from adapters.relay import guesses
from adapters.relay.guesses import Guesses
from domain.errors import Unreachable

GUESSER, OTHER = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def time() -> SimulatedTime:
    return SimulatedTime()


@pytest.fixture
def guesses_(time: SimulatedTime) -> Guesses:
    return Guesses(time.monotonic, time.sleep)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def guess(counted: Guesses, times: int, address: str = GUESSER) -> None:
    for _ in range(times):
        counted.count_wrong(address)


def test_mistakes_cost_nothing_and_guesses_ever_more_up_to_some_seconds(time: SimulatedTime, guesses_: Guesses) -> None:
    async def story() -> None:
        for _ in range(14):
            waiting = asyncio.create_task(guesses_.wait(GUESSER))
            await time.advance(60)
            await waiting
            guesses_.count_wrong(GUESSER)

    run(story())
    assert time.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0]


def test_nobody_else_waits(time: SimulatedTime, guesses_: Guesses) -> None:
    guess(guesses_, 10_000)
    run(guesses_.wait(OTHER))
    assert time.slept == []


def test_others_come_first_while_the_guesser_waits(time: SimulatedTime, guesses_: Guesses) -> None:
    served: list[str] = []

    async def come(address: str) -> None:
        await guesses_.wait(address)
        served.append(address)

    async def story() -> None:
        guess(guesses_, 20)
        coming = [asyncio.create_task(come(address)) for address in (GUESSER, OTHER, "2001:db8::1")]
        await time.advance(7.9)
        assert served == [OTHER, "2001:db8::1"]
        await time.advance(0.2)
        assert served == [OTHER, "2001:db8::1", GUESSER]
        await asyncio.gather(*coming)

    run(story())


def test_only_so_many_attempts_of_a_source_wait_and_more_are_refused_at_once(
    time: SimulatedTime, guesses_: Guesses
) -> None:
    async def story() -> None:
        guess(guesses_, 20)
        waiting = [asyncio.create_task(guesses_.wait(GUESSER)) for _ in range(4)]
        await time.advance(1)
        with pytest.raises(Unreachable) as refused:
            await guesses_.wait(GUESSER)
        assert str(refused.value) == f"too many wrong passwords came from {GUESSER}: wait a little"
        with pytest.raises(Unreachable):
            guesses_.check(GUESSER)
        guesses_.check(OTHER)
        await time.advance(7)
        await asyncio.gather(*waiting)
        guesses_.check(GUESSER)

    run(story())


def test_a_guesser_that_leaves_early_and_comes_again_gains_nothing(time: SimulatedTime, guesses_: Guesses) -> None:
    async def story() -> None:
        guess(guesses_, 20)
        for _ in range(4):
            leaving = asyncio.create_task(guesses_.wait(GUESSER))
            await time.advance(0.1)
            leaving.cancel()
        with pytest.raises(Unreachable):
            await guesses_.wait(GUESSER)
        await time.advance(8)
        again = asyncio.create_task(guesses_.wait(GUESSER))
        await time.advance(8)
        await again

    run(story())


def test_guesses_are_forgotten_after_a_while_without_any(time: SimulatedTime, guesses_: Guesses) -> None:
    guess(guesses_, 20)
    time.step(601)
    run(guesses_.wait(GUESSER))
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
    counted = Guesses(time.monotonic, time.skip)
    guess(counted, 20, one)
    run(counted.wait(other))
    assert (time.slept == [8.0]) is same


def test_the_memory_is_bounded_and_who_guessed_last_stays_in_it(
    time: SimulatedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guesses, "_SOURCES", 100)
    counted = Guesses(time.monotonic, time.skip)
    guess(counted, 20)
    for number in range(99):
        guess(counted, 20, f"198.51.100.{number}")
    counted.count_wrong(GUESSER)
    for number in range(99):
        counted.count_wrong(f"203.0.113.{number}")
    assert len(counted._sources) == 100
    run(counted.wait(GUESSER))
    run(counted.wait("198.51.100.5"))
    assert time.slept == [8.0]
