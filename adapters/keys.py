"""The key-encryption key of an installation: what is sealed under which key, and its rotation while a service runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
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
from infrastructure.store.node_rows import NodeRow, forget_other_nodes, read_nodes
from infrastructure.store.read_model import Progress
from infrastructure.store.store import Store
from infrastructure.tokens.claims import node_name
from infrastructure.tokens.escrow import replies_by_key
from infrastructure.upkeep.integrity_rotation import authenticate_anew, begin, end, is_under_way
from infrastructure.upkeep.key_rotation import reseal, values_by_key
from infrastructure.upkeep.pacing import with_rests

_IN_FLIGHT_SECONDS = 15 * 60
"""The time in which whatever was sealed before the rotation began is stored."""


@dataclass(frozen=True)
class KeyUse:
    """A key, and what needs it: values of the store, and replies in the escrow of any node.

    `used_by` has the other nodes alive that seal with it, `missing_on` those that do not have it.
    """

    key_id: str
    here: bool
    in_use: bool
    values: int
    replies: int
    used_by: tuple[str, ...] = ()
    missing_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class RotatedIntegrity:
    """What a rotation of the integrity keys did: the number of the rows' key, the number of rows with a new MAC, and
    whether their older key is gone."""

    number: int
    rows: int
    ended: bool


@dataclass(frozen=True)
class Rotated:
    """What a rotation did: the newest key, the number of values that it sealed anew, and the file of a retired key.

    With `missing_on`, which names the other nodes without the newest key, nothing was sealed anew.
    """

    key_id: str
    values: int = 0
    retired: Path | None = None
    integrity: RotatedIntegrity | None = None
    missing_on: tuple[str, ...] = ()


def key_uses(config_path: Path) -> list[KeyUse]:
    """Each key that is here or that something needs, the newest one first.

    Raises:
        StoreRefused, InvalidValue, Unreachable: the store can't be read.
    """
    config = load_config(config_path)
    sealer = read_key(config.path(config.store.key_file), os.environ)
    with store_errors(), as_owner(config), opened_store(config, sealer) as (events, _):
        return _uses(config, events.store, sealer)


def rotate(
    config_path: Path, *, alone: bool = False, integrity: bool = False, progress: Progress | None = None
) -> Rotated:
    """Begin the rotation of the key, or go on with one that was begun. A crash at any point loses nothing.

    The newest key is used once every node alive has it. The older key stays in the key file until nothing in the store
    and in any node's escrow needs it; then it goes into a file of its own, as earlier backups need it. Services go on
    meanwhile. With `alone` the other nodes are gone for good, or get a copy of the file before they start again. With
    `integrity` the integrity keys are renewed too. `progress` hears how many values and rows are done.

    Raises:
        Refused: the key is no file.
        StoreRefused, InvalidValue, Unreachable: the store can't be read.
    """
    config = load_config(config_path)
    path = config.path(config.store.key_file)
    sealer = read_key(path, os.environ)
    if not is_key_file(sealer):
        raise Refused("key_is_no_file")
    with store_errors(), as_owner(config), opened_store(config, sealer) as (events, _):
        if alone:
            with events.store.writing() as query:
                forget_other_nodes(query, _this_node(config))
    # The file is changed with the rights of the caller, the store with those of its owner.
    if len(sealer.keys) == 1:
        write_keys(path, [new_key(), *sealer.keys])
    newest = key_id(sealer.keys[0])
    with store_errors(), as_owner(config), opened_store(config, sealer) as (events, _):
        missing_on = tuple(node.name for node in _others(config, events.store) if newest not in node.keys)
    if missing_on:
        return Rotated(newest, missing_on=missing_on)
    if sealer.key_id != newest:
        path.touch()  # The time in flight begins now.
    with store_errors(), as_owner(config), opened_store(config, sealer) as (events, _):
        values = _count(reseal(events.store, sealer), progress)
        renewed = _rotate_integrity(events.store, sealer, progress) if integrity or is_under_way(events.store) else None
        uses = _uses(config, events.store, sealer)
    return Rotated(newest, values, _retire(path, sealer, uses), renewed)


def _count(pages: Iterator[int], progress: Progress | None) -> int:
    total = 0
    for page in with_rests(pages):
        total += page
        if progress:
            progress(total)
    return total


def _rotate_integrity(store: Store, sealer: Sealer, progress: Progress | None) -> RotatedIntegrity:
    now = SystemClock().now()
    begin(store, sealer, now)
    rows = _count(authenticate_anew(store), progress)
    ended = end(store, sealer, now - timedelta(seconds=_IN_FLIGHT_SECONDS))
    return RotatedIntegrity(store.integrity.rows.newest, rows, ended)


def _retire(path: Path, sealer: Sealer, uses: Sequence[KeyUse]) -> Path | None:
    """Take the oldest key out of the file if nothing needs it, nor can anything that is not stored yet."""
    needed = {use.key_id for use in uses if use.values or use.replies or use.used_by}
    oldest = sealer.keys[-1]
    if len(sealer.keys) == 1 or key_id(oldest) in needed or time.time() - path.stat().st_mtime < _IN_FLIGHT_SECONDS:
        return None
    retired = path.with_name(f"{path.name}.retired-{key_id(oldest)}")
    save_key(retired, oldest)
    write_keys(path, sealer.keys[:-1])
    return retired


def _uses(config: Config, store: Store, sealer: Sealer) -> list[KeyUse]:
    alive = _others(config, store)
    with store.reading() as query:
        values = values_by_key(query)
        nodes = [node for node in read_nodes(query) if node.name != _this_node(config)]
    replies = replies_by_key(config.path(config.store.escrow))
    for node in nodes:
        replies.update(node.replies)
    here = [key_id(key) for key in sealer.keys]
    named = [*here, *sorted({*values, *replies} - set(here))]
    return [
        KeyUse(
            one,
            one in here,
            one == sealer.key_id,
            values[one],
            replies[one],
            tuple(node.name for node in alive if node.key_in_use == one),
            tuple(node.name for node in alive if one not in node.keys),
        )
        for one in named
    ]


def _others(config: Config, store: Store) -> list[NodeRow]:
    """The other nodes that are alive."""
    with store.reading() as query:
        now = store.now_seconds(query)
        return [node for node in read_nodes(query) if node.name != _this_node(config) and node.is_alive(now)]


def _this_node(config: Config) -> str:
    return node_name(config.path(config.store.escrow))
