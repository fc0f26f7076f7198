"""What will end a token, and from when on that is worth a person's attention."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from domain.forecast import Cause, Ending, forecast
from domain.lifecycle import TokenStatus
from domain.renewal import GrantLimits, next_renewal_at
from domain.token import Generation, TokenState

ISSUED = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
CREDENTIAL = Generation(1, 1, "a1", "SMTP.Send", ISSUED, ISSUED + HOUR, True, "device", "a1", None)
STATE = TokenState(TokenStatus.RETRIEVED, since=ISSUED, credential=CREDENTIAL)
NINETY_DAYS = GrantLimits(90 * DAY)


def test_a_grant_ends_after_the_inactivity_limit_counted_from_its_last_use() -> None:
    assert forecast(STATE, NINETY_DAYS, None) == Ending(Cause.GRANT_ENDS, ISSUED + 90 * DAY, ISSUED)


def test_nothing_is_known_to_end_a_grant_without_limits() -> None:
    assert forecast(STATE, GrantLimits(), None) is None


def test_what_comes_first_ends_a_token() -> None:
    secret = ISSUED + 40 * DAY
    assert forecast(STATE, NINETY_DAYS, secret) == Ending(Cause.CLIENT_SECRET_EXPIRES, secret)
    week = replace(STATE, credential=replace(CREDENTIAL, grant_expires_at=ISSUED + 7 * DAY))
    assert forecast(week, NINETY_DAYS, secret) == Ending(Cause.GRANT_ENDS, ISSUED + 7 * DAY, ISSUED)


def test_a_token_that_can_not_be_renewed_ends_with_its_access_token() -> None:
    state = replace(STATE, credential=replace(CREDENTIAL, renewable=False))
    assert forecast(state, NINETY_DAYS, None) == Ending(Cause.GRANT_ENDS, ISSUED + HOUR, ISSUED)


@pytest.mark.parametrize("state", [replace(STATE, dead=True), replace(STATE, credential=None)])
def test_a_token_that_is_dead_or_not_held_has_no_end_to_come(state: TokenState) -> None:
    assert forecast(state, NINETY_DAYS, ISSUED + DAY) is None


@pytest.mark.parametrize(
    ("whole", "left", "near"),
    [
        (90 * DAY, 19 * DAY, False),
        (90 * DAY, 17 * DAY, True),
        (3650 * DAY, 31 * DAY, False),
        (3650 * DAY, 29 * DAY, True),
        (HOUR / 2, HOUR / 9, False),
        (HOUR / 2, HOUR / 11, True),
        (HOUR / 2, -HOUR, True),
    ],
)
def test_an_end_is_near_in_the_last_fifth_of_the_time_and_at_most_a_month_before(
    whole: timedelta, left: timedelta, near: bool
) -> None:
    ending = Ending(Cause.GRANT_ENDS, ISSUED + whole, ISSUED)
    assert ending.is_near(ending.at - left) is near


def test_a_client_secret_s_end_is_near_a_month_before() -> None:
    ending = Ending(Cause.CLIENT_SECRET_EXPIRES, ISSUED)
    assert not ending.is_near(ISSUED - 31 * DAY)
    assert ending.is_near(ISSUED - 29 * DAY)
    assert ending.is_near(ISSUED + DAY)


@settings(deadline=None)
@for_all(id=st.uuids(), days=st.integers(1, 3650), number=st.integers(1, 10**6))
def test_nobody_is_bothered_about_a_grant_whose_renewals_work(id: UUID, days: int, number: int) -> None:
    limits, credential = GrantLimits(days * DAY), replace(CREDENTIAL, number=number)
    ending = forecast(replace(STATE, credential=credential), limits, None)
    renewal = next_renewal_at(id, credential, limits, None, ISSUED + days * DAY)
    assert ending is not None
    assert renewal is not None
    assert not ending.is_near(renewal)
