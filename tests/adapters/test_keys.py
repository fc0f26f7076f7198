"""The rotation of the key-encryption key: nothing is lost, wherever it stops, and a service goes on meanwhile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fakes import SCANNER, FakeClock, FakeProvider, Services

from adapters import installation, keys
from adapters.cli.app import run
from domain.errors import Refused, StoreRefused
from infrastructure.encryption.envelope import Place, Sealer
from infrastructure.encryption.key_file import create_key_file, read_key
from infrastructure.node_reports import NodeReports
from infrastructure.store.open import open_store
from infrastructure.store.postgres import PostgresStore
from infrastructure.store.sqlite import SqliteStore
from infrastructure.tokens.claims import node_name
from infrastructure.upkeep import key_rotation


class Killed(BaseException):
    """Stands for the end of the process."""


SMTP = "office-mfp/smtp-service"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a new installation."""
    return installation.initialise(tmp_path / "house").config


def services_on(config: Path, clock: FakeClock, provider: FakeProvider) -> Services:
    sealer, store = read_key(config.with_name("mailtoken.key"), {}), SqliteStore(config.with_name("mailtoken.db"))
    return Services(store, sealer, open_store(store, sealer), config.parent, clock, {"contoso": provider})


@pytest.fixture
def service(config: Path, clock: FakeClock, provider: FakeProvider) -> Iterator[Services]:
    """The services of the installation, as they run beside the rotation, with a token and who may do what."""
    service = services_on(config, clock, provider)
    with closing(service.store):
        service.add_machine()
        service.get_token(SMTP)
        service.tokens.request("office-mfp/pop-internet-fax", None, "administrator")
        yield service


def age(config: Path) -> None:
    """Let the rotation have begun an hour ago."""
    path = config.with_name("mailtoken.key")
    then = path.stat().st_mtime - 3600
    os.utime(path, (then, then))


def lines(config: Path) -> int:
    return len(config.with_name("mailtoken.key").read_text().split())


def test_a_rotation_seals_everything_anew_while_the_service_goes_on(
    config: Path, service: Services, clock: FakeClock, provider: FakeProvider
) -> None:
    (before,) = keys.key_uses(config)
    assert (before.here, before.in_use, before.values) == (True, True, 6)
    rotated = keys.rotate(config)
    assert (rotated.values, rotated.retired) == (5, None)
    assert lines(config) == 2
    now, older = keys.key_uses(config)
    assert (now.key_id, now.values, older.key_id, older.values) == (rotated.key_id, 6, before.key_id, 0)
    assert service.sealer.key_id == before.key_id
    NodeReports(service.store, service.sealer, config.parent / "escrow").report()
    assert service.sealer.key_id == rotated.key_id
    clock.step(minutes=59)
    assert service.access_token(SMTP).generation == 2
    assert service.audit.verify().findings == ()
    with closing(services_on(config, clock, provider).store):
        assert keys.key_uses(config)[1].values == 0
    assert config.with_name("mailtoken.key").stat().st_mode & 0o777 == 0o600


def test_the_older_key_is_retired_once_nothing_needs_it_and_kept_for_earlier_backups(
    config: Path, service: Services, tmp_path: Path
) -> None:
    backup = tmp_path / "earlier.backup"
    installation.back_up(config, backup)
    older = service.sealer.key_id
    keys.rotate(config)
    assert keys.rotate(config).retired is None
    age(config)
    rotated = keys.rotate(config)
    retired = config.with_name(f"mailtoken.key.retired-{older}")
    assert (rotated.retired, lines(config)) == (retired, 1)
    assert retired.stat().st_mode & 0o777 == 0o600
    assert [use.key_id for use in keys.key_uses(config)] == [rotated.key_id]
    assert service.access_token(SMTP).account == SCANNER
    with pytest.raises(Refused, match="backup_of_another_key"):
        installation.check_backup(config, backup)
    config.with_name("mailtoken.key").write_bytes(retired.read_bytes())
    assert installation.check_backup(config, backup).events


