"""API clients: an administrator's use cases, and the look-up of the client that holds a key.

A key is `id.secret`; the secret is 256 random bits. Its hash is sealed in the vault, so write access to the rows is not
enough to make a key. The look-up takes the same steps for a known and an unknown id, so its time reveals no id.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from types import MappingProxyType
from uuid import UUID, uuid4

import structlog

from domain.api_client import ApiClient, ApiClientState, check_expiry
from domain.errors import InvalidValue, NotFound, Refused, VaultDamaged
from domain.machine import valid_name
from domain.ports import Clock
from domain.profile import Profile
from domain.secret import Secret
from infrastructure.access.bearer_tokens import LONGEST, new_token, token_digest
from infrastructure.clock import instant_text, read_instant
from infrastructure.store.event_log import AnyAggregate, EventLog
from infrastructure.store.query import Query, rows_in
from infrastructure.store.row_macs import AlteredRow, readable
from infrastructure.store.rows import api_client_state
from infrastructure.store.store import UnitOfWork
from infrastructure.store.vault import Vault

log = structlog.get_logger("mailtoken")

_ID_BYTES = 10
_NO_DIGEST = bytes(32)
"""The digest that stands for an unknown id's; no secret is known to hash to it."""
_NOTED_EVERY = timedelta(minutes=1)
_BELIEVED_SECONDS = 1.0
"""For so long a node may miss another node's change. A change on the node itself takes effect at once."""


@dataclass(frozen=True)
class ListedClient:
    """A client in the list. `used_at` is accurate to the minute; `profiles` are names.

    A client without a `key_id` has no key yet.
    """

    name: str
    key_id: str | None
    profiles: tuple[str, ...]
    expires_at: datetime | None
    used_at: datetime | None


@dataclass(frozen=True)
class KeyOwner:
    """The client that holds a key, and the names of the profiles whose tokens it may read."""

    id: UUID
    name: str
    profiles: frozenset[str]


@dataclass(frozen=True)
class _Known:
    """A client with the hash of its key; `altered` is its row if that was altered by something else."""

    version: int
    state: ApiClientState
    digest: bytes
    owner: KeyOwner
    altered: AlteredRow | None


@dataclass(frozen=True)
class _Index:
    """Every client by the id of its key; `read_at` is of the monotonic clock."""

    known: Mapping[str, _Known]
    read_at: float


