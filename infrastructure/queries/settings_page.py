"""Pages of settings by machine, and the number of settings in each state.

A page is one consistent snapshot. Every setting is counted each time, from a few columns. The domain judges only the
tokens that may have expired or may expire soon, and only the settings on the page are read in full.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.errors import NotFound
from domain.lifecycle import TokenStatus
from domain.ports import Clock
from domain.scope import EVERY_MACHINE, Scope
from infrastructure.queries.attention import Attention, StatusWithAttention
from infrastructure.queries.audit import Audit
from infrastructure.queries.history import History
from infrastructure.queries.setting_status import SettingStatus, named, read_statuses_of, read_statuses_with
from infrastructure.queries.store_state import read_hold_code
from infrastructure.store.query import Query, rows_in
from infrastructure.store.store import Store

MACHINES_PER_PAGE = 12
NEEDS_ATTENTION = "attention"
FILTERS = (*TokenStatus, NEEDS_ATTENTION)
"""The states to filter settings by: one of the four labels, or that a person is needed."""


@dataclass(frozen=True)
class SettingsFilter:
    """Settings whose names or fields contain `search` and that are in `state`, one of `FILTERS`. Pages count from 1.

    Machines outside `scope` are left out, and not counted.
    """

    search: str = ""
    state: str | None = None
    page: int = 1
    scope: Scope = EVERY_MACHINE


@dataclass(frozen=True)
class MachineOnPage:
    """A machine and its settings that the filter finds. `catalogue` is None for a machine that was removed since."""

    name: str
    catalogue: str | None
    settings: tuple[StatusWithAttention, ...]


@dataclass(frozen=True)
class SettingsPage:
    """Page `number` of `pages`; `total` settings are found.

    `counts` has the number of settings that `search` finds, by each of `FILTERS`, and by "" the sum. `uses` has the
    number of settings that use each token on the page, by token id.
    """

    machines: tuple[MachineOnPage, ...]
    counts: Mapping[str, int]
    uses: Mapping[UUID, int]
    total: int
    number: int
    pages: int


@dataclass(frozen=True)
class SettingOnPage:
    """A setting and the settings that share its token. `catalogues` has the catalogue of each of their machines."""

    setting: StatusWithAttention
    linked: tuple[SettingStatus, ...]
    catalogues: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _SettingRow:
    """The facts about a setting that filtering and counting need."""

    name: str
    machine: str
    token_id: str
    status: str
    attention: bool
    search_text: str

    def is_in(self, state: str | None) -> bool:
        return not state or (self.attention if state == NEEDS_ATTENTION else self.status == state)


class SettingsPageQuery:
    """Reads pages of settings, now or as of an instant."""

    def __init__(self, store: Store, clock: Clock, attention: Attention, audit: Audit, history: History) -> None:
        self._store = store
        self._clock = clock
        self._attention = attention
        self._audit = audit
        self._history = history

    def page(self, settings_filter: SettingsFilter) -> SettingsPage:
        """The page of the filter's number, or the last page if there are fewer."""
        now = self._clock.now()
        with self._store.reading() as query:
            rows = list(self._rows(query, now, with_search_text=bool(settings_filter.search)))
            selection = _Selection(rows, settings_filter)
            statuses = self._attention.of_all(read_statuses_of(query, selection.machines, now), read_hold_code(query))
            return selection.page(statuses, _catalogues(query, selection.machines))

    def page_as_of(self, settings_filter: SettingsFilter, instant: datetime) -> SettingsPage:
        """The page as of `instant`, without alarms and forecasts, which only a running service knows."""
        statuses = self._audit.statuses_as_of(instant)
        selection = _Selection([_row_of(status) for status in statuses], settings_filter)
        with self._store.reading() as query:
            on_page = [StatusWithAttention(one, None, one.attention) for one in statuses]
            return selection.page(on_page, _catalogues(query, selection.machines))

    def machine(self, name: str, scope: Scope) -> tuple[MachineOnPage, Mapping[UUID, int]]:
        """One machine with all its settings, and the number of settings that use each of their tokens, by token id.

        A machine outside `scope` is not found, and its settings are not counted.

        Raises:
            NotFound: no such machine.
        """
        with self._store.reading() as query:
            catalogues = _catalogues(query, [name])
            if name not in catalogues or not scope.has_machine(name):
                raise NotFound("machine_not_found", machine=name)
            settings = self._attention.of_all(read_statuses_of(query, [name], self._clock.now()))
            tokens = [str(one.status.profile.token_id) for one in settings]
            rows = rows_in(
                query, "SELECT token_id, machine FROM profile WHERE token_id IN", list(dict.fromkeys(tokens))
            )
            uses = Counter(UUID(row["token_id"]) for row in rows if scope.has_machine(row["machine"]))
        return MachineOnPage(name, catalogues[name], tuple(settings)), uses

    def setting(self, name: str) -> SettingOnPage:
        """One setting, with the settings that share its token.

        Raises:
            NotFound: no such profile.
        """
        with self._store.reading() as query:
            sharing = read_statuses_with(query, name, self._clock.now())
            return _setting(query, self._attention.of(named(sharing, name), read_hold_code(query)), sharing)

    def setting_within(self, name: str, scope: Scope, instant: datetime | None = None) -> SettingOnPage:
        """One setting now or as of `instant`, with the settings that share its token on machines in `scope`.

        Raises:
            NotFound: no profile has, or had, this name.
        """
        found = self.setting_as_of(name, instant) if instant else self.setting(name)
        return replace(found, linked=tuple(one for one in found.linked if scope.has_machine(one.profile.machine)))

    def setting_as_of(self, name: str, instant: datetime) -> SettingOnPage:
        """The same as of `instant`.

        Raises:
            NotFound: no profile had this name then.
        """
        sharing = self._history.statuses_sharing_as_of(name, instant)
        status = named(sharing, name)
        with self._store.reading() as query:
            return _setting(query, StatusWithAttention(status, None, status.attention), sharing)

    def settings_by_provider(self, scope: Scope) -> Mapping[str | None, int]:
        """The number of settings by the provider they name; the key None is for settings without a provider."""
        counts = Counter[str | None]()
        statement = "SELECT machine, settings, count(*) AS number FROM profile GROUP BY machine, settings"
        with self._store.reading() as query:
            for row in query.rows(statement):
                if scope.has_machine(row["machine"]):
                    counts[json.loads(row["settings"])["provider"]] += row["number"]
        return counts

    def _rows(self, query: Query, now: datetime, *, with_search_text: bool) -> Iterator[_SettingRow]:
        tokens = {row["id"]: row["status"] for row in query.rows("SELECT id, status FROM token")}
        attention = {id for id, status in tokens.items() if status == TokenStatus.INVALID}
        attention.update(map(str, self._attention.alarms()))
        for one in self._attention.soon(query, now) if read_hold_code(query) else self._attention.near(query, now):
            tokens[one.id] = one.status.value
            if one.attention:
                attention.add(one.id)
        for row in query.rows(
            "SELECT profile.name, profile.machine, profile.token_id, profile.settings, smtp_group.name AS group_name"
            " FROM profile LEFT JOIN smtp_group ON smtp_group.id = profile.group_id"
        ):
            fields = json.loads(row["settings"]).values() if with_search_text else ()
            search_text = _search_text((row["name"], row["group_name"], *fields)) if with_search_text else ""
            id = row["token_id"]
            yield _SettingRow(row["name"], row["machine"], id, tokens[id], id in attention, search_text)


