"""Clients: what an administrator does with them, and whose a key is. Load, decide, save.

A key is `id.secret`, the secret 256 random bits. What it is compared with is sealed in the vault: who can write rows
can't make a key. It takes the same steps whether the id is known or not, so time tells nobody which ids there are.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from uuid import UUID, uuid4

import structlog

from domain.client import Client, ClientState
from domain.errors import NotFound, Refused, VaultDamaged
from domain.ports import Clock
from domain.profile import Profile
from domain.secret import Secret
from infrastructure.bearer import LONGEST, digest, new_bearer
from infrastructure.clock import instant_text, read_instant
from infrastructure.log import AnyAggregate, EventLog
from infrastructure.rows import client_state
from infrastructure.store import Alongside, Query, rows_in
from infrastructure.vault import Vault

log = structlog.get_logger("mailtoken")

_ID_BYTES = 10
_NOBODYS = bytes(32)
"""The digest an unknown id is compared with; no secret is known that has it."""
_NOTED_EVERY = timedelta(minutes=1)
_BELIEVED_SECONDS = 1.0
"""For how long another node's change may go unnoticed; on this node none does."""


@dataclass(frozen=True)
class ListedClient:
    """A client as an administrator sees it; `used_at` is to the minute, `profiles` are names.

    Without a `key_id` it has no key yet.
    """

    name: str
    key_id: str | None
    profiles: tuple[str, ...]
    expires_at: datetime | None
    used_at: datetime | None


@dataclass(frozen=True)
class KeyHolder:
    """Whose a key is, and the names of the profiles it may read the tokens of."""

    id: UUID
    name: str
    profiles: frozenset[str]


@dataclass(frozen=True)
class _Known:
    """A client as keys are looked up by: the key's id leads here."""

    version: int
    state: ClientState
    digest: bytes
    holder: KeyHolder


@dataclass(frozen=True)
class _Index:
    """Every key, as of a moment of the monotonic clock."""

    known: Mapping[str, _Known]
    read_at: float


