"""Folds the events of the log into the states of the aggregates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from uuid import UUID

from domain.administrator import AdministratorState
from domain.api_client import ApiClientState
from domain.disclosure import DisclosureState
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


class Fold:
    """The states of all aggregates after some events of the log; no aggregate is built."""

    def __init__(self) -> None:
        self.states: dict[UUID, State] = {}
        self.versions: dict[UUID, int] = {}

    def apply(self, event: Any) -> None:
        """Change the state of the event's aggregate.

        Raises:
            IllegalHistory: the event is not legal in this state.
        """
        id = event.originator_id
        state = self.states.get(id)
        self.states[id] = event.begin() if state is None else event.evolve(state)
        self.versions[id] = event.originator_version

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
