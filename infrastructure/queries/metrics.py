"""Metrics: the state as of now, and counts since the process started. They name no account, machine or client.

Mail is counted in the store, so its counts outlast a process and include those of every relay and node.

Each read of the metrics counts the events that are new in the log, those of other nodes too. `Counters` counts what no
event records. Faults are the warnings and errors of this process's log, so that each kind of fault is among them.
"""

from __future__ import annotations

import threading
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from domain.expiry_forecast import Expiry
from domain.lifecycle import Held, TokenStatus
from domain.ports import Clock
from domain.token import Token
from domain.token_state import TokenState
from infrastructure.counters import Counters
from infrastructure.logging import FAULT_COUNTS
from infrastructure.mail_counts import mail_totals
from infrastructure.queries.attention import Attention
from infrastructure.queries.attention_page import AttentionCounts
from infrastructure.queries.store_state import StoreStateQuery
from infrastructure.store.claim_rows import count_claims
from infrastructure.store.event_log import EventLog
from infrastructure.store.hash_chain import last_position
from infrastructure.store.row_macs import readable
from infrastructure.store.rows import token_state
from infrastructure.ticker import Ticker

_CLAIM_KINDS = ("acquisition", "renewal", "notice")


@dataclass(frozen=True)
class _Token:
    """A token as of now, with the number of its settings, the code of why it needs a person, and its first expiry."""

    state: TokenState
    settings: int
    attention: str | None
    expiry: Expiry | None


