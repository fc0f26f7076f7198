"""A store of an older program: refused as it is, opened after an upgrade, and never in between."""

from __future__ import annotations

import gzip
import io
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes import START, FakeClock, FakeProvider, Services
from store_examples import ADMIN, change, everything

from adapters import bootstrap, installation
from adapters.cli.app import run
from domain.errors import StoreRefused
from domain.secret import Secret
from infrastructure.config.load import load_config
from infrastructure.encryption.envelope import Sealer
from infrastructure.encryption.key_file import create_key_file, read_key
from infrastructure.queries.audit import Audit
from infrastructure.store import hash_chain
from infrastructure.store.event_log import EventLog
from infrastructure.store.hash_chain import Head
from infrastructure.store.migrations import KEYED_CHAIN_SINCE, MIGRATIONS, SCHEMA_VERSION, Migration
from infrastructure.store.open import open_store, read_meta
from infrastructure.store.query import Query
from infrastructure.store.schema import WITH_MAC
from infrastructure.store.sqlite import SqliteStore
from infrastructure.store.store import Store
from infrastructure.upkeep import backup, upgrade
from infrastructure.upkeep.upgrade import BackedUp, upgrade_store

VERSION_1 = Path(__file__).parent / "fixtures" / "version_1"
KEYED = ("integrity_key", "chain", "chain_head")
"""The tables whose content depends on the keys of a store."""
SCANNING, FAXING = "office-mfp/smtp-service", "office-mfp/pop-internet-fax"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The directory of a store of version 1: tokens in every state, a client, a relay user and an administrator."""
    directory = tmp_path / "older"
    shutil.copytree(VERSION_1, directory)
    (directory / "mailtoken.key").chmod(0o600)
    packed = directory / "mailtoken.db.gz"
    (directory / "mailtoken.db").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    return directory


def version_of(store: Store) -> int:
    with store.reading() as query:
        return read_meta(query).schema_version


def head_of_store(store: Store) -> Head:
    with store.reading() as query:
        head = hash_chain.read_head(query)
    assert head
    return head


def command(directory: Path, *arguments: str) -> int:
    return run([*arguments, "--config", str(directory / "mailtoken.toml")])


def backups(directory: Path) -> list[Path]:
    return sorted(directory.glob("mailtoken.db.version-*"))


def test_the_steps_are_numbered_without_a_gap_from_the_first_version_on() -> None:
    assert [step.version for step in MIGRATIONS] == list(range(2, SCHEMA_VERSION + 1))


def test_an_older_store_is_refused_in_one_line_that_names_the_upgrade(
    older: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (older / "mailtoken.db").read_bytes()
    for refused in (["serve"], ["audit", "verify"], ["status", "--offline"]):
        assert command(older, *refused) == 1
        said = capfd.readouterr()
        assert said.out == ""
        assert said.err == (
            f"mailtoken: this store has version 1 and this program needs version {SCHEMA_VERSION}:"
            " run mailtoken upgrade\n"
        )
    assert (older / "mailtoken.db").read_bytes() == before
    assert backups(older) == []


def test_a_store_of_version_1_upgrades_verifies_and_serves(older: Path) -> None:
    assert command(older, "upgrade") == 0
    assert command(older, "audit", "verify") == 0
    sealer, store = read_key(older / "mailtoken.key", {}), SqliteStore(older / "mailtoken.db")
    clock = FakeClock(START + timedelta(minutes=5))
    service = Services(store, sealer, open_store(store, sealer), older, clock, {"contoso": FakeProvider()})
    labels = {status.profile.name: status.token.status.value for status in service.tokens.statuses()}
    assert set(labels.values()) == {"Not Retrieved", "Waiting for authorisation", "Retrieved", "Invalid"}
    for name in (SCANNING, FAXING):
        assert service.access_token(name).credential.access_token.reveal()
    key = Secret((older / "client.key").read_text().strip())
    assert service.clients.owner_of(key) is not None
    store.close()


def test_the_backup_is_the_store_as_it_was_and_its_owners_alone(older: Path) -> None:
    done, *_ = installation.upgrade(older / "mailtoken.toml", None)
    [backup] = backups(older)
    assert done == BackedUp(str(backup))
    assert backup.stat().st_mode & 0o777 == 0o600
    with closing(SqliteStore(backup)) as copy, pytest.raises(StoreRefused, match="store_older"):
        open_store(copy, read_key(older / "mailtoken.key", {}))
    with closing(sqlite3.connect(backup)) as copied:
        assert copied.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copied.execute("SELECT count(token_id) FROM vault").fetchone()[0] > 0


def test_the_command_says_each_step_and_leaves_a_store_of_this_version_as_it_is(older: Path) -> None:
    program = Path(sys.executable).with_name("mailtoken")
    upgrade: list[Path | str] = [program, "--config", older / "mailtoken.toml", "upgrade"]
    first, second = (subprocess.run(upgrade, capture_output=True, text=True, check=True) for _ in range(2))
    [backup] = backups(older)
    with closing(SqliteStore(older / "mailtoken.db")) as store:
        head = head_of_store(store)
    assert first.stdout.splitlines() == [
        f"backup {backup}",
        *(f"version {step.version}: {step.purpose}" for step in MIGRATIONS),
        f"head {head.number} {head.link.hex()}",
        "Next: run mailtoken serve.",
    ]
    assert second.stdout == "The store is of this version already.\n"


def test_without_room_for_the_backup_nothing_is_done(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = replace_free(shutil.disk_usage(older), 1024)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(StoreRefused, match="no_room_for_backup"):
        list(installation.upgrade(older / "mailtoken.toml", None))
    assert backups(older) == []
    with closing(SqliteStore(older / "mailtoken.db")) as store:
        assert version_of(store) == 1


def replace_free(usage: shutil._ntuple_diskusage, free: int) -> shutil._ntuple_diskusage:
    return usage._replace(free=free)


def test_another_key_does_not_upgrade(older: Path) -> None:
    (older / "mailtoken.key").unlink()
    create_key_file(older / "mailtoken.key")
    with pytest.raises(StoreRefused, match="key_of_another_store"):
        list(installation.upgrade(older / "mailtoken.toml", None))
    assert backups(older) == []


def test_a_store_that_a_service_uses_is_not_upgraded(older: Path) -> None:
    assert command(older, "upgrade") == 0
    with (
        bootstrap.open_service(load_config(older / "mailtoken.toml"), providers={}),
        pytest.raises(StoreRefused, match="service_running"),
    ):
        list(installation.upgrade(older / "mailtoken.toml", None))


def test_the_program_of_before_refuses_a_migrated_store_and_leaves_it_as_it_is(
    older: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(older, "upgrade") == 0
    before = {path.name: path.read_bytes() for path in older.iterdir() if path.is_file()}
    capfd.readouterr()
    monkeypatch.setattr("infrastructure.store.open.SCHEMA_VERSION", SCHEMA_VERSION - 1)
    for refused in (["serve"], ["status", "--offline"], ["backup", str(older / "a.backup")], ["upgrade"]):
        assert command(older, *refused) == 1
        said = capfd.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert f"this store has version {SCHEMA_VERSION}" in said.err
    assert {name: (older / name).read_bytes() for name in before} == before
    assert not (older / "a.backup").exists()


def test_a_store_of_version_1_is_upgraded_backed_up_and_restored_into_a_database(
    older: Path, tmp_path: Path, postgres_url: str
) -> None:
    assert command(older, "upgrade") == 0
    assert command(older, "backup", str(tmp_path / "a.backup"), "--verify") == 0
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(older / "mailtoken.key", new)
    text = (older / "mailtoken.toml").read_text().replace('path = "mailtoken.db"', f'url = "{postgres_url}"', 1)
    (new / "mailtoken.toml").write_text(text)
    assert command(new, "restore", str(tmp_path / "a.backup")) == 0
    assert command(new, "audit", "verify") == 0


# On both engines


def test_a_node_of_the_version_before_that_still_runs_serves_and_renews_beside_a_migrated_store(
    service: Services, sealer: Sealer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.add_machine()
    service.get_token(SCANNING)
    step = Migration(SCHEMA_VERSION + 1, "something new", ("CREATE TABLE something_new (id TEXT PRIMARY KEY)",))
    monkeypatch.setattr(upgrade, "MIGRATIONS", (*MIGRATIONS, step))
    assert list(upgrade_store(service.store, sealer, backup="monday's", now=START))[1:] == [step]
    clock.step(minutes=59)
    assert service.access_token(SCANNING).generation == 2
    with pytest.raises(StoreRefused, match="store_newer"):
        open_store(service.store, sealer)


def without_macs(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Everything in the store but its integrity keys, and the MACs that they made."""
    rows = everything(store, but=KEYED)
    return {table: [{**row, "mac": None} for row in some] for table, some in rows.items()}


