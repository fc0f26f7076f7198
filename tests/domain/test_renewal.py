"""When an access token is renewed before it is handed out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.errors import InvalidValue
from domain.renewal import SERVING_MARGIN_SECONDS, is_due, lifetime_seconds, margin_seconds, remaining_seconds
from domain.token_state import Generation

ISSUED = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


def lasting(seconds: int) -> Generation:
    return Generation(
        1,
        1,
        "a1",
        "SMTP.Send",
        ISSUED,
        ISSUED + timedelta(seconds=seconds),
        renewable=True,
        flow="device",
        granted_by="a1",
        granted_at=ISSUED,
        grant_expires_at=None,
        end_set_at=ISSUED,
    )


def after(seconds: float) -> datetime:
    return ISSUED + timedelta(seconds=seconds)


def test_the_serving_margin_is_ten_minutes() -> None:
    assert SERVING_MARGIN_SECONDS == 600


def test_life_and_rest_of_an_access_token_are_in_seconds() -> None:
    credential = lasting(3600)
    assert lifetime_seconds(credential) == 3600
    assert remaining_seconds(credential, after(3000.5)) == 599.5
    assert remaining_seconds(credential, after(3601)) == -1


@pytest.mark.parametrize(
    ("life", "margin"), [(3600, 600), (1201, 600), (1200, 600), (1199, 599.5), (600, 300), (5, 2.5), (100_800, 600)]
)
def test_the_margin_is_ten_minutes_or_half_the_life_if_that_is_less(life: int, margin: float) -> None:
    assert margin_seconds(lasting(life), None) == margin


@pytest.mark.parametrize(
    ("life", "left", "due"),
    [
        (3600, 601, False),
        (3600, 600, False),
        (3600, 599, True),
        (3600, 0, True),
        (3600, -1, True),
        (300, 300, False),
        (300, 150, False),
        (300, 149, True),
        (300, 0, True),
    ],
)
def test_an_access_token_is_due_when_less_than_the_margin_is_left(life: int, left: int, due: bool) -> None:
    assert is_due(lasting(life), after(life - left)) is due


@pytest.mark.parametrize(
    ("min_ttl", "left", "due"),
    [(1800, 1800, False), (1800, 1799, True), (3600, 3600, False), (3600, 3599, True)],
)
def test_a_caller_may_ask_for_more_life_than_the_margin(min_ttl: int, left: int, due: bool) -> None:
    assert is_due(lasting(3600), after(3600 - left), min_ttl) is due


def test_more_than_the_whole_life_can_not_be_asked_for_and_the_life_is_named() -> None:
    with pytest.raises(InvalidValue) as refused:
        is_due(lasting(3599), ISSUED, 3600)
    assert (refused.value.field, refused.value.code) == ("min_ttl", "longer_than_life")
    assert refused.value.fields == {"value": 3600, "life_seconds": 3599}
    assert refused.value.field == "min_ttl"


@pytest.mark.parametrize("left", [0, -1])
def test_an_access_token_that_has_expired_is_due_even_for_who_asks_for_no_life_at_all(left: int) -> None:
    assert is_due(lasting(3600), after(3600 - left), 0)


@for_all(life=st.integers(1, 200_000), seconds=st.integers(0, 200_000))
def test_a_fresh_access_token_is_never_due_and_one_that_is_due_stays_due(life: int, seconds: int) -> None:
    credential = lasting(life)
    assert not is_due(credential, ISSUED)
    if is_due(credential, after(seconds)):
        assert is_due(credential, after(seconds + 1))


@pytest.mark.parametrize(("ahead", "due"), [(0, False), (600, False), (601, True), (365 * 86_400, True)])
def test_a_token_issued_while_the_clock_was_far_ahead_is_due_once_the_clock_is_right(ahead: int, due: bool) -> None:
    assert is_due(lasting(3600), after(-ahead)) is due
