"""Secrets that work once and expire: of set-up links, and of sign-ins at the organisation's provider.

Anybody may begin a sign-in, so `begin` stores nothing: the browser keeps the sealed state in a cookie.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from domain.errors import Conflict, NotFound
from domain.one_time_link import LinkEnd, OneTimeLink
from domain.ports import Clock
from domain.secret import Secret
from infrastructure.access.bearer_tokens import LONGEST, token_hash
from infrastructure.access.browser_state import BrowserState
from infrastructure.clock import instant_text
from infrastructure.store.access_rows import EVENTS_OF_OPEN, LINK_ID, SET_UP_LINK, id_of, id_text
from infrastructure.store.event_log import CONFLICTS, EventLog
from infrastructure.store.row_macs import AlteredRow, insert_statement, insert_with_mac
from infrastructure.store.store import Store, UnitOfWork
from infrastructure.store.vault import Vault

_FORGET = "DELETE FROM one_time WHERE hash = ?"


@dataclass(frozen=True)
class UsableLink:
    """A link that is still usable. Without `administrator_id` it makes the first administrator."""

    hash: str
    administrator_id: UUID | None
    made_by: str


class OneTimeLinks:
    """The links that set an administrator's password, in the store by the hash of their secret.

    The log says that a link was made and that it is over, so a row that is put back after the use is worth nothing.
    """

    def __init__(self, events: EventLog, clock: Clock) -> None:
        self._events = events
        self._store = events.store
        self._clock = clock

    def add(self, secret: Secret, administrator_id: UUID | None, made_by: str, life: timedelta) -> datetime:
        """Store a link, in place of an earlier one of the same administrator; returns the instant of its expiry."""
        now, hashed = self._clock.now(), token_hash(secret)
        expires_at, about = now + life, str(administrator_id or "")
        insert = insert_statement(
            self._store.integrity.rows, "one_time", _row(hashed, SET_UP_LINK, about, made_by, expires_at)
        )
        for _ in range(CONFLICTS):
            link = OneTimeLink.make(id_of(hashed), administrator_id, expires_at, by=made_by, now=now)
            over, forgotten = self._over(about, made_by, now)
            with suppress(Conflict):
                work = UnitOfWork(statements=[*((_FORGET, (one,)) for one in forgotten), insert])
                self._events.save(link, *over, unit_of_work=work)
                return expires_at
        raise Conflict("changed_meanwhile")

    def find(self, secret: Secret) -> UsableLink | None:
        """The link with this secret; None if the link has expired, was used, or never existed."""
        if len(secret.reveal()) > LONGEST:
            return None
        with self._store.reading() as query:
            rows = query.rows(
                f"SELECT *, {query.last_version(LINK_ID)} AS events FROM one_time"  # noqa: S608 - our own expression
                " WHERE hash = ? AND kind = ? AND expires_at > ?",
                (token_hash(secret), SET_UP_LINK, instant_text(self._clock.now())),
            )
        if not rows:
            return None
        [row] = rows
        checks = self._store.row_checks
        if row["events"] != EVENTS_OF_OPEN or not checks.has_mac("one_time", row):
            checks.note(AlteredRow("one_time", id_text(row["hash"]), None))
            return None
        return UsableLink(row["hash"], UUID(row["about"]) if row["about"] else None, row["made_by"])

    def use(self, link: UsableLink, name: str, by: str) -> tuple[OneTimeLink, tuple[str, Sequence[str]]]:
        """Use the link for the administrator `name`: its aggregate and the statement to save with it.

        Of two uses at the same time only one can be saved.
        """
        used = self._events.load(OneTimeLink, id_of(link.hash))
        used.use(name, by=by, now=self._clock.now())
        return used, (_FORGET, (link.hash,))

    def _over(self, about: str, by: str, now: datetime) -> tuple[list[OneTimeLink], list[str]]:
        """The links that a new one replaces or that have expired, ended, and the hashes of their rows."""
        over: list[OneTimeLink] = []
        with self._store.reading() as query:
            statement = "SELECT hash, about, expires_at FROM one_time WHERE kind = ? AND (about = ? OR expires_at <= ?)"
            rows = query.rows(statement, (SET_UP_LINK, about, instant_text(now)))
        for row in rows:
            has_expired = row["expires_at"] <= instant_text(now)
            with suppress(NotFound, ValueError):
                link = self._events.load(OneTimeLink, id_of(row["hash"]))
                author = "service" if has_expired else by
                link.end(LinkEnd.EXPIRED if has_expired else LinkEnd.REPLACED, by=author, now=now)
                over.append(link)
        return over, [row["hash"] for row in rows]


def _row(hashed: str, kind: str, about: str, made_by: str, expires_at: datetime) -> dict[str, str]:
    return {
        "hash": hashed,
        "kind": kind,
        "about": about,
        "made_by": made_by,
        "expires_at": instant_text(expires_at),
    }


@dataclass(frozen=True)
class PendingSignIn:
    """A sign-in under way: the state of the provider's library, and the path that the person wants to see."""

    state: Secret
    next_path: str
    expires_at: datetime


class PendingSignIns:
    """Sign-ins at the organisation's provider that are under way, each sealed in its browser's cookie."""

    _KIND = "organisation sign-in"

    def __init__(self, store: Store, vault: Vault, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._kept = BrowserState(self._KIND, vault, clock)

    def begin(self, state: Secret, next_path: str, life: timedelta) -> Secret:
        """The value of the cookie for a new sign-in."""
        return self._kept.seal([state.reveal(), next_path], life)

    def find(self, cookie: Secret) -> PendingSignIn | None:
        """The sign-in of this cookie; None if the sign-in has expired, or the service did not make the cookie."""
        kept = self._kept.open(cookie)
        if kept is None:
            return None
        state, next_path = kept.values
        return PendingSignIn(Secret(state), next_path, kept.expires_at)

    def finish(self, pending: PendingSignIn) -> bool:
        """End a sign-in; returns False if it has expired or has ended before.

        Of two ends at the same time only one is the first: the row of the used state says so until its expiry.
        """
        now = self._clock.now()
        if now >= pending.expires_at:
            return False
        with self._store.writing() as query:
            query.run("DELETE FROM one_time WHERE kind = ? AND expires_at <= ?", (self._KIND, instant_text(now)))
            row = _row(token_hash(pending.state), self._KIND, "", "service", pending.expires_at)
            keys, otherwise = self._store.integrity.rows, "ON CONFLICT (hash) DO NOTHING"
            return insert_with_mac(query, keys, "one_time", row, otherwise=otherwise) == 1
