"""What wants a person, the most urgent first and a page at a time, and what will end soon.

All of a page is one consistent snapshot. Trouble with a provider is one need, not one for each of its tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from domain.forecast import SOON, Ending
from domain.lifecycle import TokenStatus
from domain.ports import Clock
from infrastructure.attention import OF_PROVIDERS, Attended, AttendedToken, Attention
from infrastructure.audit import Audit
from infrastructure.status import SettingStatus, attention_of, read_statuses_called
from infrastructure.store import Query, Store, rows_in

NEEDS_ON_A_PAGE = 25
_ORDER = {TokenStatus.INVALID: 0, TokenStatus.WAITING: 1, TokenStatus.RETRIEVED: 2, TokenStatus.NOT_RETRIEVED: 3}


@dataclass(frozen=True)
class Need:
    """A token that wants a person, or all that a provider's trouble is about: `provider` is set then.

    `first` is a setting of the most urgent of them, `settings` are the names of all.
    """

    first: Attended
    settings: Sequence[str]
    provider: str | None


@dataclass(frozen=True)
class Outlook:
    """Tokens of one provider that end in the same way on the same day (UTC); `ending` is that of the first."""

    ending: Ending
    settings: Sequence[str]


@dataclass(frozen=True)
class NeedsPage:
    """What one page shows, of so many needs `found`. The outlook is on every page: what ends within `SOON`."""

    needs: Sequence[Need]
    outlook: Sequence[Outlook]
    found: int
    page: int
    pages: int


class Needs:
    """Reads pages of what wants a person, now or as of an instant. Pages count from 1."""

    def __init__(self, store: Store, clock: Clock, attention: Attention, audit: Audit) -> None:
        self._store = store
        self._clock = clock
        self._attention = attention
        self._audit = audit

    def page(self, number: int) -> NeedsPage:
        """The page of this number, or the last one if there are fewer."""
        now = self._clock.now()
        with self._store.reading() as query:
            tokens = [one for one in self._attention.soon(query, now) if one.attention or _ends_soon(one, now)]
            choice = _Choice(tokens, _names(query, tokens), number)
            return choice.page(read_statuses_called(query, choice.names, now))

    def page_as_of(self, number: int, instant: datetime) -> NeedsPage:
        """The same as a reader at `instant` saw it, without what only a running service knows."""
        statuses = [one for one in self._audit.statuses_as_of(instant) if one.attention]
        names = dict[str, list[str]]()
        for one in statuses:
            names.setdefault(str(one.profile.token_id), []).append(one.profile.name)
        tokens = {str(one.profile.token_id): one.token for one in statuses}
        attended = [
            AttendedToken(id, token.status, token.since, token.provider, None, attention_of(token))
            for id, token in tokens.items()
        ]
        return _Choice(attended, names, number).page(statuses)


def _ends_soon(one: AttendedToken, now: datetime) -> bool:
    return one.ending is not None and one.ending.at - now < SOON


def _names(query: Query, tokens: Iterable[AttendedToken]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {one.id: [] for one in tokens}
    for row in rows_in(query, "SELECT token_id, name FROM profile WHERE token_id IN", list(names)):
        names[row["token_id"]].append(row["name"])
    return {id: sorted(found) for id, found in names.items()}


class _Choice:
    """Which needs are on the page. `settings` has the names of each token's settings, in order."""

    def __init__(self, tokens: Iterable[AttendedToken], settings: Mapping[str, Sequence[str]], number: int) -> None:
        self._tokens = tokens
        self._settings = settings
        needs = self._needs()
        self._found = len(needs)
        self._pages = max(1, -(-self._found // NEEDS_ON_A_PAGE))
        self._page = min(number, self._pages)
        self._shown = needs[(self._page - 1) * NEEDS_ON_A_PAGE : self._page * NEEDS_ON_A_PAGE]
        self.names = [self._first(need) for need in self._shown]

    def page(self, statuses: Iterable[SettingStatus]) -> NeedsPage:
        """The page, from at least the settings called `names`."""
        firsts = {one.profile.name: one for one in statuses}
        needs = [self._need(firsts[self._first(need)], need) for need in self._shown]
        return NeedsPage(needs, self._outlook(), self._found, self._page, self._pages)

    def _needs(self) -> list[list[AttendedToken]]:
        needs: dict[object, list[AttendedToken]] = {}
        for one in sorted((one for one in self._tokens if one.attention), key=self._urgency):
            provider = _troubled_provider(one)
            needs.setdefault((provider, one.attention) if provider else one.id, []).append(one)
        return list(needs.values())

    def _urgency(self, one: AttendedToken) -> tuple[int, datetime, str]:
        """First what does not work any more, then what ends first."""
        ends_at = one.ending.at if one.ending and one.attention == one.ending.cause else one.since
        return _ORDER[one.status], ends_at, self._settings[one.id][0]

    def _first(self, need: Sequence[AttendedToken]) -> str:
        return self._settings[need[0].id][0]

    def _need(self, first: SettingStatus, need: Sequence[AttendedToken]) -> Need:
        attended = Attended(first, need[0].ending, need[0].attention)
        return Need(attended, self._names_of(need), _troubled_provider(need[0]))

    def _outlook(self) -> list[Outlook]:
        found: dict[tuple[str, str | None, datetime], list[tuple[Ending, AttendedToken]]] = {}
        for one in self._tokens:
            if one.ending and not one.attention:
                day = one.ending.at.replace(hour=0, minute=0, second=0, microsecond=0)
                key = (one.ending.cause.value, one.provider, day)
                found.setdefault(key, []).append((one.ending, one))
        outlooks = (
            Outlook(min((ending for ending, _ in ones), key=_at), self._names_of([one for _, one in ones]))
            for ones in found.values()
        )
        return sorted(outlooks, key=lambda one: one.ending.at)

    def _names_of(self, tokens: Iterable[AttendedToken]) -> list[str]:
        return sorted(name for one in tokens for name in self._settings[one.id])


def _at(ending: Ending) -> datetime:
    return ending.at


def _troubled_provider(one: AttendedToken) -> str | None:
    return one.provider if one.attention in OF_PROVIDERS else None
