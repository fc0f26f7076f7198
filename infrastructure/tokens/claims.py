"""Claims: locks in the store, so that no two threads, processes or nodes make the same request or notification at once.

The table's primary key (subject, kind, generation) admits a single claim. A claim is taken over when its owner's
process is dead, or when the claim is too old by the database's time (PostgreSQL) or the time since boot (SQLite): a
step of the wall clock moves neither. A claim is no event, as it says nothing about the token.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from infrastructure.store.claim_rows import (
    ClaimKey,
    ClaimRow,
    delete_claims_of,
    find_claim,
    insert_claim,
    read_claims,
    refresh_claim,
    release_claim,
    take_over_claim,
)
from infrastructure.store.query import Query
from infrastructure.store.store import Store

STALE_AFTER_SECONDS = 600.0
"""The age at which a claim is stale: longer than four requests (discovery, token, keys twice) of 120 s each."""


@dataclass(frozen=True)
class ClaimOwner:
    """The process that holds a claim: node, boot, and process id with its start time, as process ids are reused.

    A node is a service's host and the place of its escrow, which only that service can read.
    """

    node: str
    boot: str
    process: str

    @classmethod
    def this_process(cls, place: str = "") -> ClaimOwner:
        """The owner that stands for this process, with its escrow at `place`."""
        return cls(_node(place), _boot_id(), _process(os.getpid()))

    def is_dead(self) -> bool:
        """Whether the process is known to have ended; this is never known of a process on another host."""
        if self.node.partition(":")[0] != socket.gethostname():
            return False
        if self.boot != _boot_id():
            return True
        return _process(int(self.process.split(":")[0])) != self.process


def node_name(escrow: Path) -> str:
    """The name of the node on this host whose escrow is at this path."""
    return _node(str(escrow.resolve()))


def _node(place: str) -> str:
    return f"{socket.gethostname()}:{place}"


class ClaimResult(IntEnum):
    """The result of an attempt to claim; truthy if the caller has the claim now."""

    REFUSED = 0
    FREE = 1
    TAKEN_OVER = 2


class Claims:
    """The claims in a store, with this process as the owner.

    `place` is where this service's escrow is. A service on the same host with an escrow elsewhere is another node: if
    that service dies, the reply to its request may be in its own escrow, which only its next run can read.
    """

    def __init__(self, store: Store, place: str = "") -> None:
        self._store = store
        self._owner = ClaimOwner.this_process(place)

    def take(self, claim_key: ClaimKey) -> ClaimResult:
        """Take the claim unless a living owner has it. A stale claim, or a claim of a dead owner, is taken over."""
        with self._store.writing() as query:
            mine = self._row(query, claim_key)
            if insert_claim(query, claim_key, mine):
                return ClaimResult.FREE
            return self._take_over(query, claim_key, mine)

    def hold(self, claim_key: ClaimKey) -> None:
        """Renew the age of a claim that this run, or an earlier run of this node, has taken.

        The claim must last while its reply is in this node's escrow and can't be read, as no other node may repeat the
        request meanwhile. A claim that another node has taken over is not changed.
        """
        with self._store.writing() as query:
            refresh_claim(query, claim_key, self._row(query, claim_key))

    def release(self, claim_key: ClaimKey) -> None:
        """Drop the claim, so that any owner may take it."""
        with self._store.writing() as query:
            release_claim(query, claim_key)

    def is_taken(self, claim_key: ClaimKey) -> bool:
        """Whether the claim has an owner, this process or another."""
        with self._store.reading() as query:
            return find_claim(query, claim_key) is not None

    def clear_dead(self) -> int:
        """Drop the claims of this node's ended processes; returns their number."""
        with self._store.writing() as query:
            dead = [row for row in read_claims(query) if self._is_dead(row)]
            for row in dead:
                delete_claims_of(query, row.attempt_id)
            return len(dead)

    def _row(self, query: Query, claim_key: ClaimKey) -> ClaimRow:
        owner = self._owner
        return ClaimRow(
            claim_key.attempt_id, owner.node, owner.boot, owner.process, taken_at=self._store.now_seconds(query)
        )

    def _is_dead(self, row: ClaimRow) -> bool:
        owner = ClaimOwner(row.node, row.boot, row.process)
        return owner.node == self._owner.node and owner.is_dead()

    def _take_over(self, query: Query, claim_key: ClaimKey, mine: ClaimRow) -> ClaimResult:
        held = find_claim(query, claim_key)
        if held is None:
            return ClaimResult.REFUSED
        stale = mine.taken_at - held.taken_at > STALE_AFTER_SECONDS
        if not stale and not self._is_dead(held):
            return ClaimResult.REFUSED
        # The stale claim's attempt id is part of the condition, so only one of two simultaneous takeovers succeeds.
        taken = take_over_claim(query, claim_key, mine, from_attempt=held.attempt_id)
        return ClaimResult.TAKEN_OVER if taken else ClaimResult.REFUSED


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _process(pid: int) -> str:
    try:
        # proc(5): the fields behind the command, which is in parentheses and may hold anything; 22 is the start time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"{pid}:gone"
    # A zombie process has ended, even if its parent never reads its exit status.
    return f"{pid}:gone" if fields[0] in {"Z", "X"} else f"{pid}:{fields[19]}"
