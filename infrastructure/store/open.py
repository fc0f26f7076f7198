"""Creates a store and opens it: only with its own key, and only if this program knows its version.

The table `meta` has the store's id, the versions of its tables and of its read model, and the canary, a value that is
sealed with the store's key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from domain.errors import StoreRefused, VaultDamaged
from infrastructure.clock import instant_text, read_instant
from infrastructure.encryption.envelope import Place, Sealed, Sealer, key_id
from infrastructure.store.hash_chain import create_head
from infrastructure.store.integrity_rows import create_integrity_keys
from infrastructure.store.migrations import SCHEMA_VERSION
from infrastructure.store.query import Query
from infrastructure.store.schema import PROJECTION_VERSION, TABLES
from infrastructure.store.store import Store

_CANARY = b"this key opens this store"
_LAST_BACKUP = "last_backup_at"
_FIRST_TABLES = {"meta", "chain", "vault", "stored_events"}
"""The tables that a store of every version has."""


@dataclass(frozen=True)
class Meta:
    """The rows of the table `meta`; `canary` is a sealed value that only the store's own key opens."""

    store_id: str
    schema_version: int
    projection_version: int
    canary: str


def has_store(store: Store) -> bool:
    """Whether there is a store; one whose creation was interrupted does not count."""
    if not store.tables() >= _FIRST_TABLES:
        return False
    with store.reading() as query:
        return "canary" in _values(query)


def looks_new(store: Store) -> bool:
    """Whether there is no machine, and no write-ahead log that may have some.

    A new store looks so, and so does a copy that was made of a running store's file alone.
    """
    if store.shared_by_nodes or not store.wal_is_missing:
        return False
    with store.reading() as query:
        return not query.rows("SELECT 1 AS one FROM machine LIMIT 1")


def check_names(store: Store) -> None:
    """Check that no other program has a table with a name of ours, where there is no store yet.

    The tables of an interrupted creation are ours: all of them are there, and they are empty.

    Raises:
        StoreRefused: another program has one.
    """
    taken = store.tables() & TABLES
    if not taken:
        return
    if taken == TABLES:
        with store.reading() as query:
            if not _values(query) and not query.rows("SELECT 1 AS one FROM stored_events LIMIT 1"):
                return
    raise StoreRefused("table_of_another_program", table=min(taken))


def create_store(store: Store, sealer: Sealer) -> str:
    """Create the tables, the canary and the integrity keys; returns the new store's id.

    Raises:
        StoreRefused: there is a store already, or another program's table with the name of one of ours; both stay as
            they are.
    """
    if has_store(store):
        raise StoreRefused("store_exists")
    check_names(store)
    store.create_tables()
    store_id = str(uuid4())
    sealed = sealer.seal(_CANARY, _canary_place(store_id))
    with store.writing() as query:
        write_meta(query, store_id, sealed.as_text(), SCHEMA_VERSION, PROJECTION_VERSION)
        create_integrity_keys(query, sealer, store_id)
        store.load_integrity(query, sealer, store_id)
        create_head(query, store.integrity.chain)
    return store_id


def write_meta(query: Query, store_id: str, canary: str, schema_version: int, projection_version: int) -> None:
    """Fill the table `meta` of a new store."""
    for name, value in (
        ("store_id", store_id),
        ("schema_version", str(schema_version)),
        ("projection_version", str(projection_version)),
        ("canary", canary),
    ):
        query.run("INSERT INTO meta (name, value) VALUES (?, ?)", (name, value))


def open_store(store: Store, sealer: Sealer) -> str:
    """Check that this program and this key belong to the store, and load its integrity keys; returns its id.

    Nothing in the store is changed.

    Raises:
        StoreRefused: there is no store, it has another version, the key is not its own, or an integrity key is missing
            or was damaged.
    """
    meta = read_meta_with_key(store, sealer)
    _check_not_older(meta)
    with store.reading() as query:
        store.load_integrity(query, sealer, meta.store_id)
    return meta.store_id