def _setting(query: Query, setting: StatusWithAttention, sharing: Iterable[SettingStatus]) -> SettingOnPage:
    profile = setting.status.profile
    linked = tuple(one for one in sharing if one != setting.status)
    machines = {profile.machine, *(one.profile.machine for one in linked)}
    return SettingOnPage(setting, linked, _catalogues(query, list(machines)))


def _row_of(status: SettingStatus) -> _SettingRow:
    profile = status.profile
    return _SettingRow(
        profile.name,
        profile.machine,
        str(profile.token_id),
        status.token.status.value,
        status.attention is not None,
        _search_text((profile.name, status.group, *astuple(profile.settings))),
    )


def _search_text(values: Iterable[Any]) -> str:
    return "\n".join(str(value) for value in values if value is not None).casefold()


def _catalogues(query: Query, machines: Sequence[str]) -> dict[str, str]:
    rows = rows_in(query, "SELECT name, catalogue FROM machine WHERE name IN", machines)
    return {row["name"]: row["catalogue"] for row in rows}


class _Selection:
    """The settings that the filter finds, and the machines that are on the page."""

    def __init__(self, rows: Sequence[_SettingRow], settings_filter: SettingsFilter) -> None:
        rows = [row for row in rows if settings_filter.scope.has_machine(row.machine)]
        search = settings_filter.search.casefold()
        found = [row for row in rows if search in row.search_text] if search else rows
        self._counts = Counter(row.status for row in found)
        self._counts[NEEDS_ATTENTION] = sum(row.attention for row in found)
        self._counts[""] = len(found)
        self._uses = Counter(row.token_id for row in rows)
        matching = [row for row in found if row.is_in(settings_filter.state)]
        self._matching = {row.name for row in matching}
        machines = sorted({row.machine for row in matching})
        self._pages = max(1, -(-len(machines) // MACHINES_PER_PAGE))
        self._number = min(max(1, settings_filter.page), self._pages)
        begin = (self._number - 1) * MACHINES_PER_PAGE
        self.machines = machines[begin : begin + MACHINES_PER_PAGE]

    def page(self, statuses: Iterable[StatusWithAttention], catalogues: Mapping[str, str]) -> SettingsPage:
        """The page, made of statuses that include every setting of its machines."""
        by_machine: dict[str, list[StatusWithAttention]] = {machine: [] for machine in self.machines}
        for one in statuses:
            profile = one.status.profile
            if profile.machine in by_machine and profile.name in self._matching:
                by_machine[profile.machine].append(one)
        token_ids = [one.status.profile.token_id for settings in by_machine.values() for one in settings]
        return SettingsPage(
            tuple(MachineOnPage(name, catalogues.get(name), tuple(ones)) for name, ones in by_machine.items()),
            self._counts,
            {token_id: self._uses[str(token_id)] for token_id in token_ids},
            len(self._matching),
            self._number,
            self._pages,
        )