class ApiClients:
    """The use cases of API clients."""

    def __init__(self, events: EventLog, vault: Vault, clock: Clock) -> None:
        self._events = events
        self._vault = vault
        self._clock = clock
        self._index: _Index | None = None
        self._changes = 0
        self._reading = threading.Lock()
        self._used_at: dict[UUID, datetime] = {}
        events.listeners.append(self._forget_index)

    # Administration

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

    def check_is_there(self, name: str) -> None:
        """Check that there is a client of this name.

        Raises:
            NotFound: no such client.
        """
        self._client(name)

    def check_new_name(self, name: str) -> None:
        """Check that a client can be added with this name.

        Raises:
            InvalidValue: the text can't be a name.
            Refused: the name is taken.
        """
        valid_name("client", name)
        with self._events.store.reading() as query:
            if _id_of(query, name):
                raise Refused("client_exists", name=name)

    def check_profiles(self, profiles: Sequence[str]) -> None:
        """Check that these profiles can be granted.

        Raises:
            NotFound: no such profile.
        """
        for profile in profiles:
            self._events.profile_called(profile)

    def check_expiry(self, expires_at: datetime | None) -> None:
        """Check that a new key may expire then.

        Raises:
            InvalidValue: the instant is over.
        """
        check_expiry(expires_at, self._clock.now())

    def add(self, name: str, profiles: Sequence[str], expires_at: datetime | None, by: str) -> Secret:
        """Add a client; returns its key, which can't be shown again.

        Raises:
            InvalidValue: `name` is not a valid name, or `expires_at` is past.
            NotFound: no such profile.
            Refused: the name is taken.
        """
        granted = [self._events.profile_called(profile) for profile in profiles]
        secret, now = new_token(), self._clock.now()
        client = ApiClient.add(uuid4(), name, by=by, now=now)
        client.issue_key(_new_id(), expires_at, by=by, now=now)
        client.grant(granted, by=by, now=now)
        self.check_new_name(name)
        return self._save_key(client, secret, granted)

    def new_key(self, name: str, expires_at: datetime | None, by: str) -> Secret:
        """Give a client a new key, which can't be shown again; an earlier key stops working.

        Raises:
            NotFound: no such client.
            InvalidValue: `expires_at` is past.
        """
        client, secret = self._client(name), new_token()
        client.issue_key(_new_id(), expires_at, by=by, now=self._clock.now())
        key = self._save_key(client, secret, ())
        self._events.store.forget()
        return key

    def grant(self, name: str, profiles: Sequence[str], by: str) -> None:
        """Permit a client to read the access tokens of these profiles too.

        Raises:
            NotFound: no such client or profile.
        """
        client, granted = self._client(name), [self._events.profile_called(profile) for profile in profiles]
        client.grant(granted, by=by, now=self._clock.now())
        if client.pending_events:
            self._events.save(client, unit_of_work=UnitOfWork(expects={one.id: one.version for one in granted}))

    def revoke(self, name: str, profiles: Sequence[str], by: str) -> None:
        """Withdraw a client's permission to read the access tokens of these profiles.

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

    # The holder of a key

    def is_ready(self) -> bool:
        """Whether `owner_of` will answer from memory."""
        index = self._index
        return index is not None and (
            not self._events.store.shared_by_nodes or self._clock.elapsed() - index.read_at < _BELIEVED_SECONDS
        )

    def owner_of(self, key: Secret) -> KeyOwner | None:
        """The holder of this key; None if no client holds the key, or the key has expired.

        Raises:
            Refused: the holder's row was altered.
        """
        known = self._known_keys()
        id, _, secret = key.reveal()[:LONGEST].partition(".")
        found = known.get(id)
        right = hmac.compare_digest(found.digest if found else _NO_DIGEST, token_digest(Secret(secret)))
        now = self._clock.now()
        if not found or not right or found.state.is_expired(now):
            return None
        if found.altered:
            raise found.altered.refusal()
        return found.owner

    def is_noted(self, owner: KeyOwner) -> bool:
        """Whether a use of the key within the last minute is stored already."""
        noted = self._used_at.get(owner.id)
        return noted is not None and timedelta(0) <= self._clock.now() - noted < _NOTED_EVERY

    def note_use(self, owner: KeyOwner) -> None:
        """Store this instant as the last use of the key."""
        now = self._clock.now()
        self._used_at[owner.id] = now
        with self._events.store.writing() as query:
            query.run(
                "INSERT INTO client_use (client_id, used_at) VALUES (?, ?) "
                "ON CONFLICT (client_id) DO UPDATE SET used_at = excluded.used_at",
                (str(owner.id), instant_text(now)),
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
        """Every key by its id. The vault opens a digest again only if the client has changed since."""
        known = {}
        with self._events.store.reading() as query:
            stored, altered = _stored(query), self._altered(query)
            names = _granted_names(query, stored)
            for id, version, state in stored:
                if state.key_id is None:
                    continue
                owner = KeyOwner(id, state.name, frozenset(names[one] for one in state.profiles if one in names))
                earlier = before.get(state.key_id)
                sealed = earlier.digest if earlier and earlier.version == version else self._digest(query, id, state)
                known[state.key_id] = _Known(version, state, sealed, owner, altered.get(str(id)))
        return MappingProxyType(known)

    def _altered(self, query: Query) -> Mapping[str, AlteredRow]:
        """The rows of clients that are not believed, by id."""
        checks = self._events.store.row_checks
        rows = query.rows(f"SELECT *, {query.last_version('id')} AS events FROM client")  # noqa: S608
        found = (checks.altered_row("client", row, row["events"]) for row in rows)
        return {row.id: row for row in found if row}

    def _digest(self, query: Query, id: UUID, state: ApiClientState) -> bytes:
        try:
            return self._vault.key_digest(query, id, state.key)
        except VaultDamaged as damaged:
            log.error("vault_row_damaged", error=str(damaged))
            return _NO_DIGEST

    def _forget_index(self, changed: Sequence[AnyAggregate]) -> None:
        if any(isinstance(one, ApiClient | Profile) for one in changed):
            self._changes += 1
            self._index = None

    # Shared

    def _save_key(self, client: ApiClient, secret: Secret, granted: Sequence[Profile]) -> Secret:
        sealed = self._vault.seal_key_digest(client.id, client.state.key, token_digest(secret))
        expects = {profile.id: profile.version for profile in granted}
        self._events.save(client, unit_of_work=UnitOfWork(put=[sealed], expects=expects))
        return Secret(f"{client.state.key_id}.{secret.reveal()}")

    def _client(self, name: str) -> ApiClient:
        with self._events.store.reading() as query:
            found = _id_of(query, name)
        if found is None:
            raise NotFound("client_not_found", name=name)
        return self._events.load(ApiClient, found)


def read_expiry(text: str | None) -> datetime | None:
    """The instant at which a key expires, given as an instant or as the key's last day in UTC; None means never.

    Raises:
        InvalidValue: the text is neither an instant nor a day.
    """
    if text is None:
        return None
    try:
        if len(text) > len("2027-11-22"):
            return read_instant(text)
        return read_instant((date.fromisoformat(text) + timedelta(days=1)).isoformat())
    except (ValueError, OverflowError):
        raise InvalidValue("expires", "not_a_day", value=text) from None


def _new_id() -> str:
    return base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode().lower()


def _stored(query: Query) -> list[tuple[UUID, int, ApiClientState]]:
    """Every client, but not an altered row from which no state can be read: the others must work."""
    rows = query.rows("SELECT * FROM client")
    return list(readable(lambda row: (UUID(row["id"]), row["version"], api_client_state(row)), rows))


def _id_of(query: Query, name: str) -> UUID | None:
    rows = query.rows("SELECT id FROM client WHERE name = ?", (name,))
    return UUID(rows[0]["id"]) if rows else None


def _granted_names(query: Query, clients: Iterable[tuple[UUID, int, ApiClientState]]) -> dict[UUID, str]:
    granted = {str(profile_id) for _, _, state in clients for profile_id in state.profiles}
    rows = rows_in(query, "SELECT id, name FROM profile WHERE id IN", list(granted))
    return {UUID(row["id"]): row["name"] for row in rows}
