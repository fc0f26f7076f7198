"""Mail is counted once, by setting and day, whatever is stored twice and by whom."""

from __future__ import annotations

from datetime import date, timedelta

from fakes import START, FakeClock

from infrastructure.mail_counters import MailCount, MailCounters
from infrastructure.mail_counts import MailCounts, MailTotals, mail_totals
from infrastructure.store.store import Store

SMTP, OTHER = "press/smtp", "office-mfp/smtp-service"
TODAY = START.date()
TOMORROW = TODAY + timedelta(days=1)


def totals(store: Store) -> MailTotals:
    with store.reading() as query:
        return mail_totals(query)


def test_messages_octets_and_refusals_are_counted_by_setting_and_day(clock: FakeClock) -> None:
    counters = MailCounters(clock)
    counters.sent(SMTP, 100)
    counters.sent(SMTP, 20)
    counters.refused(SMTP)
    counters.refused(OTHER)
    clock.step(days=1)
    counters.sent(SMTP, 3)
    assert counters.unstored() == [
        MailCount(SMTP, TODAY, messages=2, octets=120, refusals=1),
        MailCount(OTHER, TODAY, refusals=1),
        MailCount(SMTP, TOMORROW, messages=1, octets=3),
    ]


def test_what_is_stored_is_not_stored_again_and_what_comes_meanwhile_is_not_lost(clock: FakeClock) -> None:
    counters = MailCounters(clock)
    counters.sent(SMTP, 1)
    counts = counters.unstored()
    counters.sent(SMTP, 1)
    counters.mark_stored(counts)
    assert counters.unstored() == [MailCount(SMTP, TODAY, messages=2, octets=2)]
    counters.mark_stored(counters.unstored())
    assert counters.unstored() == []
    clock.step(days=1)
    counters.mark_stored([])
    assert counters._counts == {}


def test_a_count_that_is_stored_twice_counts_once_and_sources_add_up(store: Store, clock: FakeClock) -> None:
    counts = MailCounts(store, MailCounters(clock))
    for messages in (1, 2, 2):
        counts.put("relay", [MailCount(SMTP, TODAY, messages, 10 * messages, 1)])
    counts.put("other", [MailCount(SMTP, TODAY, 5, 2**40, 0), MailCount(OTHER, TOMORROW, 1, 1, 0)])
    assert counts.by_day(since=TODAY, until=TOMORROW) == [
        MailCount(SMTP, TODAY, 7, 20 + 2**40, 1),
        MailCount(OTHER, TOMORROW, 1, 1, 0),
    ]
    assert counts.by_day(since=TODAY, until=TOMORROW, profile=OTHER) == [MailCount(OTHER, TOMORROW, 1, 1, 0)]
    assert counts.by_day(since=date.min, until=TODAY - timedelta(days=1)) == []
    assert totals(store) == MailTotals(8, 21 + 2**40, 1)


def test_no_mail_is_no_rows_and_totals_of_zero(store: Store, clock: FakeClock) -> None:
    counts = MailCounts(store, MailCounters(clock))
    counts.start()
    counts.stop()
    assert totals(store) == MailTotals(0, 0, 0)


def test_the_last_counts_of_the_process_are_stored_when_it_stops(store: Store, clock: FakeClock) -> None:
    counters = MailCounters(clock)
    counts = MailCounts(store, counters)
    counts.start()
    counters.sent(SMTP, 7)
    counts.stop()
    assert totals(store) == MailTotals(1, 7, 0)
