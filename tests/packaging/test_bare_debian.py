"""A bare Debian with nothing but Python: the manual's pages from the installation to an upgrade, as they stand there.

The host is a directory that debootstrap fills, and root's commands run in it by chroot(8). It has no systemd, so
`systemctl` is a script that starts the service with the unit's account, environment and credential; sysusers and
tmpfiles are systemd's own programs.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from operation_pages import blocks, scripts
from practice_faults.provider import FaultyProvider
from service_process import SCAN
from waiting import in_background, wait_until

from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA

ROOT = Path(__file__).parents[2]
_INCLUDE = "python3,python3-venv,systemd-standalone-sysusers,systemd-standalone-tmpfiles"
_NETWORK = (Path("/etc/resolv.conf"), Path("/etc/pip.conf"), Path("/etc/ssl/certs/ca-certificates.crt"))
"""The files by which pip finds its index."""
_SOURCE = ("adapters", "domain", "infrastructure", "packaging", "LICENSE", "README.md", "pyproject.toml")
_PROVIDER = """
[providers.contoso]
kind = "oidc"
issuer = "{issuer}"
client_id = "{client_id}"
ca_file = "/etc/mailtoken/ca.pem"
scopes = ["openid", "email", "offline_access", "mail"]
"""
_SYSTEMCTL = r"""#!/bin/sh
set -e
pid=/run/mailtoken.pid
stop() { kill -TERM "$(cat $pid)"; while kill -0 "$(cat $pid)" 2>/dev/null; do sleep 0.1; done; rm $pid; }
start() {
    install -d -o mailtoken -g mailtoken /run/mailtoken
    install -d -o mailtoken -m 700 /run/credentials
    install -o mailtoken -m 400 /etc/mailtoken/mailtoken.key /run/credentials/mailtoken.key
    MAILTOKEN_CONFIG=/etc/mailtoken/mailtoken.toml CREDENTIALS_DIRECTORY=/run/credentials \
        setpriv --reuid mailtoken --regid mailtoken --init-groups \
        /opt/mailtoken/bin/mailtoken serve >>/var/log/mailtoken.log 2>&1 </dev/null &
    echo $! >$pid
    until MAILTOKEN_CONFIG=/etc/mailtoken/mailtoken.toml mailtoken status >/dev/null 2>&1; do
        kill -0 "$(cat $pid)" && sleep 0.2
    done
}
reload() {
    before=$(grep -c configuration_reloaded /var/log/mailtoken.log || true)
    kill -HUP "$(cat $pid)"
    until [ "$(grep -c configuration_reloaded /var/log/mailtoken.log)" -gt "$before" ]; do sleep 0.1; done
}
case "$*" in
    daemon-reload) ;;
    "enable --now mailtoken" | "start mailtoken") start ;;
    "stop mailtoken") stop ;;
    "reload mailtoken") reload ;;
    *) echo "systemctl $*: not on this host" >&2; exit 1 ;;
esac
"""


class Debian:
    """A Debian in a directory, with the source of Mailtoken in its /usr/src/mailtoken."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={_INCLUDE}", "bookworm", str(directory)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self._furnish(directory)

    def _furnish(self, directory: Path) -> None:
        for file in (*_NETWORK, Path.home() / ".config" / "pip" / "pip.conf"):
            if file.exists():
                copy = directory / file.relative_to("/")
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.unlink(missing_ok=True)
                copy.write_bytes(file.read_bytes())
        (directory / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
        self.program("usr/local/bin/systemctl", _SYSTEMCTL)
        (directory / "etc" / "systemd" / "system").mkdir(parents=True, exist_ok=True)
        source = directory / "usr" / "src" / "mailtoken"
        source.mkdir()
        for name in (*_SOURCE, "requirements.lock"):
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source)

    def program(self, place: str, text: str) -> None:
        """Write a program."""
        file = self.directory / place
        file.write_text(text)
        file.chmod(file.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)

    def run(self, script: str) -> str:
        """Run a script of root's shell, which must succeed; returns what it printed."""
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        done = subprocess.run(
            ["chroot", str(self.directory), "/bin/sh", "-e", "-c", f"cd /usr/src/mailtoken\n{script}"],
            env={**kept, "PATH": path, "HOME": str(Path.home()), "MAILTOKEN_CONFIG": "/etc/mailtoken/mailtoken.toml"},
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, (script, done.stdout, done.stderr, self.log())
        return done.stdout

    def log(self) -> str:
        """The service's log."""
        file = self.directory / "var" / "log" / "mailtoken.log"
        return file.read_text() if file.exists() else ""


@pytest.fixture
def debian(tmp_path: Path) -> Iterator[Debian]:
    debian = Debian(tmp_path / "debian")
    proc = str(debian.directory / "proc")
    subprocess.run(["mount", "-t", "proc", "proc", proc], check=True)
    try:
        yield debian
    finally:
        if (debian.directory / "run" / "mailtoken.pid").exists():
            debian.run("systemctl stop mailtoken")
        subprocess.run(["umount", proc], check=True)
        shutil.rmtree(debian.directory)


@pytest.fixture
def practice(tmp_path: Path) -> Iterator[FaultyProvider]:
    with FaultyProvider(PracticeCA.create(tmp_path), interval=1) as practice:
        yield practice


def follow(debian: Debian, practice: FaultyProvider, page: str) -> None:
    """Run the commands of a page. Somebody signs in where a token is got."""
    for command in (command for block in blocks(page) for command in block.commands):
        here = command.text.replace("office-mfp", "lobby-mfp")
        is_sign_in = here.startswith("mailtoken token get")
        command.check(get_token(debian, practice, here) if is_sign_in else debian.run(here))


def get_token(debian: Debian, practice: FaultyProvider, command: str) -> str:
    before = len(practice.issued_user_codes)
    printed = in_background(lambda: debian.run(command))
    wait_until(lambda: len(practice.issued_user_codes) > before, "there is a code")
    page = f"{practice.issuer.rpartition('/')[0]}/device"
    browser_user.approve(page, practice.issued_user_codes[-1], SCAN, practice.ca_file)
    return printed.result(120)


@pytest.mark.torture
@pytest.mark.needs("debootstrap", "root")
def test_the_manual_holds_on_a_bare_debian(debian: Debian, practice: FaultyProvider) -> None:
    for script in scripts("install.md", until="## The relay"):
        debian.run(script)
    etc = debian.directory / "etc" / "mailtoken"
    shutil.copy(practice.ca_file, etc / "ca.pem")
    (etc / "ca.pem").chmod(0o644)
    with (etc / "mailtoken.toml").open("a") as config:
        config.write(_PROVIDER.format(issuer=practice.issuer, client_id=practice.client_id))
    for page in ("first-token.md", "reload.md", "backup-and-restore.md", "upgrade.md"):
        follow(debian, practice, page)
    debian.run("mailtoken token renew lobby-mfp/smtp-service")
    assert "Retrieved" in debian.run("mailtoken status lobby-mfp/smtp-service")
    assert "events verified" in debian.run("mailtoken audit verify")
    assert (etc / "mailtoken.key").stat().st_uid == 0
    assert "mailtoken" in debian.run("ls /usr/share/bash-completion/completions /usr/local/share/man/man1")
