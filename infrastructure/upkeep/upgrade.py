"""Upgrades the store of an older program to this program's schema: a backup first, then step by step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from domain.errors import StoreRefused
from infrastructure.encryption.envelope import Sealer
from infrastructure.store.event_log import EventLog
from infrastructure.store.hash_chain import Head
from infrastructure.store.migrations import MIGRATIONS, Migration
from infrastructure.store.open import read_meta, read_meta_with_key, write_schema_version
from infrastructure.store.read_model import rebuild_log_index, rebuild_read_model
from infrastructure.store.schema import PROJECTION_VERSION
from infrastructure.store.store import Store


@dataclass(frozen=True)
class BackedUp:
    """The backup that was made: its file, or the name that the operator gave for their own."""

    place: str


def upgrade_store(
    store: Store, sealer: Sealer, *, backup: str | None, now: datetime
) -> Iterator[BackedUp | Migration | Head]:
    """Migrate `store`; yields each thing as soon as it is done, and nothing if the version is this program's.

    The head is that of the keyed chain, which takes the place of an older store's unkeyed one.

    An engine that can't copy the store into a file needs `backup`, which names a backup that the operator made. After
    an interruption the next call continues: a step is stored whole, with its version, or not at all.

    Raises:
        StoreRefused: there is no store, the key is not its own, it is newer than this program, there is no room for the
            backup, no backup was named, or the older chain is not whole.
    """
    version = read_meta_with_key(store, sealer).schema_version
    steps = [step for step in MIGRATIONS if step.version > version]
    if not steps:
        return
    place = store.back_up(f"version-{version}.{now:%Y%m%dT%H%M%SZ}") or backup
    if place is None:
        raise StoreRefused("backup_not_named", version=version)
    yield BackedUp(place)
    head: Head | None = None
    for step in steps:
        head = _migrate(store, step, sealer) or head
        yield step
    _make_rows_again(store, sealer)
    if head:
        yield head


def _make_rows_again(store: Store, sealer: Sealer) -> None:
    """Make the read model of an older program from the log: a row that is there already is no reason for its MAC."""
    with store.writing(alone=True) as query:
        meta = read_meta(query)
        if meta.projection_version != PROJECTION_VERSION:
            store.load_integrity(query, sealer, meta.store_id)
            rebuild_read_model(EventLog(store), query)


def _migrate(store: Store, step: Migration, sealer: Sealer) -> Head | None:
    with store.writing(alone=True) as query:
        meta = read_meta(query)
        if meta.schema_version >= step.version:
            return None  # another node was first
        for statement in step.statements:
            query.run(statement.format(bytes=store.bytes_type, integer=store.integer_type))
        head = step.fill(query, sealer, meta.store_id) if step.fill else None
        if step.indexes_log:
            rebuild_log_index(EventLog(store), query)
        write_schema_version(query, step.version)
    return head
