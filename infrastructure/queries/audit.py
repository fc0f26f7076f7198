"""The audit: records of the event log, the statuses at an earlier instant, and the check for tampering.

Everything here replays the log. `verify` trusts no stored row: it recomputes the hash chain, folds the events through
the lifecycle, and compares every column and every vault reference with what the log says they must be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from domain.administrator import AdministratorState
from domain.api_client import ApiClientState
from domain.disclosure import DisclosureState
from domain.errors import Fact
from domain.profile import ProfileState
from domain.relay_user import RelayUserState
from domain.smtp_group import SmtpGroupState
from domain.token_state import TokenState
from infrastructure.clock import instant_text
from infrastructure.queries.setting_status import SettingStatus, fold_statuses
from infrastructure.store.event_log import EventLog, LoggedEvent
from infrastructure.store.fold import Fold
from infrastructure.store.hash_chain import GENESIS, link_hash, read_chain
from infrastructure.store.query import Query
from infrastructure.store.read_model import PROGRESS_EVERY, Progress, rebuild_read_model
from infrastructure.store.rows import Row
from infrastructure.store.schema import VIEWS
from infrastructure.store.vault import (
    CLIENT_KEY,
    CREDENTIAL,
    PASSWORD,
    PENDING,
    SIGN_IN_PASSWORD,
    VaultKey,
    read_vault_keys,
)

_BOOKKEEPING = ("originator_id", "originator_version", "originator_topic", "timestamp")


@dataclass(frozen=True)
class Record:
    """One event as a person or a program reads it, without bookkeeping. Events hold no secrets."""

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
class Finding:
    """A difference between the log and what is stored beside it: a code, and its facts by name.

    The sentence of each code is in `adapters.texts.audit_findings`.
    """

    code: str
    fields: Mapping[str, Fact]


@dataclass(frozen=True)
class Verification:
    """The number of events that `verify` read, and its findings; an intact store has no findings."""

    events: int
    findings: tuple[Finding, ...] = ()


class Audit:
    """Reads the log. Only `rebuild` writes, and only rows that can be derived from the log again."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def records(self, profile: str | None = None, after: int = 0, limit: int | None = None) -> list[Record]:
        """The events in log order: all, or those that concern one profile, which may have been removed since.

        At most `limit` records after the position `after`.
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

    def verify(self, progress: Progress | None = None) -> Verification:
        """Compare the stored rows, the hash chain and the vault's references with what the log says."""
        findings = list[Finding]()
        with self._log.store.reading() as query:
            fold, events = self._fold(query, findings, progress)
            findings.extend(_compare_views(query, fold))
            findings.extend(_compare_vault(query, fold))
        return Verification(events, tuple(findings))

    def rebuild(self, progress: Progress | None = None) -> int:
        """Replay the log into new rows, in one transaction; returns the number of events.

        Raises:
            IllegalHistory: the log itself is not legal; the rows are left as they were.
        """
        with self._log.store.writing(alone=True) as query:
            return rebuild_read_model(self._log, query, progress)[1]

    def _records(self, query: Query, wanted: str | None, after: int) -> Iterator[Record]:
        concerned = Concerned(self._log)
        for position, stored in self._log.read_stored(query):
            names = concerned.apply(position, stored)
            if position > after and (wanted is None or wanted in names):
                about = wanted or (next(iter(names)) if len(names) == 1 else None)
                yield record_of(self._log.decode(position, stored), about)

    def _fold(self, query: Query, findings: list[Finding], progress: Progress | None) -> tuple[Fold, int]:
        fold, events, previous = Fold(), 0, GENESIS
        links = read_chain(query)
        for position, stored in self._log.read_stored(query):
            previous = link_hash(previous, position, stored)
            link = links.pop(position, None)
            if link != previous:
                code = "event_not_in_chain" if link is None else "event_hash_differs"
                findings.append(Finding(code, {"position": position, "topic": stored.topic}))
                previous = link or previous
            try:
                fold.apply(self._log.decode(position, stored).event)
            except Exception as error:
                # A changed event may raise any error; the events after it are checked all the same.
                facts: dict[str, Fact] = {"position": position, "topic": stored.topic, "reason": str(error)}
                findings.append(Finding("event_not_legal", facts))
            events += 1
            if progress and events % PROGRESS_EVERY == 0:
                progress(events)
        findings.extend(Finding("event_removed", {"position": position}) for position in links)
        return fold, events


# Topics of nearly all events. These events don't change which profiles later events concern, so they are not decoded.
_LINKS_NOTHING = ("mailtoken.Token.", "mailtoken.Reader.HandedOut.", "mailtoken.Session.", "mailtoken.Link.")


class Concerned:
    """Finds the profiles that an event concerns: by their id, token or group, or as those of a relay user or client."""

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
            case ApiClientState():
                return state.profiles
            case DisclosureState():
                return self._users.get(state.token_id, ())
        return self._users.get(id, ())


def record_of(logged: LoggedEvent, profile: str | None) -> Record:
    """The record of an event, with the profile that the event is about."""
    event = logged.event
    facts = {name: _plain(value) for name, value in vars(event).items() if name not in (*_BOOKKEEPING, "by")}
    aggregate, name = event.names()
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


def _compare_views(query: Query, fold: Fold) -> Iterator[Finding]:
    expected: dict[str, dict[str, Row]] = {table: {} for table in VIEWS}
    for view in fold.views():
        if view.row:
            expected[view.table][str(view.id)] = view.row
    for table in VIEWS:
        for stored in query.rows(f"SELECT * FROM {table}"):  # noqa: S608 - our own table names
            row = expected[table].pop(stored["id"], None)
            if row is None:
                yield Finding("row_not_in_log", {"table": table, "id": stored["id"]})
            else:
                wrong = [column for column in row if row[column] != stored[column]]
                if wrong:
                    yield Finding("row_differs", {"table": table, "id": stored["id"], "columns": wrong})
        yield from (Finding("row_missing", {"table": table, "id": id}) for id in expected[table])


def _compare_vault(query: Query, fold: Fold) -> Iterator[Finding]:
    expected = set[VaultKey]()
    for id, token in fold.of(TokenState).items():
        if token.credential:
            expected.add(VaultKey(str(id), CREDENTIAL, token.credential.number))
        if token.attempt and token.attempt.flow in PENDING:
            expected.add(VaultKey(str(id), PENDING[token.attempt.flow], token.attempt.ordinal))
    for id, user in fold.of(RelayUserState).items():
        if user.password and not user.removed:
            expected.add(VaultKey(str(id), PASSWORD, user.password))
    for id, administrator in fold.of(AdministratorState).items():
        if administrator.password and not administrator.removed:
            expected.add(VaultKey(str(id), SIGN_IN_PASSWORD, administrator.password))
    for id, client in fold.of(ApiClientState).items():
        if client.key and not client.removed:
            expected.add(VaultKey(str(id), CLIENT_KEY, client.key))
    stored = read_vault_keys(query)
    yield from (_about_vault("vault_row_not_in_log", key) for key in stored - expected)
    yield from (_about_vault("vault_row_missing", key) for key in expected - stored)


def _about_vault(code: str, key: VaultKey) -> Finding:
    return Finding(code, {"kind": key.kind, "number": key.generation, "id": key.subject_id})
