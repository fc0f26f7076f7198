"""The work on an installation that needs no service: it is created, read, upgraded, backed up and restored."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO

import structlog
from eventsourcing.persistence import PersistenceError

from adapters.store_access import (
    as_owner,
    new_store,
    only_service,
    opened_store,
    store_errors,
)
from domain.errors import InvalidValue, MailtokenError, Refused, StoreRefused
from domain.ports import Clock
from infrastructure.clock import SystemClock
from infrastructure.config.load import DATABASE_PASSWORD_FILE, load_config, write_config
from infrastructure.config.paths import FILE_NAME
from infrastructure.config.store_url import split_password
from infrastructure.config.tables import Config
from infrastructure.encryption.envelope import Sealer
from infrastructure.encryption.key_file import create_key_file, read_key
from infrastructure.evidence.log_evidence import LogEvidence
from infrastructure.new_file import new_file
from infrastructure.queries.audit import Audit
from infrastructure.queries.history import History
from infrastructure.queries.setting_status import SettingStatus, read_status, read_status_pages, read_statuses_in_need
from infrastructure.queries.store_state import StoreStateQuery, read_providers_left
from infrastructure.store.event_log import EventLog
from infrastructure.store.hash_chain import Head, last_position
from infrastructure.store.migrations import KEYED_CHAIN_SINCE, Migration
from infrastructure.store.open import check_names, create_store, has_store, looks_new, read_meta_with_key
from infrastructure.store.stored_provider_rows import read_stored_states
from infrastructure.store.vault import Vault
from infrastructure.tokens.log_memory import LogComparison, LogMemory, compare_log
from infrastructure.upkeep.backup import (
    BackupContent,
    ConfigurationFile,
    check_empty,
    note_backup,
    read_configuration,
    restore_backup,
    verify_backup,
    write_backup,
)
from infrastructure.upkeep.backup_file import BackupReader
from infrastructure.upkeep.keyed_chain_marker import KeyedChainMarker
from infrastructure.upkeep.upgrade import BackedUp, upgrade_store

log = structlog.get_logger("mailtoken")


@dataclass(frozen=True)
class Initialised:
    """The places of the configuration, the key and the store that `initialise` created."""

    config: Path
    key: Path
    store: str


@dataclass(frozen=True)
class Offline:
    """The store as the command line reads it without the service."""

    audit: Audit
    history: History
    store_state: StoreStateQuery
    _events: EventLog
    _clock: Clock
    _escrow: Path
    _store_id: str

    def settings(self) -> int:
        """The number of settings."""
        with self._events.store.reading() as query:
            return int(query.rows("SELECT count(*) AS number FROM profile")[0]["number"])

    def statuses(self) -> Iterator[SettingStatus]:
        """Every setting now, in one snapshot; no more than some hundreds are in memory at once."""
        with self._events.store.reading() as query:
            for page in read_status_pages(query, self._clock.now()):
                yield from page

    def statuses_in_need(self) -> list[SettingStatus]:
        """The settings whose token needs a person now."""
        with self._events.store.reading() as query:
            return read_statuses_in_need(query, self._clock.now())

    def status(self, name: str) -> SettingStatus:
        """The setting of this name now.

        Raises:
            NotFound: no profile has this name.
        """
        with self._events.store.reading() as query:
            return read_status(query, name, self._clock.now())

    def looks_new(self) -> bool:
        """Whether there is nothing in the store yet, unless it is a copy without its write-ahead log."""
        return looks_new(self._events.store)

    @property
    def evidence(self) -> LogEvidence:
        """Checkpoints and proofs of the log."""
        return LogEvidence(self._events, self._store_id)

    def log_comparison(self) -> LogComparison:
        """How the log compares with this host's memory of it."""
        with self._events.store.reading() as query:
            return compare_log(query, LogMemory(self._escrow, self._store_id).known)

    def rebuild(self, progress: Callable[[int], None]) -> int:
        """Make the stored rows from the log again; returns the number of events replayed."""
        return self.audit.rebuild(by=f"administrator:{_user()}", now=self._clock.now(), progress=progress)

    def last_event_at(self) -> datetime | None:
        """The instant of the log's last event; None if the log is empty."""
        with self._events.store.reading() as query:
            last = query.events(last_position(query) - 1, 1)
        return self._events.instant_of(last[0][1]) if last else None