def make_older(store: Store) -> None:
    """Take the steps back, as far as version 1."""
    with store.writing() as query:
        for table in ("vault", "claim", "notice"):
            query.run(f"ALTER TABLE {table} RENAME COLUMN subject_id TO token_id")
        for column in ("takes_over", "failures", "warning"):
            query.run(f"ALTER TABLE token DROP COLUMN {column}")
        for table in WITH_MAC:
            query.run(f"ALTER TABLE {table} DROP COLUMN mac")
        query.run("UPDATE meta SET value = '4' WHERE name = 'projection_version'")
        query.run("DROP TABLE mail_count")
        for table in ("log_hold", "integrity_key", "log_stream", "log_end"):
            query.run(f"DROP TABLE {table}")
        make_unkeyed(query)
        for column in ("sender", "normalize"):
            query.run(f"ALTER TABLE relay_user DROP COLUMN {column}")
        for column in ("second_factor", "second_factors", "used_codes", "machines"):
            query.run(f"ALTER TABLE administrator DROP COLUMN {column}")
        query.run("ALTER TABLE session DROP COLUMN machines")
        query.run("DROP TABLE machine_list")
        query.run("DROP INDEX profile_machine")
        for table, columns in {"machine": ("tags", "words"), "profile": ("provider", "account", "words")}.items():
            for column in columns:
                query.run(f"ALTER TABLE {table} DROP COLUMN {column}")
        query.run("UPDATE meta SET value = '1' WHERE name = 'schema_version'")


