"""The table `integrity_key`: the integrity keys of the store, each sealed under the key-encryption key."""

from __future__ import annotations

from domain.errors import StoreRefused, VaultDamaged
from infrastructure.encryption.envelope import Place, Sealed, Sealer
from infrastructure.encryption.integrity_keys import IntegrityKeys, Purpose, new_secret
from infrastructure.store.query import Query

SUBJECT = "integrity"
"""The subject of every key's place."""


def create_integrity_keys(query: Query, sealer: Sealer, store_id: str) -> None:
    """Store the first key of each purpose, in a store that has none."""
    for purpose in Purpose:
        add_integrity_key(query, sealer, store_id, purpose, 1)


def add_integrity_key(query: Query, sealer: Sealer, store_id: str, purpose: Purpose, number: int) -> None:
    """Store a new random key."""
    sealed = sealer.seal(new_secret(), place_of(store_id, purpose, number))
    query.run(
        "INSERT INTO integrity_key (purpose, number, algorithm, key_id, wrapped, body) VALUES (?, ?, ?, ?, ?, ?)",
        (purpose.value, number, sealed.algorithm, sealed.key_id, sealed.wrapped, sealed.body),
    )


def delete_older_keys(query: Query, purpose: Purpose, newest: int) -> None:
    """Delete the keys of this purpose that are older than the newest one."""
    query.run("DELETE FROM integrity_key WHERE purpose = ? AND number < ?", (purpose.value, newest))


def read_integrity_keys(query: Query, sealer: Sealer, store_id: str) -> IntegrityKeys:
    """The keys of the store.

    Raises:
        StoreRefused: one of them was damaged, or a purpose has none.
    """
    found: dict[Purpose, dict[int, bytes]] = {purpose: {} for purpose in Purpose}
    for row in query.rows("SELECT purpose, number, algorithm, key_id, wrapped, body FROM integrity_key"):
        sealed = Sealed(row["algorithm"], row["key_id"], bytes(row["wrapped"]), bytes(row["body"]))
        try:
            purpose = Purpose(row["purpose"])
            found[purpose][row["number"]] = sealer.open(sealed, place_of(store_id, purpose, row["number"]))
        except (VaultDamaged, ValueError):
            raise StoreRefused("integrity_key_damaged", purpose=row["purpose"], number=row["number"]) from None
    for purpose, keys in found.items():
        if not keys:
            raise StoreRefused("integrity_key_missing", purpose=purpose.value)
    return IntegrityKeys.of(found)


def place_of(store_id: str, purpose: str, number: int) -> Place:
    """The place that a key is sealed for."""
    return Place(store_id, SUBJECT, purpose, number)
