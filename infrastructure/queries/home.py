"""The state of everything at a glance: tokens by state, causes that need a person, what ends, mail by day, nodes.

Each number comes from the query that every other surface asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from domain.expiry_forecast import SOON, Cause
from domain.lifecycle import TokenStatus
from domain.ports import Clock
from domain.scope import EVERY_MACHINE, Scope
from infrastructure.clock import instant_text
from infrastructure.queries.attention import Attention
from infrastructure.queries.attention_page import AttentionPage, AttentionQuery
from infrastructure.queries.setting_status import read_statuses
from infrastructure.queries.store_state import StoreStateQuery
from infrastructure.store.node_rows import read_nodes
from infrastructure.store.query import Query, rows_in
from infrastructure.store.row_macs import readable
from infrastructure.store.rows import token_state
from infrastructure.store.store import Store

HORIZON = timedelta(days=90)
"""How far the time line looks ahead."""
MAIL_DAYS = 14
CERTIFICATE = "certificate"


@dataclass(frozen=True)
class Ending:
    """What ends on a day (UTC): tokens of a provider, a provider's client secret, or the certificate of a table.

    `cause` is a cause of expiry, or `CERTIFICATE`; `about` the provider or the table; `count` the number of settings.
    """

    day: date
    cause: str
    about: str
    count: int


@dataclass(frozen=True)
class MailDay:
    """The messages that mail servers accepted on a day, and their refusals."""

    day: date
    messages: int
    refusals: int


@dataclass(frozen=True)
class Node:
    """A service of this store, and whether it reported lately."""

    name: str
    is_alive: bool

    @property
    def host(self) -> str:
        """The host, which the name begins with."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class Home:
    """Everything as of `now`. `attention` is the first page of causes."""

    now: datetime
    tokens: Mapping[TokenStatus, int]
    attention: AttentionPage
    endings: Sequence[Ending]
    mail: Sequence[MailDay]
    nodes: Sequence[Node]

    def as_json(self) -> dict[str, Any]:
        """The same in JSON, with the counts of causes in place of the causes."""
        counts = self.attention.counts
        return {
            "tokens": {status.value: self.tokens[status] for status in TokenStatus},
            "causes": {urgency.value: number for urgency, number in counts.causes.items()},
            "endings": [
                {"day": one.day.isoformat(), "cause": one.cause, "about": one.about, "count": one.count}
                for one in self.endings
            ],
            "mail": [
                {"day": one.day.isoformat(), "messages": one.messages, "refusals": one.refusals} for one in self.mail
            ],
            "nodes": [{"name": one.name, "alive": one.is_alive} for one in self.nodes],
        }


class HomeQuery:
    """Reads the state of everything as of now."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        attention: Attention,
        attention_query: AttentionQuery,
        store_state: StoreStateQuery,
        client_secrets_expire_at: Mapping[str, datetime | None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._attention = attention
        self._attention_query = attention_query
        self._store_state = store_state
        self._client_secrets_expire_at = client_secrets_expire_at

    def now(self, scope: Scope = EVERY_MACHINE) -> Home:
        """The state as of now, of the machines in `scope`."""
        now, attention = self._clock.now(), self._attention_query.page(1, scope)
        with self._store.reading() as query:
            tokens = self._tokens(query, now) if scope.is_all else _tokens_within(query, now, scope)
            endings = [
                *_of_page(attention, now),
                *_later(query, now, scope),
                *self._of_providers(now),
                *self._certificates(now),
            ]
            mail, seconds = _mail(query, now.date(), scope), self._store.now_seconds(query)
            nodes = [Node(one.name, one.is_alive(seconds)) for one in read_nodes(query)]
        return Home(now, tokens, attention, sorted(endings, key=lambda one: (one.day, one.cause)), mail, nodes)

    def _tokens(self, query: Query, now: datetime) -> Counter[TokenStatus]:
        """The number of tokens by state, each as of now."""
        counts = Counter[TokenStatus]()
        for row in query.rows("SELECT status, count(*) AS tokens FROM token GROUP BY status"):
            if row["status"] in set(TokenStatus):
                counts[TokenStatus(row["status"])] = row["tokens"]
        over = self._attention.out_of_date(query, now)
        for state in readable(token_state, rows_in(query, "SELECT * FROM token WHERE id IN", over)):
            counts[state.status] -= 1
            counts[state.at(now).status] += 1
        return counts

    def _of_providers(self, now: datetime) -> list[Ending]:
        ends = self._client_secrets_expire_at.items()
        return [
            Ending(at.date(), Cause.CLIENT_SECRET_EXPIRES.value, name, 0)
            for name, at in ends
            if at and now + SOON <= at <= now + HORIZON
        ]

    def _certificates(self, now: datetime) -> list[Ending]:
        certificates = self._store_state.now().certificates
        return [Ending(one.at.date(), CERTIFICATE, one.table, 0) for one in certificates if one.at <= now + HORIZON]


def _of_page(page: AttentionPage, now: datetime) -> list[Ending]:
    """The ends within `SOON`, which the page of attention has."""
    return [
        Ending(one.expiry.at.date(), one.expiry.cause.value, one.provider or "", len(one.settings))
        for one in page.ends
        if one.expiry.at - now < SOON
    ]


def _tokens_within(query: Query, now: datetime, scope: Scope) -> Counter[TokenStatus]:
    """The number of tokens that settings on the machines of this scope use, by state."""
    inside = (one for one in read_statuses(query, now) if scope.has_machine(one.profile.machine))
    return Counter({one.profile.token_id: one.token.status for one in inside}.values())


def _later(query: Query, now: datetime, scope: Scope) -> list[Ending]:
    """The fixed ends of grants behind `SOON`, by day and provider."""
    rows = query.rows(
        "SELECT substr(token.grant_expires_at, 1, 10) AS day, token.provider, profile.machine, count(*) AS settings"
        " FROM token JOIN profile ON profile.token_id = token.id"
        " WHERE dead IS NULL AND grant_expires_at > ? AND grant_expires_at <= ? GROUP BY 1, 2, 3",
        (instant_text(now + SOON), instant_text(now + HORIZON)),
    )
    counts = Counter[tuple[str, str]]()
    for row in rows:
        if scope.has_machine(row["machine"]):
            counts[row["day"], row["provider"] or ""] += row["settings"]
    return [
        Ending(date.fromisoformat(day), Cause.GRANT_ENDS.value, provider, settings)
        for (day, provider), settings in counts.items()
    ]


def _mail(query: Query, today: date, scope: Scope) -> list[MailDay]:
    first = today - timedelta(days=MAIL_DAYS - 1)
    rows = query.rows(
        "SELECT day, profile, sum(messages) AS messages, sum(refusals) AS refusals FROM mail_count WHERE day >= ?"
        " GROUP BY day, profile",
        (first.isoformat(),),
    )
    messages, refusals = Counter[str](), Counter[str]()
    for row in rows:
        if scope.has_profile(row["profile"]):
            messages[row["day"]] += int(row["messages"])
            refusals[row["day"]] += int(row["refusals"])
    days = [first + timedelta(days=number) for number in range(MAIL_DAYS)]
    return [MailDay(day, messages[day.isoformat()], refusals[day.isoformat()]) for day in days]