def make_unkeyed(query: Query) -> None:
    """Chain the events as a store before version 8 did."""
    query.run("DROP TABLE chain")
    query.run("DROP TABLE chain_head")
    query.run("CREATE TABLE chain (position BIGINT PRIMARY KEY, hash BYTEA NOT NULL)")
    previous = bytes(32)
    for position, event in query.events(0, 10_000):
        previous = hash_chain._unkeyed_hash(previous, position, event)
        query.run("INSERT INTO chain VALUES (?, ?)", (position, previous))


def test_an_upgraded_store_has_the_tables_of_a_new_one_and_every_row(service: Services, sealer: Sealer) -> None:
    service.get_token(service.add_machine()[0])
    before = without_macs(service.store)
    make_older(service.store)
    steps = list(upgrade_store(service.store, sealer, backup="monday's", now=START))
    assert [type(step) for step in steps] == [BackedUp, *[Migration] * len(MIGRATIONS), Head]
    assert steps[-1] == head_of_store(service.store)
    assert without_macs(service.store) == before
    open_store(service.store, sealer)
    assert service.audit.verify().findings == ()
    assert service.access_token("office-mfp/smtp-service").account == "scan@contoso.com"


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE stored_events SET topic = 'mailtoken.Nothing.v1' WHERE topic = 'mailtoken.Token.Retrieved.v1'",
        "DELETE FROM stored_events WHERE topic = 'mailtoken.Token.Retrieved.v1'",
        "DELETE FROM chain WHERE position = 2",
        "INSERT INTO chain SELECT 999, hash FROM chain WHERE position = 1",
    ],
)
def test_an_unkeyed_chain_that_is_not_whole_is_not_sealed(service: Services, sealer: Sealer, attack: str) -> None:
    service.get_token(service.add_machine()[0])
    make_older(service.store)
    assert change(service.store, attack) == 1
    with pytest.raises(StoreRefused, match="unkeyed_chain_not_whole"):
        list(upgrade_store(service.store, sealer, backup="monday's", now=START))
    assert version_of(service.store) == KEYED_CHAIN_SINCE - 1


