"""The commands of the operator's pages, run as they stand there, on directories of the test."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from service_process import RETRIEVED, ServiceProcess

MakeService = Callable[..., ServiceProcess]
PAGES = Path(__file__).parents[2] / "docs" / "operation"
_BLOCK = re.compile(r"^```console(?P<host> new host)?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_DATABASE = "postgresql://mailtoken@db.example.com/mailtoken"


class Operator:
    """Runs the commands of a page. The service of `systemctl` is the one of the page's host."""

    def __init__(self, lost: ServiceProcess, directory: Path, url: str) -> None:
        self.host = lost
        self._directory = directory
        self._places = {
            "/var/backups/mailtoken": str(directory / "backups"),
            "/media/safe": str(directory / "safe"),
            _DATABASE: url,
        }
        (directory / "backups").mkdir()
        (directory / "safe").mkdir()
        shutil.copy(lost.config.with_name("mailtoken.key"), directory / "safe")

    def to_new_host(self) -> None:
        """Lose the host, and go on at an empty one."""
        self.host.kill()
        new = self.host.on_new_host(self._directory / "new")
        shutil.rmtree(self.host.directory)
        new.config.with_name("mailtoken.key").unlink()
        self.host = new

    def run(self, command: str) -> str:
        """Run a command, which must succeed; returns what it printed."""
        words = shlex.split(self._here(command))
        match words:
            case ["systemctl", "start", "mailtoken"]:
                self.host.start()
                return ""
            case ["systemctl", "stop", "mailtoken"]:
                assert self.host.stop() == 0
                return ""
            case ["mailtoken", *arguments]:
                return self.host.done(*arguments)
            case _:
                return subprocess.run(words, cwd=self.host.directory, check=True, capture_output=True, text=True).stdout

    def expected(self, line: str) -> str:
        """A line of output as this host prints it; `*` stands for anything."""
        return self._here(line)

    def _here(self, text: str) -> str:
        for place, here in {**self._places, "/etc/mailtoken": str(self.host.directory)}.items():
            text = text.replace(place, here)
        return text


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a block, and the lines that stand for its output."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *lines = part.rstrip("\n").split("\n")
        yield command, lines


@pytest.fixture
def operator(make_service: MakeService, postgres_url: str, tmp_path: Path) -> Iterator[Operator]:
    service = make_service(kind="oidc")
    service.add_printer()
    service.get_token()
    operator = Operator(service, tmp_path, postgres_url)
    yield operator
    operator.host.end()


@pytest.mark.parametrize("page", ["backup-and-restore.md", "lost-host.md", "move-to-postgresql.md", "upgrade.md"])
def test_the_commands_of_a_page_do_what_it_says(page: str, operator: Operator) -> None:
    blocks = list(_BLOCK.finditer((PAGES / page).read_text()))
    assert blocks
    for number, block in enumerate(blocks):
        if block["host"] and number == 0:
            operator.run("mailtoken backup /var/backups/mailtoken/monday.backup")
            operator.to_new_host()
        for command, lines in commands(block["text"]):
            printed = operator.run(command).splitlines()
            for line in lines:
                assert any(fnmatch(one, operator.expected(line)) for one in printed), (command, line, printed)
    assert operator.host.status()["token"] == RETRIEVED
    assert operator.host.renew().status == 200
    assert operator.host.findings() == ()
