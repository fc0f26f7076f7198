"""Renews the integrity keys while services run: what is written from now on has the new keys.

The rows get new MACs, a page at a time, and then their older key is deleted. The chain's older keys stay, as its
earlier links need them, and so do the signing keys, as earlier checkpoints do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from domain.errors import Refused
from infrastructure.encryption.envelope import Sealer
from infrastructure.encryption.integrity_keys import Purpose
from infrastructure.store.hash_chain import Head, read_head, write_head_mac
from infrastructure.store.integrity_rows import add_integrity_key, delete_older_keys
from infrastructure.store.open import read_instant_called, read_meta, write_instant_called
from infrastructure.store.query import Query
from infrastructure.store.row_macs import row_message
from infrastructure.store.schema import ACCESS, MAC, WITH_MAC
from infrastructure.store.store import Store

_PAGE = 20
"""The rows of one transaction, which keeps other writers waiting."""
_BEGUN_AT = "integrity_rotation_at"


def is_under_way(store: Store) -> bool:
    """Whether rows may still have MACs of an older key."""
    return len(store.integrity.rows.numbers) > 1


def begin(store: Store, sealer: Sealer, now: datetime) -> None:
    """Add a key of each purpose, unless a rotation is under way.

    Raises:
        Refused: the head of the chain was altered; a new MAC would make it look right.
    """
    with store.writing(alone=True) as query:
        store_id = read_meta(query).store_id
        store.load_integrity(query, sealer, store_id)
        if is_under_way(store):
            return
        keys, head = store.integrity, read_head(query)
        if head is None or not head.is_valid(keys.chain):
            raise Refused("chain_head_altered")
        for purpose, ring in ((Purpose.ROWS, keys.rows), (Purpose.CHAIN, keys.chain), (Purpose.SIGNING, keys.signing)):
            add_integrity_key(query, sealer, store_id, purpose, ring.newest + 1)
        store.load_integrity(query, sealer, store_id)
        write_head_mac(query, Head.of(store.integrity.chain, head.number, head.position, head.link))
        write_instant_called(query, _BEGUN_AT, now)


def authenticate_anew(store: Store) -> Iterator[int]:
    """Give each row with a MAC of an older key a new one, a page at a time; yields the number of rows of each page.

    A row that was altered stays as it is.
    """
    for table in WITH_MAC:
        after = ""
        while True:
            with store.writing(alone=True) as query:
                column = "hash" if table in ACCESS else "id"
                rows = query.rows(
                    f"SELECT * FROM {table} WHERE {column} > ? ORDER BY {column} LIMIT {_PAGE}",  # noqa: S608 - ours
                    (after,),
                )
                renewed = sum(_renew(store, query, table, column, row) for row in rows)
            if not rows:
                break
            after = rows[-1][column]
            yield renewed


def end(store: Store, sealer: Sealer, begun_before: datetime) -> bool:
    """Delete the rows' older key, if the rotation began before this instant; whether none is left."""
    with store.writing(alone=True) as query:
        began = read_instant_called(query, _BEGUN_AT)
        if began is None or began >= begun_before:
            return False
        delete_older_keys(query, Purpose.ROWS, store.integrity.rows.newest)
        store.load_integrity(query, sealer, read_meta(query).store_id)
    return True


def _renew(store: Store, query: Query, table: str, column: str, row: Mapping[str, Any]) -> int:
    keys, mac = store.integrity.rows, row[MAC]
    try:
        message = row_message(table, row)
    except TypeError:
        return 0  # altered: a column holds bytes
    if not isinstance(mac, bytes) or keys.is_valid(message, mac, newest=True) or not keys.is_valid(message, mac):
        return 0
    where = f"WHERE {column} = ? AND mac = ?"
    return query.run(f"UPDATE {table} SET mac = ? {where}", (keys.mac(message), row[column], mac))  # noqa: S608
