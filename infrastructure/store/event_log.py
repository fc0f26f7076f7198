"""The event log: stores the events of aggregates and loads aggregates from them.

`save` stores events, rows of the read model, sealed rows, claims and hashes in one transaction, or nothing. After a
failed save the aggregates in memory are wrong: the caller loads them again and decides again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, CanMutateAggregate
from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    JSONTranscoder,
    Mapper,
    StoredEvent,
)
from eventsourcing.utils import Environment, EnvType

from domain.administrator import Administrator
from domain.api_client import ApiClient
from domain.disclosure import Disclosure
from domain.errors import Conflict, NotFound
from domain.log_hold import LogHold
from domain.machine import Machine
from domain.one_time_link import OneTimeLink
from domain.profile import Profile
from domain.rebuild import Rebuild
from domain.relay_user import RelayUser
from domain.session import Session
from domain.smtp_group import SmtpGroup
from domain.stored_provider import StoredProvider
from domain.token import Token
from infrastructure.store.eventsourcing_internals import SubclassTranscoder, aggregate_in_state
from infrastructure.store.hash_chain import last_position
from infrastructure.store.log_index import streams_of
from infrastructure.store.machine_list import listed
from infrastructure.store.query import Query, as_dict
from infrastructure.store.row_macs import AlteredRow
from infrastructure.store.rows import State, View, disclosure_state, profile_state, token_state, view
from infrastructure.store.schema import MAC
from infrastructure.store.store import Store, UnitOfWork, store_unit_of_work
from infrastructure.store.vault import (
    CLIENT_KEY,
    CREDENTIAL,
    PASSWORD,
    PENDING,
    PROVIDER_SECRETS,
    SECOND_FACTOR,
    SIGN_IN_PASSWORD,
)

AnyAggregate = (
    Token
    | Profile
    | SmtpGroup
    | Machine
    | RelayUser
    | Administrator
    | ApiClient
    | StoredProvider
    | Disclosure
    | LogHold
    | Rebuild
    | Session
    | OneTimeLink
)
AnyEvent = (
    Token.Event
    | Profile.Event
    | SmtpGroup.Event
    | Machine.Event
    | RelayUser.Event
    | Administrator.Event
    | ApiClient.Event
    | StoredProvider.Event
    | Disclosure.Event
    | LogHold.Event
    | Session.Event
    | OneTimeLink.Event
    | Rebuild.Event
)
Listener = Callable[[Sequence[AnyAggregate]], None]
TSnapshot = TypeVar("TSnapshot", Token, Profile, Disclosure)
TAggregate = TypeVar(
    "TAggregate",
    Token,
    Profile,
    SmtpGroup,
    Machine,
    RelayUser,
    Administrator,
    ApiClient,
    StoredProvider,
    LogHold,
    Session,
    OneTimeLink,
)

CONFLICTS = 20
"""How often a caller loads and decides again after a `Conflict`; each time another writer has made progress."""
_PAGE = 2000
_LOOKS = 3
"""How often events and row are read before they are found to differ: another writer may come in between."""
_NO_INSTANT = datetime.fromtimestamp(0, UTC)
"""Stands for the instant of creation, which the rows of disclosures and profiles do not have and nothing reads."""


class _Events(Application[UUID]):
    """The eventsourcing library's application on this store; environment variables do not configure it."""

    name = "mailtoken"

    def __init__(self, store: Store) -> None:
        self._store = store
        super().__init__()

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        return Environment(name, {})

    def construct_transcoder(self) -> JSONTranscoder:
        transcoder = SubclassTranscoder()
        self.register_transcodings(transcoder)
        return transcoder

    def construct_recorder(self) -> ApplicationRecorder:
        return self._store.recorder


@dataclass(frozen=True)
class LoggedEvent:
    """An event and its position in the log; the hash chain covers its `stored` form."""

    position: int
    event: AnyEvent
    stored: StoredEvent


