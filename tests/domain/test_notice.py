"""When people are told, how often, and by what key a notice is known again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.forecast import Cause
from domain.notice import Notice, Occasion, Told, occasion
from domain.outcomes import Reason

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
DAY = timedelta(days=1)
TOKEN = UUID("6f1c0d5e-0b1a-4a57-9a3e-0c6f5a1d2b01")
NOTICE = Notice(TOKEN, Occasion.NEEDS_PERSON, "invalid_grant", ("a/smtp",), "scan@contoso.com", "contoso", NOW)


def decide(
    attention: str | None,
    told: Told | None = None,
    *,
    works: bool = False,
    renewed_at: datetime | None = None,
    now: datetime = NOW,
) -> Occasion | None:
    return occasion(attention, works=works, renewed_at=renewed_at, told=told, now=now)


def test_nobody_is_told_that_all_is_well() -> None:
    assert decide(None, works=True, renewed_at=NOW) is None
    assert decide(None, Told(None, NOW - DAY), works=True, renewed_at=NOW) is None


def test_people_are_told_once_that_a_token_needs_them() -> None:
    assert decide("invalid_grant") is Occasion.NEEDS_PERSON
    assert decide("invalid_grant", Told("invalid_grant", NOW)) is None
    assert decide("invalid_grant", Told(None, NOW)) is Occasion.NEEDS_PERSON


def test_people_are_told_that_a_token_which_still_works_will_stop() -> None:
    assert decide("grant_ends", works=True) is Occasion.ABOUT_TO_END


def test_another_reason_is_told_at_once() -> None:
    assert decide("invalid_grant", Told("grant_ends", NOW)) is Occasion.NEEDS_PERSON


def test_people_are_told_once_that_a_token_works_again() -> None:
    told = Told("invalid_grant", NOW)
    assert decide(None, told, works=True) is Occasion.RECOVERED
    assert decide(None, Told(None, NOW), works=True) is None


def test_a_token_that_was_deleted_or_waits_for_a_sign_in_does_not_work_again() -> None:
    assert decide(None, Told("invalid_grant", NOW - DAY), works=False, renewed_at=NOW) is None


@pytest.mark.parametrize("code", [*Reason, *Cause])
def test_what_the_log_or_the_configuration_said_is_over_when_they_say_so(code: str) -> None:
    assert decide(None, Told(str(code), NOW), works=True, renewed_at=NOW - DAY) is Occasion.RECOVERED


def test_an_alarm_that_a_restart_forgot_is_over_only_when_a_renewal_has_worked() -> None:
    told = Told("client_registration", NOW)
    assert decide(None, told, works=True, renewed_at=NOW - DAY, now=NOW + DAY) is None
    assert decide("client_registration", told, works=True, now=NOW + DAY / 2) is None, "it is no news"
    assert decide(None, told, works=True, renewed_at=NOW + DAY / 2, now=NOW + DAY) is Occasion.RECOVERED


def test_reminders_come_after_1_2_4_8_and_16_days_and_every_16_from_then_on() -> None:
    notice, days = NOTICE, []
    for day in range(1, 80):
        told, now = notice.told, NOW + day * DAY
        if decide(notice.attention, told, now=now) is Occasion.REMINDER:
            days.append(day)
            notice = replace(notice, occasion=Occasion.REMINDER, at=now, before=told)
    assert days == [1, 3, 7, 15, 31, 47, 63, 79]


@for_all(reminders=st.integers(0, 10**6))
def test_years_of_reminders_do_not_end_them(reminders: int) -> None:
    told = Told("invalid_grant", NOW, reminders)
    assert decide("invalid_grant", told, now=NOW + 16 * DAY) is Occasion.REMINDER
    assert decide("invalid_grant", told, now=NOW + DAY - timedelta(seconds=1)) is None


def test_after_another_notice_reminders_begin_anew() -> None:
    last = replace(NOTICE, occasion=Occasion.REMINDER, before=Told("invalid_grant", NOW - DAY, 4))
    assert last.told == Told("invalid_grant", NOW, 5)
    assert replace(last, occasion=Occasion.RECOVERED, attention=None).told == Told(None, NOW, 0)


def test_a_notice_that_is_delivered_again_later_has_the_same_key() -> None:
    for before in (None, Told(None, NOW - DAY)):
        notice = replace(NOTICE, before=before)
        assert replace(notice, at=NOW + DAY).key == notice.key


def test_every_notice_of_a_token_has_a_key_of_its_own() -> None:
    notices, told = [], None
    happened = [
        (Occasion.NEEDS_PERSON, "invalid_grant"),
        (Occasion.REMINDER, "invalid_grant"),
        (Occasion.REMINDER, "invalid_grant"),
        (Occasion.RECOVERED, None),
        (Occasion.NEEDS_PERSON, "invalid_grant"),
        (Occasion.RECOVERED, None),
    ]
    for day, (why, attention) in enumerate(happened):
        notice = replace(NOTICE, occasion=why, attention=attention, at=NOW + day * DAY, before=told)
        notices.append(notice)
        told = notice.told
    assert len({notice.key for notice in notices}) == len(notices)
    assert replace(NOTICE, subject_id=UUID(int=1)).key != NOTICE.key


def test_a_key_is_fit_for_a_header() -> None:
    key = replace(NOTICE, before=Told(None, NOW)).key
    assert key == f"{TOKEN}:needs_person:invalid_grant:2026-03-02T08:00:00+00:00"
    assert key.isascii()
