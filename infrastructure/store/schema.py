"""The tables of a store as `migrations.py` leaves them, and the version of the projection."""

from __future__ import annotations

import re
from collections.abc import Iterator

PROJECTION_VERSION = 9

# {bytes} and {integer} are the engine's own types. Instants are text in UTC, ids are text.
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS chain (number {integer} PRIMARY KEY, position {integer} NOT NULL, link {bytes} NOT NULL);
CREATE TABLE IF NOT EXISTS chain_head (
    id {integer} PRIMARY KEY, number {integer} NOT NULL, position {integer} NOT NULL, link {bytes} NOT NULL,
    mac {bytes} NOT NULL);
CREATE TABLE IF NOT EXISTS integrity_key (
    purpose TEXT, number {integer}, algorithm TEXT NOT NULL, key_id TEXT NOT NULL, wrapped {bytes} NOT NULL,
    body {bytes} NOT NULL, PRIMARY KEY (purpose, number));
CREATE TABLE IF NOT EXISTS log_stream (about TEXT, stream_id TEXT, PRIMARY KEY (about, stream_id));
CREATE INDEX IF NOT EXISTS log_stream_id ON log_stream (stream_id);
CREATE TABLE IF NOT EXISTS log_end (at {integer} PRIMARY KEY, position {integer} NOT NULL);
CREATE TABLE IF NOT EXISTS vault (
    subject_id TEXT, kind TEXT, generation {integer}, algorithm TEXT NOT NULL, key_id TEXT NOT NULL,
    wrapped {bytes} NOT NULL, body {bytes} NOT NULL, PRIMARY KEY (subject_id, kind, generation));
CREATE TABLE IF NOT EXISTS claim (
    subject_id TEXT, kind TEXT, generation {integer}, attempt_id TEXT NOT NULL, node TEXT NOT NULL, boot TEXT NOT NULL,
    process TEXT NOT NULL, taken_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (subject_id, kind, generation));
CREATE TABLE IF NOT EXISTS node (
    name TEXT PRIMARY KEY, key_in_use TEXT NOT NULL, keys TEXT NOT NULL, replies TEXT NOT NULL,
    seen_at DOUBLE PRECISION NOT NULL);
CREATE TABLE IF NOT EXISTS notice (
    subject_id TEXT, channel TEXT, attention TEXT, told_at TEXT NOT NULL, reminders {integer} NOT NULL,
    PRIMARY KEY (subject_id, channel));
CREATE TABLE IF NOT EXISTS token (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, status TEXT NOT NULL, since TEXT NOT NULL,
    provider TEXT, account TEXT, subject TEXT, tenant TEXT,
    generation {integer}, granted {integer}, brought_by TEXT, scope TEXT, issued_at TEXT, expires_at TEXT,
    renewable {integer}, credential_flow TEXT, granted_by TEXT, granted_at TEXT, grant_expires_at TEXT,
    end_set_at TEXT, dead TEXT,
    attempt_id TEXT, ordinal {integer}, flow TEXT, attempt_provider TEXT, attempt_account TEXT,
    attempt_expires_at TEXT, reason TEXT, code TEXT, signed_in_as TEXT, sign_in_seconds {integer},
    generations {integer} NOT NULL, attempts {integer} NOT NULL, replies TEXT NOT NULL,
    takes_over {integer}, failures {integer} NOT NULL DEFAULT 0, warning TEXT,
    mac {bytes});
CREATE INDEX IF NOT EXISTS token_attempt ON token (attempt_id);
CREATE INDEX IF NOT EXISTS token_attempt_end ON token (attempt_expires_at);
CREATE INDEX IF NOT EXISTS token_last_day ON token (expires_at) WHERE renewable = 0;
CREATE TABLE IF NOT EXISTS profile (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, name TEXT NOT NULL UNIQUE, machine_id TEXT NOT NULL,
    machine TEXT NOT NULL, setting TEXT NOT NULL, protocol TEXT NOT NULL, token_id TEXT NOT NULL, group_id TEXT,
    settings TEXT NOT NULL, provider TEXT, account TEXT, words TEXT NOT NULL DEFAULT '',
    mac {bytes});
CREATE INDEX IF NOT EXISTS profile_token ON profile (token_id);
CREATE INDEX IF NOT EXISTS profile_machine ON profile (machine_id, token_id, provider);
CREATE TABLE IF NOT EXISTS smtp_group (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, name TEXT NOT NULL UNIQUE, token_id TEXT NOT NULL,
    members TEXT NOT NULL,
    mac {bytes});
CREATE TABLE IF NOT EXISTS machine (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, name TEXT NOT NULL UNIQUE, catalogue TEXT NOT NULL,
    tags TEXT NOT NULL DEFAULT '', words TEXT NOT NULL DEFAULT '',
    mac {bytes});