def initialise(directory: Path, url: str | None = None) -> Initialised:
    """Create configuration, key and store in `directory`, as far as they are missing; nothing is overwritten.

    Raises:
        Refused: all of them exist already.
        StoreRefused: there is a store already, and its key is lost, or the store can't be made there.
        Unreachable: the database server does not answer.
    """
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = directory / FILE_NAME
    is_new = not path.exists()
    if is_new:
        write_config(path, url)
    try:
        return _initialise(path, directory, is_new=is_new)
    except (MailtokenError, PersistenceError):
        if is_new:
            path.unlink()
            (directory / DATABASE_PASSWORD_FILE).unlink(missing_ok=True)
        raise


def _initialise(path: Path, directory: Path, *, is_new: bool) -> Initialised:
    config = load_config(path)
    key = config.path(config.store.key_file)
    with store_errors(), closing(new_store(config)) as store:
        there, has_key = has_store(store), key.exists()
        if there and has_key and not is_new:
            raise Refused("initialised_already", directory=str(directory))
        if there and not has_key:
            raise StoreRefused("key_lost", path=str(key))
        if not there:
            check_names(store)
            if not has_key:
                create_key_file(key)
            create_store(store, read_key(key, os.environ))
    address = split_password(config.store.url)[0] if config.store.url else str(config.path(config.store.path))
    return Initialised(path, key, address)


def providers_left(config_path: Path) -> Mapping[str, int]:
    """The providers of tokens that neither the configuration nor the store has, with the number of settings of each.

    Raises:
        StoreRefused, InvalidValue, Unreachable: the store can't be read, as for `offline`.
    """
    config = load_config(config_path)
    sealer = read_key(config.path(config.store.key_file), os.environ)
    with store_errors(), as_owner(config), opened_store(config, sealer) as (events, _), events.store.reading() as query:
        stored = [state.name for state in read_stored_states(query)]
        return read_providers_left(query, [*config.providers, *stored])


def upgrade(config_path: Path, backup: str | None) -> Iterator[BackedUp | Migration | Head]:
    """Migrate the store; yields each thing as soon as it is done, as `upgrade_store` does.

    Raises:
        StoreRefused: as `upgrade_store`, a service runs on the store, or this node has seen its keyed chain.
        InvalidValue: a value of the configuration is wrong.
        Unreachable: the database server does not answer.
    """
    config = load_config(config_path)
    sealer = read_key(config.path(config.store.key_file), os.environ)
    with store_errors(), as_owner(config), only_service(config), closing(new_store(config)) as store:
        meta, marker = read_meta_with_key(store, sealer), KeyedChainMarker(config.path(config.store.escrow))
        if meta.schema_version < KEYED_CHAIN_SINCE and marker.names(meta.store_id):
            raise StoreRefused("chain_unkeyed_again", path=str(marker.path))
        yield from upgrade_store(store, sealer, backup=backup, now=SystemClock().now())
        marker.note(meta.store_id)


def back_up(config_path: Path, target: Path) -> BackupContent:
    """Write a backup of the store, which a service may use meanwhile, into the new file `target`.

    Raises:
        Refused: there is a file already.
        OSError: the file can't be written.
        StoreRefused, InvalidValue, Unreachable: as `offline`.
    """
    config, clock = load_config(config_path), SystemClock()
    sealer = read_key(config.path(config.store.key_file), os.environ)
    configuration = ConfigurationFile(
        config_path.read_bytes(), config_path.stat().st_mode & 0o777, config.store.key_file
    )
    with store_errors():
        # The file is made with the caller's rights, before the store is opened with those of its owner.
        with new_file(target) as file, as_owner(config), opened_store(config, sealer) as (events, _):
            program, now = version("mailtoken"), clock.now()
            content = write_backup(events.store, sealer, file, configuration, program=program, now=now)
        with as_owner(config), opened_store(config, sealer) as (events, _):
            try:
                note_backup(events.store, content.made_at)
            except PersistenceError as error:
                # The backup is good all the same: a standby server, for example, takes no changes.
                log.warning("backup_not_noted", error=str(error).splitlines()[0])
    return content


