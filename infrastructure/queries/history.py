"""History: what happened to one setting, to a machine, or to all, and how a setting was at an earlier instant.

The index of the log leads to the streams of a setting or machine, so nothing else of the log is read for it. Whatever
else is wanted, a request reads a stretch of the log that has a bound. The answers are those that a replay of the whole
log gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from domain.errors import NotFound
from domain.profile import ProfileState
from domain.scope import EVERY_MACHINE, Scope
from domain.smtp_group import SmtpGroup
from infrastructure.queries.history_filter import HistoryFilter, is_of_kind
from infrastructure.queries.records import LINKS_NOTHING, Concern, Concerned, Record, record_of
from infrastructure.queries.setting_status import SettingStatus, fold_statuses, named
from infrastructure.queries.state_times import StateTimes, state_times
from infrastructure.store.event_log import EventLog, author_in
from infrastructure.store.fold import Fold
from infrastructure.store.hash_chain import last_position
from infrastructure.store.log_index import (
    end_before,
    end_of_log,
    profiles_called,
    profiles_in,
    profiles_using,
    streams_about,
    streams_about_tokens,
    streams_named,
)
from infrastructure.store.query import Query

_Stored = tuple[int, StoredEvent]
_Found = tuple[_Stored, Concern]
LOOKED_AT = 5000
"""The most events that one request reads, in the short form in which they are stored."""
_WEIGHED = 1000
"""The most of them of which one request finds out what they concern."""
_PIECE = 1000
_LAST = 2**62
_MOST_NAMES = 500
"""The most names whose streams are read in place of the whole log."""


@dataclass(frozen=True)
class Place:
    """A place in the log: what comes behind its position is wanted; with `backwards`, what comes before it."""

    position: int
    backwards: bool = False


@dataclass(frozen=True)
class Stretch:
    """The records that were found in a stretch of the log, in the order in which it was read.

    `reached` is the position up to which the log was read, if that is not its end. `reached_at` is the instant of the
    last event that was looked at, if the search ended before there were as many records as were wanted.
    """

    records: tuple[Record, ...]
    reached: int | None = None
    reached_at: datetime | None = None


@dataclass(frozen=True)
class HistoryPage:
    """Records, the newest first, with the places of the pages before and behind.

    `created` are the creation events of the aggregates that the records name. `looked_to` is the instant of the last
    event that was looked at, if a request's limit ended the search before the page was full.
    """

    records: tuple[Record, ...]
    created: tuple[Record, ...]
    newer: Place | None
    older: Place | None
    looked_to: datetime | None


class History:
    """The history of one store."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def records(self, profile: str | None = None) -> list[Record]:
        """The events in log order: all, or those of a setting or machine, which may have been removed since."""
        if profile is None:
            return list(self.every_record())
        return [one for part in self.stretches(HistoryFilter(profile)) for one in part.records]

    def every_record(self) -> Iterator[Record]:
        """Every event in log order, in one snapshot; no more than some of them are in memory at once."""
        concerned = Concerned(self._log)
        with self._log.store.reading() as query:
            for one in self._log.read_stored(query):
                yield record_of(self._log.decode(*one), concerned.apply(*one))

    def stretches(self, wanted: HistoryFilter, scope: Scope = EVERY_MACHINE, after: int = 0) -> Iterator[Stretch]:
        """The log from the position `after` to its present end, a stretch in each transaction."""
        with self._log.store.reading() as query:
            end = last_position(query)
        reached: int | None = after
        while reached is not None:
            part = self.stretch(wanted, scope, Place(reached), _WEIGHED, end)
            yield part
            reached = part.reached

    def stretch(self, wanted: HistoryFilter, scope: Scope, place: Place, count: int, end: int | None = None) -> Stretch:
        """Up to `count` records from this place on, but not behind the position `end`.

        With a scope, only events that concern machines, and only if all of these are in the scope. A search ends after
        so many events that the time of a request has a bound, also if nothing was found.
        """
        with self._log.store.reading() as query:
            return self._stretch(query, wanted, scope, place, count, end)

    def page(
        self,
        wanted: HistoryFilter,
        as_of: datetime | None,
        place: Place | None,
        count: int,
        scope: Scope = EVERY_MACHINE,
    ) -> HistoryPage:
        """Up to `count` of the records of `stretch`, of the log as it was at the instant `as_of`.

        The log at an instant ends with the last event stamped at or before it: its order counts, not the clock.
        """
        begin = place or Place(_LAST, backwards=True)
        with self._log.store.reading() as query:
            end = None if as_of is None else end_of_log(query, as_of)
            found = self._stretch(query, wanted, scope, begin, count, end)
            created = tuple(self._created(query, found.records))
        on = None if found.reached is None else Place(found.reached, begin.backwards)
        if begin.backwards:
            first = found.records[0].position if found.records else begin.position - 1
            return HistoryPage(found.records, created, place and Place(first), on, found.reached_at)
        records = tuple(reversed(found.records))
        last = records[-1].position if records else begin.position + 1
        return HistoryPage(records, created, on, Place(last, backwards=True), found.reached_at)

    def created(self, records: Sequence[Record]) -> list[Record]:
        """The creation events of the aggregates that these records name."""
        with self._log.store.reading() as query:
            return self._created(query, records)

    def has(self, profile: str, scope: Scope) -> bool:
        """Whether there is an event of this setting or machine."""
        return any(part.records for part in self.stretches(HistoryFilter(profile), scope))

    def status_as_of(self, name: str, instant: datetime) -> SettingStatus:
        """One setting as a reader at `instant` saw it.

        Raises:
            NotFound: no profile had this name then.
        """
        with self._log.store.reading() as query:
            end = end_of_log(query, instant)
            id, profile = self._profile_then(query, name, end)
            return named(self._statuses(query, [id], profile, end, instant), name)

    def state_times(self, name: str, instant: datetime) -> StateTimes:
        """How long the token of one setting had been in each state by `instant`.

        Raises:
            NotFound: no profile had this name then.
        """
        with self._log.store.reading() as query:
            end = end_of_log(query, instant)
            return state_times(self._log, query, self._profile_then(query, name, end)[0], end, instant)

    def statuses_sharing_as_of(self, name: str, instant: datetime) -> list[SettingStatus]:
        """Every setting that used the token of the setting `name`, as a reader at `instant` saw them.

        Raises:
            NotFound: no profile had this name then.
        """
        with self._log.store.reading() as query:
            end = end_of_log(query, instant)
            _, profile = self._profile_then(query, name, end)
            states = self._fold(query, profiles_using(query, profile.token_id), end).of(ProfileState)
            sharing = [id for id, state in states.items() if state.token_id == profile.token_id and not state.removed]
            return self._statuses(query, sharing, profile, end, instant)

    def _profile_then(self, query: Query, name: str, end: int) -> tuple[UUID, ProfileState]:
        states = self._fold(query, profiles_called(query, name), end).of(ProfileState)
        for id, state in states.items():
            if state.name == name and not state.removed:
                return id, state
        raise NotFound("profile_not_found", profile=name)

    def _statuses(
        self, query: Query, ids: Sequence[UUID], profile: ProfileState, end: int, instant: datetime
    ) -> list[SettingStatus]:
        """The statuses of the profiles of these ids, which share the token and the group of `profile`."""
        shared = (profile.token_id, profile.group_id) if profile.group_id else (profile.token_id,)
        return fold_statuses(self._fold(query, (*ids, *shared), end), instant)

    def _fold(self, query: Query, ids: Sequence[UUID], end: int) -> Fold:
        fold = Fold()
        for one in query.events_of(ids, end):
            fold.apply(self._log.decode(*one).event)
        return fold

    def _stretch(
        self, query: Query, wanted: HistoryFilter, scope: Scope, place: Place, count: int, end: int | None = None
    ) -> Stretch:
        reader = _Reader(self._between(query, wanted, scope, place, end), wanted)
        found = list[_Found]()
        for size in (count + 1, _WEIGHED - count - 1):
            found += self._wanted(query, reader.take(size), wanted, scope)
            if len(found) > count:
                found = found[:count]
                return Stretch(self._records(found, wanted), found[-1][0][0])
        records = self._records(found, wanted)
        if reader.is_over or reader.last is None:
            return Stretch(records)
        position, stored = reader.last
        return Stretch(records, position, self._log.instant_of(stored) if len(found) < count else None)

    def _between(
        self, query: Query, wanted: HistoryFilter, scope: Scope, place: Place, end: int | None
    ) -> Iterator[_Stored]:
        """The events from this place on that are within the instants and may be about what is wanted."""
        first = end_before(query, wanted.since) + 1 if wanted.since else 1
        last = min(end_of_log(query, wanted.until) if wanted.until else _LAST, _LAST if end is None else end)
        position = min(place.position, last + 1) if place.backwards else max(place.position, first - 1)
        streams = _streams(query, wanted, scope)
        while piece := query.events_near(position, _PIECE, backwards=place.backwards, of=streams):
            for one in piece:
                if not first <= one[0] <= last:
                    return
                yield one
            position = piece[-1][0]

    def _wanted(self, query: Query, events: Sequence[_Stored], wanted: HistoryFilter, scope: Scope) -> list[_Found]:
        """Those of these events that are wanted, each with what it concerns."""
        concerns = self._concerns(query, events)
        weighed = [(one, concerns[one[0]]) for one in events]
        return [one for one in weighed if _is_wanted(one[1], wanted, scope)]

    def _concerns(self, query: Query, events: Sequence[_Stored]) -> dict[int, Concern]:
        """What these events concern, by their positions. Only what links their streams to others is read besides."""
        if not events:
            return {}
        streams = profiles_in(query, {_id(stored) for _, stored in events})
        links = query.events_of(list(streams), max(position for position, _ in events), but=LINKS_NOTHING)
        concerned = Concerned(self._log)
        both = sorted((dict(links) | dict(events)).items())
        return {position: concerned.apply(position, stored) for position, stored in both}

    def _records(self, found: Iterable[_Found], wanted: HistoryFilter) -> tuple[Record, ...]:
        return tuple(record_of(self._log.decode(*one), concern, wanted.profile) for one, concern in found)

    def _created(self, query: Query, records: Sequence[Record]) -> list[Record]:
        """The creation events of what the records name; that of its group for a token, as it has the group's name."""
        ids = {id for record in records for id in _ids(record)}
        about = streams_about_tokens(query, ids)
        first = [self._log.decode(*one) for one in query.first_events([*ids, *about])]
        groups = {one.event.token_id for one in first if isinstance(one.event, SmtpGroup.Created)}
        return [
            record_of(one, Concern())
            for one in first
            if (one.event.originator_id in ids and one.event.originator_id not in groups)
            or (isinstance(one.event, SmtpGroup.Created) and one.event.token_id in ids)
        ]


