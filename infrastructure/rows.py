"""The rows kept beside the log, and what each aggregate's state is as a row. Written in the events' transaction.

A row is a pure function of the state its events add up to, and reads back to the same state: so `audit rebuild`
replays the log into new rows, and `audit verify` compares column by column. One row for each token: a setting's
status joins its profile's row to that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from domain.administrator import AdministratorState
from domain.catalogue import Protocol
from domain.client import ClientState
from domain.lifecycle import TokenStatus
from domain.machine import MachineState
from domain.outcomes import Reason
from domain.profile import ProfileState, Settings
from domain.reader import ReaderState
from domain.relay_user import RelayUserState
from domain.smtp_group import SmtpGroupState
from domain.token import Attempt, Generation, TokenState
from infrastructure.clock import instant_text, read_instant

State = (
    TokenState
    | ProfileState
    | SmtpGroupState
    | MachineState
    | RelayUserState
    | AdministratorState
    | ClientState
    | ReaderState
)
Row = dict[str, Any]

SCHEMA_VERSION = 1
PROJECTION_VERSION = 4

# {bytes} and {integer} are the engine's own types. Instants are text in UTC, ids are text.
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS chain (position {integer} PRIMARY KEY, hash {bytes} NOT NULL);
CREATE TABLE IF NOT EXISTS vault (
    token_id TEXT, kind TEXT, generation {integer}, algorithm TEXT NOT NULL, key_id TEXT NOT NULL,
    wrapped {bytes} NOT NULL, body {bytes} NOT NULL, PRIMARY KEY (token_id, kind, generation));
CREATE TABLE IF NOT EXISTS claim (
    token_id TEXT, kind TEXT, generation {integer}, attempt_id TEXT NOT NULL, node TEXT NOT NULL, boot TEXT NOT NULL,
    process TEXT NOT NULL, taken_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (token_id, kind, generation));
CREATE TABLE IF NOT EXISTS notice (
    token_id TEXT, channel TEXT, attention TEXT, told_at TEXT NOT NULL, reminders {integer} NOT NULL,
    PRIMARY KEY (token_id, channel));
CREATE TABLE IF NOT EXISTS token (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, status TEXT NOT NULL, since TEXT NOT NULL,
    provider TEXT, account TEXT, subject TEXT, tenant TEXT,
    generation {integer}, granted {integer}, brought_by TEXT, scope TEXT, issued_at TEXT, expires_at TEXT,
    renewable {integer}, credential_flow TEXT, granted_by TEXT, granted_at TEXT, grant_expires_at TEXT,
    end_set_at TEXT, dead TEXT,
    attempt_id TEXT, ordinal {integer}, flow TEXT, attempt_provider TEXT, attempt_account TEXT,
    attempt_expires_at TEXT, reason TEXT, code TEXT, signed_in_as TEXT, sign_in_seconds {integer},
    generations {integer} NOT NULL, attempts {integer} NOT NULL, replies TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS token_attempt ON token (attempt_id);
CREATE TABLE IF NOT EXISTS profile (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, name TEXT NOT NULL UNIQUE, machine_id TEXT NOT NULL,
    machine TEXT NOT NULL, setting TEXT NOT NULL, protocol TEXT NOT NULL, token_id TEXT NOT NULL, group_id TEXT,
    settings TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS profile_token ON profile (token_id);
CREATE TABLE IF NOT EXISTS smtp_group (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, name TEXT NOT NULL UNIQUE, token_id TEXT NOT NULL,
    members TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS machine (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, name TEXT NOT NULL UNIQUE, catalogue TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS relay_user (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, name TEXT NOT NULL UNIQUE, profiles TEXT NOT NULL,
    networks TEXT NOT NULL, password {integer} NOT NULL);
CREATE TABLE IF NOT EXISTS administrator (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, name TEXT NOT NULL UNIQUE, roles TEXT NOT NULL,
    password {integer} NOT NULL);
CREATE TABLE IF NOT EXISTS client (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, name TEXT NOT NULL UNIQUE, key_number {integer} NOT NULL,
    key_id TEXT UNIQUE, expires_at TEXT, profiles TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS client_use (client_id TEXT PRIMARY KEY, used_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS reader (
    id TEXT PRIMARY KEY, version {integer} NOT NULL, client TEXT NOT NULL, token_id TEXT NOT NULL,
    generation {integer} NOT NULL);
CREATE TABLE IF NOT EXISTS session (
    hash TEXT PRIMARY KEY, administrator_id TEXT, password {integer}, name TEXT NOT NULL, roles TEXT NOT NULL,
    begun_at TEXT NOT NULL, used_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS one_time (
    hash TEXT PRIMARY KEY, kind TEXT NOT NULL, about TEXT NOT NULL, made_by TEXT NOT NULL, expires_at TEXT NOT NULL)
"""

