"""The fleet, a page at a time: which machines to show, and how many settings are in which state.

All of a page is one consistent snapshot. Every setting is counted each time, from a few columns; the domain judges only
the tokens whose time may be over, or whose end may be near, and only what is shown is read in full.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.lifecycle import TokenStatus
from domain.ports import Clock
from domain.profile import ProfileState
from infrastructure.attention import Attended, Attention
from infrastructure.audit import Audit
from infrastructure.status import SettingStatus, named, read_statuses_of, read_statuses_with
from infrastructure.store import Query, Store, rows_in

MACHINES_ON_A_PAGE = 12
NEEDS_ATTENTION = "attention"
SHOWN = (*TokenStatus, NEEDS_ATTENTION)
"""What the settings shown can be limited to: one of the four labels, or those that want a person."""


@dataclass(frozen=True)
class Wanted:
    """Which settings: whose names or fields contain `search`, in the state `show` of `SHOWN`; pages count from 1."""

    search: str = ""
    show: str | None = None
    page: int = 1


@dataclass(frozen=True)
class MachineOnPage:
    """A machine and those of its settings that are wanted. `catalogue` is None for one that is gone by now."""

    name: str
    catalogue: str | None
    settings: tuple[Attended, ...]


@dataclass(frozen=True)
class FleetPage:
    """What one page shows. `counts` are of all settings that `search` finds, by `SHOWN` and "" for all of them.

    `users` says how many settings of the whole fleet use each token that is shown.
    """

    machines: tuple[MachineOnPage, ...]
    counts: Mapping[str, int]
    users: Mapping[UUID, int]
    found: int
    page: int
    pages: int


@dataclass(frozen=True)
class SettingOnPage:
    """A setting and those that share its token. `catalogues` has that of each of their machines, if it is there."""

    setting: Attended
    linked: tuple[SettingStatus, ...]
    catalogues: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Line:
    """What it takes to find and count a setting."""

    name: str
    machine: str
    token_id: str
    status: str
    attention: bool
    words: str

    def is_in(self, show: str | None) -> bool:
        return not show or (self.attention if show == NEEDS_ATTENTION else self.status == show)


class Fleet:
    """Reads pages of the fleet, now or as of an instant."""

    def __init__(self, store: Store, clock: Clock, attention: Attention, audit: Audit) -> None:
        self._store = store
        self._clock = clock
        self._attention = attention
        self._audit = audit

    def page(self, wanted: Wanted) -> FleetPage:
        """The page that is wanted, or the last one if there are fewer."""
        now = self._clock.now()
        with self._store.reading() as query:
            lines = list(self._lines(query, now, with_words=bool(wanted.search)))
            choice = _Choice(lines, wanted)
            attended = self._attention.of_all(read_statuses_of(query, choice.machines, now))
            return choice.page(attended, _catalogues(query, choice.machines))

    def page_as_of(self, wanted: Wanted, instant: datetime) -> FleetPage:
        """The same as a reader at `instant` saw it, without what only a running service knows."""
        statuses = self._audit.statuses_as_of(instant)
        choice = _Choice([_line(status) for status in statuses], wanted)
        with self._store.reading() as query:
            attended = [Attended(one, None, one.attention) for one in statuses]
            return choice.page(attended, _catalogues(query, choice.machines))

    def setting(self, name: str) -> SettingOnPage:
        """One setting, with those that share its token.

        Raises:
            NotFound: no such profile.
        """
        with self._store.reading() as query:
            sharing = read_statuses_with(query, name, self._clock.now())
            return _setting(query, self._attention.of(named(sharing, name)), sharing)

    def setting_as_of(self, name: str, instant: datetime) -> SettingOnPage:
        """The same as a reader at `instant` saw it.

        Raises:
            NotFound: no profile had this name then.
        """
        statuses = self._audit.statuses_as_of(instant)
        status = named(statuses, name)
        with self._store.reading() as query:
            return _setting(query, Attended(status, None, status.attention), statuses)

    def settings_by_provider(self) -> Mapping[str | None, int]:
        """How many settings name each provider; None is for those that name none."""
        counts = Counter[str | None]()
        with self._store.reading() as query:
            for row in query.rows("SELECT settings, count(*) AS number FROM profile GROUP BY settings"):
                counts[json.loads(row["settings"])["provider"]] += row["number"]
        return counts

    def _lines(self, query: Query, now: datetime, *, with_words: bool) -> Iterator[_Line]:
        tokens = {row["id"]: row["status"] for row in query.rows("SELECT id, status FROM token")}
        attention = {id for id, status in tokens.items() if status == TokenStatus.INVALID}
        attention.update(map(str, self._attention.alarms()))
        for one in self._attention.near(query, now):
            tokens[one.id] = one.status.value
            if one.attention:
                attention.add(one.id)
        for row in query.rows(
            "SELECT profile.name, profile.machine, profile.token_id, profile.settings, smtp_group.name AS group_name"
            " FROM profile LEFT JOIN smtp_group ON smtp_group.id = profile.group_id"
        ):
            fields = json.loads(row["settings"]).values() if with_words else ()
            words = _words((row["name"], row["group_name"], *fields)) if with_words else ""
            id = row["token_id"]
            yield _Line(row["name"], row["machine"], id, tokens[id], id in attention, words)


def _setting(query: Query, setting: Attended, statuses: Iterable[SettingStatus]) -> SettingOnPage:
    profile = setting.status.profile
    linked = tuple(one for one in statuses if one.profile.token_id == profile.token_id and one != setting.status)
    machines = {profile.machine, *(one.profile.machine for one in linked)}
    return SettingOnPage(setting, linked, _catalogues(query, list(machines)))


def _line(status: SettingStatus) -> _Line:
    profile = status.profile
    return _Line(
        profile.name,
        profile.machine,
        str(profile.token_id),
        status.token.status.value,
        status.attention is not None,
        _words((profile.name, status.group, *_fields(profile))),
    )


def _fields(profile: ProfileState) -> Iterator[Any]:
    settings = profile.settings
    yield from (settings.server, settings.provider, settings.account, settings.mailbox, profile.port)
    yield from (settings.sender_name, settings.sender_address)


def _words(values: Iterable[Any]) -> str:
    return "\n".join(str(value) for value in values if value is not None).casefold()


def _catalogues(query: Query, machines: Sequence[str]) -> dict[str, str]:
    rows = rows_in(query, "SELECT name, catalogue FROM machine WHERE name IN", machines)
    return {row["name"]: row["catalogue"] for row in rows}


class _Choice:
    """Which lines are wanted, and which machines are on the page."""

    def __init__(self, lines: Sequence[_Line], wanted: Wanted) -> None:
        search = wanted.search.casefold()
        found = [line for line in lines if search in line.words] if search else lines
        self._counts = Counter(line.status for line in found)
        self._counts[NEEDS_ATTENTION] = sum(line.attention for line in found)
        self._counts[""] = len(found)
        self._users = Counter(line.token_id for line in lines)
        shown = [line for line in found if line.is_in(wanted.show)]
        self._shown = {line.name for line in shown}
        machines = sorted({line.machine for line in shown})
        self._pages = max(1, -(-len(machines) // MACHINES_ON_A_PAGE))
        self._page = min(max(1, wanted.page), self._pages)
        begin = (self._page - 1) * MACHINES_ON_A_PAGE
        self.machines = machines[begin : begin + MACHINES_ON_A_PAGE]

    def page(self, attended: Iterable[Attended], catalogues: Mapping[str, str]) -> FleetPage:
        """The page, from at least the settings of its machines."""
        by_machine: dict[str, list[Attended]] = {machine: [] for machine in self.machines}
        for one in attended:
            profile = one.status.profile
            if profile.machine in by_machine and profile.name in self._shown:
                by_machine[profile.machine].append(one)
        shown = [one.status.profile.token_id for settings in by_machine.values() for one in settings]
        return FleetPage(
            tuple(MachineOnPage(name, catalogues.get(name), tuple(ones)) for name, ones in by_machine.items()),
            self._counts,
            {token_id: self._users[str(token_id)] for token_id in shown},
            len(self._shown),
            self._page,
            self._pages,
        )
