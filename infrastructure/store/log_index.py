"""The index of the log: the streams in which the history of a setting is, and where the log of an instant ends.

A stream is the events of one aggregate. Both tables are written in the transaction of the events, follow from the log
alone, and are made anew by a rebuild. Most events, such as renewals, add no stream.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from domain.administrator import Administrator
from domain.api_client import ApiClient
from domain.disclosure import Disclosure
from domain.machine import Machine
from domain.profile import Profile
from domain.relay_user import RelayUser
from domain.session import Session
from domain.smtp_group import SmtpGroup
from domain.stored_provider import StoredProvider
from domain.token import Token
from infrastructure.store.query import Query, plain_for_like, rows_in

Stream = tuple[str, str]
"""What the stream is about, and the stream's id. It is about the id of a setting or token, or about a name.

A name has a slash, an id has none: `machine/setting`, `machine/` for the machine itself, and `/name`, in lower case,
for what is neither.
"""

_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)
_PAGE = 2000
_ESCAPE = "'\\'"
_ADD_NONE = (Token.Event, Disclosure.HandedOut, Session.Event)
"""The many events that add no stream. To ask `streams_of` about each takes a twentieth of a replay."""


def streams_of(event: Any, state: Any) -> Iterator[Stream]:
    """The streams that an event adds; `state` is any state of its aggregate: the setting of a profile never changes."""
    id = str(event.originator_id)
    match event:
        case Profile.Created():
            yield f"{event.machine}/{state.setting}", id
            yield id, str(event.token_id)
        case Profile.MachineRenamed():
            yield f"{event.machine}/{state.setting}", id
        case Profile.Linked() | Profile.Unlinked():
            yield id, str(event.token_id)
        case RelayUser.Mapped() | ApiClient.Granted():
            yield str(event.profile_id), id
        case SmtpGroup.Created() | Disclosure.Created():
            yield str(event.token_id), id
    match event:
        case Machine.Created() | Machine.Renamed():
            yield f"{event.name}/", id
        case (
            SmtpGroup.Created()
            | SmtpGroup.Renamed()
            | RelayUser.Created()
            | Administrator.Created()
            | ApiClient.Created()
            | StoredProvider.Created()
            | StoredProvider.Renamed()
        ):
            yield f"/{event.name.casefold()}", id


def microseconds(instant: datetime) -> int:
    """An instant as the table `log_end` has it."""
    return (instant - _EPOCH) // _MICROSECOND


def extend_log_index(
    query: Query, streams: Sequence[Stream], positions: Sequence[int], instants: Sequence[datetime]
) -> None:
    """Store the streams and the instants of new events, which are at these positions."""
    ends = LogEnds()
    for position, instant in zip(positions, instants, strict=True):
        ends.append(position, instant)
    if ends.rows:
        # The log of a later instant does not end before these events: the clock was set back.
        query.run("DELETE FROM log_end WHERE at >= ?", (ends.rows[0][0],))
    write_log_index(query, streams, ends.rows)


def write_log_index(query: Query, streams: Sequence[Stream], ends: Sequence[tuple[int, int]]) -> None:
    """Store these rows; a stream may be there already."""
    if streams:
        query.run_many("INSERT INTO log_stream (about, stream_id) VALUES (?, ?) ON CONFLICT DO NOTHING", streams)
    insert = "INSERT INTO log_end (at, position) VALUES (?, ?)"
    if len(ends) == 1:
        query.run(insert, ends[0])
    elif ends:
        query.run_many(insert, ends)


class LogEnds:
    """The rows of the table `log_end`: instant and position of each event that no event of an earlier instant follows.

    The log of an instant ends with the last of them that is not later. So the clock may go back: the order of the log
    counts.
    """

    def __init__(self) -> None:
        # Numbers of 8 bytes, as a log of some years has millions of events.
        self._instants, self._positions = array("q"), array("q")

    @property
    def rows(self) -> list[tuple[int, int]]:
        """All rows, in their order."""
        return list(self)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._instants, self._positions, strict=True)

    def append(self, position: int, instant: datetime) -> None:
        """Take the next event of the log."""
        at = microseconds(instant)
        while self._instants and self._instants[-1] >= at:
            self._instants.pop()
            self._positions.pop()
        self._instants.append(at)
        self._positions.append(position)


class LogEndsCheck:
    """Whether the stored rows of `log_end` are those of the log, in memory that does not grow with the log.

    They are if each row has the instant of the event at its position, and no event up to there, behind the row before,
    has an earlier one.
    """

    def __init__(self, stored: Iterator[tuple[int, int]]) -> None:
        self._stored = stored
        self._row = next(stored, None)
        self._is_wrong = False

    def append(self, position: int, instant: datetime) -> None:
        """Take the next event of the log."""
        at = microseconds(instant)
        if self._row is None or position > self._row[1] or at < self._row[0]:
            self._is_wrong = True
        elif position == self._row[1]:
            self._is_wrong |= at != self._row[0]
            self._row = next(self._stored, None)

    @property
    def is_wrong(self) -> bool:
        """Whether a row is missing, or is another; to be asked behind the last event."""
        return self._is_wrong or self._row is not None


Ends = TypeVar("Ends", LogEnds, LogEndsCheck)


class FoldedLogIndex(Generic[Ends]):
    """The index that a log has, event by event."""

    def __init__(self, ends: Ends) -> None:
        self.streams: set[Stream] = set()
        self.ends: Ends = ends

    def apply(self, position: int, event: Any, state: Any) -> None:
        """Take the next event, which led to this state."""
        if not isinstance(event, _ADD_NONE):
            self.streams.update(streams_of(event, state))
        self.ends.append(position, event.timestamp)


def stored_ends(query: Query) -> Iterator[tuple[int, int]]:
    """The rows of the table `log_end` in their order, read a page at a time."""
    statement = "SELECT at, position FROM log_end WHERE at > ? ORDER BY at LIMIT ?"
    after = -(2**62)
    while rows := query.rows(statement, (after, _PAGE)):
        yield from ((row["at"], row["position"]) for row in rows)
        after = rows[-1]["at"]


def end_of_log(query: Query, instant: datetime) -> int:
    """The position of the last event that is stamped at or before `instant`; 0 if none is."""
    return _end(query, microseconds(instant))


def end_before(query: Query, instant: datetime) -> int:
    """The position of the last event that is stamped before `instant`; 0 if none is."""
    return _end(query, microseconds(instant) - 1)


def _end(query: Query, at: int) -> int:
    rows = query.rows("SELECT position FROM log_end WHERE at <= ? ORDER BY at DESC LIMIT 1", (at,))
    return int(rows[0]["position"]) if rows else 0


def profiles_called(query: Query, name: str) -> list[UUID]:
    """The ids of the profiles that have or had this name."""
    return _ids(query.rows("SELECT stream_id AS id FROM log_stream WHERE about = ?", (name,)))


def profiles_using(query: Query, token_id: UUID) -> list[UUID]:
    """The ids of the profiles that use or used this token."""
    return _ids(query.rows("SELECT about AS id FROM log_stream WHERE stream_id = ?", (str(token_id),)))


def streams_about(query: Query, name: str) -> list[UUID]:
    """The ids of all streams that may have events about what has or had this name: a setting, or a machine.

    A machine has the events of its settings too.
    """
    if "/" in name:
        return _streams_where(query, "about = ?", (name,))
    about = query.by_code_point("about")
    # "0" follows "/", so these are the names that begin with the machine's name and a slash.
    return _streams_where(query, f"{about} >= ? AND {about} < ?", (f"{name}/", f"{name}0"))


def streams_named(query: Query, words: Sequence[str], patterns: Sequence[str] | None, most: int) -> list[UUID] | None:
    """The ids of all streams that may have events about names with all of these words, which are in lower case.

    With patterns only machines whose names fit one of them count, and their settings; with words also what is neither
    machine nor setting. None if more than `most` names fit.
    """
    conditions, parameters = ["about LIKE ?"], ["%/%"]
    for word in words:
        conditions.append(f"lower(about) LIKE ? ESCAPE {_ESCAPE}")
        parameters.append(f"%{plain_for_like(word)}%")
    if patterns is not None:
        inside = [f"{plain_for_like(one).replace('*', '%')}/%" for one in patterns]
        either = [*inside, *(["/%"] if words else [])]
        conditions.append(f"({' OR '.join('about LIKE ? ESCAPE ' + _ESCAPE for _ in either) or '1 = 0'})")
        parameters += either
    condition = " AND ".join(conditions)
    found = query.rows(f"SELECT about FROM log_stream WHERE {condition} LIMIT ?", (*parameters, most + 1))  # noqa: S608
    return None if len(found) > most else _streams_where(query, condition, parameters)


def _streams_where(query: Query, condition: str, parameters: Sequence[str]) -> list[UUID]:
    """The ids of the streams of these names, and of the streams behind them."""
    statement = f"""
        WITH RECURSIVE found (id) AS (
            SELECT stream_id FROM log_stream WHERE {condition}
            UNION SELECT log_stream.stream_id FROM log_stream JOIN found ON log_stream.about = found.id)
        SELECT id FROM found"""  # noqa: S608
    return _ids(query.rows(statement, parameters))


def streams_about_tokens(query: Query, token_ids: Iterable[UUID]) -> list[UUID]:
    """The ids of the streams about these tokens: that of their group, and those of their disclosures."""
    return _ids(rows_in(query, "SELECT stream_id AS id FROM log_stream WHERE about IN", [str(id) for id in token_ids]))


def profiles_in(query: Query, streams: Iterable[UUID]) -> set[UUID]:
    """The ids of the profiles and tokens that these streams are or were about."""
    found, added = set[str](), {str(id) for id in streams}
    while added:
        found |= added
        rows = rows_in(query, "SELECT about FROM log_stream WHERE stream_id IN", list(added))
        added = {row["about"] for row in rows if "/" not in row["about"]} - found
    return {UUID(id) for id in found}


def _ids(rows: Iterable[Mapping[str, Any]]) -> list[UUID]:
    return [UUID(row["id"]) for row in rows]
