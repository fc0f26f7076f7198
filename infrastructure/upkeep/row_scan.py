"""Checks every row that gives a right or a token, so that an altered row is known before anybody needs it.

What is missing, only a replay of the log shows: `audit verify`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from infrastructure.store.access_rows import EVENTS_OF_OPEN, LINK_ID, SESSION_ID, SET_UP_LINK, id_text
from infrastructure.store.query import Query, as_dict
from infrastructure.store.row_macs import AlteredRow, RowChecks
from infrastructure.store.schema import VIEWS
from infrastructure.store.store import Store
from infrastructure.ticker import Ticker

_PAGE = 500
_LOOK_EVERY_SECONDS = 60.0
_REST = 20
"""A look takes at most a twentieth of the time of one processor."""


def altered_rows(query: Query, checks: RowChecks) -> Iterator[AlteredRow]:
    """Every row that is not believed."""
    for table in VIEWS:
        yield from _altered_in_view(query, checks, table)
    yield from altered_access_rows(query, checks)


def altered_access_rows(query: Query, checks: RowChecks) -> Iterator[AlteredRow]:
    """The sessions and links that are not believed, also those that are over."""
    sessions = query.rows(f"SELECT *, {query.last_version(SESSION_ID)} AS events FROM session")  # noqa: S608
    for row in sessions:
        if row["events"] != EVENTS_OF_OPEN or not checks.has_mac("session", row):
            yield AlteredRow("session", id_text(row["hash"]), str(row["name"]))
    links = query.rows(f"SELECT *, {query.last_version(LINK_ID)} AS events FROM one_time")  # noqa: S608
    for row in links:
        is_over = row["kind"] == SET_UP_LINK and row["events"] != EVENTS_OF_OPEN
        if is_over or not checks.has_mac("one_time", row):
            yield AlteredRow("one_time", id_text(row["hash"]), None)


def _altered_in_view(query: Query, checks: RowChecks, table: str) -> Iterator[AlteredRow]:
    events, last = query.last_version("id"), ""
    while True:
        rows = query.rows(
            f"SELECT *, {events} AS events FROM {table} WHERE id > ? ORDER BY id LIMIT {_PAGE}",  # noqa: S608 - ours
            (last,),
        )
        for row in map(as_dict, rows):
            if altered := checks.altered_row(table, row, row["events"]):
                yield altered
        if len(rows) < _PAGE:
            return
        last = rows[-1]["id"]


class RowWatch:
    """A thread that looks at every row once a minute, and seldom enough in a large store.

    `after_first_look` is called once, from the thread, to start what has to wait until the altered rows are known.
    """

    def __init__(self, store: Store, after_first_look: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._after_first_look: Callable[[], None] | None = after_first_look
        self._took_seconds = 0.0
        self._ticker = Ticker("rows", self._look_again, lambda: max(_LOOK_EVERY_SECONDS, _REST * self._took_seconds))
        self.tickers = (self._ticker,)

    def start(self) -> None:
        """Start to look, again and again."""
        self._ticker.start()

    def stop(self) -> None:
        """Stop; returns when the look under way is over."""
        self._ticker.stop()

    def look(self) -> None:
        """Check every row, and remember those that are not believed."""
        began = time.monotonic()
        # A key that is retired must not be believed any more.
        self._store.reload_integrity()
        with self._store.reading() as query:
            self._store.row_checks.replace(altered_rows(query, self._store.row_checks))
        self._took_seconds = time.monotonic() - began

    def _look_again(self) -> None:
        try:
            self.look()
        finally:
            # Also after a look that failed: what waits does not wait for ever.
            if self._after_first_look is not None:
                self._after_first_look()
                self._after_first_look = None