VIEWS = ("token", "profile", "smtp_group", "machine", "relay_user", "administrator", "client", "reader")


def create_statements(*, bytes_type: str, integer_type: str) -> Iterator[str]:
    """The statements that make the tables."""
    for statement in _TABLES.format(bytes=bytes_type, integer=integer_type).split(";"):
        yield statement.strip()


@dataclass(frozen=True)
class View:
    """A row of the read model, or its end if `row` is None."""

    table: str
    id: UUID
    row: Row | None


def view(id: UUID, version: int, state: State) -> View:  # noqa: PLR0911 - one for each kind of aggregate
    """What is stored of an aggregate in this state."""
    match state:
        case TokenState():
            return View("token", id, None if state.retired else _token_row(id, version, state))
        case ProfileState():
            return View("profile", id, None if state.removed else _profile_row(id, version, state))
        case SmtpGroupState():
            return View("smtp_group", id, None if state.dissolved else _group_row(id, version, state))
        case MachineState():
            row = {"id": str(id), "version": version, "name": state.name, "catalogue": state.catalogue}
            return View("machine", id, None if state.removed else row)
        case RelayUserState():
            return View("relay_user", id, None if state.removed else _relay_user_row(id, version, state))
        case AdministratorState():
            return View("administrator", id, None if state.removed else _administrator_row(id, version, state))
        case ClientState():
            return View("client", id, None if state.removed else _client_row(id, version, state))
        case ReaderState():
            return View("reader", id, _reader_row(id, version, state))


def _token_row(id: UUID, version: int, state: TokenState) -> Row:
    credential, attempt = state.credential, state.attempt
    return {
        "id": str(id),
        "version": version,
        "status": state.status.value,
        "since": instant_text(state.since),
        "provider": state.provider,
        "account": state.account,
        "subject": state.subject,
        "tenant": state.tenant,
        "generation": credential and credential.number,
        "granted": credential and credential.grant,
        "brought_by": credential and credential.attempt_id,
        "scope": credential and credential.scope,
        "issued_at": credential and instant_text(credential.issued_at),
        "expires_at": credential and instant_text(credential.expires_at),
        "renewable": credential and int(credential.renewable),
        "credential_flow": credential and credential.flow,
        "granted_by": credential and credential.granted_by,
        "granted_at": credential and instant_text(credential.granted_at),
        "grant_expires_at": credential and credential.grant_expires_at and instant_text(credential.grant_expires_at),
        "end_set_at": credential and instant_text(credential.end_set_at),
        "dead": state.dead and state.dead.value,
        "attempt_id": attempt and attempt.id,
        "ordinal": attempt and attempt.ordinal,
        "flow": attempt and attempt.flow,
        "attempt_provider": attempt and attempt.provider,
        "attempt_account": attempt and attempt.account,
        "attempt_expires_at": attempt and instant_text(attempt.expires_at),
        "reason": state.reason and state.reason.value,
        "code": state.code,
        "signed_in_as": state.signed_in_as,
        "sign_in_seconds": state.sign_in_seconds,
        "generations": state.generations,
        "attempts": state.attempts,
        "replies": " ".join(state.replies),
    }


def token_state(row: Mapping[str, Any]) -> TokenState:
    """The state a token's row stands for."""
    attempt = row["attempt_id"] is not None and Attempt(
        row["attempt_id"],
        row["ordinal"],
        row["flow"],
        row["attempt_provider"],
        row["attempt_account"],
        read_instant(row["attempt_expires_at"]),
    )
    return TokenState(
        TokenStatus(row["status"]),
        read_instant(row["since"]),
        row["provider"],
        row["account"],
        row["subject"],
        row["tenant"],
        generation(row),
        Reason(row["dead"]) if row["dead"] else None,
        attempt or None,
        Reason(row["reason"]) if row["reason"] else None,
        row["code"],
        row["signed_in_as"],
        row["generations"],
        row["attempts"],
        tuple(row["replies"].split()),
        row["sign_in_seconds"],
    )


GENERATION_COLUMNS = (
    "generation, granted, brought_by, scope, issued_at, expires_at, renewable, credential_flow, granted_by, granted_at,"
    " grant_expires_at, end_set_at"
)


