"""What the store tests say things with: everything a store holds, and small things to put into it."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from fakes import FAX, SCANNER, SCOPE, START

from domain.catalogue import Protocol
from domain.outcomes import Credential, DeviceAuthorization, Granted, Identity
from domain.profile import Profile
from domain.secret import Secret
from domain.token import Token
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.store.event_log import EventLog, LoggedEvent
from infrastructure.store.row_macs import with_mac
from infrastructure.store.schema import COLUMNS, LOG_INDEX, VIEWS
from infrastructure.store.store import Store

ADMIN = "administrator"
TABLES = (
    "stored_events",
    "chain",
    "chain_head",
    "integrity_key",
    "vault",
    "claim",
    "notice",
    "meta",
    "session",
    "one_time",
    "client_use",
    "mail_count",
    "machine_list",
    *VIEWS,
    *LOG_INDEX,
)
LOG = ("stored_events", "chain", "chain_head", "log_end")
"""The tables that every event changes, that of a rebuild too."""
PERSON = Identity(SCANNER, "subject-1", "contoso-tenant")
OTHER_PERSON = Identity(FAX, "subject-2", "contoso-tenant")


def everything(store: Store, *, but: tuple[str, ...] = ()) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, in an order that says nothing."""
    with store.reading() as query:
        return {
            table: sorted((_plain(row) for row in query.rows(f"SELECT * FROM {table}")), key=repr)
            for table in TABLES
            if table not in but
        }


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: bytes(row[name]) if isinstance(row[name], memoryview) else row[name] for name in row.keys()}  # noqa: SIM118 - sqlite3.Row


class OlderCopy:
    """A copy of everything in the store, as a file or a dump has it."""

    def __init__(self, store: Store) -> None:
        self._tables = everything(store, but=("stored_events",))
        with store.reading() as query:
            self._events = query.events(0, 10_000)

    def put_back(self, store: Store) -> None:
        """Do what somebody does behind the program's back."""
        with store.writing() as query:
            for table in TABLES:
                query.run(f"DELETE FROM {table}")
            query.copy_events(self._events)
            for table, rows in self._tables.items():
                for row in rows:
                    marks = ", ".join("?" * len(row))
                    query.run(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def change(store: Store, statement: str, *parameters: Any) -> int:
    """Do what somebody with the database's password can do, behind the program's back."""
    with store.writing() as query:
        return query.run(statement, parameters)


def change_with_key(store: Store, table: str, statement: str, *parameters: Any) -> int:
    """Change rows of a table as the program itself would: each gets its MAC."""
    with store.writing() as query:
        changed = query.run(statement, parameters)
        for row in query.rows(f"SELECT * FROM {table}"):
            whole = with_mac(store.integrity.rows, table, {column: row[column] for column in COLUMNS[table]})
            query.run(f"UPDATE {table} SET mac = ? WHERE id = ?", (whole["mac"], row["id"]))
    return changed


def a_token(id: UUID | None = None) -> Token:
    return Token.create(id or uuid4(), by=ADMIN, now=START)


def a_profile(token: Token, name: str = "office-mfp/smtp-service") -> Profile:
    machine, _, setting = name.partition("/")
    return Profile.create(
        uuid4(),
        machine_id=uuid4(),
        machine=machine,
        setting=setting,
        protocol=Protocol.SMTP,
        token_id=token.id,
        group_id=None,
        by=ADMIN,
        now=START,
    )


def a_credential(number: int = 1) -> Credential:
    return Credential(
        Secret(f"access-token-in-clear-{number}"),
        Secret(f"refresh-token-in-clear-{number}"),
        SCOPE,
        START,
        START + timedelta(hours=1),
    )


def a_pending(number: int = 1) -> DeviceAuthorization:
    uri = "https://login.contoso.com/device"
    state = Secret(f"device-code-in-clear-{number}")
    return DeviceAuthorization(f"CODE-{number}", uri, None, 5, START + timedelta(minutes=15), state)


def ask(token: Token, attempt_id: str = "attempt-1") -> None:
    """Begin an attempt."""
    token.request(
        attempt_id,
        flow="device",
        profile="office-mfp/smtp-service",
        provider="contoso",
        account=SCANNER,
        expires_at=START + timedelta(minutes=15),
        by=ADMIN,
        now=START,
    )


def receive(token: Token, attempt_id: str = "attempt-1", number: int = 1) -> None:
    """Begin an attempt that succeeds."""
    ask(token, attempt_id)
    token.retrieve(attempt_id, Granted(a_credential(number), PERSON), PERSON, by="worker", now=START)


def some_claim_key(token_id: UUID | None = None, kind: str = "renewal", generation: int = 1) -> ClaimKey:
    return ClaimKey(kind, token_id or uuid4(), uuid4().hex, generation)


def another_process(*words: object) -> subprocess.Popen[str]:
    """Run a command of `another_process.py`; the first line it prints says that it is ready."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("another_process.py")), *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def files_with(directory: Path, *patterns: bytes | str) -> list[tuple[str, str]]:
    """Which files below a directory hold one of these bytes."""
    wanted = [pattern.encode() if isinstance(pattern, str) else pattern for pattern in patterns]
    return [
        (str(path.relative_to(directory)), repr(pattern))
        for path in sorted(directory.rglob("*"))
        if path.is_file()
        for pattern in wanted
        if pattern in path.read_bytes()
    ]


def as_text(value: Any) -> str:
    """Anything a reader may be shown, as one text to look through."""
    return repr(value)


def functions_running() -> set[str]:
    """The functions all threads are in."""
    return {frame.name for top in sys._current_frames().values() for frame in traceback.extract_stack(top)}


def history(event_log: EventLog, ids: Sequence[UUID]) -> list[LoggedEvent]:
    """Every event of these aggregates, in log order."""
    with event_log.store.reading() as query:
        return [logged for logged in event_log.read(query) if logged.event.originator_id in ids]