class Clients:
    """The use cases around clients."""

    def __init__(self, events: EventLog, vault: Vault, clock: Clock) -> None:
        self._events = events
        self._vault = vault
        self._clock = clock
        self._index: _Index | None = None
        self._changes = 0
        self._reading = threading.Lock()
        self._used_at: dict[UUID, datetime] = {}
        events.listeners.append(self._notice)

    # What an administrator does

    def clients(self) -> list[ListedClient]:
        """Every client, in the order of their names."""
        with self._events.store.reading() as query:
            stored = _stored(query)
            names = _granted_names(query, stored)
            used = {UUID(row["client_id"]): row["used_at"] for row in query.rows("SELECT * FROM client_use")}
        listed = (
            ListedClient(
                state.name,
                state.key_id,
                tuple(sorted(names[one] for one in state.profiles if one in names)),
                state.expires_at,
                read_instant(used[id]) if id in used else None,
            )
            for id, _, state in stored
        )
        return sorted(listed, key=lambda one: one.name)

    def add(self, name: str, profiles: Sequence[str], expires_at: datetime | None, by: str) -> Secret:
        """Add a client; returns its key, which nobody can be told again.

        Raises:
            InvalidValue: not a name, or the key would have expired already.
            NotFound: no such profile.
            Refused: the name is taken.
        """
        granted = [self._events.profile_called(profile) for profile in profiles]
        secret, now = new_bearer(), self._clock.now()
        client = Client.add(uuid4(), name, by=by, now=now)
        client.issue_key(_new_id(), expires_at, by=by, now=now)
        client.grant(granted, by=by, now=now)
        with self._events.store.reading() as query:
            if _id_of(query, name):
                raise Refused(f"{name}: there is a client with this name already")
        return self._save_key(client, secret, granted)

    def new_key(self, name: str, expires_at: datetime | None, by: str) -> Secret:
        """Give a client a new key, which nobody can be told again; the one before, if any, is no good any more.

        Raises:
            NotFound: no such client.
            InvalidValue: it would have expired already.
        """
        client, secret = self._client(name), new_bearer()
        client.issue_key(_new_id(), expires_at, by=by, now=self._clock.now())
        key = self._save_key(client, secret, ())
        self._events.store.forget()
        return key

    def grant(self, name: str, profiles: Sequence[str], by: str) -> None:
        """Let a client read the access tokens of these profiles too.

        Raises:
            NotFound: no such client or profile.
        """
        client, granted = self._client(name), [self._events.profile_called(profile) for profile in profiles]
        client.grant(granted, by=by, now=self._clock.now())
        if client.pending_events:
            self._events.save(client, beside=Alongside(expects={one.id: one.version for one in granted}))

    def revoke(self, name: str, profiles: Sequence[str], by: str) -> None:
        """Let a client not read the access tokens of these profiles any more.

        Raises:
            NotFound: no such client or profile.
        """
        client = self._client(name)
        client.revoke([self._events.profile_called(profile) for profile in profiles], by=by, now=self._clock.now())
        if client.pending_events:
            self._events.save(client)

    def remove(self, name: str, by: str) -> None:
        """Remove a client with its key, if it has one.

        Raises:
            NotFound: no such client.
        """
        client = self._client(name)
        client.remove(by=by, now=self._clock.now())
        self._events.save(client)
        with self._events.store.writing() as query:
            query.run("DELETE FROM client_use WHERE client_id = ?", (str(client.id),))
        self._events.store.forget()

    # Whose a key is

    def is_ready(self) -> bool:
        """Whether `holder_of` will answer from memory."""
        index = self._index
        return index is not None and (
            not self._events.store.shared_by_nodes or self._clock.elapsed() - index.read_at < _BELIEVED_SECONDS
        )

    def holder_of(self, key: Secret) -> KeyHolder | None:
        """Whose key it is; None for nobody's, also if its time is over."""
        known = self._known_keys()
        id, _, secret = key.reveal()[:LONGEST].partition(".")
        found = known.get(id)
        right = hmac.compare_digest(found.digest if found else _NOBODYS, digest(Secret(secret)))
        now = self._clock.now()
        if not found or not right or found.state.is_expired(now):
            return None
        return found.holder

    def is_noted(self, holder: KeyHolder) -> bool:
        """Whether the client's use within this minute is stored already."""
        noted = self._used_at.get(holder.id)
        return noted is not None and timedelta(0) <= self._clock.now() - noted < _NOTED_EVERY

    def note_use(self, holder: KeyHolder) -> None:
        """Store that the client was there now."""
        now = self._clock.now()
        self._used_at[holder.id] = now
        with self._events.store.writing() as query:
            query.run(
                "INSERT INTO client_use VALUES (?, ?) ON CONFLICT (client_id) DO UPDATE SET used_at = excluded.used_at",
                (str(holder.id), instant_text(now)),
            )

    def _known_keys(self) -> Mapping[str, _Known]:
        if self.is_ready():
            assert self._index is not None
            return self._index.known
        with self._reading:
            changes, read_at = self._changes, self._clock.elapsed()
            known = self._read(self._index.known if self._index else {})
            if changes == self._changes:
                self._index = _Index(known, read_at)
            return known

    def _read(self, before: Mapping[str, _Known]) -> Mapping[str, _Known]:
        """Every key; what was sealed is opened again only where something has changed."""
        known = {}
        with self._events.store.reading() as query:
            stored = _stored(query)
            names = _granted_names(query, stored)
            for id, version, state in stored:
                if state.key_id is None:
                    continue
                holder = KeyHolder(id, state.name, frozenset(names[one] for one in state.profiles if one in names))
                earlier = before.get(state.key_id)
                sealed = earlier.digest if earlier and earlier.version == version else self._digest(query, id, state)
                known[state.key_id] = _Known(version, state, sealed, holder)
        return MappingProxyType(known)

    def _digest(self, query: Query, id: UUID, state: ClientState) -> bytes:
        try:
            return self._vault.key_digest(query, id, state.key)
        except VaultDamaged as damaged:
            log.error("vault_damaged", why=str(damaged))
            return _NOBODYS

    def _notice(self, changed: Sequence[AnyAggregate]) -> None:
        if any(isinstance(one, Client | Profile) for one in changed):
            self._changes += 1
            self._index = None

    # Shared

    def _save_key(self, client: Client, secret: Secret, granted: Sequence[Profile]) -> Secret:
        sealed = self._vault.seal_key_digest(client.id, client.state.key, digest(secret))
        expects = {profile.id: profile.version for profile in granted}
        self._events.save(client, beside=Alongside(put=[sealed], expects=expects))
        return Secret(f"{client.state.key_id}.{secret.reveal()}")

    def _client(self, name: str) -> Client:
        with self._events.store.reading() as query:
            found = _id_of(query, name)
        if found is None:
            raise NotFound(f"no client is called {name!r}: see mailtoken client list")
        return self._events.load(Client, found)


def _new_id() -> str:
    return base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode().lower()


def _stored(query: Query) -> list[tuple[UUID, int, ClientState]]:
    return [(UUID(row["id"]), row["version"], client_state(row)) for row in query.rows("SELECT * FROM client")]


def _id_of(query: Query, name: str) -> UUID | None:
    rows = query.rows("SELECT id FROM client WHERE name = ?", (name,))
    return UUID(rows[0]["id"]) if rows else None


def _granted_names(query: Query, clients: Iterable[tuple[UUID, int, ClientState]]) -> dict[UUID, str]:
    granted = {str(profile_id) for _, _, state in clients for profile_id in state.profiles}
    rows = rows_in(query, "SELECT id, name FROM profile WHERE id IN", list(granted))
    return {UUID(row["id"]): row["name"] for row in rows}
