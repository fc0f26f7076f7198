"""The commands of the operator's pages, run as they stand there, on directories of the test."""

from __future__ import annotations

import gzip
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyotp
import pytest
from listeners import listen_at
from operation_pages import PAGES, Block, blocks
from ports import free_port
from service_process import RETRIEVED, ServiceProcess
from waiting import in_background, wait_until

from adapters.bootstrap import open_service
from domain.secret import Secret
from infrastructure.config.load import load_config

MakeService = Callable[..., ServiceProcess]
_LINK = re.compile(r"\]\((?P<page>[^):#]+)(?:#[^)]*)?\)")
_VERSION_1 = Path(__file__).parents[1] / "infrastructure" / "upkeep" / "fixtures" / "version_1"
_PEOPLE = ("limited-people.md", "second-factor.md")
_INSTALLED = ("/etc/mailtoken", "/var/lib/mailtoken")
_DATABASES = (
    "postgresql://mailtoken@db.example.com/mailtoken",
    "postgresql://mailtoken@db1,db2/mailtoken?target_session_attrs=read-write",
)


class Operator:
    """Runs the commands of a page. The service of `systemctl` is the one of the page's host."""

    def __init__(self, lost: ServiceProcess, directory: Path, url: str) -> None:
        self.host = lost
        self._directory = directory
        self._places = {
            "/var/backups/mailtoken": str(directory / "backups"),
            "/media/safe": str(directory / "safe"),
            **dict.fromkeys(_DATABASES, url),
        }
        (directory / "backups").mkdir()
        (directory / "safe").mkdir()
        for name in ("mailtoken.key", "mailtoken.toml"):
            shutil.copy(lost.config.with_name(name), directory / "safe")

    def to_new_host(self) -> None:
        """Lose the host, and go on at an empty one."""
        self.host.kill()
        new = self.host.on_new_host(self._directory / "new")
        shutil.rmtree(self.host.directory)
        new.config.with_name("mailtoken.key").unlink()
        self.host = new

    def second_node(self) -> ServiceProcess:
        """Another host, which has nothing."""
        node = self.host.on_new_host(self._directory / "second", self.host.url)
        node.config.with_name("mailtoken.key").unlink()
        return node

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
            case ["systemctl", "reload", "mailtoken"]:
                self._reload()
                return ""
            case ["mailtoken", "token", "get", *arguments]:
                return self._get_token(*arguments)
            case ["mailtoken", *arguments]:
                return self.host.done(*arguments)
            case _:
                return subprocess.run(words, cwd=self.host.directory, check=True, capture_output=True, text=True).stdout

    def _reload(self) -> None:
        before = self._reloads()
        os.kill(self.host.pid, signal.SIGHUP)
        wait_until(lambda: self._reloads() > before, "the configuration is read again")

    def _reloads(self) -> int:
        return self.host.log.read_text().count("configuration_reloaded")

    def _get_token(self, *arguments: str) -> str:
        """Get a token, and sign in beside it."""
        provider = self.host.provider
        before = len(provider.issued_user_codes)
        printed = in_background(lambda: self.host.done("token", "get", *arguments))
        wait_until(lambda: len(provider.issued_user_codes) > before, "there is a code")
        self.host.sign_in()
        return printed.result(120)

    def expected(self, line: str) -> str:
        """A line of output as this host prints it; `*` stands for anything."""
        return self._here(line)

    def _here(self, text: str) -> str:
        for place, here in {**self._places, **dict.fromkeys(_INSTALLED, str(self.host.directory))}.items():
            text = text.replace(place, here)
        return text


@pytest.fixture
def operator(
    request: pytest.FixtureRequest, make_service: MakeService, postgres_url: str, tmp_path: Path
) -> Iterator[Operator]:
    service = make_service(kind="oidc", url=postgres_url if request.param == "postgresql" else None)
    service.add_printer()
    service.get_token()
    operator = Operator(service, tmp_path, postgres_url)
    yield operator
    operator.host.end()


def follow(operator: Operator, blocks: Iterable[Block]) -> None:
    """Run the commands of these blocks; each prints what stands below it."""
    for block in blocks:
        for command in block.commands:
            command.check(operator.run(command.text), [operator.expected(line) for line in command.shown])


def have_people(host: ServiceProcess) -> None:
    """Have pages to sign in at, and the administrator Anna, who has set up a second factor."""
    assert host.stop() == 0
    listen_at(host.config, free_port())
    with open_service(load_config(host.config)) as service:
        administrators = service.administrators
        administrators.add("anna", ["administrator"], Secret("a-password-in-clear"), "administrator:root")
        session = administrators.sign_in("anna", Secret("a-password-in-clear"), "127.0.0.1")
        assert isinstance(session, Secret)
        enrolment = administrators.second_factors.begin("anna")
        code = pyotp.TOTP(enrolment.key.reveal()).now()
        administrators.second_factors.enrol("anna", enrolment.state, code, session)
    host.start()


@pytest.mark.parametrize(
    ("page", "operator"),
    [
        ("altered-rows.md", "sqlite"),
        ("backup-and-restore.md", "sqlite"),
        ("evidence.md", "sqlite"),
        ("first-token.md", "sqlite"),
        ("keys.md", "sqlite"),
        ("limited-people.md", "sqlite"),
        ("lost-host.md", "sqlite"),
        ("move-to-postgresql.md", "sqlite"),
        ("reload.md", "sqlite"),
        ("second-factor.md", "sqlite"),
        ("upgrade.md", "sqlite"),
    ],
    indirect=["operator"],
)
def test_the_commands_of_a_page_do_what_it_says(page: str, operator: Operator) -> None:
    of_page = blocks(page)
    assert of_page
    if page in _PEOPLE:
        have_people(operator.host)
    if of_page[0].host:
        operator.run("mailtoken backup /var/backups/mailtoken/monday.backup")
        operator.to_new_host()
    follow(operator, of_page)
    assert operator.host.status()["token"] == RETRIEVED
    assert operator.host.renew().status == 200
    assert operator.host.findings() == ()


@pytest.mark.parametrize("operator", ["postgresql"], indirect=True)
def test_a_second_node_goes_on_when_the_first_one_ends(operator: Operator) -> None:
    first, second = operator.host, operator.second_node()
    try:
        for block in blocks("failover.md"):
            operator.host = second if block.host else first
            follow(operator, [block])
        assert second.renew().status == 200
        assert second.findings() == ()
    finally:
        second.end()


@pytest.mark.parametrize("operator", ["sqlite"], indirect=True)
def test_an_upgrade_is_rehearsed_on_the_copy_of_a_store_of_version_1(operator: Operator) -> None:
    host = operator.host
    assert host.stop() == 0
    for name in ("mailtoken.toml", "mailtoken.key"):
        shutil.copy(_VERSION_1 / name, host.directory)
    (host.directory / "mailtoken.key").chmod(0o600)
    host.database.write_bytes(gzip.decompress((_VERSION_1 / "mailtoken.db.gz").read_bytes()))
    refused = host.run("status", "--offline")
    assert (refused.returncode, "run mailtoken upgrade" in refused.stderr) == (1, True)
    follow(operator, blocks("upgrade-rehearsal.md"))
    assert host.findings() == ()


def test_the_manual_has_a_link_to_each_of_its_pages_and_no_other() -> None:
    pages = {path.name for path in PAGES.glob("*.md")} - {"README.md"}
    for path in PAGES.glob("*.md"):
        linked = {match["page"] for match in _LINK.finditer(path.read_text())}
        assert all((PAGES / page).exists() for page in linked), path
        if path.name == "README.md":
            assert {page for page in linked if "/" not in page} == pages
