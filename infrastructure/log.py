"""The event log: the only writer of events, and the way back from events to aggregates.

`save` stores events, the read model's rows, sealed rows, claims and the hash chain in one transaction, or nothing.
After a failed save the aggregates in memory are wrong: load them again and decide again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, CanMutateAggregate, Snapshot
from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    JSONTranscoder,
    Mapper,
    StoredEvent,
    Transcoding,
)
from eventsourcing.utils import Environment, EnvType

from domain.administrator import Administrator, AdministratorState
from domain.client import Client, ClientState
from domain.errors import Conflict, NotFound
from domain.machine import Machine, MachineState
from domain.profile import Profile, ProfileState
from domain.reader import Reader, ReaderState
from domain.relay_user import RelayUser, RelayUserState
from domain.smtp_group import SmtpGroup, SmtpGroupState
from domain.token import Token, TokenState
from infrastructure.rows import State, View, profile_state, reader_state, token_state, view
from infrastructure.store import Alongside, Query, Store
from infrastructure.vault import CLIENT_KEY, CREDENTIAL, PASSWORD, PENDING, SIGN_IN_PASSWORD

AnyAggregate = Token | Profile | SmtpGroup | Machine | RelayUser | Administrator | Client | Reader
AnyEvent = (
    Token.Event
    | Profile.Event
    | SmtpGroup.Event
    | Machine.Event
    | RelayUser.Event
    | Administrator.Event
    | Client.Event
    | Reader.Event
)
Listener = Callable[[Sequence[AnyAggregate]], None]
TSnapshot = TypeVar("TSnapshot", Token, Profile, Reader)
TAggregate = TypeVar("TAggregate", Token, Profile, SmtpGroup, Machine, RelayUser, Administrator, Client)

CONFLICTS = 20
"""How often whoever meets a `Conflict` loads and decides again; each time somebody else got something done."""
_PAGE = 2000
_NO_INSTANT = datetime.fromtimestamp(0, UTC)
"""When a reader or a profile was made is in the log; nothing asks its row for it."""


class _Transcoder(JSONTranscoder):
    """Looks a type up by its bases too: freezegun's datetime is a subclass of the real one."""

    def _encode_obj(self, o: Any) -> dict[str, Any]:
        for base in type(o).__mro__:
            transcoding: Transcoding | None = self.types.get(base)
            if transcoding:
                return {"_type_": transcoding.name, "_data_": transcoding.encode(o)}
        return super()._encode_obj(o)


class _Events(Application[UUID]):
    """The library's application on our store; the process's environment configures nothing of it."""

    name = "mailtoken"

    def __init__(self, store: Store) -> None:
        self._store = store
        super().__init__()

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        return Environment(name, {})

    def construct_transcoder(self) -> JSONTranscoder:
        transcoder = _Transcoder()
        self.register_transcodings(transcoder)
        return transcoder

    def construct_recorder(self) -> ApplicationRecorder:
        return self._store.recorder


@dataclass(frozen=True)
class LoggedEvent:
    """An event and its place in the log; `stored` is what the hash chain covers."""

    position: int
    event: AnyEvent
    stored: StoredEvent


