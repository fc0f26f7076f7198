"""Backs a store up while it is in use, and restores it into an empty store of either engine.

A backup has the log with its hash chain, the vault, the sealed integrity keys, and the rows that no event brings back:
the last notifications, the last use of each client's key and the counts of mail. It has no claims and sessions, which
end with their host, and no read model, which the log gives again. The escrow stays on its node. The key is never in a
backup.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import IO, Any
from uuid import UUID, uuid4

from eventsourcing.persistence import StoredEvent

from domain.errors import InvalidValue, Refused, StoreRefused, VaultDamaged
from domain.log_hold import LogHold
from domain.one_time_link import LinkEnd, OneTimeLink, OneTimeLinkState
from domain.outcomes import Reason
from domain.session import Session, SessionEnd, SessionState
from domain.token import Token
from domain.token_state import TokenState
from infrastructure.encryption.envelope import Place, Sealed, Sealer
from infrastructure.store.event_log import EventLog
from infrastructure.store.eventsourcing_internals import aggregate_in_state
from infrastructure.store.fold import Fold
from infrastructure.store.hash_chain import UNKEYED_CHAIN, seal_unkeyed_chain
from infrastructure.store.integrity_rows import SUBJECT, create_integrity_keys
from infrastructure.store.migrations import INTEGRITY_KEYS_SINCE, KEYED_CHAIN_SINCE, SCHEMA_VERSION
from infrastructure.store.open import (
    check_canary,
    check_names,
    has_store,
    read_meta,
    write_last_backup,
    write_meta,
)
from infrastructure.store.query import Query
from infrastructure.store.read_model import rebuild_read_model
from infrastructure.store.schema import PROJECTION_VERSION
from infrastructure.store.store import Store
from infrastructure.upkeep.backup_file import BackupHeader, BackupReader, BackupWriter

_PAGE = 1000
_EVENTS = "stored_events"


@dataclass(frozen=True)
class _CopiedTable:
    """A table that is copied row by row; `key` are the columns of its primary key."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    def pages(self, query: Query) -> Iterator[Sequence[Any]]:
        """The values of every row, read a page at a time."""
        columns, keys, marks = ", ".join(self.columns), ", ".join(self.key), ", ".join("?" * len(self.key))
        last: Sequence[Any] = ()
        while True:
            after = f"WHERE ({keys}) > ({marks})" if last else ""
            page = query.rows(f"SELECT {columns} FROM {self.name} {after} ORDER BY {keys} LIMIT {_PAGE}", last)  # noqa: S608
            for row in page:
                yield [row[column] for column in self.columns]
            if len(page) < _PAGE:
                return
            last = [page[-1][column] for column in self.key]

    @property
    def insert(self) -> str:
        """The statement that stores a row."""
        marks = ", ".join("?" * len(self.columns))
        return f"INSERT INTO {self.name} ({', '.join(self.columns)}) VALUES ({marks})"  # noqa: S608


_TABLES = {
    table.name: table
    for table in (
        _CopiedTable("chain", ("number", "position", "link"), ("number",)),
        _CopiedTable("chain_head", ("id", "number", "position", "link", "mac"), ("id",)),
        _CopiedTable(
            "vault",
            ("subject_id", "kind", "generation", "algorithm", "key_id", "wrapped", "body"),
            ("subject_id", "kind", "generation"),
        ),
        _CopiedTable(
            "integrity_key",
            ("purpose", "number", "algorithm", "key_id", "wrapped", "body"),
            ("purpose", "number"),
        ),
        _CopiedTable(
            "notice", ("subject_id", "channel", "attention", "told_at", "reminders"), ("subject_id", "channel")
        ),
        _CopiedTable("client_use", ("client_id", "used_at"), ("client_id",)),
        _CopiedTable(
            "mail_count",
            ("source", "profile", "day", "messages", "octets", "refusals"),
            ("source", "profile", "day"),
        ),
    )
}


@dataclass(frozen=True)
class BackupContent:
    """What a whole and undamaged backup has."""

    made_at: datetime
    events: int


@dataclass(frozen=True)
class ConfigurationFile:
    """A configuration file: its bytes, its mode, and the path of the key that it names."""

    content: bytes
    mode: int
    key_file: str


