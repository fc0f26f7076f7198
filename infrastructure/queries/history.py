"""History: what happened to one setting, to those of a machine, or to all, and how a setting was at an earlier instant.

The index of the log leads to the streams of a setting, so nothing else of the log is read for it. The answers are those
that a replay of the whole log gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from domain.errors import NotFound
from domain.profile import ProfileState
from domain.scope import EVERY_MACHINE, Scope
from domain.smtp_group import SmtpGroup
from infrastructure.queries.records import LINKS_NOTHING, Concerned, Record, record_of
from infrastructure.queries.setting_status import SettingStatus, fold_statuses, named
from infrastructure.store.event_log import EventLog
from infrastructure.store.fold import Fold
from infrastructure.store.hash_chain import count_events, last_position, position_before_last
from infrastructure.store.log_index import (
    end_of_log,
    profiles_called,
    profiles_in,
    profiles_using,
    streams_about_machine,
    streams_about_setting,
    streams_about_tokens,
)
from infrastructure.store.query import Query

_Stored = Sequence[tuple[int, StoredEvent]]
_Found = Sequence[tuple[tuple[int, StoredEvent], str | None]]
"""Events, each with the profile it is about among those that were asked for, if that is one."""


@dataclass(frozen=True)
class HistoryPage:
    """Records, the newest first, and the number of records on all pages, `total`.

    `created` are the creation events of the aggregates that the records name.
    """

    records: tuple[Record, ...]
    created: tuple[Record, ...]
    total: int


class History:
    """The history of one store."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def records(
        self,
        profile: str | None = None,
        after: int = 0,
        limit: int | None = None,
        scope: Scope = EVERY_MACHINE,
    ) -> list[Record]:
        """The events in log order: all, or those that concern one profile, which may have been removed since.

        The name of a machine in place of a profile's asks for the events of all its settings.

        At most `limit` records after the position `after`. With a scope, only events that concern machines, and only
        if all of these are in the scope.
        """
        with self._log.store.reading() as query:
            if profile is not None:
                about = self._about(query, profile, None, scope)
                return self._records([one for one in about if one[0][0] > after][:limit])
            if not scope.is_all:
                inside = (one for one in self._all_within(query, scope) if one.position > after)
                return list(islice(inside, limit))
            if limit is not None:
                return list(self._named(query, query.events(after, limit)))
            return [record for record in self._all(query) if record.position > after]

    def every_record(self) -> Iterator[Record]:
        """Every event in log order, in one snapshot; no more than some of them are in memory at once."""
        with self._log.store.reading() as query:
            yield from self._all(query)

    def page(
        self,
        profile: str | None,
        as_of: datetime | None,
        skip: int,
        count: int,
        scope: Scope = EVERY_MACHINE,
    ) -> HistoryPage:
        """Up to `count` records, after the newest `skip`; with `as_of`, of the log as it was at that instant.

        A scope, and a machine's name in place of a profile's, are those of `records`.

        The log at an instant ends with the last event stamped at or before it: its order counts, not the clock.
        """
        with self._log.store.reading() as query:
            end = last_position(query) if as_of is None else end_of_log(query, as_of)
            if profile is not None:
                every = self._about(query, profile, end, scope)
                total = len(every)
                records = self._records(every[max(0, total - skip - count) : max(0, total - skip)])
            elif not scope.is_all:
                inside = [one for one in self._all_within(query, scope) if one.position <= end]
                total = len(inside)
                records = inside[max(0, total - skip - count) : max(0, total - skip)]
            else:
                total = count_events(query, end)
                records = self._newest(query, end, skip, min(count, total - skip))
            created = self._created(query, records)
        return HistoryPage(tuple(reversed(records)), tuple(created), total)

    def status_as_of(self, name: str, instant: datetime) -> SettingStatus:
        """One setting as a reader at `instant` saw it.

        Raises:
            NotFound: no profile had this name then.
        """
        with self._log.store.reading() as query:
            end = end_of_log(query, instant)
            id, profile = self._profile_then(query, name, end)
            return named(self._statuses(query, [id], profile, end, instant), name)

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

    def _about(self, query: Query, profile: str, end: int | None, scope: Scope = EVERY_MACHINE) -> _Found:
        """The events up to the position `end` that concern this profile or machine, in log order."""
        if not scope.is_all:
            positions = {one.position for one in self._all_within(query, scope)}
            return [one for one in self._about(query, profile, end) if one[0][0] in positions]
        concerned = Concerned(self._log)
        streams = streams_about_setting if "/" in profile else streams_about_machine
        found: list[tuple[tuple[int, StoredEvent], str | None]] = []
        for one in query.events_of(streams(query, profile), end):
            names = {name for name in concerned.apply(*one) if profile in (name, name.partition("/")[0])}
            if names:
                found.append((one, _single(names)))
        return found

    def _all_within(self, query: Query, scope: Scope) -> Iterator[Record]:
        """The records of the events that concern machines of this scope and no others."""
        concerned = Concerned(self._log)
        for one in self._log.read_stored(query):
            names = concerned.apply(*one)
            if scope.has_machines(concerned.machines_of(one[1], names)):
                yield record_of(self._log.decode(*one), _single(names))

    def _all(self, query: Query) -> Iterator[Record]:
        concerned = Concerned(self._log)
        for one in self._log.read_stored(query):
            yield record_of(self._log.decode(*one), _single(concerned.apply(*one)))

    def _newest(self, query: Query, end: int, skip: int, count: int) -> list[Record]:
        """The records of `count` events up to `end`, without the newest `skip`."""
        if count <= 0:
            return []
        return list(self._named(query, query.events(position_before_last(query, end, skip + count), count)))

    def _named(self, query: Query, events: _Stored) -> Iterator[Record]:
        """The records of these events, each with the profile it is about."""
        if not events:
            return
        streams = profiles_in(query, {_id(stored) for _, stored in events})
        links = query.events_of(list(streams), events[-1][0], but=LINKS_NOTHING)
        concerned, wanted = Concerned(self._log), dict(events)
        for position, stored in sorted((dict(links) | wanted).items()):
            names = concerned.apply(position, stored)
            if position in wanted:
                yield record_of(self._log.decode(position, stored), _single(names))

    def _records(self, found: _Found) -> list[Record]:
        return [record_of(self._log.decode(*one), profile) for one, profile in found]

    def _created(self, query: Query, records: Sequence[Record]) -> list[Record]:
        """The creation events of what the records name; that of its group for a token, as it has the group's name."""
        ids = {id for record in records for id in _ids(record)}
        about = streams_about_tokens(query, ids)
        first = [self._log.decode(*one) for one in query.first_events([*ids, *about])]
        groups = {one.event.token_id for one in first if isinstance(one.event, SmtpGroup.Created)}
        return [
            record_of(one, None)
            for one in first
            if (one.event.originator_id in ids and one.event.originator_id not in groups)
            or (isinstance(one.event, SmtpGroup.Created) and one.event.token_id in ids)
        ]


def _single(names: set[str]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None


def _id(stored: StoredEvent) -> UUID:
    assert isinstance(stored.originator_id, UUID)
    return stored.originator_id


def _ids(record: Record) -> Iterator[UUID]:
    """The ids that a record names: its own aggregate's, and those in its facts."""
    yield record.id
    for fact in ("profile_id", "group_id", "token_id"):
        if id := record.facts.get(fact):
            yield UUID(id)