class EventLog:
    """Saves aggregates as events, loads them, and reads the log in its order."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._events = _Events(store)
        self._mapper: Mapper[UUID] = self._events.mapper
        self.listeners: list[Listener] = []
        """Called with the aggregates after each save of this process, also after a failed one, which may be stored."""

    def load(self, kind: type[TAggregate], id: UUID) -> TAggregate:
        """The aggregate of this kind and id, replayed from its events; `token` is faster for a token.

        What is saved from it gets a MAC, so its events are believed only if they give the row that there is.

        Raises:
            NotFound: there is none.
            Refused: its row or one of its events was altered.
        """
        altered = AlteredRow("", str(id), None)
        for _ in range(_LOOKS):
            try:
                aggregate: Aggregate = self._events.repository.get(id, projector_func=_project)
            except AggregateNotFoundError:
                raise NotFound("aggregate_not_found", kind=kind.__name__, id=str(id)) from None
            assert isinstance(aggregate, kind)
            wanted = view(aggregate.id, aggregate.version, aggregate.state)
            if wanted is None or wanted.row is None or self._has_row(wanted):
                return aggregate
            altered = AlteredRow(wanted.table, str(id), wanted.row.get("name"))
        self.store.row_checks.note(altered)
        raise altered.refusal()

    def _has_row(self, wanted: View) -> bool:
        assert wanted.row
        with self.store.reading() as query:
            rows = query.rows(f"SELECT mac FROM {wanted.table} WHERE id = ?", (str(wanted.id),))  # noqa: S608
        checks = self.store.row_checks
        right = bool(rows) and checks.has_mac(wanted.table, {**wanted.row, MAC: rows[0][MAC]})
        if right:
            checks.forget(wanted.table, str(wanted.id))
        return right

    def token(self, id: UUID) -> Token:
        """The token of this id, read from its row, as a token of some years has thousands of events.

        Raises:
            NotFound: there is none.
            Refused: its row was altered.
        """
        with self.store.reading() as query:
            rows = query.rows(f"SELECT *, {query.last_version('id')} AS events FROM token WHERE id = ?", (str(id),))  # noqa: S608
        if not rows:
            return self.load(Token, id)
        row = as_dict(rows[0])
        self.store.row_checks.check("token", row, row["events"])
        state = token_state(row)
        return _of_row(Token, row, state, state.since)

    def profile_called(self, name: str) -> Profile:
        """The profile of this name.

        Raises:
            NotFound: there is none.
        """
        with self.store.reading() as query:
            rows = query.rows("SELECT id FROM profile WHERE name = ?", (name,))
        if not rows:
            raise NotFound("profile_not_found", profile=name)
        return self.load(Profile, UUID(rows[0]["id"]))

    def profiles_of(self, query: Query, token_id: UUID) -> list[Profile]:
        """The profiles that use this token, read from their rows, as a group may have hundreds.

        Raises:
            Refused: one of the rows was altered.
        """
        statement = f"SELECT *, {query.last_version('id')} AS events FROM profile WHERE token_id = ?"  # noqa: S608
        rows = query.rows(statement, (str(token_id),))
        for row in rows:
            self.store.row_checks.check("profile", row, row["events"])
        return [_of_row(Profile, row, profile_state(row), _NO_INSTANT) for row in rows]

    def disclosure(self, id: UUID) -> Disclosure | None:
        """The disclosure of this id, read from its row; None if the client never got the token.

        Raises:
            Refused: its row was altered.
        """
        with self.store.reading() as query:
            statement = f"SELECT *, {query.last_version('id')} AS events FROM reader WHERE id = ?"  # noqa: S608
            rows = query.rows(statement, (str(id),))
        for row in rows:
            self.store.row_checks.check("reader", row, row["events"])
        return _of_row(Disclosure, rows[0], disclosure_state(rows[0]), _NO_INSTANT) if rows else None

    def save(self, *aggregates: AnyAggregate, unit_of_work: UnitOfWork | None = None) -> None:
        """Store the new events of these aggregates and their unit of work in one transaction.

        Raises:
            Conflict: another writer changed one of the aggregates, or took its name, first.
        """
        changed = [one for one in aggregates if one.pending_events]
        try:
            self._events.save(*changed, unit_of_work=self._with_rows(unit_of_work or UnitOfWork(), changed))
        except IntegrityError:
            raise Conflict("changed_meanwhile") from None
        finally:
            for listener in self.listeners:
                listener(changed)

    def save_within(self, query: Query, *aggregates: AnyAggregate) -> None:
        """Store the new events of these aggregates in the transaction of `query`, in which nobody else writes events.

        The caller is the restore of a backup or a rebuild: no listener is told, and no position of the log is left out.
        """
        unit_of_work = self._with_rows(UnitOfWork(), aggregates)
        stored = [self._mapper.to_stored_event(event) for one in aggregates for event in one.collect_events()]
        first = last_position(query) + 1
        positions = range(first, first + len(stored))

        def insert() -> Sequence[int]:
            query.copy_events(list(zip(positions, stored, strict=True)))
            return positions

        store_unit_of_work(query, stored, insert, self.store.integrity, unit_of_work)

    def read(self, query: Query, after: int = 0) -> Iterator[LoggedEvent]:
        """The events behind the position `after`, in the order of the log."""
        for position, stored in self.read_stored(query, after):
            yield self.decode(position, stored)

    def read_stored(self, query: Query, after: int = 0) -> Iterator[tuple[int, StoredEvent]]:
        """The events behind the position `after`, with their positions, in the form in which they are stored."""
        while page := query.events(after, _PAGE):
            yield from page
            after = page[-1][0]

    def decode(self, position: int, stored: StoredEvent) -> LoggedEvent:
        """The event of a stored form; a form that was changed may raise any exception."""
        event: Any = self._mapper.to_domain_event(stored)
        return LoggedEvent(position, event, stored)

    def instant_of(self, stored: StoredEvent) -> datetime:
        """The instant of a stored event."""
        return instant_in(stored.state)

    def _with_rows(self, unit_of_work: UnitOfWork, changed: Sequence[AnyAggregate]) -> UnitOfWork:
        """The unit of work with the rows that follow from these aggregates' new events, without those that they end."""
        rows = (view(one.id, one.version, one.state) for one in changed)
        events = [(event, one.state) for one in changed for event in one.pending_events]
        return replace(
            unit_of_work,
            views=tuple(row for row in rows if row),
            drop=tuple(end for event, _ in events for end in _ends(event)),
            streams=tuple(stream for event, state in events for stream in streams_of(event, state)),
            instants=tuple(event.timestamp for event, _ in events),
            listed=listed(changed),
        )

    def close(self) -> None:
        """Close the store."""
        self._events.close()
        self.store.close()


