"""Folds the events of the log into the states of the aggregates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from domain.administrator import AdministratorState
from domain.api_client import ApiClientState
from domain.disclosure import DisclosureState
from domain.errors import IllegalHistory
from domain.lifecycle import TokenStatus
from domain.log_hold import LogHoldState
from domain.machine import MachineState
from domain.one_time_link import OneTimeLinkState
from domain.profile import ProfileState
from domain.rebuild import RebuildState
from domain.relay_user import RelayUserState
from domain.session import SessionState
from domain.smtp_group import SmtpGroupState
from domain.stored_provider import StoredProviderState
from domain.token_state import TokenState
from infrastructure.store.rows import State, View, view

_RETIRED = TokenState(TokenStatus.NOT_RETRIEVED, datetime.fromtimestamp(0, UTC), retired=True)
"""Stands for the state of every retired token: nothing of it is compared any more."""


def is_over(state: State) -> bool:
    """Whether no event of the aggregate may follow."""
    match state:
        case SessionState() | OneTimeLinkState():
            return state.ended
        case SmtpGroupState():
            return state.dissolved
        case LogHoldState():
            return state.lifted
        case RebuildState():
            return True
        case TokenState() | DisclosureState():
            return False
        case _:
            return state.removed


class Fold:
    """The states of all aggregates after some events of the log; no aggregate is built.

    With `forgets` an aggregate that is over is not kept, so the memory grows with those that live. No event may follow
    its end, but for a token: a late reply to a retired one is recorded, so of that one the end is kept.
    """

    def __init__(self, *, forgets: bool = False) -> None:
        self.states: dict[UUID, State] = {}
        self.versions: dict[UUID, int] = {}
        self._forgets = forgets

    def apply(self, event: Any) -> State:
        """Change the state of the event's aggregate; returns the new state.

        Raises:
            IllegalHistory: the event is not legal in this state.
        """
        id, version = event.originator_id, event.originator_version
        before = self.states.get(id)
        if before is None and version != 1:
            raise IllegalHistory("aggregate_not_there", version=version, id=str(id))
        state: State = event.begin() if before is None else event.evolve(before)
        if self._forgets and is_over(state):
            self.states.pop(id, None)
            self.versions.pop(id, None)
            return state
        self.states[id] = _RETIRED if self._forgets and isinstance(state, TokenState) and state.retired else state
        self.versions[id] = version
        return state

    def views(self) -> Iterator[View]:
        """The rows of these states."""
        for id, state in self.states.items():
            if row := view(id, self.versions[id], state):
                yield row

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
    ApiClientState,
    StoredProviderState,
    DisclosureState,
    LogHoldState,
    SessionState,
    OneTimeLinkState,
    RebuildState,
)
