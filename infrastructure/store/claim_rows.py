"""The table `claim`: which attempt, of which process, makes a request or delivers a notification.

Its primary key is subject, kind and generation, so there is at most one claim of each. `infrastructure.tokens.claims`
has the rules by which a claim is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from infrastructure.store.query import Query

_COLUMNS = "subject_id, kind, generation, attempt_id, node, boot, process, taken_at"
_INSERT = f"INSERT INTO claim ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own column names
_WHERE_KEY = "WHERE subject_id = ? AND kind = ? AND generation = ?"


@dataclass(frozen=True)
class ClaimKey:
    """The request to a token endpoint that a claim is for; a notification to people is claimed in the same way.

    `kind` is "acquisition", "renewal" or "notice CHANNEL". `subject_id` is a token's id, or the id of whatever a
    notification is about. `generation` is the attempt's ordinal for an acquisition, the parent generation for a renewal
    and 0 for a notification; kind, subject and generation name the claim, and `attempt_id` says whose it is. `provider`
    and `account` are those of the request where they are known: they are sealed with the reply, as the token may be
    deleted by the time the reply is read.
    """

    kind: str
    subject_id: UUID
    attempt_id: str
    generation: int
    provider: str | None = None
    account: str | None = None


@dataclass(frozen=True)
class ClaimRow:
    """The attempt that has a claim, its process, and the time at which it took the claim, by the store's clock."""

    attempt_id: str
    node: str
    boot: str
    process: str
    taken_at: float


def insert_claim(query: Query, claim_key: ClaimKey, row: ClaimRow) -> bool:
    """Store a claim; returns False, and changes nothing, if there is one with this key."""
    return query.run(f"{_INSERT} ON CONFLICT DO NOTHING", (*_key(claim_key), *_values(row))) == 1


def refresh_claim(query: Query, claim_key: ClaimKey, row: ClaimRow) -> None:
    """Store a claim, or give the one of the same attempt and node its new process and time.

    A claim of another attempt or node stays as it is.
    """
    query.run(
        f"{_INSERT} ON CONFLICT (subject_id, kind, generation) "
        "DO UPDATE SET boot = excluded.boot, process = excluded.process, taken_at = excluded.taken_at "
        "WHERE claim.attempt_id = excluded.attempt_id AND claim.node = excluded.node",
        (*_key(claim_key), *_values(row)),
    )


def take_over_claim(query: Query, claim_key: ClaimKey, row: ClaimRow, *, from_attempt: str) -> bool:
    """Give a claim to the attempt in `row`; returns False if `from_attempt` does not have it any more."""
    changed = query.run(
        f"UPDATE claim SET attempt_id = ?, node = ?, boot = ?, process = ?, taken_at = ? {_WHERE_KEY} "  # noqa: S608
        "AND attempt_id = ?",
        (*_values(row), *_key(claim_key), from_attempt),
    )
    return changed == 1


def release_claim(query: Query, claim_key: ClaimKey) -> None:
    """Delete a claim if this attempt still has it."""
    query.run(f"DELETE FROM claim {_WHERE_KEY} AND attempt_id = ?", (*_key(claim_key), claim_key.attempt_id))  # noqa: S608


def delete_claims_of(query: Query, attempt_id: str) -> None:
    """Delete every claim of an attempt."""
    query.run("DELETE FROM claim WHERE attempt_id = ?", (attempt_id,))


def find_claim(query: Query, claim_key: ClaimKey) -> ClaimRow | None:
    """The claim of this key, whichever attempt has it."""
    rows = query.rows(f"SELECT * FROM claim {_WHERE_KEY}", _key(claim_key))  # noqa: S608
    return _row(rows[0]) if rows else None


def read_claims(query: Query) -> list[ClaimRow]:
    """Every claim."""
    return [_row(row) for row in query.rows("SELECT * FROM claim")]


def count_claims(query: Query) -> dict[str, int]:
    """The number of claims of each kind."""
    return {
        row["kind"]: row["number"] for row in query.rows("SELECT kind, count(*) AS number FROM claim GROUP BY kind")
    }


def _key(claim_key: ClaimKey) -> tuple[str, str, int]:
    return str(claim_key.subject_id), claim_key.kind, claim_key.generation


def _values(row: ClaimRow) -> tuple[str, str, str, str, float]:
    return row.attempt_id, row.node, row.boot, row.process, row.taken_at


def _row(row: Mapping[str, Any]) -> ClaimRow:
    return ClaimRow(row["attempt_id"], row["node"], row["boot"], row["process"], row["taken_at"])
