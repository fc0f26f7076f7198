"""The time line: what happened, newest first, a page at a time, of one profile or of everything.

Which events concern a profile shows only from all that came before. So the log is followed: each read takes in what is
new since the last, and remembers of every event its place, its instant and whom it concerned, and nothing else.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from domain.smtp_group import SmtpGroup
from infrastructure.audit import Concerned, Record, record_of
from infrastructure.log import EventLog, LoggedEvent
from infrastructure.store import Query


@dataclass(frozen=True)
class TimelinePage:
    """Some records, the newest first, and how many there are in all.

    `created` are those with which the aggregates that they name began.
    """

    records: tuple[Record, ...]
    created: tuple[Record, ...]
    total: int


class Timeline:
    """Follows the log of this run's store."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._following = threading.Lock()
        self._concerned = Concerned()
        self._positions: list[int] = []
        self._instants: list[datetime] = []
        self._of_profile: dict[str, list[int]] = {}
        self._about: dict[int, str] = {}
        self._born: dict[UUID, int] = {}

    def page(self, profile: str | None, as_of: datetime | None, skip: int, count: int) -> TimelinePage:
        """The newest `count` records behind the newest `skip`, as a reader at `as_of` saw them.

        That is the log up to the last event stamped at or before `as_of`: its order counts, not the clock's.
        """
        with self._following, self._log.store.reading() as query:
            self._follow(query)
            every = self._of_profile.get(profile, []) if profile else self._positions
            end = self._end(as_of)
            total = len(every) if end is None else bisect_right(every, end)
            shown = every[max(0, total - skip - count) : max(0, total - skip)]
            records = [record_of(one, profile or self._about.get(one.position)) for one in self._read(query, shown)]
            born = sorted({self._born[id] for record in records for id in _ids(record) if id in self._born})
            created = [record_of(one, None) for one in self._read(query, born)]
        return TimelinePage(tuple(reversed(records)), tuple(created), total)

    def _follow(self, query: Query) -> None:
        for logged in self._log.read(query, self._positions[-1] if self._positions else 0):
            event: Any = logged.event
            names = self._concerned.apply(event)
            for name in names:
                self._of_profile.setdefault(name, []).append(logged.position)
            if len(names) == 1:
                self._about[logged.position] = next(iter(names))
            if event.originator_version == 1:
                self._born.setdefault(event.originator_id, logged.position)
            if isinstance(event, SmtpGroup.Created):
                # Its token is called as the group is.
                self._born[event.token_id] = logged.position
            self._positions.append(logged.position)
            self._instants.append(event.timestamp)

    def _end(self, as_of: datetime | None) -> int | None:
        if as_of is None:
            return None
        stamped = zip(reversed(self._positions), reversed(self._instants), strict=True)
        return next((position for position, instant in stamped if instant <= as_of), 0)

    def _read(self, query: Query, positions: Iterable[int]) -> Iterator[LoggedEvent]:
        for run in _runs(positions):
            for found in query.events(run[0] - 1, len(run)):
                yield self._log.decode(*found)


def _runs(positions: Iterable[int]) -> Iterator[list[int]]:
    """Positions in order, those that follow each other together."""
    for _, run in groupby(enumerate(positions), lambda place: place[1] - place[0]):
        yield [position for _, position in run]


def _ids(record: Record) -> Iterator[UUID]:
    """The aggregates that a record names: its own, and those in its facts."""
    yield record.id
    for fact in ("profile_id", "group_id", "token_id"):
        if id := record.facts.get(fact):
            yield UUID(id)