class _Reader:
    """Takes those of some events that may be wanted by their kind and author, and looks at `LOOKED_AT` at most."""

    def __init__(self, events: Iterator[_Stored], wanted: HistoryFilter) -> None:
        self._events, self._wanted = events, wanted
        self._ahead = next(events, None)
        self._left = LOOKED_AT
        self.last: _Stored | None = None
        """The event that was looked at last."""

    @property
    def is_over(self) -> bool:
        """Whether all events were looked at."""
        return self._ahead is None

    def take(self, size: int) -> list[_Stored]:
        """The next `size` of them, or fewer."""
        taken = list[_Stored]()
        while self._ahead and self._left and len(taken) < size:
            self.last, self._ahead = self._ahead, next(self._events, None)
            self._left -= 1
            if _may_be_wanted(self.last[1], self._wanted):
                taken.append(self.last)
        return taken


def _may_be_wanted(stored: StoredEvent, wanted: HistoryFilter) -> bool:
    if wanted.kind and not is_of_kind(stored.topic.removeprefix("mailtoken.").rpartition(".")[0], wanted.kind):
        return False
    author = author_in(stored.state).casefold() if wanted.authors else ""
    return all(word in author for word in wanted.authors)


def _is_wanted(concern: Concern, wanted: HistoryFilter, scope: Scope) -> bool:
    if wanted.profile and not (wanted.profile in concern.machine or concern.about(wanted.profile)):
        return False
    return (not wanted.words or concern.has_words(wanted.words)) and (
        scope.is_all or scope.has_machines(concern.machines)
    )


def _streams(query: Query, wanted: HistoryFilter, scope: Scope) -> Sequence[UUID] | None:
    """The streams that have all that is wanted, if they are few; None for the whole log."""
    if wanted.profile:
        return streams_about(query, wanted.profile) if scope.has_profile(wanted.profile) else ()
    if wanted.words or not scope.is_all:
        return streams_named(query, wanted.words, scope.patterns, _MOST_NAMES)
    return None


def _id(stored: StoredEvent) -> UUID:
    assert isinstance(stored.originator_id, UUID)
    return stored.originator_id


def _ids(record: Record) -> Iterator[UUID]:
    """The ids that a record names: its own aggregate's, and those in its facts."""
    yield record.id
    for fact in ("profile_id", "group_id", "token_id"):
        if id := record.facts.get(fact):
            yield UUID(id)