def write_backup(
    store: Store, sealer: Sealer, file: IO[bytes], configuration: ConfigurationFile, *, program: str, now: datetime
) -> BackupContent:
    """Write one consistent snapshot of the store into `file`; others read and write the store meanwhile."""
    with store.reading() as query:
        meta = read_meta(query)
        sealed = sealer.seal(configuration.content, _configuration_place(meta.store_id)).as_text()
        header = BackupHeader(
            made_at=now,
            program=program,
            schema_version=meta.schema_version,
            store_id=meta.store_id,
            key_file=configuration.key_file,
            configuration_mode=configuration.mode,
            canary=meta.canary,
            configuration=sealed,
        )
        writer, events = BackupWriter(file, sealer, header), 0
        for position, stored in EventLog(store).read_stored(query):
            writer.row(_EVENTS, _event_values(position, stored))
            events += 1
        for table in _TABLES.values():
            for values in table.pages(query):
                writer.row(table.name, values)
        writer.end()
    return BackupContent(now, events)


def note_backup(store: Store, at: datetime) -> None:
    """Record the instant of a backup, so that a last backup that is too old needs attention."""
    with store.writing() as query:
        write_last_backup(query, at)


def open_backup(file: IO[bytes], name: str, sealer: Sealer) -> BackupReader:
    """Begin to read a backup, if the key is the one of its store.

    Raises:
        InvalidValue: the file is no backup.
        Refused: a newer program made it, or the key is not its own.
    """
    reader = BackupReader(file, name)
    if reader.header.schema_version > SCHEMA_VERSION:
        raise Refused("backup_newer", path=name, version=str(reader.header.schema_version), known=SCHEMA_VERSION)
    try:
        check_canary(reader.header.canary, reader.header.store_id, sealer)
    except StoreRefused:
        raise Refused("backup_of_another_key", path=name) from None
    except (ValueError, LookupError, TypeError):
        raise InvalidValue(name, "backup_damaged") from None
    return reader


def verify_backup(file: IO[bytes], name: str, sealer: Sealer) -> BackupContent:
    """Read a whole backup, and open every sealed value in it.

    Raises:
        InvalidValue: the file is no whole and undamaged backup.
        Refused: a newer program made it, or the key is not its own.
    """
    reader, events = open_backup(file, name, sealer), 0
    read_configuration(reader, sealer)
    for table, values in reader.rows(sealer):
        if table == _EVENTS:
            events += 1
        elif table not in _TABLES:
            raise InvalidValue(name, "backup_damaged")
        elif table == "vault":
            _check_opens(reader, values, sealer)
        elif table == "integrity_key":
            _check_opens(reader, [SUBJECT, *values], sealer)
    return BackupContent(reader.header.made_at, events)


def read_configuration(reader: BackupReader, sealer: Sealer) -> bytes:
    """The configuration file of the host that was backed up.

    Raises:
        InvalidValue: it does not open.
    """
    header = reader.header
    try:
        return sealer.open(Sealed.of_text(header.configuration), _configuration_place(header.store_id))
    except (VaultDamaged, ValueError, LookupError, TypeError):
        raise InvalidValue(reader.name, "backup_damaged") from None


def check_empty(store: Store) -> None:
    """Check that a backup can be restored here: there is no store, or a new one that was never used.

    Raises:
        Refused: there is a store.
        StoreRefused: another program has a table with the name of one of ours.
    """
    if not has_store(store):
        check_names(store)
        return
    with store.reading() as query:
        if read_meta(query).schema_version != SCHEMA_VERSION or _is_used(query):
            raise Refused("store_in_use")


def restore_backup(
    store: Store, sealer: Sealer, file: IO[bytes], name: str, *, by: str, now: datetime
) -> BackupContent:
    """Restore a backup into an empty store, in one transaction; the restored store is on hold.

    The caller has verified the backup. Sign-ins that were under way are over, with the reason `restored`.

    Raises:
        InvalidValue, Refused: as `verify_backup`; Refused also if there is a store.
    """
    check_empty(store)
    reader = open_backup(file, name, sealer)
    header, events = reader.header, EventLog(store)
    store.create_tables()
    with store.writing(alone=True) as query:
        if _is_used(query):
            raise Refused("store_in_use")
        for table in (_EVENTS, "meta", "claim", "session", "one_time", *_TABLES):
            query.run(f"DELETE FROM {table}")  # noqa: S608 - our own table names
        count = _copy_log(store, query, reader, sealer)
        fold, _ = rebuild_read_model(events, query)
        over = [*_end_sign_ins(fold, by, now), *_end_sessions(fold, by, now)]
        hold = LogHold.after_restore(uuid4(), backup_made_at=header.made_at, events=count, by=by, now=now)
        events.save_within(query, *over, hold)
        write_meta(query, header.store_id, header.canary, SCHEMA_VERSION, PROJECTION_VERSION)
        write_last_backup(query, header.made_at)
    return BackupContent(header.made_at, count)


