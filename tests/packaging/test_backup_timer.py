"""The commands of the backup's unit: each day a backup that was verified, and none older than two weeks."""

from __future__ import annotations

import configparser
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapters.installation import check_backup, initialise

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"
PROGRAM = Path(sys.executable).with_name("mailtoken")
DAY_SECONDS = 86_400


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return initialise(tmp_path / "mailtoken").config


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    """Backups that are 13 and 15 days old, and a file of somebody else."""
    directory = tmp_path / "backups"
    directory.mkdir()
    for name, days in (("newer.backup", 13), ("older.backup", 15), ("notes.txt", 99)):
        (directory / name).touch()
        then = time.time() - days * DAY_SECONDS
        os.utime(directory / name, (then, then))
    return directory


def run_unit(config: Path, backups: Path) -> bool:
    """Run the unit as systemd does: `ExecStartPost` only after `ExecStart` has worked; whether both have."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read(UNITS / "mailtoken-backup.service")
    environment = {**os.environ, "MAILTOKEN_CONFIG": str(config)}
    for key in ("ExecStart", "ExecStartPost"):
        line = parser["Service"][key].replace("%%", "%")
        line = line.replace("/opt/mailtoken/bin/mailtoken", str(PROGRAM)).replace(
            "/var/backups/mailtoken", str(backups)
        )
        if subprocess.run(shlex.split(line), check=False, env=environment, capture_output=True).returncode:
            return False
    return True


def test_a_backup_is_made_and_verified_and_only_then_old_ones_are_deleted(config: Path, backups: Path) -> None:
    assert run_unit(config, backups)
    [made] = {path.name for path in backups.iterdir()} - {"newer.backup", "notes.txt"}
    assert check_backup(config, backups / made).events == 0


def test_a_backup_that_fails_deletes_none(config: Path, backups: Path) -> None:
    config.with_name("mailtoken.key").unlink()
    assert not run_unit(config, backups)
    assert {path.name for path in backups.iterdir()} == {"newer.backup", "older.backup", "notes.txt"}