def test_a_reply_in_the_escrow_keeps_its_key(config: Path, service: Services, provider: FakeProvider) -> None:
    provider.approve()
    keys.rotate(config)
    age(config)
    older = keys.key_uses(config)[1].key_id
    # An entry that an earlier run left, sealed with the older key.
    sealed = Sealer(service.sealer.keys[-1]).seal(b"{}", Place("", "", "", 0))
    (config.parent / "escrow" / "a-b.reply").write_bytes(b" " * 1024 + sealed.as_text().encode() + b"\n")
    assert [(use.key_id, use.replies) for use in keys.key_uses(config)][1] == (older, 1)
    assert keys.rotate(config).retired is None


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3, 4, 5])
def test_a_rotation_that_is_killed_anywhere_loses_nothing_and_goes_on(
    config: Path,
    service: Services,
    clock: FakeClock,
    provider: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
    stop_after: int,
) -> None:
    monkeypatch.setattr(key_rotation, "_PAGE", 1)
    with monkeypatch.context() as killed:
        pages, sound = iter(range(stop_after)), key_rotation._page

        def page(*given: Any) -> Any:
            if next(pages, None) is None:
                raise Killed
            return sound(*given)

        killed.setattr(key_rotation, "_page", page)
        with pytest.raises(Killed):
            keys.rotate(config)
    again = services_on(config, clock, provider)
    with closing(again.store):
        assert again.access_token(SMTP).account == SCANNER
        assert again.audit.verify().findings == ()
    assert service.access_token(SMTP).account == SCANNER
    age(config)
    assert keys.rotate(config).retired
    assert service.access_token(SMTP).account == SCANNER


def test_a_row_that_was_damaged_stays_and_keeps_its_key(config: Path, service: Services) -> None:
    with service.store.writing() as query:
        query.run("UPDATE vault SET body = wrapped WHERE kind = 'credential'")
    assert keys.rotate(config).values == 5
    assert keys.key_uses(config)[1].values == 1


def test_a_key_of_another_store_begins_no_rotation(config: Path, service: Services) -> None:
    key = config.with_name("mailtoken.key")
    key.unlink()
    create_key_file(key)
    before = key.read_bytes()
    with pytest.raises(StoreRefused, match="key_of_another_store"):
        keys.rotate(config)
    assert key.read_bytes() == before


