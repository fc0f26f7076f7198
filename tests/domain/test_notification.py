"""When people are told, how often, and by what key a receiver recognises a notification."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.expiry_forecast import Cause
from domain.notification import LastNotification, Notification, Trigger, trigger_of
from domain.outcomes import Reason
from domain.store_attention import StoreAttention

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
DAY = timedelta(days=1)
TOKEN = UUID("6f1c0d5e-0b1a-4a57-9a3e-0c6f5a1d2b01")
NOTIFICATION = Notification(
    TOKEN, Trigger.NEEDS_PERSON, "invalid_grant", ("a/smtp",), "scan@contoso.com", "contoso", NOW
)


def decide(
    attention: str | None,
    last: LastNotification | None = None,
    *,
    works: bool = False,
    renewed_at: datetime | None = None,
    now: datetime = NOW,
) -> Trigger | None:
    return trigger_of(attention, works=works, renewed_at=renewed_at, last=last, now=now)


def test_nobody_is_told_that_all_is_well() -> None:
    assert decide(None, works=True, renewed_at=NOW) is None
    assert decide(None, LastNotification(None, NOW - DAY), works=True, renewed_at=NOW) is None


def test_people_are_told_once_that_a_token_needs_them() -> None:
    assert decide("invalid_grant") is Trigger.NEEDS_PERSON
    assert decide("invalid_grant", LastNotification("invalid_grant", NOW)) is None
    assert decide("invalid_grant", LastNotification(None, NOW)) is Trigger.NEEDS_PERSON


def test_people_are_told_that_a_token_which_still_works_will_stop() -> None:
    assert decide("grant_ends", works=True) is Trigger.ABOUT_TO_END


def test_another_reason_is_told_at_once() -> None:
    assert decide("invalid_grant", LastNotification("grant_ends", NOW)) is Trigger.NEEDS_PERSON


def test_people_are_told_once_that_a_token_works_again() -> None:
    last = LastNotification("invalid_grant", NOW)
    assert decide(None, last, works=True) is Trigger.RECOVERED
    assert decide(None, LastNotification(None, NOW), works=True) is None


def test_a_token_that_was_deleted_or_waits_for_a_sign_in_does_not_work_again() -> None:
    assert decide(None, LastNotification("invalid_grant", NOW - DAY), works=False, renewed_at=NOW) is None


@pytest.mark.parametrize("code", [*Reason, *Cause, *StoreAttention])
def test_what_the_log_or_the_configuration_said_is_over_when_they_say_so(code: str) -> None:
    assert decide(None, LastNotification(str(code), NOW), works=True, renewed_at=NOW - DAY) is Trigger.RECOVERED


def test_an_alarm_that_a_restart_forgot_is_over_only_when_a_renewal_has_worked() -> None:
    last = LastNotification("client_registration", NOW)
    assert decide(None, last, works=True, renewed_at=NOW - DAY, now=NOW + DAY) is None
    assert decide(None, last, works=True, renewed_at=NOW, now=NOW + DAY) is None
    assert decide("client_registration", last, works=True, now=NOW + DAY / 2) is None, "it is no news"
    assert decide(None, last, works=True, renewed_at=NOW + DAY / 2, now=NOW + DAY) is Trigger.RECOVERED


def test_reminders_come_after_1_2_4_8_and_16_days_and_every_16_from_then_on() -> None:
    notification, days = NOTIFICATION, []
    for day in range(1, 80):
        last, now = notification.as_last, NOW + day * DAY
        if decide(notification.attention, last, now=now) is Trigger.REMINDER:
            days.append(day)
            notification = replace(notification, trigger=Trigger.REMINDER, at=now, previous=last)
    assert days == [1, 3, 7, 15, 31, 47, 63, 79]


@for_all(reminders=st.integers(0, 10**6))
def test_years_of_reminders_do_not_end_them(reminders: int) -> None:
    last = LastNotification("invalid_grant", NOW, reminders)
    assert decide("invalid_grant", last, now=NOW + 16 * DAY) is Trigger.REMINDER
    assert decide("invalid_grant", last, now=NOW + DAY - timedelta(seconds=1)) is None


def test_after_another_notification_reminders_begin_anew() -> None:
    last = replace(NOTIFICATION, trigger=Trigger.REMINDER, previous=LastNotification("invalid_grant", NOW - DAY, 4))
    assert last.as_last == LastNotification("invalid_grant", NOW, 5)
    assert replace(last, trigger=Trigger.RECOVERED, attention=None).as_last == LastNotification(None, NOW, 0)


def test_a_notification_that_is_delivered_again_later_has_the_same_key() -> None:
    for previous in (None, LastNotification(None, NOW - DAY)):
        notification = replace(NOTIFICATION, previous=previous)
        assert replace(notification, at=NOW + DAY).key == notification.key


def test_every_notification_of_a_token_has_a_key_of_its_own() -> None:
    notifications, last = [], None
    happened = [
        (Trigger.NEEDS_PERSON, "invalid_grant"),
        (Trigger.REMINDER, "invalid_grant"),
        (Trigger.REMINDER, "invalid_grant"),
        (Trigger.RECOVERED, None),
        (Trigger.NEEDS_PERSON, "invalid_grant"),
        (Trigger.RECOVERED, None),
    ]
    for day, (why, attention) in enumerate(happened):
        notification = replace(NOTIFICATION, trigger=why, attention=attention, at=NOW + day * DAY, previous=last)
        notifications.append(notification)
        last = notification.as_last
    assert len({notification.key for notification in notifications}) == len(notifications)
    assert replace(NOTIFICATION, subject_id=UUID(int=1)).key != NOTIFICATION.key


def test_a_key_names_the_token_the_reason_and_the_notification_before() -> None:
    assert NOTIFICATION.key == f"{TOKEN}:needs_person:invalid_grant:first"
    later = replace(NOTIFICATION, trigger=Trigger.RECOVERED, attention=None, previous=LastNotification(None, NOW))
    assert later.key == f"{TOKEN}:recovered::2026-03-02T08:00:00+00:00"


def test_a_key_is_fit_for_a_header() -> None:
    key = replace(NOTIFICATION, previous=LastNotification(None, NOW)).key
    assert key == f"{TOKEN}:needs_person:invalid_grant:2026-03-02T08:00:00+00:00"
    assert key.isascii()
