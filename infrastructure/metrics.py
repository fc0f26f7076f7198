"""Numbers for monitoring: what is so now, and what this run has counted. No account, machine or client is named.

What the log tells is counted from the log, each event once, when somebody asks; so it costs nothing in between and is
right for what other nodes did too. `Tally` counts what no event tells.
"""

from __future__ import annotations

import threading
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from domain.forecast import Ending
from domain.lifecycle import Held, TokenStatus
from domain.ports import Clock
from domain.token import Token, TokenState
from infrastructure.attention import Attention
from infrastructure.log import EventLog
from infrastructure.rows import token_state
from infrastructure.tally import Tally


@dataclass(frozen=True)
class _Token:
    """A token as of now: how many settings use it, why it wants a person, and what will end it first."""

    state: TokenState
    settings: int
    attention: str | None
    ending: Ending | None


class Metrics(Collector):
    """All the numbers, in the text format of Prometheus."""

    def __init__(self, events: EventLog, attention: Attention, tally: Tally, clock: Clock) -> None:
        self._events = events
        self._attention = attention
        self._clock = clock
        self._tally = tally
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._counting = threading.Lock()
        self._position = self._end_of_log()
        self._counts: Counts[tuple[str, str]] = Counts()

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry) + generate_latest(self._tally.registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing: else a registry asks for all the numbers to learn their names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What is so now, then what the log has told since this run began."""
        now, tokens = self._clock.now(), list(self._tokens())
        yield _by_state(
            "mailtoken_settings", "Settings by what they display under Token.", tokens, lambda one: one.settings
        )
        yield _by_state("mailtoken_tokens", "Tokens by state; linked settings share one.", tokens, lambda _: 1)
        attention = GaugeMetricFamily("mailtoken_attention", "Tokens that want a person, by why.", labels=["why"])
        for why, number in sorted(Counts(one.attention for one in tokens if one.attention).items()):
            attention.add_metric([why], number)
        yield attention
        yield from _nearest(tokens, now)
        yield self._events_told()

    def _tokens(self) -> Iterator[_Token]:
        now = self._clock.now()
        with self._events.store.reading() as query:
            settings = {
                row["token_id"]: row["settings"]
                for row in query.rows("SELECT token_id, count(*) AS settings FROM profile GROUP BY token_id")
            }
            for row in query.rows("SELECT * FROM token"):
                state = token_state(row).at(now)
                attention = self._attention.of_token(UUID(row["id"]), state)
                yield _Token(state, settings.get(row["id"], 0), attention, self._attention.ending(state))

    def _events_told(self) -> Metric:
        told = CounterMetricFamily(
            "mailtoken_token_events",
            "Events of tokens since the start, such as Retrieved, Renewed and GrantFoundDead.",
            labels=["event", "provider"],
        )
        for (event, provider), number in sorted(self._count().items()):
            told.add_metric([event, provider], number)
        return told

    def _count(self) -> Counts[tuple[str, str]]:
        with self._counting, self._events.store.reading() as query:
            providers = {row["id"]: row["provider"] or "" for row in query.rows("SELECT id, provider FROM token")}
            for logged in self._events.read(query, self._position):
                self._position = logged.position
                if isinstance(logged.event, Token.Event):
                    provider = getattr(logged.event, "provider", None) or providers.get(str(logged.event.originator_id))
                    self._counts[type(logged.event).__name__, provider or ""] += 1
            return self._counts.copy()

    def _end_of_log(self) -> int:
        with self._events.store.reading() as query:
            return int(query.rows("SELECT max(position) AS last FROM chain")[0]["last"] or 0)


def _by_state(name: str, meaning: str, tokens: Sequence[_Token], weight: Callable[[_Token], int]) -> Metric:
    numbers = Counts[TokenStatus]()
    for one in tokens:
        numbers[one.state.status] += weight(one)
    family = GaugeMetricFamily(name, meaning, labels=["state"])
    for state in TokenStatus:
        family.add_metric([state.value], numbers[state])
    return family


def _nearest(tokens: Sequence[_Token], now: datetime) -> Iterator[Metric]:
    live = [one.state.credential for one in tokens if one.state.held is Held.LIVE]
    yield _seconds_to(
        "mailtoken_access_token_expiry_seconds",
        "Seconds to the nearest expiry of an access token; renewal comes before.",
        [credential.expires_at for credential in live if credential],
        now,
    )
    yield _seconds_to(
        "mailtoken_grant_end_seconds",
        "Seconds to the nearest end of an authorization, as it is forecast; a person is needed before.",
        [one.ending.at for one in tokens if one.ending],
        now,
    )


def _seconds_to(name: str, meaning: str, instants: list[datetime], now: datetime) -> Metric:
    family = GaugeMetricFamily(name, meaning)
    if instants:
        family.add_metric([], (min(instants) - now).total_seconds())
    return family