def instant_in(state: bytes) -> datetime:
    """The instant of an event from its stored state; decoding the whole event takes several times as long."""
    instant: str = json.loads(state)["timestamp"]["_data_"]
    return datetime.fromisoformat(instant)


def author_in(state: bytes) -> str:
    """The author of an event from its stored state."""
    author: str = json.loads(state)["by"]
    return author


def _of_row(kind: type[TSnapshot], row: Mapping[str, Any], state: State, since: datetime) -> TSnapshot:
    # The row was stored in the transaction of the aggregate's last event, so it has the newest state.
    aggregate = aggregate_in_state(UUID(row["id"]), row["version"], kind.TOPIC, state, since)
    assert isinstance(aggregate, kind)
    return aggregate


# The kinds of sealed rows that an event of their subject deletes. A new row is stored after the deletion.
_ATTEMPT = tuple(PENDING.values())
_ENDS: Mapping[type[AnyEvent], tuple[str, ...]] = {
    Token.AuthorizationRequested: _ATTEMPT,
    Token.AuthorizationEnded: _ATTEMPT,
    Token.Retrieved: (*_ATTEMPT, CREDENTIAL),
    Token.Renewed: (CREDENTIAL,),
    Token.Deleted: (*_ATTEMPT, CREDENTIAL),
    RelayUser.PasswordChanged: (PASSWORD,),
    RelayUser.Removed: (PASSWORD,),
    Administrator.PasswordChanged: (SIGN_IN_PASSWORD,),
    Administrator.SecondFactorRemoved: (SECOND_FACTOR,),
    Administrator.SecondFactorReset: (SECOND_FACTOR,),
    Administrator.Removed: (SIGN_IN_PASSWORD, SECOND_FACTOR),
    ApiClient.KeyIssued: (CLIENT_KEY,),
    ApiClient.Removed: (CLIENT_KEY,),
    StoredProvider.Removed: tuple(PROVIDER_SECRETS.values()),
}


def _ends(event: Any) -> Iterator[tuple[UUID, str]]:
    for kind in _ENDS.get(type(event), ()):
        yield event.originator_id, kind
    if isinstance(event, StoredProvider.SecretUploaded | StoredProvider.SecretRemoved):
        yield event.originator_id, PROVIDER_SECRETS[event.secret]


def _project(initial: Any, events: Iterable[Any]) -> Any:
    # The library's own projector checks each event against a Protocol, which takes half the time of a load.
    for event in events:
        assert isinstance(event, CanMutateAggregate)
        initial = event.mutate(initial)
    return initial
