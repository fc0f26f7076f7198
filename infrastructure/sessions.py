"""Who is signed in, in the store: a row for each browser, found by the hash of what the browser shows.

A session is good while its administrator is there and has the password they had when they signed in; so a new password
and a removal end it, whoever remembers to. It ends after an hour without use and twelve hours in any case, for members
of the organisation sooner if the configuration says so, for their roles are those they had when they signed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from domain.administrator import AdministratorState
from domain.ports import Clock
from domain.secret import Secret
from infrastructure.bearer import LONGEST, new_bearer, stored
from infrastructure.clock import instant_text, read_instant
from infrastructure.store import Store

log = structlog.get_logger("mailtoken")

_IDLE = timedelta(hours=1)
_LIFE = timedelta(hours=12)
_NOTED_EVERY = timedelta(minutes=1)

# Roles are the administrator's as they are now; those of somebody from the organisation's provider are their sign-in's.
_GOOD = """
SELECT session.hash, session.administrator_id, session.name, session.begun_at, session.used_at,
    coalesce(administrator.roles, session.roles) AS roles
FROM session LEFT JOIN administrator ON administrator.id = session.administrator_id
WHERE session.hash = ?
    AND (session.administrator_id IS NULL OR administrator.password = session.password)
"""


@dataclass(frozen=True)
class SignedIn:
    """A person who is signed in."""

    name: str
    roles: frozenset[str]


class Sessions:
    """The sessions of every browser; those of the organisation's members are good for `members_for`."""

    def __init__(self, store: Store, clock: Clock, members_for: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._members_for = members_for

    def begin(self, administrator_id: UUID, state: AdministratorState) -> Secret:
        """A session of an administrator; what the browser is to show."""
        return self._begin(str(administrator_id), state.password, state.name, state.roles)

    def begin_trusted(self, account: str, roles: tuple[str, ...]) -> Secret:
        """A session of somebody whom the organisation's provider has named; what the browser is to show."""
        return self._begin(None, None, account, roles)

    def find(self, shown: Secret) -> SignedIn | None:
        """Who shows this, and note that they are there; None for nobody."""
        if len(shown.reveal()) > LONGEST:
            return None
        with self._store.reading() as query:
            rows = query.rows(_GOOD, (stored(shown),))
        now = self._clock.now()
        if not rows or self._is_over(rows[0], now):
            return None
        if now - read_instant(rows[0]["used_at"]) >= _NOTED_EVERY:
            with self._store.writing() as query:
                query.run("UPDATE session SET used_at = ? WHERE hash = ?", (instant_text(now), rows[0]["hash"]))
        return SignedIn(rows[0]["name"], frozenset(rows[0]["roles"].split()))

    def end(self, shown: Secret) -> None:
        """Sign out; for nobody nothing changes."""
        with self._store.writing() as query:
            query.run("DELETE FROM session WHERE hash = ?", (stored(shown),))

    def end_all(self, administrator_id: UUID) -> None:
        """Sign an administrator out everywhere."""
        with self._store.writing() as query:
            query.run("DELETE FROM session WHERE administrator_id = ?", (str(administrator_id),))

    def _begin(self, administrator_id: str | None, password: int | None, name: str, roles: tuple[str, ...]) -> Secret:
        shown, now = new_bearer(), self._clock.now()
        row: tuple[Any, ...] = (stored(shown), administrator_id, password, name, " ".join(roles))
        with self._store.writing() as query:
            query.run(
                "DELETE FROM session WHERE begun_at <= ? OR used_at <= ?",
                (instant_text(now - _LIFE), instant_text(now - _IDLE)),
            )
            query.run("INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, instant_text(now), instant_text(now)))
        log.info("signed_in", user=name)
        return shown

    def _is_over(self, row: Mapping[str, Any], now: datetime) -> bool:
        life = self._members_for if row["administrator_id"] is None else _LIFE
        return now - read_instant(row["begun_at"]) >= life or now - read_instant(row["used_at"]) >= _IDLE