class Metrics(Collector):
    """All metrics, in the text format of Prometheus."""

    def __init__(
        self,
        events: EventLog,
        attention: Attention,
        attention_counts: Callable[[], AttentionCounts],
        counters: Counters,
        clock: Clock,
        store_state: StoreStateQuery,
        waits: Callable[[], Mapping[str, int]],
        tickers: Sequence[Ticker] = (),
    ) -> None:
        self._events = events
        self._attention = attention
        self._attention_counts = attention_counts
        self._clock = clock
        self._counters = counters
        self._store_state = store_state
        self._waits = waits
        self._tickers = tickers
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)
        self._counting = threading.Lock()
        self._position = self._end_of_log()
        self._counts: Counts[tuple[str, str]] = Counts()

    def text(self) -> bytes:
        """The metrics in the text format."""
        return generate_latest(self._registry) + generate_latest(self._counters.registry)

    def describe(self) -> Iterable[Metric]:
        """No metrics, so that the registry does not call `collect` to learn their names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The gauges as of now, then the counts of events since the process started."""
        now, tokens = self._clock.now(), list(self._tokens())
        yield _by_state("mailtoken_settings", "Settings by the label of their token.", tokens, lambda one: one.settings)
        yield _by_state("mailtoken_tokens", "Tokens by state; linked settings share one.", tokens, lambda _: 1)
        attention = GaugeMetricFamily(
            "mailtoken_attention", "Tokens that need a person, by reason or alarm.", labels=["why"]
        )
        for why, number in sorted(Counts(one.attention for one in tokens if one.attention).items()):
            attention.add_metric([why], number)
        yield attention
        yield from self._causes()
        yield from _nearest(tokens, now)
        yield from self._of_store()
        yield self._token_events()
        yield from self._mail()
        yield from self._waiting()
        yield from self._workers()
        faults = CounterMetricFamily(
            "mailtoken_faults", "Warnings and errors in this process's log, by event.", labels=["kind"]
        )
        for kind, number in sorted(FAULT_COUNTS.by_event().items()):
            faults.add_metric([kind], number)
        yield faults

    def _causes(self) -> Iterator[Metric]:
        counts = self._attention_counts()
        for name, meaning, numbers in (
            ("causes", "Causes for which a person is needed", counts.causes),
            ("settings", "Settings for which a person is needed", counts.settings),
        ):
            family = GaugeMetricFamily(
                f"mailtoken_attention_{name}", f"{meaning}, by urgency: now, or soon.", labels=["urgency"]
            )
            for urgency, number in numbers.items():
                family.add_metric([urgency], number)
            yield family

    def _tokens(self) -> Iterator[_Token]:
        now = self._clock.now()
        with self._events.store.reading() as query:
            settings = {
                row["token_id"]: row["settings"]
                for row in query.rows("SELECT token_id, count(*) AS settings FROM profile GROUP BY token_id")
            }
            tokens = readable(
                lambda row: (UUID(row["id"]), token_state(row).at(now)), query.rows("SELECT * FROM token")
            )
            for id, state in tokens:
                attention = self._attention.of_token(id, state)
                yield _Token(state, settings.get(str(id), 0), attention, self._attention.expiry(state))

    def _of_store(self) -> Iterator[Metric]:
        state = self._store_state.now()
        on_hold = int(state.hold is not None)
        yield GaugeMetricFamily("mailtoken_on_hold", "1 while the store is on hold.", on_hold)
        backup = GaugeMetricFamily("mailtoken_last_backup_timestamp_seconds", "The instant of the last backup.")
        if state.last_backup_at:
            backup.add_metric([], state.last_backup_at.timestamp())
        yield backup
        certificates = GaugeMetricFamily(
            "mailtoken_certificate_expiry_timestamp_seconds",
            "The end of the certificate that a table of the configuration names.",
            labels=["table"],
        )
        for one in state.certificates:
            certificates.add_metric([one.table], one.at.timestamp())
        yield certificates

    def _waiting(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "mailtoken_waiting",
            "What this process tries again only after a wait: renewals, providers and sign-ins.",
            labels=["what"],
        )
        for what, number in self._waits().items():
            waiting.add_metric([what], number)
        yield waiting
        claims = GaugeMetricFamily(
            "mailtoken_claims",
            "Claims of all nodes: requests to token endpoints and deliveries of notifications under way.",
            labels=["kind"],
        )
        # A kind without a claim is a 0 and not absent, so that a rule can see that its claims have ended.
        numbers = Counts(dict.fromkeys(_CLAIM_KINDS, 0))
        with self._events.store.reading() as query:
            for kind, number in count_claims(query).items():
                numbers[kind.partition(" ")[0]] += number
        for kind, number in numbers.items():
            claims.add_metric([kind], number)
        yield claims

    def _workers(self) -> Iterator[Metric]:
        failures = CounterMetricFamily("mailtoken_worker_failures", "Failures of a worker's loop.", labels=["worker"])
        alive = GaugeMetricFamily("mailtoken_worker_alive", "1 if a worker's loop goes on.", labels=["worker"])
        for ticker in self._tickers:
            failures.add_metric([ticker.name], ticker.failures)
            alive.add_metric([ticker.name], 0 if ticker.is_dead else 1)
        yield failures
        yield alive

    def _mail(self) -> Iterator[Metric]:
        with self._events.store.reading() as query:
            totals = mail_totals(query)
        yield CounterMetricFamily("mailtoken_mail_messages", "Messages that mail servers accepted.", totals.messages)
        yield CounterMetricFamily("mailtoken_mail_octets", "Octets of these messages.", totals.octets)
        yield CounterMetricFamily("mailtoken_mail_refusals", "Refusals by mail servers.", totals.refusals)

    def _token_events(self) -> Metric:
        family = CounterMetricFamily(
            "mailtoken_token_events",
            "Events of tokens since the process started, such as Retrieved, Renewed and GrantFoundDead.",
            labels=["event", "provider"],
        )
        for (event, provider), number in sorted(self._count().items()):
            family.add_metric([event, provider], number)
        return family

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
            return last_position(query)


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
        "Seconds to the nearest forecast end of an authorization; a person is needed before.",
        [one.expiry.at for one in tokens if one.expiry],
        now,
    )


def _seconds_to(name: str, meaning: str, instants: list[datetime], now: datetime) -> Metric:
    family = GaugeMetricFamily(name, meaning)
    if instants:
        family.add_metric([], (min(instants) - now).total_seconds())
    return family
