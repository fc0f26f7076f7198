"""`config check` names every fault of a configuration, each at its line, and changes nothing."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters import installation
from adapters.cli.app import app
from adapters.cli.context import CommandContext
from adapters.http.server import unix_socket
from adapters.serving import serve
from domain.errors import InvalidValue
from infrastructure.config.tables import SocketTable

MANY_FAULTS = """\
[store]
key_file = "mailtoken.key"

[server]
listen = "0.0.0.0:8480"

[providers.contoso]
kind = "microsoft"
tenant = "contoso.com"
client_id = "one"
client_secret_file = "nowhere"

[providers."fabrikam.com"]
kind = "oidc"
client_id = "two"
issuer = "http://login.fabrikam.com"
timeout = 900

[relay]
listen = ["ftp://0.0.0.0:21"]

[relay.budgets."smtp.contoso.com"]
connections = 0

[mail]
ca_file = "mailtoken.key"

[notes]
"""
LINES = (4, 11, 16, 17, 20, 23, 26, 28)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The directory of a new installation."""
    installation.initialise(tmp_path)
    before = contents(tmp_path)
    yield tmp_path
    assert before.items() <= contents(tmp_path).items()


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def check(home: Path, text: str) -> tuple[int, list[str]]:
    """The exit code, and the lines that are printed."""
    file = home / "other.toml"
    file.write_text(text)
    result = CliRunner().invoke(app, ["--config", str(file), "config", "check"], obj=CommandContext())
    return result.exit_code, result.stdout.splitlines()


def test_a_new_installation_has_no_faults(home: Path) -> None:
    assert check(home, (home / "mailtoken.toml").read_text()) == (0, [f"{home / 'other.toml'}: no faults."])


def test_every_fault_is_named_with_its_line(home: Path) -> None:
    code, lines = check(home, MANY_FAULTS)
    assert (code, [line.split(": ")[0] for line in lines]) == (2, [f"{home / 'other.toml'}:{at}" for at in LINES])
    assert lines[3].endswith("[providers.fabrikam.com] timeout: Input should be less than or equal to 120")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[server]\nsocket = "mailtoken.key"', "2: [server] socket: mailtoken.key is the path of [store] key_file too"),
        ('server.socket = "./mailtoken.db"', "1: [server] socket: ./mailtoken.db is the path of [store] path too"),
        ('[store]\nescrow = "other.toml"', "1: [store] escrow: other.toml is the path of this file too"),
        ('[server]\nsocket = "mailtoken.toml"', "2: [server] socket: {home}/mailtoken.toml is there and is no socket"),
        ('[store]\nescrow = "mailtoken.toml"', "2: [store] escrow: {home}/mailtoken.toml is there and is no directory"),
        ('[store]\npath = "mailtoken.toml"', "2: [store] path: {home}/mailtoken.toml is there and is no database"),
        ('[store]\npath = "."', "2: [store] path: {home} is there and is no database"),
        ('[store]\nkey_file = "."', "2: [store] key_file: {home} does not hold a key"),
    ],
)
def test_a_path_that_names_something_else_is_a_fault(home: Path, text: str, line: str) -> None:
    code, lines = check(home, text)
    assert code == 2
    assert any(line.format(home=home).partition(": ")[2] in one for one in lines), lines


def test_what_is_no_toml_is_one_fault(home: Path) -> None:
    code, lines = check(home, "[server\n")
    assert (code, len(lines)) == (2, 1)
    assert "line 1" in lines[0]


def test_a_table_with_a_fault_raises_no_second_one(home: Path) -> None:
    (home / "kept.key").write_bytes((home / "mailtoken.key").read_bytes())
    (home / "kept.key").chmod(0o600)
    (home / "mailtoken.key").rename(home / "elsewhere.key")
    _, lines = check(home, '[store]\nkey_file = "kept.key"\ncolour = "red"\n')
    (home / "elsewhere.key").rename(home / "mailtoken.key")
    assert len(lines) == 1


@pytest.mark.parametrize("setting", ["socket", "escrow", "path"])
def test_the_service_does_not_start_over_something_else(home: Path, setting: str) -> None:
    file = home / "other.toml"
    table = "server" if setting == "socket" else "store"
    taken = "." if setting == "path" else "mailtoken.toml"
    file.write_text(f'[{table}]\n{setting} = "{taken}"\n')
    with pytest.raises(InvalidValue) as refused:
        serve(file)
    assert refused.value.field == f"[{table}] {setting}"


def test_a_socket_that_a_killed_service_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mailtoken.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with unix_socket._listen(path, SocketTable()), socket.socket(socket.AF_UNIX) as client:
        assert client.connect_ex(str(path)) in (0, errno.EAGAIN)
    assert os.path.lexists(path)
