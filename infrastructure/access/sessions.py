"""The sessions of signed-in people: a row for each browser, found by the hash of the token in its cookie.

The log says that a session has begun and that it has ended, so a row that is put back after a sign-out is worth
nothing. A session is valid while its administrator exists and has the password of the sign-in; a removal or a new
password ends it. A session also ends after an hour without use, and after twelve hours in any case. A member of the
organisation keeps the roles of the sign-in, so the configuration may end such a session sooner.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

import structlog

from domain.administrator import AdministratorState
from domain.errors import Conflict, NotFound
from domain.ports import Clock
from domain.scope import Scope, scopes_of
from domain.secret import Secret
from domain.session import Session, SessionEnd
from infrastructure.access.bearer_tokens import LONGEST, new_token, token_hash
from infrastructure.access.login_throttle import PLACE_LIFE
from infrastructure.clock import instant_text, read_instant
from infrastructure.store.access_rows import EVENTS_OF_OPEN, SESSION_ID, id_of, id_text
from infrastructure.store.event_log import CONFLICTS, EventLog, instant_in
from infrastructure.store.row_macs import AlteredRow, columns_with_mac, insert_statement, with_mac
from infrastructure.store.schema import COLUMNS, MAC
from infrastructure.store.store import UnitOfWork

log = structlog.get_logger("mailtoken")

_IDLE = timedelta(hours=1)
_LIFE = timedelta(hours=12)
_NOTED_EVERY = timedelta(minutes=1)
_SWEPT_AT_ONCE = 100
_FORGET = "DELETE FROM session WHERE hash = ?"
_OF_ADMINISTRATOR = "of_administrator_"
_FIND = f"""
SELECT session.*, {{events}} AS events, {columns_with_mac("administrator", _OF_ADMINISTRATOR)},
    {{events_of_administrator}} AS {_OF_ADMINISTRATOR}events
FROM session LEFT JOIN administrator ON administrator.id = session.administrator_id
WHERE session.hash = ?
    AND (session.administrator_id IS NULL OR administrator.password = session.password)
