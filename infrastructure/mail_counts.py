"""Counts of mail by profile and day: messages and octets that a mail server accepted, and its refusals.

Messages are counted in memory, and the counts are stored a few times a minute, so no message waits for the store. The
rows are working rows: the event log has nothing of them, and `audit rebuild` leaves them alone.

A process stores its whole count of a day under its own `source`, so that storing the same count twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import structlog
from eventsourcing.persistence import PersistenceError

from infrastructure.mail_counters import STORE_SECONDS, MailCount, MailCounters
from infrastructure.store.machine_list import NOTE_MAIL
from infrastructure.store.query import Query
from infrastructure.store.store import Store
from infrastructure.ticker import Ticker

log = structlog.get_logger("mailtoken")


@dataclass(frozen=True)
class MailTotals:
    """The mail of all profiles on all days."""

    messages: int
    octets: int
    refusals: int


class MailCounts:
    """The counts in the store: those of this process, from `counters`, and those that relays report."""

    def __init__(self, store: Store, counters: MailCounters) -> None:
        self._store = store
        self._counters = counters
        self._ticker = Ticker("mail_counts", self._store_counters, lambda: STORE_SECONDS)
        self.tickers = (self._ticker,)

    def start(self) -> None:
        """Start to store this process's counts."""
        self._ticker.start()

    def stop(self) -> None:
        """Store the last counts of this process, and stop."""
        self._ticker.stop()
        try:
            self._store_counters()
        except PersistenceError as error:
            log.warning("mail_counts_not_stored", error=str(error))

    def put(self, source: str, counts: Sequence[MailCount]) -> None:
        """Store counts of a process, each in place of an earlier count of the same profile and day."""
        with self._store.writing() as query:
            query.run_many(
                "INSERT INTO mail_count (source, profile, day, messages, octets, refusals) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (source, profile, day) DO UPDATE SET messages = excluded.messages,"
                " octets = excluded.octets, refusals = excluded.refusals",
                [
                    (source, count.profile, count.day.isoformat(), count.messages, count.octets, count.refusals)
                    for count in counts
                ],
            )
            days = [(count.day.isoformat(), count.profile, count.day.isoformat()) for count in counts if count.messages]
            query.run_many(NOTE_MAIL, days)

    def by_day(self, *, since: date, until: date, profile: str | None = None) -> list[MailCount]:
        """The counts from `since` to `until`, both included, by day and profile; of one profile if it is named."""
        condition, parameters = ("AND profile = ?", [profile]) if profile else ("", [])
        with self._store.reading() as query:
            rows = query.rows(
                f"SELECT profile, day, {_SUMS} FROM mail_count WHERE day BETWEEN ? AND ? {condition}"  # noqa: S608 - constants
                " GROUP BY profile, day ORDER BY day, profile",
                [since.isoformat(), until.isoformat(), *parameters],
            )
        return [
            MailCount(
                row["profile"],
                date.fromisoformat(row["day"]),
                int(row["messages"]),
                int(row["octets"]),
                int(row["refusals"]),
            )
            for row in rows
        ]

    def _store_counters(self) -> None:
        counts = self._counters.unstored()
        if counts:
            self.put(self._counters.source, counts)
        self._counters.mark_stored(counts)


_SUMS = "sum(messages) AS messages, sum(octets) AS octets, sum(refusals) AS refusals"


def mail_totals(query: Query) -> MailTotals:
    """The sums of all counts in the store."""
    [row] = query.rows(f"SELECT {_SUMS} FROM mail_count")  # noqa: S608 - constants
    return MailTotals(*(int(row[name] or 0) for name in ("messages", "octets", "refusals")))
