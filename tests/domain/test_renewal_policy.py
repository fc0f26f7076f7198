"""When the worker renews: tokens in use before they run short, idle ones just often enough."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.lifecycle import TokenStatus
from domain.outcomes import Reason
from domain.renewal import (
    LONGEST_USE,
    REVIVAL_EVERY,
    GrantLimits,
    emergency_at,
    idle_since,
    is_due,
    next_renewal_at,
    next_revival_at,
    unused_until,
)
from domain.token_state import Generation, TokenState

ISSUED = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
TOKEN = UUID("6f1c0d5e-0b1a-4a57-9a3e-0c6f5a1d2b01")
NO_LIMITS = GrantLimits()
NINETY_DAYS = GrantLimits(timedelta(days=90))
HOUR = 3600

ids = st.uuids()
lives = st.integers(1, int(LONGEST_USE.total_seconds()))
inactivities = st.integers(1, 3650).map(lambda days: timedelta(days=days))


def lasting(seconds: int = HOUR, **changes: Any) -> Generation:
    """An access token with so long a life, and a refresh token."""
    expires_at = ISSUED + timedelta(seconds=seconds)
    return replace(
        Generation(
            1,
            1,
            "a1",
            "SMTP.Send",
            ISSUED,
            expires_at,
            renewable=True,
            flow="device",
            granted_by="a1",
            granted_at=ISSUED,
            grant_expires_at=None,
            end_set_at=ISSUED,
        ),
        **changes,
    )


def after(seconds: float) -> datetime:
    return ISSUED + timedelta(seconds=seconds)


def dead(reason: Reason = Reason.ACCOUNT_NOT_AVAILABLE, credential: Generation | None = None) -> TokenState:
    held = credential or lasting()
    return TokenState(TokenStatus.INVALID, since=ISSUED, credential=held, dead=reason, reason=reason)


# In use


def test_an_access_token_of_an_hour_is_renewed_after_forty_to_forty_five_minutes() -> None:
    instants = [next_renewal_at(UUID(int=n), lasting(), NO_LIMITS, ISSUED, after(60)) for n in range(1000)]
    assert after(40 * 60) <= min(filter(None, instants))
    assert max(filter(None, instants)) <= after(45 * 60)


@for_all(id=ids, life=lives, number=st.integers(1, 10**6), served=st.floats(0, 0.99))
def test_a_token_in_use_is_renewed_before_too_little_is_left_to_hand_it_out(
    id: UUID, life: int, number: int, served: float
) -> None:
    credential = lasting(life, number=number)
    at = next_renewal_at(id, credential, NINETY_DAYS, ISSUED, after(life * served))
    assert at is not None
    assert ISSUED < at <= emergency_at(credential)
    assert not is_due(credential, at)


@for_all(life=lives)
def test_the_emergency_is_the_instant_from_which_serving_would_renew(life: int) -> None:
    credential = lasting(life)
    assert not is_due(credential, emergency_at(credential))
    assert is_due(credential, emergency_at(credential) + timedelta(microseconds=1))


@pytest.mark.parametrize("life", [300, 600, 1200, HOUR, 24 * HOUR])
def test_renewals_of_tokens_that_came_together_are_spread(life: int) -> None:
    instants = [next_renewal_at(UUID(int=n), lasting(life), NO_LIMITS, ISSUED, ISSUED) for n in range(1000)]
    lefts = sorted((at - ISSUED).total_seconds() for at in instants if at)
    width = (emergency_at(lasting(life)) - ISSUED).total_seconds() * 0.1
    assert lefts[-1] - lefts[0] > width * 0.98
    for part in range(10):
        in_part = [left for left in lefts if part <= (left - lefts[0]) / width * 10 < part + 1]
        assert 50 < len(in_part) < 150


@for_all(id=ids, number=st.integers(1, 10**6))
def test_the_jitter_is_the_same_whoever_computes_it_and_other_for_the_next_generation(id: UUID, number: int) -> None:
    this, again, following = (lasting(number=n) for n in (number, number, number + 1))
    at = next_renewal_at(id, this, NO_LIMITS, ISSUED, after(60))
    assert at == next_renewal_at(id, again, NO_LIMITS, after(30), after(90))
    assert at != next_renewal_at(id, following, NO_LIMITS, ISSUED, after(60))


# Idle


@pytest.mark.parametrize("served_at", [None, ISSUED - timedelta(days=3), ISSUED])
def test_a_token_that_nobody_used_for_a_whole_life_is_idle(served_at: datetime | None) -> None:
    now = after(HOUR)
    assert next_renewal_at(TOKEN, lasting(), NO_LIMITS, served_at, now) is None
    idle = next_renewal_at(TOKEN, lasting(), NINETY_DAYS, served_at, now)
    assert idle is not None
    assert timedelta(days=54) <= idle - ISSUED <= timedelta(days=63)


def test_a_token_that_is_used_again_late_in_its_life_is_due_at_once() -> None:
    at = next_renewal_at(TOKEN, lasting(), NO_LIMITS, after(55 * 60), after(55 * 60))
    assert at is not None
    assert at < after(55 * 60)


@for_all(id=ids, inactivity=inactivities, life=lives, number=st.integers(1, 10**6))
def test_an_idle_renewal_leaves_a_fifth_of_the_inactivity_limit(
    id: UUID, inactivity: timedelta, life: int, number: int
) -> None:
    credential, now = lasting(life, number=number), ISSUED + timedelta(days=30)
    at = next_renewal_at(id, credential, GrantLimits(inactivity), None, now)
    assert at is not None
    assert ISSUED + inactivity * 0.5 < at <= ISSUED + inactivity * 0.8
    if at <= now:
        assert credential.issued_at <= idle_since(inactivity, now), "a look by its date alone finds it too"


def test_an_idle_token_is_looked_for_from_three_fifths_of_its_inactivity_limit() -> None:
    assert idle_since(timedelta(days=90), ISSUED) == ISSUED - timedelta(days=54)


def test_the_provider_s_own_word_about_the_end_of_a_grant_counts_if_it_is_earlier() -> None:
    in_a_week = ISSUED + timedelta(days=7)
    credential = lasting(grant_expires_at=in_a_week)
    assert unused_until(credential, NINETY_DAYS) == in_a_week
    assert unused_until(credential, GrantLimits(timedelta(days=1))) == ISSUED + timedelta(days=1)
    assert unused_until(lasting(), NO_LIMITS) is None
    at = next_renewal_at(TOKEN, credential, NINETY_DAYS, None, ISSUED)
    assert at is not None
    assert ISSUED + timedelta(days=4.2) <= at <= ISSUED + timedelta(days=4.9)


def test_a_token_that_nothing_can_renew_is_never_due() -> None:
    credential = lasting(renewable=False)
    assert next_renewal_at(TOKEN, credential, NINETY_DAYS, ISSUED, after(HOUR - 1)) is None


def test_a_clock_that_steps_back_takes_no_token_out_of_use() -> None:
    assert next_renewal_at(TOKEN, lasting(), NO_LIMITS, after(1800), after(60)) is not None


# Dead


def test_a_token_whose_account_is_not_available_is_tried_once_a_day() -> None:
    assert next_revival_at(dead(), None) == ISSUED + REVIVAL_EVERY
    assert next_revival_at(dead(), after(7200)) == after(7200) + REVIVAL_EVERY


@pytest.mark.parametrize("reason", sorted(set(Reason) - {Reason.ACCOUNT_NOT_AVAILABLE}))
def test_a_token_that_is_dead_for_any_other_reason_is_left_to_a_person(reason: Reason) -> None:
    assert next_revival_at(dead(reason), None) is None


def test_a_token_that_is_alive_or_has_nothing_to_renew_with_is_not_revived() -> None:
    assert next_revival_at(replace(dead(), dead=None), None) is None
    assert next_revival_at(dead(credential=lasting(renewable=False)), None) is None
    assert next_revival_at(replace(dead(), credential=None), None) is None