def test_a_credential_is_not_rotated_and_the_steps_are_said(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    config.with_name("mailtoken.key").rename(credentials / "mailtoken.key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert run(["key", "rotate", "--config", str(config)]) == 5
    said = capfd.readouterr()
    assert said.err.startswith("mailtoken: the key is a credential or a variable of the environment")
    assert said.err.count("\n") == 1


def test_the_commands_say_what_needs_which_key(
    config: Path, service: Services, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["key", "rotate", "--config", str(config)]) == 0
    assert "5 values are sealed anew with the key" in capfd.readouterr().out
    assert run(["key", "list", "--config", str(config)]) == 0
    _, now, older = capfd.readouterr().out.splitlines()
    assert now.split()[1:] == ["in", "use", "6", "0"]
    assert older.split()[1:] == ["older", "0", "0"]


def test_the_integrity_keys_are_renewed_too_and_a_later_run_retires_the_older_one(
    config: Path, service: Services, capfd: pytest.CaptureFixture[str]
) -> None:
    public = service.store.integrity.signing
    assert run(["key", "rotate", "--integrity", "--config", str(config)]) == 0
    said = capfd.readouterr().out
    assert "rows are authenticated anew with the integrity key 2." in said
    assert "mailtoken audit key" in said
    assert service.access_token(SMTP).account == SCANNER
    with service.store.writing() as query:
        query.run("UPDATE meta SET value = '2026-01-01T00:00:00+00:00' WHERE name = 'integrity_rotation_at'")
    assert run(["key", "rotate", "--config", str(config)]) == 0
    assert "The rows' older integrity key is deleted." in capfd.readouterr().out
    assert keys.rotate(config).integrity is None
    service.store.reload_integrity()
    assert service.store.integrity.rows.numbers == [2]
    assert service.store.integrity.signing.numbers == [2, 1]
    assert service.store.integrity.signing.secret(1) == public.secret(1)
    assert service.audit.verify().findings == ()


@pytest.fixture
def nodes(tmp_path: Path, postgres_url: str) -> tuple[Path, Path]:
    """The configurations of two nodes that share a database and a key."""
    here, there = (tmp_path / name for name in ("here", "there"))
    config = installation.initialise(here, postgres_url).config
    there.mkdir()
    for file in (config, config.with_name("mailtoken.key")):
        shutil.copy2(file, there)
    return config, there / config.name


class Node:
    """The store as a running node has it, and its reports."""

    def __init__(self, config: Path, url: str) -> None:
        self.config = config
        self.sealer = read_key(config.with_name("mailtoken.key"), {})
        self.store = PostgresStore(url)
        open_store(self.store, self.sealer)
        (config.parent / "escrow").mkdir(exist_ok=True)
        self.reports = NodeReports(self.store, self.sealer, config.parent / "escrow")
        self.reports.report()

    def copy_key_from(self, other: Path) -> None:
        """Get the key file of another node, as an operator copies it."""
        shutil.copy2(other.with_name("mailtoken.key"), self.config.with_name("mailtoken.key"))
        self.reports.report()


@pytest.fixture
def node(nodes: tuple[Path, Path], postgres_url: str) -> Iterator[Node]:
    """The other node, which runs."""
    node = Node(nodes[1], postgres_url)
    with closing(node.store):
        yield node


def test_a_new_key_is_used_once_every_node_has_it(
    nodes: tuple[Path, Path], node: Node, capfd: pytest.CaptureFixture[str]
) -> None:
    config, name = nodes[0], node_name(nodes[1].parent / "escrow")
    (before,) = keys.key_uses(config)
    assert (before.in_use, before.used_by) == (True, (name,))
    assert run(["key", "rotate", "--config", str(config)]) == 0
    assert f"Copy the file to {name}." in capfd.readouterr().out
    newer, used = keys.key_uses(config)
    assert (newer.in_use, newer.missing_on, used.in_use, used.values) == (False, (name,), True, 4)
    assert run(["key", "list", "--config", str(config)]) == 0
    assert f"The key {newer.key_id} is missing on {name}." in capfd.readouterr().out
    node.copy_key_from(config)
    assert node.sealer.key_id == before.key_id
    assert keys.rotate(config).values == 3
    newer, older = keys.key_uses(config)
    assert (newer.in_use, newer.values, older.values, older.used_by) == (True, 4, 0, (name,))
    age(config)
    assert keys.rotate(config).retired is None
    node.reports.report()
    assert node.sealer.key_id == newer.key_id
    assert keys.rotate(config).retired
    assert [use.key_id for use in keys.key_uses(config)] == [newer.key_id]


def test_a_reply_in_the_escrow_of_a_node_that_is_down_keeps_its_key(nodes: tuple[Path, Path], node: Node) -> None:
    config = nodes[0]
    keys.rotate(config)
    node.copy_key_from(config)
    keys.rotate(config)
    sealed = Sealer(node.sealer.keys[-1]).seal(b"{}", Place("", "", "", 0))
    (node.config.parent / "escrow" / "a-b.reply").write_bytes(b" " * 1024 + sealed.as_text().encode() + b"\n")
    node.reports.report()
    with node.store.writing() as query:
        query.run("UPDATE node SET seen_at = seen_at - 3600")
    age(config)
    assert keys.rotate(config).retired is None
    assert [use.replies for use in keys.key_uses(config)] == [0, 1]
    assert keys.rotate(config, alone=True).retired


def test_a_node_that_is_down_is_not_waited_for(nodes: tuple[Path, Path], node: Node) -> None:
    with node.store.writing() as query:
        query.run("UPDATE node SET seen_at = seen_at - 3600")
    assert keys.rotate(nodes[0]).values == 3
    with pytest.raises(StoreRefused, match="key_of_another_store"):
        node.reports.report()
