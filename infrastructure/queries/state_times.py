"""How long a setting's token was in each state: the token that the setting had at the time, if it was linked.

A sign-in or a token that expires changes the state without an event. Renewals between other renewals change none, and a
token in constant use has thousands of them, so they are not replayed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from domain.lifecycle import TokenStatus
from domain.profile import ProfileState
from domain.token_state import TokenState
from infrastructure.store.event_log import EventLog
from infrastructure.store.fold import Fold
from infrastructure.store.query import Query

_RENEWED = "mailtoken.Token.Renewed."


@dataclass(frozen=True)
class StateTimes:
    """The time that a setting's token spent in each state since the setting was added, in all.

    `status` is the state it is in, and `since` when it came into it.
    """

    status: TokenStatus
    since: datetime
    totals: dict[TokenStatus, timedelta]


@dataclass
class _Watch:
    """Adds up the time in each state; it begins when the setting is there."""

    profile_id: UUID
    fold: Fold = field(default_factory=Fold)
    totals: dict[TokenStatus, timedelta] = field(default_factory=lambda: defaultdict(timedelta))
    at: datetime | None = None

    @property
    def token(self) -> TokenState | None:
        """The token of the setting."""
        profile = self.fold.states.get(self.profile_id)
        token = self.fold.states.get(profile.token_id) if isinstance(profile, ProfileState) else None
        return token if isinstance(token, TokenState) else None

    def pass_until(self, instant: datetime) -> None:
        """Let the time pass; if the clock went back, none has passed."""
        if token := self.token:
            at = self.at or instant
            state = token.at(at)
            while over := state.ran_out(instant):
                self.totals[state.status] += over.expires_at - at
                at, state = over.expires_at, state.at(over.expires_at)
            self.totals[state.status] += max(instant - at, timedelta())
            self.at = max(instant, at)


def state_times(log: EventLog, query: Query, profile_id: UUID, end: int, instant: datetime) -> StateTimes:
    """The times of the setting of this id in the log up to the position `end`, as of `instant`."""
    ids = {profile_id}
    for one in query.events_of([profile_id], end):
        if token_id := getattr(log.decode(*one).event, "token_id", None):
            ids.add(token_id)
    watch = _Watch(profile_id)
    for position, stored in _without_routine(query.events_of(list(ids), end)):
        event = log.decode(position, stored).event
        watch.pass_until(event.timestamp)
        watch.fold.apply(event)
        if watch.token and watch.at is None:
            watch.at = event.timestamp
    watch.pass_until(instant)
    assert watch.token
    state = watch.token.at(instant)
    return StateTimes(state.status, state.since, dict(watch.totals))


def _without_routine(events: Sequence[tuple[int, StoredEvent]]) -> Iterator[tuple[int, StoredEvent]]:
    streams: dict[object, list[tuple[int, bool]]] = defaultdict(list)
    for position, stored in events:
        streams[stored.originator_id].append((position, stored.topic.startswith(_RENEWED)))
    routine = {
        position
        for stream in streams.values()
        for ((_, before), (position, renewed)), (_, (_, behind)) in pairwise(pairwise(stream))
        if before and renewed and behind
    }
    return (one for one in events if one[0] not in routine)