def generation(row: Mapping[str, Any]) -> Generation | None:
    """The credential a token's row stands for; of the row it needs the `GENERATION_COLUMNS`."""
    if row["generation"] is None:
        return None
    return Generation(
        row["generation"],
        row["granted"],
        row["brought_by"],
        row["scope"],
        read_instant(row["issued_at"]),
        read_instant(row["expires_at"]),
        bool(row["renewable"]),
        row["credential_flow"],
        row["granted_by"],
        read_instant(row["granted_at"]),
        read_instant(row["grant_expires_at"]) if row["grant_expires_at"] else None,
        read_instant(row["end_set_at"]),
    )


def _profile_row(id: UUID, version: int, state: ProfileState) -> Row:
    return {
        "id": str(id),
        "version": version,
        "name": state.name,
        "machine_id": str(state.machine_id),
        "machine": state.machine,
        "setting": state.setting,
        "protocol": state.protocol.value,
        "token_id": str(state.token_id),
        "group_id": state.group_id and str(state.group_id),
        "settings": json.dumps(asdict(state.settings), ensure_ascii=False),
    }


def profile_state(row: Mapping[str, Any]) -> ProfileState:
    """The state a profile's row stands for."""
    return ProfileState(
        UUID(row["machine_id"]),
        row["machine"],
        row["setting"],
        Protocol(row["protocol"]),
        UUID(row["token_id"]),
        UUID(row["group_id"]) if row["group_id"] else None,
        Settings(**json.loads(row["settings"])),
    )


def _group_row(id: UUID, version: int, state: SmtpGroupState) -> Row:
    members = json.dumps([str(member) for member in state.members])
    return {"id": str(id), "version": version, "name": state.name, "token_id": str(state.token_id), "members": members}


def _relay_user_row(id: UUID, version: int, state: RelayUserState) -> Row:
    profiles = {protocol.value: str(profile_id) for protocol, profile_id in state.profiles.items()}
    return {
        "id": str(id),
        "version": version,
        "name": state.name,
        "profiles": json.dumps(profiles, sort_keys=True),
        "networks": " ".join(state.networks),
        "password": state.password,
    }


def relay_user_state(row: Mapping[str, Any]) -> RelayUserState:
    """The state a relay user's row stands for."""
    profiles = {Protocol(protocol): UUID(id) for protocol, id in json.loads(row["profiles"]).items()}
    return RelayUserState(row["name"], profiles, tuple(row["networks"].split()), row["password"])


def _administrator_row(id: UUID, version: int, state: AdministratorState) -> Row:
    roles = " ".join(state.roles)
    return {"id": str(id), "version": version, "name": state.name, "roles": roles, "password": state.password}


def administrator_state(row: Mapping[str, Any]) -> AdministratorState:
    """The state an administrator's row stands for."""
    return AdministratorState(row["name"], tuple(row["roles"].split()), row["password"])


def _client_row(id: UUID, version: int, state: ClientState) -> Row:
    return {
        "id": str(id),
        "version": version,
        "name": state.name,
        "key_number": state.key,
        "key_id": state.key_id,
        "expires_at": state.expires_at and instant_text(state.expires_at),
        "profiles": " ".join(map(str, state.profiles)),
    }


def client_state(row: Mapping[str, Any]) -> ClientState:
    """The state a client's row stands for."""
    return ClientState(
        row["name"],
        row["key_number"],
        row["key_id"],
        read_instant(row["expires_at"]) if row["expires_at"] else None,
        tuple(map(UUID, row["profiles"].split())),
    )


def _reader_row(id: UUID, version: int, state: ReaderState) -> Row:
    return {
        "id": str(id),
        "version": version,
        "client": state.client,
        "token_id": str(state.token_id),
        "generation": state.generation,
    }


def reader_state(row: Mapping[str, Any]) -> ReaderState:
    """The state a reader's row stands for."""
    return ReaderState(row["client"], UUID(row["token_id"]), row["generation"])


def write_statements(views: Iterable[View]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """The statements that store `views`, with their parameters; one for each table and kind of change.

    Ends come first, so that a name which one aggregate gives up can be taken by another in the same transaction.
    """
    kept: dict[str, list[Row]] = {}
    for one in views:
        if one.row is None:
            yield f"DELETE FROM {one.table} WHERE id = ?", [(str(one.id),)]  # noqa: S608 - our own table names
        else:
            kept.setdefault(one.table, []).append(one.row)
    for table, rows in kept.items():
        columns = list(rows[0])
        changes = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
        yield (
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "  # noqa: S608
            f"ON CONFLICT (id) DO UPDATE SET {changes}",
            [tuple(row.values()) for row in rows],
        )