def _is_used(query: Query) -> bool:
    # A store that was never used may have links for its first administrator.
    others = "SELECT 1 FROM stored_events WHERE topic NOT LIKE ? LIMIT 1"
    return bool(query.rows(others, ("mailtoken.Link.%",)) or query.rows("SELECT 1 FROM vault LIMIT 1"))


def _copy_log(store: Store, query: Query, reader: BackupReader, sealer: Sealer) -> int:
    """Store every row of the backup, and make what an older one lacks; returns the number of events."""
    version, store_id, tables = reader.header.schema_version, reader.header.store_id, dict(_TABLES)
    if version < KEYED_CHAIN_SINCE:
        query.run(UNKEYED_CHAIN.format(bytes=store.bytes_type, integer=store.integer_type))
        tables["chain"] = _CopiedTable("unkeyed_chain", ("position", "hash"), ("position",))
    events = _copy_rows(query, reader, sealer, tables)
    if version < INTEGRITY_KEYS_SINCE:
        create_integrity_keys(query, sealer, store_id)
    store.load_integrity(query, sealer, store_id)
    if version < KEYED_CHAIN_SINCE:
        seal_unkeyed_chain(query, store.integrity.chain)
    return events


def _copy_rows(query: Query, reader: BackupReader, sealer: Sealer, tables: Mapping[str, _CopiedTable]) -> int:
    """Store every row of the backup in its table, a page at a time; returns the number of events."""
    events, rows = 0, reader.rows(sealer)
    while page := list(islice(rows, _PAGE)):
        stored = [_event_of(values) for table, values in page if table == _EVENTS]
        query.copy_events(stored)
        events += len(stored)
        for called, table in tables.items():
            if copied := [values for name, values in page if name == called]:
                query.run_many(table.insert, copied)
    return events


def _end_sign_ins(fold: Fold, by: str, now: datetime) -> Iterator[Token]:
    """The tokens whose sign-in was under way: it is over, as the code may have been used since the backup."""
    for id, state in fold.of(TokenState).items():
        if state.attempt and not state.retired:
            token: Token = aggregate_in_state(id, fold.versions[id], Token.TOPIC, state, state.since)
            token.end_attempt(state.attempt.id, Reason.RESTORED, by=by, now=now)
            yield token


def _end_sessions(fold: Fold, by: str, now: datetime) -> Iterator[Session | OneTimeLink]:
    """The sessions and links that were open: they are over, as a backup has none of their rows."""
    for id, session in fold.of(SessionState).items():
        if not session.ended:
            begun: Session = aggregate_in_state(id, fold.versions[id], Session.TOPIC, session, now)
            begun.end(SessionEnd.RESTORED, by=by, now=now)
            yield begun
    for id, link in fold.of(OneTimeLinkState).items():
        if not link.ended:
            made: OneTimeLink = aggregate_in_state(id, fold.versions[id], OneTimeLink.TOPIC, link, now)
            made.end(LinkEnd.RESTORED, by=by, now=now)
            yield made


def _event_values(position: int, stored: StoredEvent) -> Sequence[Any]:
    id = stored.originator_id
    return [position, id.hex if isinstance(id, UUID) else id, stored.originator_version, stored.topic, stored.state]


def _event_of(values: Sequence[Any]) -> tuple[int, StoredEvent]:
    position, id, version, topic, state = values
    return position, StoredEvent(UUID(id), version, topic, state)


def _check_opens(reader: BackupReader, values: Sequence[Any], sealer: Sealer) -> None:
    try:
        subject_id, kind, generation, algorithm, key_id, wrapped, body = values
        sealer.open(
            Sealed(algorithm, key_id, wrapped, body), Place(reader.header.store_id, subject_id, kind, generation)
        )
    except VaultDamaged as damaged:
        raise InvalidValue(reader.name, "backup_row_damaged", **damaged.fields) from None
    except (ValueError, TypeError):
        raise InvalidValue(reader.name, "backup_damaged") from None


def _configuration_place(store_id: str) -> Place:
    return Place(store_id, "backup", "configuration", 0)
