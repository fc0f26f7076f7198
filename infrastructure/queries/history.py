"""History: pages of the event log, the newest event first, for one profile or for all.

Which profiles an event concerns follows only from the events before it. So `History` reads the whole log once, and each
later read adds the events since. It keeps the position, the instant and the profile of every event, and nothing else.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from domain.smtp_group import SmtpGroup
from infrastructure.queries.audit import Concerned, Record, record_of
from infrastructure.store.event_log import EventLog, LoggedEvent
from infrastructure.store.query import Query

_NOT_ONE_PROFILE = -1
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class HistoryPage:
    """Records, the newest first, and the number of records on all pages, `total`.

    `created` are the creation events of the aggregates that the records name.
    """

    records: tuple[Record, ...]
    created: tuple[Record, ...]
    total: int


class History:
    """The history of one store. Each call of `page` first reads the events that are new in the log."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._following = threading.Lock()
        self._concerned = Concerned(log)
        self._positions = array("q")
        self._instants = array("q")
        self._about = array("q")
        self._numbers: dict[str, int] = {}
        self._of_profile: dict[str, array[int]] = {}
        self._born: dict[UUID, int] = {}

    def page(self, profile: str | None, as_of: datetime | None, skip: int, count: int) -> HistoryPage:
        """Up to `count` records, after the newest `skip`; with `as_of`, of the log as it was at that instant.

        The log at an instant ends with the last event stamped at or before it: its order counts, not the clock.
        """
        with self._following, self._log.store.reading() as query:
            self._follow(query)
            every = self._of_profile.get(profile, array("q")) if profile else self._positions
            end = self._end(as_of)
            total = len(every) if end is None else bisect_right(every, end)
            page = every[max(0, total - skip - count) : max(0, total - skip)]
            names = list(self._numbers)
            records = [record_of(one, profile or self._name(names, one.position)) for one in self._read(query, page)]
            born = sorted({self._born[id] for record in records for id in _ids(record) if id in self._born})
            created = [record_of(one, None) for one in self._read(query, born)]
        return HistoryPage(tuple(reversed(records)), tuple(created), total)

    def _follow(self, query: Query) -> None:
        for position, stored in self._log.read_stored(query, self._positions[-1] if self._positions else 0):
            names = self._concerned.apply(position, stored)
            for name in names:
                self._of_profile.setdefault(name, array("q")).append(position)
            if stored.originator_version == 1:
                event: Any = self._log.decode(position, stored).event
                self._born.setdefault(event.originator_id, position)
                if isinstance(event, SmtpGroup.Created):
                    # The token of a group has the group's name.
                    self._born[event.token_id] = position
            self._about.append(self._number(names))
            self._positions.append(position)
            self._instants.append(_microseconds(self._log.instant_of(stored)))

    def _number(self, names: set[str]) -> int:
        """The number of the profile that an event is about; `_NOT_ONE_PROFILE` for none or several."""
        return self._numbers.setdefault(next(iter(names)), len(self._numbers)) if len(names) == 1 else _NOT_ONE_PROFILE

    def _name(self, names: Sequence[str], position: int) -> str | None:
        number = self._about[bisect_left(self._positions, position)]
        return None if number == _NOT_ONE_PROFILE else names[number]

    def _end(self, as_of: datetime | None) -> int | None:
        if as_of is None:
            return None
        end = _microseconds(as_of)
        stamped = zip(reversed(self._positions), reversed(self._instants), strict=True)
        return next((position for position, instant in stamped if instant <= end), 0)

    def _read(self, query: Query, positions: Iterable[int]) -> Iterator[LoggedEvent]:
        for run in _runs(positions):
            for found in query.events(run[0] - 1, len(run)):
                yield self._log.decode(*found)


def _runs(positions: Iterable[int]) -> Iterator[list[int]]:
    """Ascending positions, in runs of consecutive numbers."""
    for _, run in groupby(enumerate(positions), lambda place: place[1] - place[0]):
        yield [position for _, position in run]


def _microseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1)


def _ids(record: Record) -> Iterator[UUID]:
    """The ids that a record names: its own aggregate's, and those in its facts."""
    yield record.id
    for fact in ("profile_id", "group_id", "token_id"):
        if id := record.facts.get(fact):
            yield UUID(id)
