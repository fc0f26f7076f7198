"""Pages of attention items, the most urgent first, and the expiries that are near.

A page is one consistent snapshot. Trouble with a provider is one item, not an item for each of its tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from domain.attention import Urgency, urgency_of
from domain.expiry_forecast import SOON, Expiry
from domain.lifecycle import TokenStatus
from domain.ports import Clock
from domain.scope import EVERY_MACHINE, Scope
from infrastructure.queries.attention import OF_PROVIDERS, Attention, StatusWithAttention, TokenWithAttention
from infrastructure.queries.audit import Audit
from infrastructure.queries.setting_status import SettingStatus, read_statuses_called
from infrastructure.store.query import Query, rows_in
from infrastructure.store.store import Store

ITEMS_PER_PAGE = 25
_ORDER = {TokenStatus.INVALID: 0, TokenStatus.WAITING: 1, TokenStatus.RETRIEVED: 2, TokenStatus.NOT_RETRIEVED: 3}


@dataclass(frozen=True)
class AttentionItem:
    """A cause for which a person is needed: about a token, a provider with all of its tokens, or the whole store.

    `first` is a setting of the most urgent token; `settings` are the names of all settings. `provider` is set if the
    cause is the provider's.
    """

    first: StatusWithAttention
    settings: Sequence[str]
    provider: str | None

    @property
    def urgency(self) -> Urgency:
        """Whether something does not work now, or will soon end."""
        return urgency_of(self.first.attention or "")


@dataclass(frozen=True)
class AttentionCounts:
    """The number of causes for which a person is needed, and of the settings they affect, by urgency."""

    causes: Mapping[Urgency, int]
    settings: Mapping[Urgency, int]


@dataclass(frozen=True)
class UpcomingExpiry:
    """Tokens of one provider that expire for the same cause on the same day (UTC); `expiry` is the earliest."""

    expiry: Expiry
    settings: Sequence[str]
    provider: str | None = None


@dataclass(frozen=True)
class AttentionPage:
    """Page `number` of `pages`, out of `total` items. Every page has all `upcoming` expiries within `SOON`.

    `counts` are of all items. `ends` has the upcoming expiries and those that need a person already.
    """

    items: Sequence[AttentionItem]
    upcoming: Sequence[UpcomingExpiry]
    counts: AttentionCounts
    total: int
    number: int
    pages: int
    ends: Sequence[UpcomingExpiry] = ()


class AttentionQuery:
    """Reads pages of attention items, now or as of an instant. Pages count from 1."""

    def __init__(self, store: Store, clock: Clock, attention: Attention, audit: Audit) -> None:
        self._store = store
        self._clock = clock
        self._attention = attention
        self._audit = audit

    def page(self, number: int, scope: Scope = EVERY_MACHINE) -> AttentionPage:
        """The page of this number, or the last page if there are fewer, of the machines in `scope`."""
        now = self._clock.now()
        with self._store.reading() as query:
            tokens = [one for one in self._attention.soon(query, now) if one.attention or _ends_soon(one, now)]
            selection = _Selection(tokens, _names(query, tokens, scope), number)
            found = selection.page(read_statuses_called(query, selection.names, now))
            items = [replace(item, first=self._attention.with_details(item.first)) for item in found.items]
            return replace(found, items=items)

    def counts(self, scope: Scope = EVERY_MACHINE) -> AttentionCounts:
        """The counts that every surface shows, of the machines in `scope`."""
        now = self._clock.now()
        with self._store.reading() as query:
            tokens = [one for one in self._attention.soon(query, now) if one.attention]
            return _counts(tokens, _names(query, tokens, scope))

    def page_as_of(self, number: int, instant: datetime, scope: Scope = EVERY_MACHINE) -> AttentionPage:
        """The page as of `instant`, without alarms and forecasts, which only a running service knows."""
        then = (one for one in self._audit.statuses_as_of(instant) if one.attention)
        statuses = [one for one in then if scope.has_machine(one.profile.machine)]
        names = dict[str, list[str]]()
        for one in statuses:
            names.setdefault(str(one.profile.token_id), []).append(one.profile.name)
        tokens = {str(one.profile.token_id): one.token for one in statuses}
        judged = [
            TokenWithAttention(id, token.status, token.since, token.provider, None, token.attention)
            for id, token in tokens.items()
        ]
        return _Selection(judged, names, number).page(statuses)


def _ends_soon(one: TokenWithAttention, now: datetime) -> bool:
    return one.expiry is not None and one.expiry.at - now < SOON


def _names(query: Query, tokens: Iterable[TokenWithAttention], scope: Scope) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {one.id: [] for one in tokens}
    for row in rows_in(query, "SELECT token_id, name FROM profile WHERE token_id IN", list(names)):
        if scope.has_profile(row["name"]):
            names[row["token_id"]].append(row["name"])
    return {id: sorted(found) for id, found in names.items()}


def _counts(tokens: Iterable[TokenWithAttention], settings: Mapping[str, Sequence[str]]) -> AttentionCounts:
    causes, affected = dict[str, Urgency](), Counter[Urgency]()
    for one in tokens:
        if one.attention and settings[one.id]:
            urgency = urgency_of(one.attention)
            causes[one.cause] = urgency
            affected[urgency] += len(settings[one.id])
    counted = Counter(causes.values())
    return AttentionCounts({one: counted[one] for one in Urgency}, {one: affected[one] for one in Urgency})


class _Selection:
    """The items of one page. `settings` has the sorted names of each token's settings, by token id."""

    def __init__(
        self, tokens: Iterable[TokenWithAttention], settings: Mapping[str, Sequence[str]], number: int
    ) -> None:
        self._tokens = tokens = [one for one in tokens if settings[one.id]]
        self._settings = settings
        self._counts = _counts(tokens, settings)
        items = self._grouped()
        self._total = len(items)
        self._pages = max(1, -(-self._total // ITEMS_PER_PAGE))
        self._number = min(number, self._pages)
        self._page = items[(self._number - 1) * ITEMS_PER_PAGE : self._number * ITEMS_PER_PAGE]
        self.names = [self._first(item) for item in self._page]

    def page(self, statuses: Iterable[SettingStatus]) -> AttentionPage:
        """The page, made of statuses that include the settings in `names`."""
        firsts = {one.profile.name: one for one in statuses}
        # A row that can't be read is left out of the statuses, and named by the checks of rows.
        readable = [item for item in self._page if self._first(item) in firsts]
        items = [self._item(firsts[self._first(item)], item) for item in readable]
        upcoming = self._expiries(one for one in self._tokens if not one.attention)
        ends = self._expiries(self._tokens)
        return AttentionPage(items, upcoming, self._counts, self._total, self._number, self._pages, ends)

    def _grouped(self) -> list[list[TokenWithAttention]]:
        items: dict[str, list[TokenWithAttention]] = {}
        for one in sorted((one for one in self._tokens if one.attention), key=self._urgency):
            items.setdefault(one.cause, []).append(one)
        return list(items.values())

    def _urgency(self, one: TokenWithAttention) -> tuple[int, datetime, str]:
        """The sort key: tokens that no longer work come first, then the earliest expiry."""
        ends_at = one.expiry.at if one.expiry and one.attention == one.expiry.cause else one.since
        return _ORDER[one.status], ends_at, self._settings[one.id][0]

    def _first(self, item: Sequence[TokenWithAttention]) -> str:
        return self._settings[item[0].id][0]

    def _item(self, first: SettingStatus, item: Sequence[TokenWithAttention]) -> AttentionItem:
        judged = StatusWithAttention(first, item[0].expiry, item[0].attention)
        return AttentionItem(judged, self._names_of(item), _troubled_provider(item[0]))

    def _expiries(self, tokens: Iterable[TokenWithAttention]) -> list[UpcomingExpiry]:
        found: dict[tuple[str, str | None, datetime], list[tuple[Expiry, TokenWithAttention]]] = {}
        for one in tokens:
            if one.expiry:
                day = one.expiry.at.replace(hour=0, minute=0, second=0, microsecond=0)
                key = (one.expiry.cause.value, one.provider, day)
                found.setdefault(key, []).append((one.expiry, one))
        upcoming = (
            UpcomingExpiry(
                min((expiry for expiry, _ in ones), key=_at), self._names_of([one for _, one in ones]), provider
            )
            for (_, provider, _), ones in found.items()
        )
        return sorted(upcoming, key=lambda one: one.expiry.at)

    def _names_of(self, tokens: Iterable[TokenWithAttention]) -> list[str]:
        return sorted(name for one in tokens for name in self._settings[one.id])


def _at(expiry: Expiry) -> datetime:
    return expiry.at


def _troubled_provider(one: TokenWithAttention) -> str | None:
    return one.provider if one.attention in OF_PROVIDERS else None