def test_a_backup_of_an_unkeyed_store_is_sealed_when_it_is_restored(
    service: Services, sealer: Sealer, empty_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.get_token(service.add_machine()[0])
    with service.store.writing() as query:
        make_unkeyed(query)
        query.run("UPDATE meta SET value = '6' WHERE name = 'schema_version'")
    older = {name: table for name, table in backup._TABLES.items() if name not in KEYED}
    older["chain"] = backup._CopiedTable("chain", ("position", "hash"), ("position",))
    monkeypatch.setattr(backup, "_TABLES", older)
    file = io.BytesIO()
    configuration = backup.ConfigurationFile(b"", 0o600, "mailtoken.key")
    backup.write_backup(service.store, sealer, file, configuration, program="1", now=START)
    monkeypatch.undo()
    for _ in range(2):
        file.seek(0)
        backup.verify_backup(file, "a.backup", sealer)
    file.seek(0)
    backup.restore_backup(empty_store, sealer, file, "a.backup", by=ADMIN, now=START)
    open_store(empty_store, sealer)
    assert Audit(EventLog(empty_store)).verify().findings == ()
    assert "unkeyed_chain" not in empty_store.tables()


def test_a_node_that_has_seen_the_keyed_chain_seals_no_unkeyed_one(older: Path) -> None:
    before = (older / "mailtoken.db").read_bytes()
    assert command(older, "upgrade") == 0
    for suffix in ("", "-wal", "-shm"):
        (older / f"mailtoken.db{suffix}").unlink(missing_ok=True)
    (older / "mailtoken.db").write_bytes(before)
    with pytest.raises(StoreRefused, match="chain_unkeyed_again"):
        list(installation.upgrade(older / "mailtoken.toml", None))
    with closing(SqliteStore(older / "mailtoken.db")) as store:
        assert version_of(store) == 1


def test_a_step_that_fails_changes_nothing_and_the_next_upgrade_goes_on(
    service: Services, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_older(service.store)
    broken = replace(MIGRATIONS[0], statements=(*MIGRATIONS[0].statements, "ALTER TABLE nothing RENAME TO anything"))
    monkeypatch.setattr(upgrade, "MIGRATIONS", (broken,))
    with pytest.raises(Exception, match="nothing"):
        list(upgrade_store(service.store, sealer, backup="monday's", now=START))
    assert version_of(service.store) == 1
    with service.store.reading() as query:
        query.rows("SELECT token_id FROM vault")
    monkeypatch.undo()
    list(upgrade_store(service.store, sealer, backup="monday's", now=START + timedelta(minutes=1)))
    assert version_of(service.store) == SCHEMA_VERSION


@pytest.mark.parametrize("engine", ["postgresql"])
def test_a_database_needs_a_backup_that_has_a_name(service: Services, sealer: Sealer) -> None:
    make_older(service.store)
    with pytest.raises(StoreRefused, match="backup_not_named"):
        list(upgrade_store(service.store, sealer, backup=None, now=START))
    assert version_of(service.store) == 1
    named, *_ = upgrade_store(service.store, sealer, backup="monday's", now=START)
    assert named == BackedUp("monday's")
