"""Making a store and opening it: only with its own key, and only if this program knows its version.

A store says who it is in the table `meta`: its id, the version of its tables, and a canary sealed with its key.
"""

from __future__ import annotations

from uuid import uuid4

from domain.errors import StoreRefused, VaultDamaged
from infrastructure.rows import PROJECTION_VERSION, SCHEMA_VERSION
from infrastructure.sealing import Place, Sealed, Sealer
from infrastructure.store import Query, Store

_CANARY = b"this key opens this store"


def has_store(store: Store) -> bool:
    """Whether there is a store; one whose making was interrupted is none yet."""
    if not store.has_tables():
        return False
    with store.reading() as query:
        return "canary" in read_meta(query)


def create_store(store: Store, sealer: Sealer) -> str:
    """Make the tables and the canary; returns the new store's id.

    Raises:
        StoreRefused: there is a store already; it is left as it is.
    """
    if has_store(store):
        raise StoreRefused("there is a store already: nothing was changed")
    store.create_tables()
    store_id = str(uuid4())
    sealed = sealer.seal(_CANARY, _canary_place(store_id))
    with store.writing() as query:
        for name, value in (
            ("store_id", store_id),
            ("schema_version", str(SCHEMA_VERSION)),
            ("projection_version", str(PROJECTION_VERSION)),
            ("canary", sealed.as_text()),
        ):
            query.run("INSERT INTO meta VALUES (?, ?)", (name, value))
    return store_id


def open_store(store: Store, sealer: Sealer) -> str:
    """Check that this program and this key belong to the store; returns its id. Nothing is changed.

    Raises:
        StoreRefused: no store, a store of a newer program, or not its key.
    """
    if not has_store(store):
        raise StoreRefused("there is no store here: run mailtoken init")
    with store.reading() as query:
        meta = read_meta(query)
    version = int(meta.get("schema_version", "0"))
    if version > SCHEMA_VERSION:
        raise StoreRefused(
            f"this store has version {version} and this program knows versions up to {SCHEMA_VERSION}: "
            "use the program that wrote it, or a newer one"
        )
    sealed = Sealed.of_text(meta["canary"])
    try:
        sealer.open(sealed, _canary_place(meta["store_id"]))
    except VaultDamaged:
        raise StoreRefused(
            "this key does not open this store: restore the key that mailtoken init made with it"
        ) from None
    return meta["store_id"]


def read_meta(query: Query) -> dict[str, str]:
    """What the store says of itself."""
    return {row["name"]: row["value"] for row in query.rows("SELECT name, value FROM meta")}


def _canary_place(store_id: str) -> Place:
    return Place(store_id, "canary", "canary", 0)
