"""Saves in a second while another process seals the whole store anew, and without it."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

from bench.material import Material
from bench.rounds import Figure, Size, compare
from infrastructure.encryption.key_file import create_key_file, new_key, read_key, write_keys
from infrastructure.store.sqlite import SqliteStore
from infrastructure.upkeep.key_rotation import reseal
from infrastructure.upkeep.pacing import with_rests


def rotation(directory: Path, size: Size) -> Figure:
    """Of the renewals of a store on SQLite, with a token for each of `size.settings`."""
    path, keys = directory / "mailtoken.db", directory / "mailtoken.key"
    create_key_file(keys)
    with closing(SqliteStore(path)) as store:
        material = Material.on(store, read_key(keys, {}))
        material.add_tokens(size.settings)

        def saves_in_a_second() -> float:
            renewals = material.renewals(size.saves)
            started = time.perf_counter()
            for token, unit_of_work in renewals:
                material.log.save(token, unit_of_work=unit_of_work)
            return len(renewals) / (time.perf_counter() - started)

        def beside_a_rotation() -> float:
            with _rotating(path, keys):
                return saves_in_a_second()

        return compare(
            "saves while the key is rotated",
            ours=beside_a_rotation,
            peer=saves_in_a_second,
            peer_name="the same saves without it",
            rounds=size.rounds,
            unit="saves/s",
            more_is_better=True,
            target=0.80,
            limited_by="the lock of SQLite's writers",
        )


@contextmanager
def _rotating(path: Path, keys: Path) -> Iterator[None]:
    """A process that seals every value anew, with one new key after the other."""
    context = multiprocessing.get_context("spawn")
    began, enough = context.Event(), context.Event()
    process = context.Process(target=_rotate, args=(path, keys, began, enough), daemon=True)
    process.start()
    try:
        while not began.wait(1):
            assert process.is_alive()
        yield
    finally:
        enough.set()
        process.join()


def _rotate(path: Path, keys: Path, began: Event, enough: Event) -> None:
    with closing(SqliteStore(path)) as store:
        while not enough.is_set():
            sealer = read_key(keys, {})
            write_keys(keys, [new_key(), *sealer.keys])
            for _ in with_rests(reseal(store, sealer)):
                began.set()
                if enough.is_set():
                    break
