"""Whatever the umask is, other users can write nothing of the program, and read nothing but the configuration."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from command_line import MAILTOKEN, environment
from ports import free_port
from waiting import DEADLINE_SECONDS, wait_until

from adapters.http.public_url import FIRST_LINK_FILE

_PUBLIC = {"mailtoken.toml"}
_MADE = {"mailtoken.db", "mailtoken.key", "mailtoken.sock", "escrow", FIRST_LINK_FILE, "copy.backup", "bundle.tgz"}


def modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in (directory, *directory.rglob("*"))}


@pytest.mark.thorough
@pytest.mark.parametrize("umask", [0, 0o077])
def test_no_file_is_open_to_other_users(tmp_path: Path, umask: int) -> None:
    house = tmp_path / "house"
    config = house / "mailtoken.toml"

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [MAILTOKEN, "--config", str(config), *arguments],
            umask=umask,
            env=environment(),
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def run(*arguments: str) -> None:
        assert start(*arguments).wait(DEADLINE_SECONDS) == 0, arguments

    run("init")
    config.write_text(config.read_text().replace("[server]\n", f'[server]\nlisten = "127.0.0.1:{free_port()}"\n', 1))
    service = start("serve")
    try:
        wait_until((house / FIRST_LINK_FILE).exists, "the service has begun")
        run("machine", "add", "office-mfp")
        run("backup", str(house / "copy.backup"))
        run("audit", "checkpoint", "--out", str(house / "checkpoint"))
        run("doctor", "--bundle", str(house / "bundle.tgz"))
        run("key", "rotate")
        found = modes(house)
    finally:
        service.terminate()
        service.wait(DEADLINE_SECONDS)
    assert found.keys() >= _MADE
    readable = {name for name, mode in found.items() if mode & 0o007} - _PUBLIC - {house.name}
    writable = {name for name, mode in found.items() if mode & 0o022} - {"mailtoken.sock"}
    assert (readable, writable) == (set(), set())
