"""The command as people run it: real processes, a real service, a real provider and mail server beside them."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters.practice import person
from adapters.practice.ca import PracticeCA
from adapters.practice.mail_server import PracticeMailServer
from adapters.practice.provider import PracticeProvider

MAILTOKEN = Path(sys.executable).with_name("mailtoken")
SCAN = "scan@contoso.com"
FAX = "fax@contoso.com"
DEADLINE_SECONDS = 60

_CONFIG = """
[providers.contoso]
kind = "oidc"
issuer = "{issuer}"
client_id = "{client_id}"
scopes = ["openid", "email", "offline_access", "mail"]
ca_file = "{ca_file}"

[mail]
ca_file = "{ca_file}"
"""


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"in vain for {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.02)


def environment(**more: str) -> dict[str, str]:
    """The environment without what would change how things look or where they are."""
    clean = {k: v for k, v in os.environ.items() if k not in ("MAILTOKEN_CONFIG", "COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    return {**clean, "TZ": "UTC", **more}


def mailtoken(
    *arguments: str, cwd: Path, message: bytes | str = b"", **more: str
) -> "subprocess.CompletedProcess[str]":
    """Run the command without a terminal."""
    given = message.encode() if isinstance(message, str) else message
    done = subprocess.run(
        [MAILTOKEN, *arguments],
        cwd=cwd,
        input=given,
        capture_output=True,
        env=environment(**more),
        timeout=120,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


class House:
    """A directory with a configuration, a key and a store; a service on it from `start` to `stop`."""

    def __init__(self, directory: Path, ca: PracticeCA, provider: PracticeProvider, mail: PracticeMailServer) -> None:
        self.directory = directory
        self.ca = ca
        self.provider = provider
        self.mail = mail
        self._service: subprocess.Popen[bytes] | None = None
        done = mailtoken("init", str(directory), cwd=directory.parent)
        assert done.returncode == 0, done.stderr
        with (directory / "mailtoken.toml").open("a") as config:
            config.write(_CONFIG.format(issuer=provider.issuer, client_id=provider.client_id, ca_file=provider.ca_file))

    @property
    def socket(self) -> Path:
        return self.directory / "mailtoken.sock"

    def start(self) -> None:
        log = (self.directory / "service.log").open("ab")
        self._service = subprocess.Popen(
            [MAILTOKEN, "serve"], cwd=self.directory, stdout=log, stderr=log, env=environment()
        )
        log.close()
        wait_until(self._answers, "the service answers")

    def stop(self) -> None:
        if self._service:
            self._service.terminate()
            self._service.wait(DEADLINE_SECONDS)
            self._service = None

    def run(self, *arguments: str, message: bytes | str = b"", **more: str) -> "subprocess.CompletedProcess[str]":
        return mailtoken(*arguments, cwd=self.directory, message=message, **more)

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command that goes on."""
        return subprocess.Popen(
            [MAILTOKEN, *arguments],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def add_printer(self, name: str = "office-mfp") -> str:
        """A printer with provider, account and mail server filled in; the name of its first SMTP setting."""
        self.done("machine", "add", name, "--catalogue", "sharp-bp")
        for setting, port in (("smtp-service", self.mail.smtp_port), ("pop-internet-fax", self.mail.pop_port)):
            sender = (f"sender_address={SCAN}",) if setting.startswith("smtp") else ()
            self.done(
                "profile", "set", f"{name}/{setting}", "server=localhost", f"port={port}", *sender,
                "provider=contoso", f"account={SCAN}",
            )  # fmt: skip
        return f"{name}/smtp-service"

    def done(self, *arguments: str) -> str:
        """Run a command that has to work; what it printed."""
        ended = self.run(*arguments)
        assert ended.returncode == 0, (arguments, ended.stdout, ended.stderr)
        return ended.stdout

    def sign_in(self, account: str = SCAN) -> None:
        """Approve the newest code as a person would."""
        person.approve(self._sign_in_page, self.provider.issued_user_codes[-1], account, self.ca.ca_file)

    def decline(self, account: str = SCAN) -> None:
        """Decline the newest code as a person would."""
        person.deny(self._sign_in_page, self.provider.issued_user_codes[-1], account, self.ca.ca_file)

    def get_token(self, profile: str, account: str = SCAN) -> None:
        """Get a token for a setting, all the way."""
        getting = self.begin("token", "get", profile, "--yes")
        self.wait_for_code(getting)
        self.sign_in(account)
        out, err = getting.communicate(timeout=DEADLINE_SECONDS)
        assert getting.returncode == 0, (out, err)

    def wait_for_code(self, getting: "subprocess.Popen[str]") -> str:
        """Read until the command waits; what it has said so far."""
        assert getting.stdout is not None
        said = ""
        for line in getting.stdout:
            said += line
            if line.startswith("Waiting"):
                return said
        raise AssertionError(f"it never waited: {said} {getting.communicate()}")

    def statuses(self, *arguments: str) -> dict[str, Any]:
        """What `status --json` says, by profile."""
        return {one["profile"]: one for one in json.loads(self.done("status", "--json", *arguments))}

    @property
    def _sign_in_page(self) -> str:
        return f"{self.provider.issuer.rpartition('/')[0]}/device"

    def listen(self, answer: bytes) -> threading.Thread:
        """Answer one connection with these bytes, in the service's place."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.socket))
        listener.listen()

        def serve() -> None:
            with listener, listener.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        return thread

    def _answers(self) -> bool:
        assert self._service is not None
        assert self._service.poll() is None, (self.directory / "service.log").read_text()
        return self.run("machine", "list").returncode == 0