"""  # noqa: S608 - our own columns


@dataclass(frozen=True)
class SignedIn:
    """A person who is signed in: an administrator, or a member of the organisation, who has no second factor here."""

    name: str
    roles: frozenset[str]
    is_member: bool = False
    has_second_factor: bool = False
    scopes: Mapping[str, Scope] = field(default_factory=dict)
    """The machines that the person is limited to, by role."""

    @property
    def lacks_second_factor(self) -> bool:
        """Whether the person could have a second factor and has none."""
        return not self.is_member and not self.has_second_factor


class Sessions:
    """The sessions of all browsers. A session of a member of the organisation lasts for `members_for`."""

    def __init__(self, events: EventLog, clock: Clock, members_for: timedelta) -> None:
        self._events = events
        self._store = events.store
        self._clock = clock
        self._members_for = members_for

    def begin(
        self, administrator_id: UUID, version: int, state: AdministratorState, address: str | None = None
    ) -> Secret:
        """Begin a session of an administrator; returns the token for the browser's cookie.

        Raises:
            Conflict: the administrator was changed since `version`, whose password and second factor were checked.
        """
        person = (state.password, state.name, state.roles)
        return self._begin(administrator_id, *person, address, {administrator_id: version})

    def begin_for_member(
        self,
        account: str,
        roles: tuple[str, ...],
        address: str | None = None,
        scopes: Mapping[str, Scope] = MappingProxyType({}),
    ) -> Secret:
        """Begin a session of a member of the organisation, limited to `scopes` by role.

        Returns the token for the browser's cookie.
        """
        return self._begin(None, None, account, roles, address, {}, scopes)

    def find(self, token: Secret) -> SignedIn | None:
        """The person whose session has this token; None if no session has it. The use is recorded."""
        if len(token.reveal()) > LONGEST:
            return None
        with self._store.reading() as query:
            statement = _FIND.format(
                events=query.last_version(SESSION_ID), events_of_administrator=query.last_version("administrator.id")
            )
            rows = query.rows(statement, (token_hash(token),))
        now = self._clock.now()
        if not rows or not self._is_believed(rows[0]) or self._is_over(rows[0], now):
            return None
        [row] = rows
        if now - read_instant(row["used_at"]) >= _NOTED_EVERY:
            self._note_use(row, now)
        # An administrator has their current roles; a member of the organisation has the roles of the sign-in.
        if row["administrator_id"] is None:
            machines = json.loads(row["machines"] or "{}")
            scopes = {role: Scope(tuple(patterns)) for role, patterns in machines.items()}
            return SignedIn(row["name"], frozenset(row["roles"].split()), is_member=True, scopes=scopes)
        roles = row[f"{_OF_ADMINISTRATOR}roles"].split()
        return SignedIn(
            row["name"],
            frozenset(roles),
            has_second_factor=row[f"{_OF_ADMINISTRATOR}second_factor"] > 0,
            scopes=scopes_of([(roles, row[f"{_OF_ADMINISTRATOR}machines"].split())]),
        )

    def places(self) -> list[tuple[str, str]]:
        """The administrators that signed in by password not too long ago, by name, and from where, as the log says.

        The whole log is looked through, which is slow.
        """
        with self._store.reading() as query:
            rows = query.rows("SELECT state FROM stored_events WHERE topic = ?", (Session.Created.TOPIC,))
        since = self._clock.now() - PLACE_LIFE
        states = (bytes(row["state"]) for row in rows)
        begun = (json.loads(state) for state in states if instant_in(state) >= since)
        return [(one["name"], one["address"]) for one in begun if one["administrator_id"] and one["address"]]

    def end(self, token: Secret) -> None:
        """Sign out. A token without a session changes nothing."""
        if len(token.reveal()) > LONGEST:
            return
        hashed = token_hash(token)
        with suppress(NotFound, Conflict):
            session = self._events.load(Session, id_of(hashed))
            session.end(SessionEnd.SIGNED_OUT, by=session.person, now=self._clock.now())
            self._save([session], [hashed])

    def end_all(self, administrator_id: UUID, reason: SessionEnd, by: str, *, but: Secret | None = None) -> None:
        """Sign an administrator out everywhere, but not in the session with the token `but`."""
        kept = token_hash(but) if but else ""
        for _ in range(CONFLICTS):
            with self._store.reading() as query:
                statement = "SELECT hash FROM session WHERE administrator_id = ? AND hash <> ?"
                hashes = [row["hash"] for row in query.rows(statement, (str(administrator_id), kept))]
            ended = self._ended(hashes, reason, by)
            with suppress(Conflict):
                self._save(ended, hashes)
                return
        raise Conflict("changed_meanwhile")

    def _begin(
        self,
        administrator_id: UUID | None,
        password: int | None,
        name: str,
        roles: tuple[str, ...],
        address: str | None,
        expects: Mapping[UUID, int],
        scopes: Mapping[str, Scope] = MappingProxyType({}),
    ) -> Secret:
        self._sweep()
        token, now = new_token(), self._clock.now()
        hashed = token_hash(token)
        machines = {role: list(scope.patterns or ()) for role, scope in scopes.items()}
        session = Session.sign_in(id_of(hashed), name, roles, administrator_id, address, machines=machines, now=now)
        row = {
            "hash": hashed,
            "administrator_id": str(administrator_id) if administrator_id else None,
            "password": password,
            "name": name,
            "roles": " ".join(roles),
            "begun_at": instant_text(now),
            "used_at": instant_text(now),
            "machines": json.dumps(machines, sort_keys=True) if machines else "",
        }
        insert = insert_statement(self._store.integrity.rows, "session", row)
        self._events.save(session, unit_of_work=UnitOfWork(statements=[insert], expects=expects))
        log.info("signed_in", user=name)
        return token

    def _sweep(self) -> None:
        """End sessions that have expired, some at a time."""
        now = self._clock.now()
        with self._store.reading() as query:
            statement = f"SELECT hash FROM session WHERE begun_at <= ? OR used_at <= ? LIMIT {_SWEPT_AT_ONCE}"  # noqa: S608
            rows = query.rows(statement, (instant_text(now - _LIFE), instant_text(now - _IDLE)))
        hashes = [row["hash"] for row in rows]
        # Another sign-in may end them too.
        with suppress(Conflict):
            self._save(self._ended(hashes, SessionEnd.EXPIRED, "service"), hashes)

    def _ended(self, hashes: Sequence[str], reason: SessionEnd, by: str) -> list[Session]:
        """The sessions of these rows that were open, ended; a row may have none, or one that is over."""
        ended, now = [], self._clock.now()
        for hashed in hashes:
            with suppress(NotFound, ValueError):
                session = self._events.load(Session, id_of(hashed))
                session.end(reason, by=by, now=now)
                ended.append(session)
        return ended

    def _save(self, sessions: Sequence[Session], hashes: Sequence[str]) -> None:
        """Store the ends of these sessions and delete these rows."""
        statements = [(_FORGET, (hashed,)) for hashed in hashes]
        if sessions:
            self._events.save(*sessions, unit_of_work=UnitOfWork(statements=statements))
        elif statements:
            with self._store.writing() as query:
                query.run_many(_FORGET, [(hashed,) for hashed in hashes])

    def _is_believed(self, row: Mapping[str, Any]) -> bool:
        """Whether the rows of the session and of its administrator are this program's, and the session is open."""
        checks = self._store.row_checks
        if row["events"] != EVENTS_OF_OPEN or not checks.has_mac("session", row):
            checks.note(AlteredRow("session", id_text(row["hash"]), row["name"]))
            return False
        events = row[f"{_OF_ADMINISTRATOR}events"]
        return row["administrator_id"] is None or checks.is_right("administrator", row, events, _OF_ADMINISTRATOR)

    def _note_use(self, row: Mapping[str, Any], now: datetime) -> None:
        used = {column: row[column] for column in COLUMNS["session"]} | {"used_at": instant_text(now)}
        mac = with_mac(self._store.integrity.rows, "session", used)[MAC]
        with self._store.writing() as query:
            query.run("UPDATE session SET used_at = ?, mac = ? WHERE hash = ?", (used["used_at"], mac, used["hash"]))

    def _is_over(self, row: Mapping[str, Any], now: datetime) -> bool:
        life = self._members_for if row["administrator_id"] is None else _LIFE
        return now - read_instant(row["begun_at"]) >= life or now - read_instant(row["used_at"]) >= _IDLE
