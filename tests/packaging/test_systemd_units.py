"""The units that a host runs: systemd reads them, and they agree with the program about names and paths."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from infrastructure.config.load import load_config
from infrastructure.config.tables import DEFAULT_LISTEN

PACKAGING = Path(__file__).parents[2] / "packaging"
UNITS = PACKAGING / "systemd"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / name)
    return parser


@pytest.mark.needs("systemd-analyze")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    program = shutil.which("true")
    for path in (*UNITS.glob("*.service"), *UNITS.glob("*.socket"), *UNITS.glob("*.timer")):
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={program}", path.read_text(), flags=re.MULTILINE)
        (tmp_path / path.name).write_text(text.replace("Documentation=file:///opt", "Documentation=file:///usr"))
    paths = sorted(str(path) for path in tmp_path.iterdir())
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths], check=False, capture_output=True, text=True
    )
    ours = [line for line in checked.stderr.splitlines() if "mailtoken" in line]
    assert (checked.returncode, ours) == (0, []), checked.stderr


def test_the_relays_sockets_have_the_addresses_and_names_of_its_defaults() -> None:
    sockets = {
        f"{unit(path.name)['Socket']['FileDescriptorName']}://{unit(path.name)['Socket']['ListenStream']}"
        for path in UNITS.glob("*.socket")
    }
    assert sockets == set(DEFAULT_LISTEN)


def test_the_configuration_of_the_units_names_what_they_provide() -> None:
    config = load_config(PACKAGING / "mailtoken.toml")
    service = unit("mailtoken.service")["Service"]
    assert service["LoadCredential"] == f"mailtoken.key:{config.store.key_file}"
    assert Path(config.server.socket).parent == Path("/run", service["RuntimeDirectory"])
    for path in (config.store.path, config.store.escrow):
        assert Path(path).parent == Path("/var/lib", service["StateDirectory"])


def test_the_accounts_of_the_units_are_made() -> None:
    users = {line.split()[1] for line in (UNITS / "sysusers.conf").read_text().splitlines() if line.startswith("u ")}
    assert {unit(path.name)["Service"]["User"] for path in UNITS.glob("*.service")} == users
