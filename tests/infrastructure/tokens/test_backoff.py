"""How long a provider is left alone."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from fakes import START

from infrastructure.tokens.backoff import Backoff

ONE, TWO, THREE = (UUID(int=n) for n in (1, 2, 3))
CONTOSO, FABRIKAM = "contoso", "fabrikam"


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture
def backoff() -> Backoff:
    return Backoff()


def waits(backoff: Backoff, token_id: UUID, since: float, *, at_most: float = 5000) -> float:
    """For how many seconds after `since` this token is not tried; asks about a provider that never failed."""
    return next(s for s in range(int(at_most)) if backoff.acquire(token_id, "nobody", after(since + s)))


def fail_until_open(backoff: Backoff, seconds: float = 0) -> None:
    for number in range(100, 105):
        backoff.failed(UUID(int=number), CONTOSO, after(seconds), None)


def test_what_never_failed_may_be_tried(backoff: Backoff) -> None:
    assert backoff.acquire(ONE, CONTOSO, START)


def test_a_token_waits_twice_as_long_after_each_failure_up_to_a_quarter_of_an_hour(backoff: Backoff) -> None:
    expected = [15, 30, 60, 120, 240, 480, 900, 900, 900]
    since = 0.0
    for seconds in expected:
        backoff.failed(ONE, CONTOSO, after(since), None)
        waited = waits(backoff, ONE, since)
        assert 0.75 * seconds <= waited <= 1.25 * seconds + 1
        since += waited


def test_waits_of_tokens_that_failed_together_are_spread(backoff: Backoff) -> None:
    ids = [UUID(int=n) for n in range(100)]
    for id in ids:
        backoff.failed(id, CONTOSO, START, None)
    assert len({waits(backoff, id, 0) for id in ids}) > 5


def test_a_failed_token_does_not_keep_others_from_being_tried(backoff: Backoff) -> None:
    backoff.failed(ONE, CONTOSO, START, None)
    assert not backoff.acquire(ONE, CONTOSO, after(5))
    assert backoff.acquire(TWO, CONTOSO, after(5))


def test_a_definite_answer_ends_the_wait(backoff: Backoff) -> None:
    backoff.failed(ONE, CONTOSO, START, None)
    backoff.answered(ONE, CONTOSO)
    assert backoff.acquire(ONE, CONTOSO, START)


def test_five_failures_in_a_row_open_the_circuit_for_every_token_of_the_provider(backoff: Backoff) -> None:
    for number in range(100, 104):
        backoff.failed(UUID(int=number), CONTOSO, START, None)
    assert backoff.acquire(ONE, CONTOSO, START)
    backoff.failed(UUID(int=104), CONTOSO, START, None)
    assert not backoff.acquire(ONE, CONTOSO, START)
    assert backoff.acquire(ONE, FABRIKAM, START)


def test_failures_with_a_success_in_between_do_not_open_the_circuit(backoff: Backoff) -> None:
    for number in range(100, 120):
        backoff.failed(UUID(int=number), CONTOSO, START, None)
        if number % 4 == 3:
            backoff.answered(UUID(int=number), CONTOSO)
    assert backoff.acquire(ONE, CONTOSO, START)


def test_an_open_circuit_lets_one_token_try_in_each_wait(backoff: Backoff) -> None:
    fail_until_open(backoff)
    tries = [second for second in range(7200) if backoff.acquire(ONE, CONTOSO, after(second))]
    assert 240 * 0.75 <= tries[0] <= 240 * 1.25 + 1
    assert all(0.75 * 240 <= later - earlier <= 1.25 * 240 + 1 for earlier, later in pairwise(tries))


def test_a_circuit_waits_no_longer_than_five_minutes_however_many_requests_failed_together(backoff: Backoff) -> None:
    for number in range(1000):
        backoff.failed(UUID(int=number + 100), CONTOSO, START, None)
    assert backoff.acquire(ONE, CONTOSO, after(300 * 1.25 + 1))


def test_after_an_outage_every_token_of_the_provider_may_be_tried_at_once(backoff: Backoff) -> None:
    backoff.failed(TWO, CONTOSO, START, None)
    backoff.failed(THREE, FABRIKAM, START, None)
    fail_until_open(backoff)
    backoff.answered(ONE, CONTOSO)
    assert backoff.acquire(ONE, CONTOSO, START)
    assert backoff.acquire(TWO, CONTOSO, START)
    assert not backoff.acquire(THREE, FABRIKAM, START), "that provider said nothing"


def test_without_an_outage_the_success_of_one_token_does_not_end_the_wait_of_another(backoff: Backoff) -> None:
    backoff.failed(TWO, CONTOSO, START, None)
    backoff.answered(ONE, CONTOSO)
    assert not backoff.acquire(TWO, CONTOSO, START)


def test_retry_after_is_honoured_for_the_token_and_for_the_whole_provider(backoff: Backoff) -> None:
    backoff.failed(ONE, CONTOSO, START, 600)
    for second in (0, 300, 599):
        assert not backoff.acquire(ONE, CONTOSO, after(second))
        assert not backoff.acquire(TWO, CONTOSO, after(second))
    assert backoff.acquire(TWO, CONTOSO, after(600))
    assert not backoff.acquire(THREE, CONTOSO, after(600)), "one at a time until it has answered"


def test_a_failure_that_was_under_way_does_not_shorten_what_the_provider_asked_for(backoff: Backoff) -> None:
    backoff.failed(ONE, CONTOSO, START, 1800)
    fail_until_open(backoff, 1)
    assert not backoff.acquire(TWO, CONTOSO, after(1799))
    assert backoff.acquire(TWO, CONTOSO, after(1801))


def test_what_is_put_off_through_no_fault_of_the_provider_waits_alone(backoff: Backoff) -> None:
    for number in range(100, 120):
        backoff.put_off(UUID(int=number), START)
    assert not backoff.acquire(UUID(int=100), CONTOSO, START)
    assert backoff.acquire(ONE, CONTOSO, START)


def test_putting_off_what_waits_already_does_not_lengthen_its_wait(backoff: Backoff) -> None:
    backoff.failed(ONE, CONTOSO, START, None)
    for _ in range(10):
        backoff.put_off(ONE, START)
    assert waits(backoff, ONE, 0) <= 15 * 1.25 + 1


def test_a_clock_that_steps_back_does_not_make_a_wait_endless(backoff: Backoff) -> None:
    backoff.failed(ONE, CONTOSO, after(365 * 24 * 3600), None)
    assert backoff.acquire(ONE, CONTOSO, START)
    backoff.failed(ONE, CONTOSO, START, None)
    assert not backoff.acquire(ONE, CONTOSO, after(1)), "and it waits by the new time from then on"
