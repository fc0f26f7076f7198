"""What another process does to a store, run by `store_examples.another_process`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from domain.errors import Conflict
from domain.machine import Machine
from infrastructure.encryption.envelope import Sealer
from infrastructure.store import open as opening
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.store.event_log import EventLog
from infrastructure.store.postgres import PostgresStore
from infrastructure.store.sqlite import SqliteStore
from infrastructure.store.store import Store
from infrastructure.tokens.claims import Claims

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


def open_store(address: str) -> Store:
    store: Store = PostgresStore(address) if address.startswith("postgresql:") else SqliteStore(Path(address))
    opening.open_store(store, Sealer(bytes(range(32))))
    return store


def write(address: str, token_id: str, name: str, times: str) -> None:
    """Add machines, and events to a token that others add to as well."""
    store = open_store(address)
    ready()
    add_events(EventLog(store), UUID(token_id), name, int(times))
    store.close()


def add_events(events: EventLog, token_id: UUID, name: str, times: int) -> None:
    for number in range(times):
        events.save(Machine.add(uuid4(), f"{name}-{number}", "generic", by=name, now=NOW))
        while True:
            token = events.token(token_id)
            token.discard(f"{name}-{number}", by=name, now=NOW)
            try:
                events.save(token)
            except Conflict:
                continue
            break


def claim(address: str, token_id: str) -> None:
    """Take a claim and hold it until this process ends."""
    store = open_store(address)
    ready()
    taken = Claims(store).take(ClaimKey("renewal", UUID(token_id), uuid4().hex, 1))
    print("taken" if taken else "refused", flush=True)  # noqa: T201
    sys.stdin.read()


def ready() -> None:
    """Say so, and begin when everybody is."""
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {"write": write, "claim": claim}
    commands[sys.argv[1]](*sys.argv[2:])
