"""The numbered steps of the schema. A step changes the tables of the version before it, in one transaction.

`schema.py` has the tables as the last step leaves them, for a new store. A released step never changes, as there are
stores that it has changed already. Both engines take the same statements, but for the types `{bytes}` and `{integer}`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from infrastructure.encryption.envelope import Sealer
from infrastructure.store.hash_chain import Head, seal_unkeyed_chain
from infrastructure.store.integrity_rows import create_integrity_keys, read_integrity_keys
from infrastructure.store.query import Query

Fill = Callable[[Query, Sealer, str], Head | None]
"""Fills new tables, for the store of this id, in the transaction of the step; the head of the chain if it made it."""


@dataclass(frozen=True)
class Migration:
    """The step to `version`; `purpose` tells an operator the reason.

    After the statements `fill` runs, and with `indexes_log` the index of the log is filled from the log.
    """

    version: int
    purpose: str
    statements: tuple[str, ...]
    fill: Fill | None = None
    indexes_log: bool = False


def _seal_chain(query: Query, sealer: Sealer, store_id: str) -> Head:
    return seal_unkeyed_chain(query, read_integrity_keys(query, sealer, store_id).chain)


_MACS_THEN = (
    "token",
    "profile",
    "smtp_group",
    "machine",
    "relay_user",
    "administrator",
    "client",
    "reader",
    "log_hold",
    "session",
    "one_time",
)
"""The tables with MACs as of version 10."""

MIGRATIONS = (
    Migration(
        version=2,
        purpose="sealed rows, claims and notifications name their subject, which need not be a token",
        statements=(
            "ALTER TABLE vault RENAME COLUMN token_id TO subject_id",
            "ALTER TABLE claim RENAME COLUMN token_id TO subject_id",
            "ALTER TABLE notice RENAME COLUMN token_id TO subject_id",
        ),
    ),
    Migration(
        version=3,
        purpose="a token's row says how often a sign-in's requests failed, and why a working credential needs a person",
        statements=(
            "ALTER TABLE token ADD COLUMN takes_over INTEGER",
            "ALTER TABLE token ADD COLUMN failures INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE token ADD COLUMN warning TEXT",
            "UPDATE token SET takes_over = 0 WHERE attempt_id IS NOT NULL",
        ),
    ),
    Migration(
        version=4,
        purpose="messages, octets and refusals are counted by setting and day",
        statements=(
            "CREATE TABLE IF NOT EXISTS mail_count (source TEXT, profile TEXT, day TEXT, messages BIGINT NOT NULL,"
            " octets BIGINT NOT NULL, refusals BIGINT NOT NULL, PRIMARY KEY (source, profile, day))",
        ),
    ),
    Migration(
        version=5,
        purpose="a relay user's messages may get the sender of the mailbox, and CRLF line ends",
        statements=(
            "ALTER TABLE relay_user ADD COLUMN sender TEXT",
            "ALTER TABLE relay_user ADD COLUMN normalize TEXT",
        ),
    ),
    Migration(
        version=6,
        purpose="a store that was restored from a backup is on hold until an administrator resumes",
        statements=(
            "CREATE TABLE IF NOT EXISTS log_hold (id TEXT PRIMARY KEY, version BIGINT NOT NULL, reason TEXT NOT NULL,"
            " since TEXT NOT NULL, backup_made_at TEXT NOT NULL)",
        ),
    ),
    Migration(
        version=7,
        purpose="keys authenticate the rows and the hash chain, and sign checkpoints",
        statements=(
            "CREATE TABLE IF NOT EXISTS integrity_key (purpose TEXT, number {integer}, algorithm TEXT NOT NULL,"
            " key_id TEXT NOT NULL, wrapped {bytes} NOT NULL, body {bytes} NOT NULL, PRIMARY KEY (purpose, number))",
        ),
        fill=create_integrity_keys,
    ),
    Migration(
        version=8,
        purpose="the hash chain is keyed, so that nobody without the key can make one",
        statements=(
            "ALTER TABLE chain RENAME TO unkeyed_chain",
            "CREATE TABLE IF NOT EXISTS chain (number {integer} PRIMARY KEY, position {integer} NOT NULL,"
            " link {bytes} NOT NULL)",
            "CREATE TABLE IF NOT EXISTS chain_head (id {integer} PRIMARY KEY, number {integer} NOT NULL,"
            " position {integer} NOT NULL, link {bytes} NOT NULL, mac {bytes} NOT NULL)",
        ),
        fill=_seal_chain,
    ),
    Migration(
        version=9,
        purpose="what is asked about one setting, also as of an instant, reads the events of that setting alone",
        statements=(
            "CREATE TABLE IF NOT EXISTS log_stream (about TEXT, stream_id TEXT, PRIMARY KEY (about, stream_id))",
            "CREATE INDEX IF NOT EXISTS log_stream_id ON log_stream (stream_id)",
            "CREATE TABLE IF NOT EXISTS log_end (at {integer} PRIMARY KEY, position {integer} NOT NULL)",
        ),
        indexes_log=True,
    ),
    Migration(
        version=10,
        purpose="rows that give a right or a token are authenticated; whoever is signed in signs in again",
        statements=(
            *(f"ALTER TABLE {table} ADD COLUMN mac {{bytes}}" for table in _MACS_THEN),
            "DELETE FROM session",
            "DELETE FROM one_time",
        ),
    ),
    Migration(
        version=11,
        purpose="machines have tags, and the list of machines is searched, filtered and sorted by the store",
        statements=(
            "ALTER TABLE machine ADD COLUMN tags TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE machine ADD COLUMN words TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE profile ADD COLUMN provider TEXT",
            "ALTER TABLE profile ADD COLUMN account TEXT",
            "ALTER TABLE profile ADD COLUMN words TEXT NOT NULL DEFAULT ''",
            "CREATE TABLE IF NOT EXISTS machine_list (machine_id TEXT PRIMARY KEY, name TEXT NOT NULL,"
            " catalogue TEXT NOT NULL, tags TEXT NOT NULL, rank {integer} NOT NULL, account TEXT NOT NULL,"
            " accounts TEXT NOT NULL, providers TEXT NOT NULL, words TEXT NOT NULL, mail_day TEXT)",
            "CREATE INDEX IF NOT EXISTS machine_list_name ON machine_list (name)",
            "CREATE INDEX IF NOT EXISTS machine_list_rank ON machine_list (rank, name)",
            "CREATE INDEX IF NOT EXISTS token_attempt_end ON token (attempt_expires_at)",
            "CREATE INDEX IF NOT EXISTS token_last_day ON token (expires_at) WHERE renewable = 0",
            "CREATE INDEX IF NOT EXISTS profile_machine ON profile (machine_id, token_id, provider)",
            "CREATE INDEX IF NOT EXISTS mail_count_profile ON mail_count (profile, day)",
            "CREATE INDEX IF NOT EXISTS mail_count_day ON mail_count (day, messages, refusals)",
        ),
    ),
    Migration(
        version=12,
        purpose="each node says which keys it has, so that a new key is used once all have it",
        statements=(
            "CREATE TABLE IF NOT EXISTS node (name TEXT PRIMARY KEY, key_in_use TEXT NOT NULL, keys TEXT NOT NULL,"
            " replies TEXT NOT NULL, seen_at DOUBLE PRECISION NOT NULL)",
        ),
    ),
    Migration(
        version=13,
        purpose="providers may be in the store, with sealed secrets",
        statements=(
            "CREATE TABLE IF NOT EXISTS provider (id TEXT PRIMARY KEY, version {integer} NOT NULL,"
            " name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, fields TEXT NOT NULL, secrets TEXT NOT NULL,"
            " sealed {integer} NOT NULL, mac {bytes})",
        ),
    ),
    Migration(
        version=14,
        purpose="an administrator's row says whether there is a second factor, and which recovery codes were used",
        statements=(
            "ALTER TABLE administrator ADD COLUMN second_factor {integer} NOT NULL DEFAULT 0",
            "ALTER TABLE administrator ADD COLUMN second_factors {integer} NOT NULL DEFAULT 0",
            "ALTER TABLE administrator ADD COLUMN used_codes TEXT NOT NULL DEFAULT ''",
        ),
    ),
    Migration(
        version=15,
        purpose="operators and auditors may be limited to machines; whoever is signed in signs in again",
        statements=(
            "ALTER TABLE administrator ADD COLUMN machines TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE session ADD COLUMN machines TEXT NOT NULL DEFAULT ''",
            "DELETE FROM session",
        ),
    ),
)

INTEGRITY_KEYS_SINCE = 7
KEYED_CHAIN_SINCE = 8
"""The first versions with integrity keys and with a keyed chain."""
SCHEMA_VERSION = MIGRATIONS[-1].version
