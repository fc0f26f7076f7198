"""The audit: what happened, what was so at an instant, and whether anybody changed the record.

Everything here replays the log. `verify` believes no stored row: it recomputes the hash chain, folds the events through
the lifecycle, and compares every column and every vault reference with what the log says they must be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from domain.administrator import AdministratorState
from domain.client import ClientState
from domain.profile import ProfileState
from domain.reader import ReaderState
from domain.relay_user import RelayUserState
from domain.smtp_group import SmtpGroupState
from domain.token import TokenState
from infrastructure.clock import instant_text
from infrastructure.log import EventLog, Fold, LoggedEvent
from infrastructure.rows import PROJECTION_VERSION, VIEWS, Row, write_statements
from infrastructure.status import SettingStatus, fold_statuses
from infrastructure.store import GENESIS, Query, link_hash
from infrastructure.vault import CLIENT_KEY, CREDENTIAL, PASSWORD, PENDING, SIGN_IN_PASSWORD

Progress = Callable[[int], None]
_PROGRESS_EVERY = 5000
_BOOKKEEPING = ("originator_id", "originator_version", "originator_topic", "timestamp")


@dataclass(frozen=True)
class Record:
    """One event as a person or a program reads it: no bookkeeping, no secret, for there is none in it."""

    position: int
    at: datetime
    aggregate: str
    id: UUID
    version: int
    name: str
    by: str
    facts: dict[str, Any]
    profile: str | None = None

    def as_json(self) -> dict[str, Any]:
        """One line of an export."""
        return {
            "position": self.position,
            "at": instant_text(self.at),
            "aggregate": self.aggregate,
            "id": str(self.id),
            "version": self.version,
            "event": self.name,
            "by": self.by,
            "profile": self.profile,
            "facts": self.facts,
        }


@dataclass(frozen=True)
class Verdict:
    """What `verify` found; nothing found means the record is whole."""

    events: int
    findings: tuple[str, ...] = field(default=())


class Audit:
    """Reads the log; `rebuild` alone writes, and only rows the log gives again."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def records(self, profile: str | None = None, after: int = 0, limit: int | None = None) -> list[Record]:
        """What happened, in log order: all of it, or all that touched one profile, also one that is gone.

        At most `limit` records behind the position `after`.
        """
        with self._log.store.reading() as query:
            return list(islice(self._records(query, profile, after), limit))

    def statuses_as_of(self, instant: datetime) -> list[SettingStatus]:
        """Every setting as a reader at `instant` saw it.

        Folds the prefix of the log that ends with the last event stamped at or before `instant`, so a clock that
        stepped back does not reorder what happened.
        """
        fold, pending = Fold(), list[LoggedEvent]()
        with self._log.store.reading() as query:
            for logged in self._log.read(query):
                pending.append(logged)
                if logged.event.timestamp <= instant:
                    for one in pending:
                        fold.apply(one.event)
                    pending.clear()
        return fold_statuses(fold, instant)

    def verify(self, progress: Progress | None = None) -> Verdict:
        """Compare the stored rows, the hash chain and the vault's references with what the log says."""
        findings: list[str] = []
        with self._log.store.reading() as query:
            fold, events = self._fold(query, findings, progress)
            findings.extend(_compare_views(query, fold))
            findings.extend(_compare_vault(query, fold))
        return Verdict(events, tuple(findings))

    def rebuild(self, progress: Progress | None = None) -> int:
        """Replay the log into new rows, in one transaction; returns the number of events.

        Raises:
            IllegalHistory: the log itself is not legal; the rows are left as they were.
        """
        fold, events = Fold(), 0
        with self._log.store.writing(alone=True) as query:
            for logged in self._log.read(query):
                fold.apply(logged.event)
                events += 1
                if progress and events % _PROGRESS_EVERY == 0:
                    progress(events)
            self._make_tables_anew(query)
            for statement, parameters in write_statements(view for view in fold.views() if view.row):
                query.run_many(statement, parameters)
            query.run("UPDATE meta SET value = ? WHERE name = 'projection_version'", (str(PROJECTION_VERSION),))
        return events

    def _make_tables_anew(self, query: Query) -> None:
        # An earlier version of the projection may have had other columns.
        for table in VIEWS:
            query.run(f"DROP TABLE IF EXISTS {table}")
        for statement in self._log.store.create_statements():
            query.run(statement)

    def _records(self, query: Query, wanted: str | None, after: int) -> Iterator[Record]:
        concerned = Concerned(self._log)
        for position, stored in self._log.read_stored(query):
            names = concerned.apply(position, stored)
            if position > after and (wanted is None or wanted in names):
                about = wanted or (next(iter(names)) if len(names) == 1 else None)
                yield record_of(self._log.decode(position, stored), about)

    def _fold(self, query: Query, findings: list[str], progress: Progress | None) -> tuple[Fold, int]:
        fold, events, previous = Fold(), 0, GENESIS
        links = {row["position"]: bytes(row["hash"]) for row in query.rows("SELECT position, hash FROM chain")}
        for position, stored in self._log.read_stored(query):
            previous = link_hash(previous, position, stored)
            link = links.pop(position, None)
            if link != previous:
                trouble = "has no place in the hash chain" if link is None else "does not fit the hash chain"
                findings.append(f"event {position} ({stored.topic}) {trouble}: it was changed or inserted")
                previous = link or previous
            try:
                fold.apply(self._log.decode(position, stored).event)
            except Exception as error:
                # An event that was changed may be anything; what comes behind it is looked at all the same.
                findings.append(f"event {position} ({stored.topic}) is not legal: {error}")
            events += 1
            if progress and events % _PROGRESS_EVERY == 0:
                progress(events)
        findings.extend(
            f"event {position} is in the hash chain but not in the log: it was removed" for position in links
        )
        return fold, events