def open_without_key(store: Store) -> str:
    """Check that this program belongs to the store; returns its id. Nothing sealed opens, and no event can be saved.

    Raises:
        StoreRefused: there is no store, or it has another version.
    """
    meta = _read_known(store)
    _check_not_older(meta)
    return meta.store_id


def _check_not_older(meta: Meta) -> None:
    if meta.schema_version < SCHEMA_VERSION:
        raise StoreRefused("store_older", version=meta.schema_version, needed=SCHEMA_VERSION)


def read_meta_with_key(store: Store, sealer: Sealer) -> Meta:
    """The rows of `meta`, if the key is the store's own and this program has its version or can upgrade it.

    Raises:
        StoreRefused: there is no store, a newer program made it, or the key is not its own.
    """
    meta = _read_known(store)
    check_canary(meta.canary, meta.store_id, sealer)
    return meta


def _read_known(store: Store) -> Meta:
    if not has_store(store):
        raise StoreRefused("store_without_wal" if store.wal_is_missing else "store_missing")
    with store.reading() as query:
        meta = read_meta(query)
    if meta.schema_version > SCHEMA_VERSION:
        raise StoreRefused("store_newer", version=meta.schema_version, known=SCHEMA_VERSION)
    return meta


def check_canary(canary: str, store_id: str, sealer: Sealer) -> None:
    """Check that a key opens this store. The key in use is from now on the one that the canary is sealed with.

    Raises:
        StoreRefused: the keys are another store's.
    """
    sealed = Sealed.of_text(canary)
    try:
        sealer.open(sealed, _canary_place(store_id))
    except VaultDamaged:
        raise StoreRefused("key_of_another_store") from None
    sealer.use(sealed.key_id)


def use_newest_key(query: Query, sealer: Sealer) -> None:
    """Seal the canary with the newest key, which every process of the store uses from then on.

    Raises:
        StoreRefused: none of the keys is the store's own.
    """
    meta = read_meta(query)
    check_canary(meta.canary, meta.store_id, sealer)
    sealer.use(key_id(sealer.keys[0]))
    sealed = sealer.seal(_CANARY, _canary_place(meta.store_id)).as_text()
    query.run("UPDATE meta SET value = ? WHERE name = 'canary'", (sealed,))


def read_meta(query: Query) -> Meta:
    """The rows of `meta`.

    Raises:
        KeyError: one of them is missing.
    """
    values = _values(query)
    return Meta(
        store_id=values["store_id"],
        schema_version=int(values["schema_version"]),
        projection_version=int(values["projection_version"]),
        canary=values["canary"],
    )


def write_schema_version(query: Query, version: int) -> None:
    """Record that the tables are those of this version."""
    query.run("UPDATE meta SET value = ? WHERE name = 'schema_version'", (str(version),))


def write_projection_version(query: Query, version: int) -> None:
    """Record that the read model is the one of this version."""
    query.run("UPDATE meta SET value = ? WHERE name = 'projection_version'", (str(version),))


def read_last_backup(query: Query) -> datetime | None:
    """The instant of the last backup of this store; None if there was none."""
    return read_instant_called(query, _LAST_BACKUP)


def write_last_backup(query: Query, at: datetime) -> None:
    """Record that a backup of this store was made."""
    write_instant_called(query, _LAST_BACKUP, at)


def read_instant_called(query: Query, name: str) -> datetime | None:
    """The instant that has this name; None if none was written."""
    rows = query.rows("SELECT value FROM meta WHERE name = ?", (name,))
    return read_instant(rows[0]["value"]) if rows else None


def write_instant_called(query: Query, name: str, at: datetime) -> None:
    """Record an instant under a name."""
    statement = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    query.run(statement, (name, instant_text(at)))


def _values(query: Query) -> dict[str, str]:
    return {row["name"]: row["value"] for row in query.rows("SELECT name, value FROM meta")}


def _canary_place(store_id: str) -> Place:
    return Place(store_id, "canary", "canary", 0)
