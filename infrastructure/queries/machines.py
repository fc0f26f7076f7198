"""The list of machines, a page at a time, and the numbers of machines in each state.

The store searches, filters, sorts and counts, by the rows of `store/machine_list.py`; only the settings of the machines
on the page are read in full. Where the clock has made a row out of date, such as a sign-in that has run out since,
the domain judges that machine again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.expiry_forecast import SOON
from domain.lifecycle import TokenStatus
from domain.ports import Clock
from domain.scope import EVERY_MACHINE, Scope
from infrastructure.clock import instant_text
from infrastructure.queries.attention import Attention, StatusWithAttention, TokenWithAttention
from infrastructure.queries.machine_filter import ANY_CAUSE, MachineFilter, Place, Sort
from infrastructure.queries.setting_status import SettingStatus, read_statuses_of
from infrastructure.store.machine_list import RANKS, UNUSED
from infrastructure.store.query import Query, rows_in
from infrastructure.store.store import Store

MACHINES_PER_PAGE = 50
_NO_END = "9999"
_STATES = {**{rank: status for status, rank in RANKS.items()}, UNUSED: TokenStatus.NOT_RETRIEVED}


@dataclass(frozen=True)
class ListedMachine:
    """A machine of the list with its settings; `state` is the worst of theirs, `ends_at` the first end within `SOON`.

    `mail_day` is the last day on which a mail server accepted a message of one of the settings.
    """

    name: str
    catalogue: str
    tags: tuple[str, ...]
    state: TokenStatus
    accounts: tuple[str, ...]
    mail_day: str | None
    ends_at: datetime | None
    settings: tuple[StatusWithAttention, ...]

    @property
    def in_need(self) -> int:
        """The number of its settings that need a person."""
        return sum(one.attention is not None for one in self.settings)

    def as_json(self) -> dict[str, Any]:
        """The machine in JSON."""
        return {
            "name": self.name,
            "catalogue": self.catalogue,
            "tags": list(self.tags),
            "state": self.state.value,
            "accounts": list(self.accounts),
            "last_mail": self.mail_day,
            "ends_at": self.ends_at and instant_text(self.ends_at),
            "attention": self.in_need,
            "settings": [one.status.profile.name for one in self.settings],
        }


@dataclass(frozen=True)
class MachinesPage:
    """A page of the list. `before` and `after` are the places of the pages beside it, if there are some.

    `counts` has the number of machines by their worst state, whichever state the filter asks for; `total` is the
    number of machines that the filter selects.
    """

    machines: tuple[ListedMachine, ...]
    counts: Mapping[TokenStatus, int]
    total: int
    before: Place | None
    after: Place | None


class MachinesQuery:
    """Reads pages of machines as of now."""

    def __init__(self, store: Store, clock: Clock, attention: Attention) -> None:
        self._store = store
        self._clock = clock
        self._attention = attention

    def page(
        self,
        wanted: MachineFilter,
        sort: Sort = Sort.NAME,
        place: Place | None = None,
        limit: int = MACHINES_PER_PAGE,
    ) -> MachinesPage:
        """The first `limit` machines of the filter in this order, or those beside `place`."""
        now = self._clock.now()
        with self._store.reading() as query:
            soon = list(self._attention.soon(query, now)) if wanted.cause or sort is Sort.END else []
            selection = _Selection(query, wanted, self._ranks(query, now), soon)
            counts = selection.counts()
            total = counts[wanted.state] if wanted.state else sum(counts.values())
            rows = selection.rows(sort, place, limit + 1)
            machines = self._machines(query, rows[:limit], now)
        return _page(machines, counts, total, rows, sort, place, limit)

    def names(self, wanted: MachineFilter, limit: int) -> list[str]:
        """The names of the machines that the filter selects, in their order, `limit` at the most."""
        now = self._clock.now()
        with self._store.reading() as query:
            soon = list(self._attention.soon(query, now)) if wanted.cause else []
            selection = _Selection(query, wanted, self._ranks(query, now), soon)
            return [row["name"] for row in selection.rows(Sort.NAME, None, limit)]

    def tags(self, limit: int, scope: Scope = EVERY_MACHINE) -> list[tuple[str, int]]:
        """The tags of the machines in `scope`, the most used first, each with the number of its machines."""
        counts, statement = Counter[str](), "SELECT tags, count(*) AS machines FROM machine_list WHERE tags <> '' {} "
        with self._store.reading() as query:
            inside, names = "", list[str]()
            if not scope.is_all:
                listed = (row["name"] for row in query.rows("SELECT name FROM machine_list"))
                inside = f"AND name IN {query.texts('?')}"
                names = [json.dumps(list(filter(scope.has_machine, listed)))]
            for row in query.rows(statement.format(inside) + "GROUP BY tags", names):
                for tag in row["tags"].split():
                    counts[tag] += row["machines"]
        return sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:limit]

    def _ranks(self, query: Query, now: datetime) -> dict[str, int]:
        """The ranks of the machines whose rows are out of date as of `now`, by machine id."""
        machines = {
            row["machine"] for row in rows_in(query, _MACHINES_OF_TOKENS, self._attention.out_of_date(query, now))
        }
        ranks = dict[str, int]()
        for status in read_statuses_of(query, sorted(machines), now):
            id = str(status.profile.machine_id)
            ranks[id] = min(ranks.get(id, UNUSED), _rank(status))
        return ranks

    def _machines(self, query: Query, rows: Sequence[Mapping[str, Any]], now: datetime) -> list[ListedMachine]:
        settings: dict[str, list[StatusWithAttention]] = {row["name"]: [] for row in rows}
        for one in self._attention.of_all(read_statuses_of(query, list(settings), now)):
            settings[one.status.profile.machine].append(one)
        return [_machine(row, settings[row["name"]], now) for row in rows]


_MACHINES_OF_TOKENS = "SELECT machine FROM profile WHERE token_id IN"


def _rank(status: SettingStatus) -> int:
    label = status.token.status
    return RANKS[label] if label is not TokenStatus.NOT_RETRIEVED or status.profile.settings.provider else UNUSED


def _machine(row: Mapping[str, Any], settings: Sequence[StatusWithAttention], now: datetime) -> ListedMachine:
    state = _STATES[min((_rank(one.status) for one in settings), default=UNUSED)]
    ends = [one.expiry.at for one in settings if one.expiry and one.expiry.at - now < SOON]
    accounts = dict.fromkeys(one.status.profile.settings.account for one in settings)
    return ListedMachine(
        row["name"],
        row["catalogue"],
        tuple(row["tags"].split()),
        state,
        tuple(account for account in accounts if account),
        row["mail_day"],
        min(ends, default=None),
        tuple(settings),
    )


def _page(
    machines: Sequence[ListedMachine],
    counts: Mapping[TokenStatus, int],
    total: int,
    rows: Sequence[Mapping[str, Any]],
    sort: Sort,
    place: Place | None,
    limit: int,
) -> MachinesPage:
    backwards, has_more = place is not None and place.backwards, len(rows) > limit
    places = [Place(str(row["key"]) if sort is not Sort.NAME else "", row["name"]) for row in rows[:limit]]
    if backwards:
        machines, places = machines[::-1], places[::-1]
    has_before, has_after = (has_more, True) if backwards else (place is not None, has_more)
    return MachinesPage(
        tuple(machines),
        counts,
        total,
        Place(places[0].key, places[0].name, backwards=True) if places and has_before else None,
        places[-1] if places and has_after else None,
    )


class _Selection:
    """The machines that a filter selects, as SQL. `ranks` has the ranks of rows that are out of date."""

    def __init__(
        self, query: Query, wanted: MachineFilter, ranks: Mapping[str, int], soon: Iterable[TokenWithAttention]
    ) -> None:
        self._query = query
        self._wanted = wanted
        self._ranks = ranks
        self._soon = list(soon)
        self._name = query.by_code_point("listed.name")

    def counts(self) -> Counter[TokenStatus]:
        """The number of machines by state, of all parts of the filter but the state."""
        conditions, parameters = self._where(with_state=False)
        rows = self._query.rows(
            f"SELECT {self._rank} AS rank, count(*) AS machines FROM {self._from()} WHERE {conditions} GROUP BY 1",  # noqa: S608
            [*self._joined(), *parameters],
        )
        counts = Counter[TokenStatus]()
        for row in rows:
            counts[_STATES[row["rank"]]] += row["machines"]
        return counts

    def rows(self, sort: Sort, place: Place | None, limit: int) -> list[Mapping[str, Any]]:
        """The first rows in this order, or those beside the place; backwards, the nearest to it come first."""
        key, of_key, descending = self._key(sort)
        conditions, parameters = self._where(with_state=True)
        backwards = place is not None and place.backwards
        first, then = ("<" if descending is not backwards else ">"), ("<" if backwards else ">")
        beside = ""
        if place:
            value = int(place.key) if sort is Sort.STATE and place.key.isdigit() else place.key
            if sort is Sort.NAME:
                beside, parameters = f" AND {self._name} {then} ?", [*parameters, place.name]
            else:
                beside = f" AND ({key} {first} ? OR ({key} = ? AND {self._name} {then} ?))"
                parameters = [*parameters, *of_key, value, *of_key, value, place.name]
        orders = [] if sort is Sort.NAME else [f"{key} {'DESC' if first == '<' else 'ASC'}"]
        order = ", ".join([*orders, f"{self._name} {'DESC' if backwards else 'ASC'}"])
        of_order = [] if sort is Sort.NAME else of_key
        return self._query.rows(
            f"SELECT listed.name, listed.catalogue, listed.tags, listed.mail_day, {key} AS key FROM {self._from()}"  # noqa: S608
            f" WHERE {conditions}{beside} ORDER BY {order} LIMIT ?",
            [*of_key, *self._joined(), *parameters, *of_order, limit],
        )

    def _from(self) -> str:
        if not self._ranks:
            return "machine_list AS listed"
        return f"machine_list AS listed LEFT JOIN {self._query.pairs('?')} AS judged ON judged.key = listed.machine_id"

    def _joined(self) -> list[str]:
        return [json.dumps({id: str(rank) for id, rank in self._ranks.items()})] if self._ranks else []

    @property
    def _rank(self) -> str:
        return "coalesce(CAST(judged.value AS INTEGER), listed.rank)" if self._ranks else "listed.rank"

    def _key(self, sort: Sort) -> tuple[str, list[Any], bool]:
        """The SQL expression that the order is by, its parameters, and whether the greatest comes first."""
        match sort:
            case Sort.NAME:
                return "''", [], False
            case Sort.STATE:
                return self._rank, [], False
            case Sort.ACCOUNT:
                return self._query.by_code_point("listed.account"), [], False
            case Sort.MAIL:
                return self._query.by_code_point("coalesce(listed.mail_day, '')"), [], True
            case Sort.END:
                end = f"(SELECT value FROM {self._query.pairs('?')} AS ends WHERE ends.key = listed.machine_id)"  # noqa: S608
                return self._query.by_code_point(f"coalesce({end}, '{_NO_END}')"), [json.dumps(self._ends())], False

    def _ends(self) -> dict[str, str]:
        """The first end of each machine that has one within `SOON`, by machine id."""
        tokens = {one.id: instant_text(one.expiry.at) for one in self._soon if one.expiry}
        ends = dict[str, str]()
        for row in rows_in(self._query, "SELECT machine_id, token_id FROM profile WHERE token_id IN", list(tokens)):
            end = tokens[row["token_id"]]
            ends[row["machine_id"]] = min(end, ends.get(row["machine_id"], end))
        return ends

    def _where(self, *, with_state: bool) -> tuple[str, list[Any]]:
        conditions, parameters = ["1 = 1"], list[Any]()
        for condition, values in (*self._wanted.conditions(), *self._further(with_state=with_state)):
            conditions.append(condition)
            parameters += values
        return " AND ".join(conditions), parameters

    def _further(self, *, with_state: bool) -> Iterator[tuple[str, list[Any]]]:
        wanted = self._wanted
        if with_state and wanted.state:
            ranks = [one for one, status in _STATES.items() if status is wanted.state]
            yield f"{self._rank} IN ({', '.join('?' * len(ranks))})", ranks
        if wanted.cause:
            tokens = [one.id for one in self._soon if one.attention and wanted.cause in (ANY_CAUSE, one.attention)]
            of_tokens = f"SELECT machine_id FROM profile WHERE token_id IN {self._query.texts('?')}"  # noqa: S608
            yield f"listed.machine_id IN ({of_tokens})", [json.dumps(tokens)]
        if wanted.names is not None:
            yield f"listed.name IN {self._query.texts('?')}", [json.dumps(wanted.names)]