# Nearly all of a log. Whom the next events concern does not depend on them, so nobody has to read what is in them.
_LINKS_NOTHING = ("mailtoken.Token.", "mailtoken.Reader.HandedOut.")


class Concerned:
    """Which profiles an event concerns: the profile itself, those that use the token, are in the group, or relay."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._fold = Fold()
        self._users: dict[UUID, set[UUID]] = {}

    def apply(self, position: int, stored: StoredEvent) -> set[str]:
        """Take the next event; returns the names of the profiles it concerns, before or after it."""
        id = stored.originator_id
        assert isinstance(id, UUID)
        before = self._names(id)
        if stored.topic.startswith(_LINKS_NOTHING):
            return before
        event: Any = self._log.decode(position, stored).event
        was = self._fold.states.get(id)
        self._fold.apply(event)
        now = self._fold.states[id]
        if isinstance(now, ProfileState):
            if isinstance(was, ProfileState):
                self._users[was.token_id].discard(id)
            if not now.removed:
                self._users.setdefault(now.token_id, set()).add(id)
        return before | self._names(id)

    def _names(self, id: UUID) -> set[str]:
        state = self._fold.states.get(id)
        if isinstance(state, ProfileState):
            return {state.name}
        profiles = (self._fold.states.get(member) for member in self._members(id, state))
        return {profile.name for profile in profiles if isinstance(profile, ProfileState)}

    def _members(self, id: UUID, state: Any) -> Iterable[UUID]:
        match state:
            case SmtpGroupState():
                return state.members
            case RelayUserState():
                return state.profiles.values()
            case ClientState():
                return state.profiles
            case ReaderState():
                return self._users.get(state.token_id, ())
        return self._users.get(id, ())


def record_of(logged: LoggedEvent, profile: str | None) -> Record:
    """An event as it is read, with the profile it is about."""
    event = logged.event
    facts = {name: _plain(value) for name, value in vars(event).items() if name not in (*_BOOKKEEPING, "by")}
    aggregate, _, name = type(event).__qualname__.partition(".")
    return Record(
        logged.position,
        event.timestamp,
        aggregate,
        event.originator_id,
        event.originator_version,
        name,
        event.by,
        facts,
        profile,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return instant_text(value)
    return str(value) if isinstance(value, UUID) else value


def _compare_views(query: Query, fold: Fold) -> Iterator[str]:
    expected: dict[str, dict[str, Row]] = {table: {} for table in VIEWS}
    for view in fold.views():
        if view.row:
            expected[view.table][str(view.id)] = view.row
    for table in VIEWS:
        for stored in query.rows(f"SELECT * FROM {table}"):  # noqa: S608 - our own table names
            row = expected[table].pop(stored["id"], None)
            if row is None:
                yield f"{table} {stored['id']} is a row that the log does not give"
            else:
                wrong = [column for column in row if row[column] != stored[column]]
                if wrong:
                    yield f"{table} {stored['id']} differs from the log in {', '.join(wrong)}"
        yield from (f"{table} {id} is missing" for id in expected[table])


def _compare_vault(query: Query, fold: Fold) -> Iterator[str]:
    expected: set[tuple[str, str, int]] = set()
    for id, token in fold.of(TokenState).items():
        if token.credential:
            expected.add((str(id), CREDENTIAL, token.credential.number))
        if token.attempt and token.attempt.flow in PENDING:
            expected.add((str(id), PENDING[token.attempt.flow], token.attempt.ordinal))
    for id, user in fold.of(RelayUserState).items():
        if user.password and not user.removed:
            expected.add((str(id), PASSWORD, user.password))
    for id, administrator in fold.of(AdministratorState).items():
        if administrator.password and not administrator.removed:
            expected.add((str(id), SIGN_IN_PASSWORD, administrator.password))
    for id, client in fold.of(ClientState).items():
        if client.key and not client.removed:
            expected.add((str(id), CLIENT_KEY, client.key))
    rows = query.rows("SELECT token_id, kind, generation FROM vault")
    stored = {(row["token_id"], row["kind"], row["generation"]) for row in rows}
    yield from (
        f"the vault has a {kind} {number} of {_owner(kind)} {id} that no event refers to"
        for id, kind, number in stored - expected
    )
    yield from (f"the vault has no {kind} {number} of {_owner(kind)} {id}" for id, kind, number in expected - stored)


_OWNERS = {PASSWORD: "relay user", SIGN_IN_PASSWORD: "administrator", CLIENT_KEY: "client"}


def _owner(kind: str) -> str:
    return _OWNERS.get(kind, "token")