class EventLog:
    """Events in, aggregates out."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._events = _Events(store)
        self._mapper: Mapper[UUID] = self._events.mapper
        self.listeners: list[Listener] = []
        """Told what may have changed, after each save of this process, also of one that failed and may be stored."""

    def load(self, kind: type[TAggregate], id: UUID) -> TAggregate:
        """The aggregate of this kind and id, replayed from its events; see `token` for those with many.

        Raises:
            NotFound: there is none.
        """
        try:
            aggregate: Aggregate = self._events.repository.get(id, projector_func=_project)
        except AggregateNotFoundError:
            raise NotFound(f"there is no {kind.__name__.lower()} with the id {id}") from None
        assert isinstance(aggregate, kind)
        return aggregate

    def token(self, id: UUID) -> Token:
        """The token of this id, from its row: a token that lives for years is renewed thousands of times.

        Raises:
            NotFound: there is none.
        """
        with self.store.reading() as query:
            rows = query.rows("SELECT * FROM token WHERE id = ?", (str(id),))
        if not rows:
            return self.load(Token, id)
        state = token_state(rows[0])
        return _of_row(Token, rows[0], state, state.since)

    def profile_called(self, name: str) -> Profile:
        """The profile of this name.

        Raises:
            NotFound: there is none.
        """
        with self.store.reading() as query:
            rows = query.rows("SELECT id FROM profile WHERE name = ?", (name,))
        if not rows:
            raise NotFound(f"no profile is called {name!r}: see mailtoken profile list")
        return self.load(Profile, UUID(rows[0]["id"]))

    def profiles_of(self, query: Query, token_id: UUID) -> list[Profile]:
        """The profiles that use this token, as `query` sees them, from their rows: a group may have hundreds."""
        rows = query.rows("SELECT * FROM profile WHERE token_id = ?", (str(token_id),))
        return [_of_row(Profile, row, profile_state(row), _NO_INSTANT) for row in rows]

    def reader(self, id: UUID) -> Reader | None:
        """The reader of this id, from its row as a token is; None if this client never got the token."""
        with self.store.reading() as query:
            rows = query.rows("SELECT * FROM reader WHERE id = ?", (str(id),))
        return _of_row(Reader, rows[0], reader_state(rows[0]), _NO_INSTANT) if rows else None

    def save(self, *aggregates: AnyAggregate, beside: Alongside | None = None) -> None:
        """Store what these aggregates decided, and what goes beside it, in one transaction.

        Raises:
            Conflict: somebody else changed one of them, or took the name, first.
        """
        changed = [one for one in aggregates if one.pending_events]
        views = tuple(view(one.id, one.version, one.state) for one in changed)
        drop = tuple(end for one in changed for event in one.pending_events for end in _ends(event))
        try:
            self._events.save(*changed, beside=replace(beside or Alongside(), views=views, drop=drop))
        except IntegrityError:
            raise Conflict("somebody else changed this at the same moment: look again and repeat it") from None
        finally:
            for tell in self.listeners:
                tell(changed)

    def read(self, query: Query, after: int = 0) -> Iterator[LoggedEvent]:
        """The log in its order as `query` sees it, from the position behind `after`."""
        for position, stored in self.read_stored(query, after):
            yield self.decode(position, stored)

    def read_stored(self, query: Query, after: int = 0) -> Iterator[tuple[int, StoredEvent]]:
        """The same as it is stored, whether it can be read or not."""
        while page := query.events(after, _PAGE):
            yield from page
            after = page[-1][0]

    def decode(self, position: int, stored: StoredEvent) -> LoggedEvent:
        """The event that is stored so; one that was changed may raise anything."""
        event: Any = self._mapper.to_domain_event(stored)
        return LoggedEvent(position, event, stored)

    def instant_of(self, stored: StoredEvent) -> datetime:
        """When the event happened that is stored so, without making it: that takes several times as long."""
        instant: str = json.loads(stored.state)["timestamp"]["_data_"]
        return datetime.fromisoformat(instant)

    def close(self) -> None:
        """Let go of the store."""
        self._events.close()
        self.store.close()


def _of_row(kind: type[TSnapshot], row: Mapping[str, Any], state: State, since: datetime) -> TSnapshot:
    # Written in the transaction of the aggregate's last event, so there are none behind it.
    attributes = {"state": state, "_created_on": since, "_modified_on": since}
    aggregate: Any = Snapshot(UUID(row["id"]), row["version"], since, kind.TOPIC, attributes).mutate(None)
    assert isinstance(aggregate, kind)
    return aggregate


# Which sealed rows of its token, or relay user, an event puts an end to. A new one, if there is one, goes in after.
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
    Administrator.Removed: (SIGN_IN_PASSWORD,),
    Client.KeyIssued: (CLIENT_KEY,),
    Client.Removed: (CLIENT_KEY,),
}


def _ends(event: Any) -> Iterator[tuple[UUID, str]]:
    for kind in _ENDS.get(type(event), ()):
        yield event.originator_id, kind


def _project(initial: Any, events: Iterable[Any]) -> Any:
    # The library's own projector checks each event against a Protocol, which takes half the time of a load.
    for event in events:
        assert isinstance(event, CanMutateAggregate)
        initial = event.mutate(initial)
    return initial


class Fold:
    """The states of all aggregates after a stretch of the log, without building the aggregates."""

    def __init__(self) -> None:
        self.states: dict[UUID, State] = {}
        self.versions: dict[UUID, int] = {}

    def apply(self, event: Any) -> None:
        """Take the next event.

        Raises:
            IllegalHistory: it is not legal where it stands.
        """
        id = event.originator_id
        state = self.states.get(id)
        self.states[id] = event.begin() if state is None else event.evolve(state)
        self.versions[id] = event.originator_version

    def views(self) -> Iterator[View]:
        """The rows these states are."""
        for id, state in self.states.items():
            yield view(id, self.versions[id], state)

    def of(self, kind: type[TState]) -> Mapping[UUID, TState]:
        """The states of one kind of aggregate."""
        return {id: state for id, state in self.states.items() if isinstance(state, kind)}


TState = TypeVar(
    "TState",
    TokenState,
    ProfileState,
    SmtpGroupState,
    MachineState,
    RelayUserState,
    AdministratorState,
    ClientState,
    ReaderState,
)
