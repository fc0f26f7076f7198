"""What will end a token, and from when on that is worth a person's attention."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.expiry_forecast import Cause, Expiry, forecast, used_since
from domain.lifecycle import TokenStatus
from domain.outcomes import Reason
from domain.renewal import GrantLimits, next_renewal_at, unused_until
from domain.token_state import Generation, TokenState

ISSUED = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
CREDENTIAL = Generation(1, 1, "a1", "SMTP.Send", ISSUED, ISSUED + HOUR, True, "device", "a1", ISSUED, None, ISSUED)
STATE = TokenState(TokenStatus.RETRIEVED, since=ISSUED, credential=CREDENTIAL)
NINETY_DAYS = GrantLimits(90 * DAY)


def test_a_grant_ends_after_the_inactivity_limit_counted_from_its_last_use() -> None:
    assert forecast(STATE, NINETY_DAYS, None) == Expiry(Cause.GRANT_ENDS, ISSUED + 90 * DAY, ISSUED)


def test_nothing_is_known_to_end_a_grant_without_limits() -> None:
    assert forecast(STATE, GrantLimits(), None) is None


def test_what_comes_first_ends_a_token() -> None:
    secret = ISSUED + 40 * DAY
    assert forecast(STATE, NINETY_DAYS, secret) == Expiry(Cause.CLIENT_SECRET_EXPIRES, secret)
    week = replace(STATE, credential=replace(CREDENTIAL, grant_expires_at=ISSUED + 7 * DAY))
    assert forecast(week, NINETY_DAYS, secret) == Expiry(Cause.GRANT_ENDS, ISSUED + 7 * DAY, ISSUED)


def test_a_token_that_can_not_be_renewed_ends_with_its_access_token() -> None:
    state = replace(STATE, credential=replace(CREDENTIAL, renewable=False))
    assert forecast(state, NINETY_DAYS, None) == Expiry(Cause.GRANT_ENDS, ISSUED + HOUR, ISSUED)


@pytest.mark.parametrize("state", [replace(STATE, dead=Reason.INVALID_GRANT), replace(STATE, credential=None)])
def test_a_token_that_is_dead_or_not_held_has_no_end_to_come(state: TokenState) -> None:
    assert forecast(state, NINETY_DAYS, ISSUED + DAY) is None


@pytest.mark.parametrize(
    ("whole", "left", "near"),
    [
        (90 * DAY, 19 * DAY, False),
        (90 * DAY, 18 * DAY, False),
        (90 * DAY, 17 * DAY, True),
        (3650 * DAY, 30 * DAY, False),
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
    expiry = Expiry(Cause.GRANT_ENDS, ISSUED + whole, ISSUED)
    assert expiry.is_near(expiry.at - left) is near


def test_a_grant_unused_for_four_fifths_of_its_inactivity_limit_is_near_its_end() -> None:
    assert used_since(90 * DAY, ISSUED) == ISSUED - 72 * DAY


def test_a_client_secret_s_end_is_near_a_month_before() -> None:
    expiry = Expiry(Cause.CLIENT_SECRET_EXPIRES, ISSUED)
    assert not expiry.is_near(ISSUED - 31 * DAY)
    assert expiry.is_near(ISSUED - 29 * DAY)
    assert expiry.is_near(ISSUED + DAY)


def test_a_fixed_end_is_near_in_the_last_fifth_since_it_was_set_however_often_the_token_was_renewed() -> None:
    ends_at = ISSUED + 7 * DAY
    renewed = replace(
        CREDENTIAL, number=150, issued_at=ISSUED + 6 * DAY, expires_at=ISSUED + 6 * DAY + HOUR, grant_expires_at=ends_at
    )
    expiry = forecast(replace(STATE, credential=renewed), NINETY_DAYS, None)
    assert expiry == Expiry(Cause.GRANT_ENDS, ends_at, ISSUED)
    assert not expiry.is_near(ISSUED + 5.5 * DAY)
    assert expiry.is_near(ISSUED + 5.7 * DAY)


def test_a_fixed_end_is_no_reason_to_renew() -> None:
    fixed = replace(CREDENTIAL, issued_at=ISSUED + DAY, grant_expires_at=ISSUED + 7 * DAY)
    assert unused_until(fixed, GrantLimits()) is None
    assert unused_until(replace(fixed, end_set_at=fixed.issued_at), GrantLimits()) == ISSUED + 7 * DAY


def test_the_age_at_which_a_policy_wanted_a_new_sign_in_is_expected_again() -> None:
    state = replace(STATE, sign_in_seconds=30 * 24 * 3600)
    assert forecast(state, NINETY_DAYS, None) == Expiry(Cause.SIGN_IN_DUE, ISSUED + 30 * DAY, ISSUED)


def test_the_application_s_own_credentials_are_no_grant_that_ends() -> None:
    application = replace(CREDENTIAL, flow="app")
    assert forecast(replace(STATE, credential=application, sign_in_seconds=60), NINETY_DAYS, None) is None
    assert unused_until(application, NINETY_DAYS) is None


@for_all(id=st.uuids(), days=st.integers(1, 3650), number=st.integers(1, 10**6))
def test_nobody_is_bothered_about_a_grant_whose_renewals_work(id: UUID, days: int, number: int) -> None:
    limits, credential = GrantLimits(days * DAY), replace(CREDENTIAL, number=number)
    expiry = forecast(replace(STATE, credential=credential), limits, None)
    renewal = next_renewal_at(id, credential, limits, None, ISSUED + days * DAY)
    assert expiry is not None
    assert renewal is not None
    assert not expiry.is_near(renewal)
