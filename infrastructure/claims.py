"""Claims: the single flight over threads, processes and nodes. No event: a claim says nothing about the token.

The primary key (token, kind of work, generation) lets one request for a generation, or one notice to people, leave. A
claim is taken over when its process is dead, or too old by the database's time (PostgreSQL) or the time since boot
(SQLite); a wall clock that steps moves neither.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from infrastructure.escrow import Work
from infrastructure.store import Query, Store, release_claim

STALE_AFTER_SECONDS = 600.0
"""Longer than any exchange can take: at most four requests (discovery, token, keys twice) of 120 s each."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a claim: node, boot, and process id with its start time, which tells a reused id.

    A node is a host, and the place there of what only its own service can read.
    """

    node: str
    boot: str
    process: str

    @classmethod
    def this_process(cls, place: str = "") -> Holder:
        """This one."""
        return cls(f"{socket.gethostname()}:{place}", _boot_id(), _process(os.getpid()))

    def is_dead(self) -> bool:
        """Whether that process is known to be gone; a process of another host never is."""
        if self.node.partition(":")[0] != socket.gethostname():
            return False
        if self.boot != _boot_id():
            return True
        return _process(int(self.process.split(":")[0])) != self.process


class Taking(IntEnum):
    """What became of an attempt to claim: true if it is claimed now."""

    REFUSED = 0
    FREE = 1
    TAKEN_OVER = 2


class Claims:
    """Who works on what.

    `place` is where this service's escrow is. A service on the same host with an escrow elsewhere is another node: the
    reply to what it died at may be there, where only its next run can read it.
    """

    def __init__(self, store: Store, place: str = "") -> None:
        self._store = store
        self._holder = Holder.this_process(place)

    def take(self, work: Work) -> Taking:
        """Claim `work`, unless somebody alive is at it; from somebody dead or gone it is taken over."""
        key = (str(work.token_id), work.kind, work.generation)
        with self._store.writing() as query:
            now = self._store.now_seconds(query)
            mine = (work.attempt_id, self._holder.node, self._holder.boot, self._holder.process, now)
            if query.run("INSERT INTO claim VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", (*key, *mine)):
                return Taking.FREE
            return self._take_over(query, key, mine, now)

    def hold(self, work: Work) -> None:
        """Keep the claim to `work`, of this run or an earlier one of this node, from going stale.

        For as long as its reply is here and can't be read: nobody else may ask for it again. If another node has
        taken over, this is a no-op.
        """
        holder = self._holder
        with self._store.writing() as query:
            values = (work.attempt_id, holder.node, holder.boot, holder.process, self._store.now_seconds(query))
            query.run(
                "INSERT INTO claim VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (token_id, kind, generation) DO UPDATE "
                "SET boot = excluded.boot, process = excluded.process, taken_at = excluded.taken_at "
                "WHERE claim.attempt_id = excluded.attempt_id AND claim.node = excluded.node",
                (str(work.token_id), work.kind, work.generation, *values),
            )

    def release(self, work: Work) -> None:
        """Give `work` up without a result; another may take it."""
        with self._store.writing() as query:
            release_claim(query, work)

    def is_taken(self, work: Work) -> bool:
        """Whether somebody is at it."""
        with self._store.reading() as query:
            return bool(
                query.rows(
                    "SELECT 1 FROM claim WHERE token_id = ? AND kind = ? AND generation = ?",
                    (str(work.token_id), work.kind, work.generation),
                )
            )

    def clear_dead(self) -> int:
        """Drop the claims of processes of this node that are gone; returns how many."""
        with self._store.writing() as query:
            rows = query.rows("SELECT * FROM claim")
            dead = [row for row in rows if self._is_dead(row)]
            for row in dead:
                query.run("DELETE FROM claim WHERE attempt_id = ?", (row["attempt_id"],))
            return len(dead)

    def _is_dead(self, row: Mapping[str, Any]) -> bool:
        holder = Holder(row["node"], row["boot"], row["process"])
        return holder.node == self._holder.node and holder.is_dead()

    def _take_over(
        self, query: Query, key: tuple[str, str, int], mine: tuple[str, str, str, str, float], now: float
    ) -> Taking:
        where = "WHERE token_id = ? AND kind = ? AND generation = ?"
        rows = query.rows(f"SELECT * FROM claim {where}", key)  # noqa: S608 - no value in it
        if not rows:
            return Taking.REFUSED
        row = rows[0]
        stale = now - row["taken_at"] > STALE_AFTER_SECONDS
        if not stale and not self._is_dead(row):
            return Taking.REFUSED
        # The attempt it had is part of the condition, so that of two that see a stale claim one gets it.
        changes = "SET attempt_id = ?, node = ?, boot = ?, process = ?, taken_at = ?"
        taken = query.run(f"UPDATE claim {changes} {where} AND attempt_id = ?", (*mine, *key, row["attempt_id"]))
        return Taking.TAKEN_OVER if taken else Taking.REFUSED


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _process(pid: int) -> str:
    try:
        # proc(5): the fields behind the command, which is in parentheses and may hold anything; 22 is the start time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"{pid}:gone"
    # A zombie does nothing any more, even if its parent never asks how it ended.
    return f"{pid}:gone" if fields[0] in {"Z", "X"} else f"{pid}:{fields[19]}"
