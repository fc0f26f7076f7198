"""Reading: the status of every setting, and the replay of the log into new rows."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from bench.material import NOW, Material
from bench.rounds import Figure, Size, compare
from infrastructure.queries.audit import Audit
from infrastructure.queries.setting_status import _JOINED, read_statuses
from infrastructure.store.sqlite import SqliteStore


def status_read(directory: Path, size: Size) -> Figure:
    """The status of every setting as JSON."""
    path = directory / "status.db"
    with closing(SqliteStore(path)) as store, closing(sqlite3.connect(path)) as connection:
        material = Material.on(store)
        material.add_machines(size.settings)
        connection.row_factory = sqlite3.Row

        def read() -> float:
            started = time.perf_counter()
            with store.reading() as query:
                statuses = read_statuses(query, NOW)
            json.dumps([status.as_json() for status in statuses])
            return (time.perf_counter() - started) * 1000

        def read_rows() -> float:
            started = time.perf_counter()
            json.dumps([dict(row) for row in connection.execute(_JOINED)], default=bytes.hex)
            return (time.perf_counter() - started) * 1000

        return compare(
            f"status of {size.settings:,} settings",
            ours=read,
            peer=read_rows,
            peer_name="the same SQL, its rows as JSON",
            rounds=size.rounds,
            unit="ms",
            more_is_better=False,
            target=None,
            limited_by="making states of the rows, to judge them by the reader's clock",
        )


def rebuild(directory: Path, size: Size) -> Figure:
    """Replay of the log into new rows."""
    with closing(SqliteStore(directory / "rebuild.db")) as store:
        material = Material.on(store)
        material.add_history(size.events)
        audit = Audit(material.log)

        def replay() -> float:
            started = time.perf_counter()
            return audit.rebuild(by="worker", now=NOW) / (time.perf_counter() - started)

        def decode() -> float:
            started = time.perf_counter()
            with store.reading() as query:
                events = sum(1 for _ in material.log.read(query))
            return events / (time.perf_counter() - started)

        return compare(
            f"rebuild from {size.events:,} events",
            ours=replay,
            peer=decode,
            peer_name="reading and decoding them",
            rounds=size.rounds,
            unit="events/s",
            more_is_better=True,
            target=0.5,
            limited_by="reading and decoding; then a new state for each event",
        )
