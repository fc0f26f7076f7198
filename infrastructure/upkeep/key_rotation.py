"""Seals every value of the store anew with the newest key-encryption key, while services run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from domain.errors import VaultDamaged
from infrastructure.encryption.envelope import Place, Sealed, Sealer
from infrastructure.store.integrity_rows import SUBJECT
from infrastructure.store.open import read_meta, use_newest_key
from infrastructure.store.query import Query
from infrastructure.store.store import Store

_PAGE = 20
"""The rows of one transaction, which keeps other writers waiting."""
_TABLES = {"vault": ("subject_id", "kind", "generation"), "integrity_key": ("purpose", "number")}
"""The tables of sealed rows, with the columns of their primary keys."""


def values_by_key(query: Query) -> Counter[str]:
    """The number of sealed values of the store, by the id of their key."""
    counts = Counter([Sealed.of_text(read_meta(query).canary).key_id])
    for table in _TABLES:
        for row in query.rows(f"SELECT key_id, count(*) AS number FROM {table} GROUP BY key_id"):  # noqa: S608
            counts[row["key_id"]] += row["number"]
    for row in query.rows("SELECT about FROM one_time"):
        try:
            counts[Sealed.of_text(row["about"]).key_id] += 1
        except (ValueError, KeyError, TypeError):
            continue  # a link, which has nothing sealed
    return counts


def reseal(store: Store, sealer: Sealer) -> Iterator[int]:
    """Seal each value under an older key anew, a page at a time; yields the number of values of each page.

    A row that was damaged stays as it is. Sign-ins under way end by themselves, so they stay under their key.
    """
    with store.writing(alone=True) as query:
        use_newest_key(query, sealer)
        store_id = read_meta(query).store_id
    for table, key in _TABLES.items():
        after: tuple[Any, ...] = ()
        while True:
            with store.writing(alone=True) as query:
                rows = _page(query, table, key, sealer.key_id, after)
                for row in rows:
                    _reseal_row(query, sealer, store_id, table, key, row)
            if not rows:
                break
            after = tuple(rows[-1][column] for column in key)
            yield len(rows)


def _page(
    query: Query, table: str, key: tuple[str, ...], key_id: str, after: tuple[Any, ...]
) -> list[Mapping[str, Any]]:
    columns = ", ".join(key)
    behind = f"AND ({columns}) > ({', '.join('?' * len(key))})" if after else ""
    return query.rows(
        f"SELECT {columns}, algorithm, key_id, wrapped, body FROM {table}"  # noqa: S608 - our own table names
        f" WHERE key_id <> ? {behind} ORDER BY {columns} LIMIT {_PAGE}",
        (key_id, *after),
    )


def _reseal_row(
    query: Query, sealer: Sealer, store_id: str, table: str, key: tuple[str, ...], row: Mapping[str, Any]
) -> None:
    values = tuple(row[column] for column in key)
    subject, kind, number = values if len(values) == 3 else (SUBJECT, *values)
    place, wrapped = Place(store_id, subject, kind, number), bytes(row["wrapped"])
    try:
        sealed = sealer.seal(
            sealer.open(Sealed(row["algorithm"], row["key_id"], wrapped, bytes(row["body"])), place), place
        )
    except VaultDamaged:
        return
    # The row may have been replaced since it was read, by a writer that stores no event.
    where = " AND ".join(f"{column} = ?" for column in (*key, "wrapped"))
    query.run(
        f"UPDATE {table} SET algorithm = ?, key_id = ?, wrapped = ?, body = ? WHERE {where}",  # noqa: S608
        (sealed.algorithm, sealed.key_id, sealed.wrapped, sealed.body, *values, wrapped),
    )