CREATE TABLE IF NOT EXISTS machine_list (
    machine_id TEXT PRIMARY KEY, name TEXT NOT NULL, catalogue TEXT NOT NULL, tags TEXT NOT NULL,
    rank {integer} NOT NULL, account TEXT NOT NULL, accounts TEXT NOT NULL, providers TEXT NOT NULL,
    words TEXT NOT NULL, mail_day TEXT);
CREATE INDEX IF NOT EXISTS machine_list_name ON machine_list (name);
CREATE INDEX IF NOT EXISTS machine_list_rank ON machine_list (rank, name);
CREATE TABLE IF NOT EXISTS relay_user (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, name TEXT NOT NULL UNIQUE, profiles TEXT NOT NULL,
    networks TEXT NOT NULL, password {integer} NOT NULL, sender TEXT, normalize TEXT,
    mac {bytes});
CREATE TABLE IF NOT EXISTS administrator (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, name TEXT NOT NULL UNIQUE, roles TEXT NOT NULL,
    password {integer} NOT NULL,
    second_factor {integer} NOT NULL DEFAULT 0, second_factors {integer} NOT NULL DEFAULT 0,
    used_codes TEXT NOT NULL DEFAULT '', machines TEXT NOT NULL DEFAULT '',
    mac {bytes});
CREATE TABLE IF NOT EXISTS client (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, name TEXT NOT NULL UNIQUE, key_number {integer} NOT NULL,
    key_id TEXT UNIQUE, expires_at TEXT, profiles TEXT NOT NULL,
    mac {bytes});
CREATE TABLE IF NOT EXISTS provider (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    fields TEXT NOT NULL, secrets TEXT NOT NULL, sealed {integer} NOT NULL,
    mac {bytes});
CREATE TABLE IF NOT EXISTS client_use (client_id TEXT PRIMARY KEY, used_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS mail_count (
    source TEXT, profile TEXT, day TEXT, messages BIGINT NOT NULL, octets BIGINT NOT NULL, refusals BIGINT NOT NULL,
    PRIMARY KEY (source, profile, day));
CREATE INDEX IF NOT EXISTS mail_count_profile ON mail_count (profile, day);
CREATE INDEX IF NOT EXISTS mail_count_day ON mail_count (day, messages, refusals);
CREATE TABLE IF NOT EXISTS log_hold (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, reason TEXT NOT NULL, since TEXT NOT NULL,
    backup_made_at TEXT NOT NULL,
    mac {bytes});
CREATE TABLE IF NOT EXISTS reader (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, client TEXT NOT NULL, token_id TEXT NOT NULL,
    generation {integer} NOT NULL,
    mac {bytes});
CREATE TABLE IF NOT EXISTS session (
    hash TEXT PRIMARY KEY, administrator_id TEXT, password {integer}, name TEXT NOT NULL, roles TEXT NOT NULL,
    begun_at TEXT NOT NULL, used_at TEXT NOT NULL, machines TEXT NOT NULL DEFAULT '',
    mac {bytes});
CREATE TABLE IF NOT EXISTS one_time (
    hash TEXT PRIMARY KEY, kind TEXT NOT NULL, about TEXT NOT NULL, made_by TEXT NOT NULL, expires_at TEXT NOT NULL,
    mac {bytes})
"""

TABLES = {"stored_events", *re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", _TABLES)}
"""The names of all tables; the event log's own is created by the eventsourcing library's statement."""

VIEWS = (
    "token",
    "profile",
    "smtp_group",
    "machine",
    "relay_user",
    "administrator",
    "client",
    "provider",
    "reader",
    "log_hold",
)
"""The read model: a table for each kind of aggregate that has rows."""

ACCESS = ("session", "one_time")
"""Working rows that give a right."""

WITH_MAC = (*VIEWS, *ACCESS)
"""The tables whose rows have a MAC."""

PROVEN_OTHERWISE = ("stored_events", "chain", "chain_head", "vault", "integrity_key")
"""The tables whose rows the hash chain proves, or that are sealed."""

LOG_INDEX = ("log_stream", "log_end")
"""The tables of `log_index.py`."""

MACHINE_LIST = "machine_list"
"""The table of `machine_list.py`."""

WITHOUT_RIGHTS = (*LOG_INDEX, MACHINE_LIST, "meta", "claim", "node", "notice", "client_use", "mail_count")
"""The tables whose rows give nobody a right or a token: what somebody writes there may be believed."""

MAC = "mac"
"""The column of a row's MAC."""


def _columns(table: str) -> tuple[str, ...]:
    body = _TABLES.partition(f"CREATE TABLE IF NOT EXISTS {table} (")[2].partition(");")[0]
    return tuple(name for name in (column.split()[0] for column in body.split(",")) if name != MAC)


COLUMNS = {table: _columns(table) for table in WITH_MAC}
"""The columns that the MAC of a row covers."""


def create_statements(*, bytes_type: str, integer_type: str) -> Iterator[str]:
    """The statements that create the tables and indexes which are missing."""
    for statement in _TABLES.format(bytes=bytes_type, integer=integer_type).split(";"):
        yield statement.strip()