def check_backup(config_path: Path, file: Path) -> BackupContent:
    """Read a whole backup with the key of this configuration.

    Raises:
        InvalidValue: the file is no whole and undamaged backup.
        Refused: a newer program made it, or the key is not its own.
        OSError: the file can't be read.
    """
    config = load_config(config_path)
    with file.open("rb") as opened:
        return verify_backup(opened, str(file), read_key(config.path(config.store.key_file), os.environ))


@dataclass(frozen=True)
class Restored:
    """What was restored, and the configuration: written from the backup if `is_new`, else the one that was there."""

    content: BackupContent
    configuration: Path
    is_new: bool


def restore(config_path: Path, file: Path) -> Restored:
    """Restore a backup into the empty store that the configuration names.

    Without a configuration the backup's own is written to `config_path` first; the key must be where it says.

    Raises:
        InvalidValue: the file is no whole and undamaged backup, or a value of the configuration is wrong.
        Refused: a newer program made the backup, the key is not its own, or there is a store.
        StoreRefused: there is no key, or a service is running.
        OSError: a file can't be read or written.
        Unreachable: the database server does not answer.
    """
    with file.open("rb") as opened:
        if not opened.seekable():
            raise InvalidValue(str(file), "backup_is_a_stream")
        is_new = not config_path.exists()
        if is_new:
            _write_configuration(config_path, opened, str(file))
        try:
            return Restored(_restore(load_config(config_path), opened, str(file)), config_path, is_new)
        except BaseException:
            if is_new:
                config_path.unlink()
            raise


def _write_configuration(path: Path, file: IO[bytes], name: str) -> None:
    reader = BackupReader(file, name)
    sealer = read_key(path.parent / reader.header.key_file, os.environ)
    file.seek(0)
    verify_backup(file, name, sealer)
    with new_file(path) as written:
        written.write(read_configuration(reader, sealer))
    path.chmod(reader.header.configuration_mode)
    owner = path.parent.stat()
    os.chown(path, owner.st_uid, owner.st_gid)


def _restore(config: Config, file: IO[bytes], name: str) -> BackupContent:
    sealer = read_key(config.path(config.store.key_file), os.environ)
    by = f"administrator:{_user()}"
    with store_errors(), as_owner(config), closing(new_store(config)) as store:
        check_empty(store)
        file.seek(0)
        verify_backup(file, name, sealer)
        with only_service(config):
            file.seek(0)
            return restore_backup(store, sealer, file, name, by=by, now=SystemClock().now())


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


@contextmanager
def offline(config_path: Path, *, needs_key: bool = True) -> Iterator[Offline]:
    """Open the store without the service, which may run at the same time.

    A process of root takes the rights of the store's owner, so that it leaves no file that the service can't open.
    Where the key is missing and not needed, the store is opened without it.

    Raises:
        StoreRefused: the key is not the store's own, or the store has another version.
        InvalidValue: a value of the configuration is wrong.
        Unreachable: the database server does not answer.
    """
    config = load_config(config_path)
    sealer: Sealer | None = None
    try:
        sealer = read_key(config.path(config.store.key_file), os.environ)
    except StoreRefused as refused:
        if needs_key or refused.code != "key_missing":
            raise
    with store_errors(), as_owner(config), opened_store(config, sealer) as (events, store_id):
        clock = SystemClock()
        audit = Audit(events, Vault(sealer, store_id) if sealer else None)
        state = StoreStateQuery.of(config, events.store, clock, looks=True)
        yield Offline(audit, History(events), state, events, clock, config.path(config.store.escrow), store_id)
