"""The key-encryption key of an installation: what is sealed under which key, and its rotation while a service runs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from adapters.store_access import as_owner, opened_store, store_errors
from domain.errors import Refused
from infrastructure.clock import SystemClock
from infrastructure.config.load import load_config
from infrastructure.config.tables import Config
from infrastructure.encryption.envelope import Sealer, key_id
from infrastructure.encryption.key_file import is_key_file, new_key, read_key, save_key, write_keys
from infrastructure.store.integrity_rotation import authenticate_anew, begin, end, is_under_way
from infrastructure.store.key_rotation import reseal, values_by_key
from infrastructure.store.store import Store
from infrastructure.tokens.escrow import replies_by_key

_IN_FLIGHT_SECONDS = 15 * 60
"""The time in which whatever was sealed before the rotation began is stored."""


@dataclass(frozen=True)
class KeyUse:
    """A key, and the number of values of the store and of replies in this node's escrow that need it."""

    key_id: str
    here: bool
    in_use: bool
    values: int
    replies: int


@dataclass(frozen=True)
class RotatedIntegrity:
    """What a rotation of the integrity keys did: the number of the rows' key, the number of rows with a new MAC, and
    whether their older key is gone."""

    number: int
    rows: int
    ended: bool


@dataclass(frozen=True)
class Rotated:
    """What a rotation did: the key in use, the number of values that it sealed anew, and the file of a retired key."""

    key_id: str
    values: int
    retired: Path | None
    integrity: RotatedIntegrity | None = None


def key_uses(config_path: Path) -> list[KeyUse]:
    """Each key that is here or that something needs, the one in use first.

    Raises:
        StoreRefused, InvalidValue, Unreachable: the store can't be read.
    """
    config = load_config(config_path)
    sealer = read_key(config.path(config.store.key_file), os.environ)
    with store_errors(), as_owner(config), opened_store(config, sealer) as (events, _):
        return _uses(config, events.store, sealer)


def rotate(config_path: Path, *, alone: bool = False, integrity: bool = False) -> Rotated:
    """Begin the rotation of the key, or go on with one that was begun. A crash at any point loses nothing.

    The older key stays in the key file until nothing in the store and in this node's escrow needs it. Then it goes into
    a file of its own, as earlier backups need it. A service on the same host goes on meanwhile. Of nodes that share a
    database only this one may run, which the administrator says with `alone`. With `integrity` the integrity keys are
    renewed too.

    Raises:
        Refused: the key is no file, or other nodes may run.
        StoreRefused, InvalidValue, Unreachable: the store can't be read.
    """
    config = load_config(config_path)
    path = config.path(config.store.key_file)
    sealer = read_key(path, os.environ)
    if not is_key_file(sealer):
        raise Refused("key_is_no_file")
    if config.store.url and not alone:
        raise Refused("other_nodes_may_run")
    with store_errors(), as_owner(config), opened_store(config, sealer):
        pass  # the key is the store's own
    # The file is changed with the rights of the caller, the store with those of its owner.
    if len(sealer.keys) == 1:
        write_keys(path, [new_key(), *sealer.keys])
    with store_errors(), as_owner(config), opened_store(config, sealer) as (events, _):
        values = sum(reseal(events.store, sealer))
        renewed = _rotate_integrity(events.store, sealer) if integrity or is_under_way(events.store) else None
        uses = _uses(config, events.store, sealer)
    return Rotated(sealer.key_id, values, _retire(path, sealer, uses), renewed)


def _rotate_integrity(store: Store, sealer: Sealer) -> RotatedIntegrity:
    now = SystemClock().now()
    begin(store, sealer, now)
    rows = sum(authenticate_anew(store))
    ended = end(store, sealer, now - timedelta(seconds=_IN_FLIGHT_SECONDS))
    return RotatedIntegrity(store.integrity.rows.newest, rows, ended)


def _retire(path: Path, sealer: Sealer, uses: Sequence[KeyUse]) -> Path | None:
    """Take the oldest key out of the file if nothing needs it, nor can anything that is not stored yet."""
    needed = {use.key_id for use in uses if use.values or use.replies}
    oldest = sealer.keys[-1]
    if len(sealer.keys) == 1 or key_id(oldest) in needed or time.time() - path.stat().st_mtime < _IN_FLIGHT_SECONDS:
        return None
    retired = path.with_name(f"{path.name}.retired-{key_id(oldest)}")
    save_key(retired, oldest)
    write_keys(path, sealer.keys[:-1])
    return retired


def _uses(config: Config, store: Store, sealer: Sealer) -> list[KeyUse]:
    with store.reading() as query:
        values = values_by_key(query)
    replies = replies_by_key(config.path(config.store.escrow))
    here = [key_id(key) for key in sealer.keys]
    named = [*here, *sorted({*values, *replies} - set(here))]
    return [KeyUse(one, one in here, one == here[0], values[one], replies[one]) for one in named]
