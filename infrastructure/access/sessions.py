"""The sessions of signed-in people: a row for each browser, found by the hash of the token in its cookie.

A session is valid while its administrator exists and has the password of the sign-in; a removal or a new password ends
it. A session also ends after an hour without use, and after twelve hours in any case. A member of the organisation
keeps the roles of the sign-in, so the configuration may end such a session sooner.
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
from infrastructure.access.bearer_tokens import LONGEST, new_token, token_hash
from infrastructure.clock import instant_text, read_instant
from infrastructure.store.store import Store

log = structlog.get_logger("mailtoken")

_IDLE = timedelta(hours=1)
_LIFE = timedelta(hours=12)
_NOTED_EVERY = timedelta(minutes=1)

# An administrator has their current roles; a member of the organisation has the roles of the sign-in.
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
    """The sessions of all browsers. A session of a member of the organisation lasts for `members_for`."""

    def __init__(self, store: Store, clock: Clock, members_for: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._members_for = members_for

    def begin(self, administrator_id: UUID, state: AdministratorState) -> Secret:
        """Begin a session of an administrator; returns the token for the browser's cookie."""
        return self._begin(str(administrator_id), state.password, state.name, state.roles)

    def begin_for_member(self, account: str, roles: tuple[str, ...]) -> Secret:
        """Begin a session of a member of the organisation; returns the token for the browser's cookie."""
        return self._begin(None, None, account, roles)

    def find(self, token: Secret) -> SignedIn | None:
        """The person whose session has this token; None if no session has it. The use is recorded."""
        if len(token.reveal()) > LONGEST:
            return None
        with self._store.reading() as query:
            rows = query.rows(_GOOD, (token_hash(token),))
        now = self._clock.now()
        if not rows or self._is_over(rows[0], now):
            return None
        if now - read_instant(rows[0]["used_at"]) >= _NOTED_EVERY:
            with self._store.writing() as query:
                query.run("UPDATE session SET used_at = ? WHERE hash = ?", (instant_text(now), rows[0]["hash"]))
        return SignedIn(rows[0]["name"], frozenset(rows[0]["roles"].split()))

    def end(self, token: Secret) -> None:
        """Sign out. A token without a session changes nothing."""
        with self._store.writing() as query:
            query.run("DELETE FROM session WHERE hash = ?", (token_hash(token),))

    def end_all(self, administrator_id: UUID) -> None:
        """Sign an administrator out everywhere."""
        with self._store.writing() as query:
            query.run("DELETE FROM session WHERE administrator_id = ?", (str(administrator_id),))

    def _begin(self, administrator_id: str | None, password: int | None, name: str, roles: tuple[str, ...]) -> Secret:
        token, now = new_token(), self._clock.now()
        row: tuple[Any, ...] = (token_hash(token), administrator_id, password, name, " ".join(roles))
        with self._store.writing() as query:
            query.run(
                "DELETE FROM session WHERE begun_at <= ? OR used_at <= ?",
                (instant_text(now - _LIFE), instant_text(now - _IDLE)),
            )
            query.run(
                "INSERT INTO session (hash, administrator_id, password, name, roles, begun_at, used_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*row, instant_text(now), instant_text(now)),
            )
        log.info("signed_in", user=name)
        return token

    def _is_over(self, row: Mapping[str, Any], now: datetime) -> bool:
        life = self._members_for if row["administrator_id"] is None else _LIFE
        return now - read_instant(row["begun_at"]) >= life or now - read_instant(row["used_at"]) >= _IDLE
