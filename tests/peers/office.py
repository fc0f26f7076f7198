"""A service for real mail servers: a configuration, a store, `mailtoken serve` beside it, and settings with tokens."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self, TypeVar

from adapters import bootstrap
from adapters.cli.client import Client
from adapters.cli.wire import CommandError
from adapters.practice import person
from adapters.practice.provider import PracticeProvider

MAILTOKEN = Path(sys.executable).with_name("mailtoken")
SCAN = "scan@contoso.com"
DEADLINE_SECONDS = 60
LENGTHS = [50, 1000, 2500]
"""Characters in an access token: short, usual, and as long as Entra's."""
LISTENERS = {
    ("smtp", "starttls"): "submission",
    ("smtp", "implicit"): "submissions",
    ("pop", "starttls"): "pop3",
    ("pop", "implicit"): "pop3s",
    ("imap", "starttls"): "imap",
    ("imap", "implicit"): "imaps",
}
"""Dovecot's name for each protocol and way into TLS."""
Settings = dict[tuple[str, str, str], str]
"""A setting with a token, by mechanism, protocol and way into TLS."""
Renew = Callable[[str, int], None]
"""Give a setting an access token of so many characters."""
Own = Callable[..., str]
"""Make a setting of a test alone, with a token of an account of its own."""

T = TypeVar("T")

_CONFIGURATION = """
[providers.contoso]
kind = "oidc"
issuer = "{issuer}"
client_id = "{client_id}"
ca_file = "{ca_file}"
scopes = ["openid", "email", "offline_access", "mail"]

[mail]
ca_file = "{ca_file}"
{more}
"""


def wait_until(condition: Callable[[], T | None], what: str) -> T:
    """Wait for a condition to hold; what it gave then."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in vain for {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.02)
    return found


def environment(**more: str) -> dict[str, str]:
    """The environment without what would send a command elsewhere or change how it looks."""
    unwanted = ("MAILTOKEN_CONFIG", "MAILTOKEN_KEY", "COLUMNS", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**{name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}, **more}


class Office:
    """A service that runs, and the commands beside it."""

    def __init__(self, directory: Path, provider: PracticeProvider, more: str = "") -> None:
        self.directory = directory
        self.provider = provider
        self.config = bootstrap.initialise(directory).config
        self.service = Client(directory / "mailtoken.sock")
        self._process: subprocess.Popen[bytes] | None = None
        with self.config.open("a") as config:
            config.write(
                _CONFIGURATION.format(
                    issuer=provider.issuer, client_id=provider.client_id, ca_file=provider.ca_file, more=more
                )
            )

    def __enter__(self) -> Self:
        self._process = self.begin("serve", log="service.log")
        wait_until(self._answers, "the service answers")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(DEADLINE_SECONDS)

    def begin(self, *arguments: str, log: str) -> subprocess.Popen[bytes]:
        """Start a command that goes on; what it says goes into a file here."""
        with (self.directory / log).open("ab") as output:
            return subprocess.Popen(
                [MAILTOKEN, *arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(),
            )

    def run(
        self, *arguments: str, message: bytes | str = b"", program: Path = MAILTOKEN, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        given = message.encode() if isinstance(message, str) else message
        done = subprocess.run(
            [program, *arguments],
            cwd=self.directory,
            input=given,
            capture_output=True,
            env=environment(**more),
            timeout=DEADLINE_SECONDS * 2,
            check=False,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def add_machine(self, name: str, **settings: dict[str, Any]) -> list[str]:
        """A generic machine with these of its settings filled in; their names."""
        self.service.post("/api/v1/machines", {"name": name, "catalogue": "generic"})
        for setting, fields in settings.items():
            filled = {"server": "localhost", "provider": "contoso", "account": SCAN, **fields}
            self.service.patch(
                f"/api/v1/profiles/{name}/{setting}",
                {name: str(value) for name, value in filled.items()},
            )
        return [f"{name}/{setting}" for setting in settings]

    def get_tokens(self, profiles: Iterable[str], account: str = SCAN) -> None:
        """Get a token for each setting; a person signs in for all of them at once."""
        begun = [self.service.post(f"/api/v1/profiles/{name}/token", {}) for name in profiles]
        for one in begun:
            person.approve(one["verification_uri"], one["user_code"], account, self.provider.ca_file)
        for one in begun:
            wait_until(lambda one=one: self.status(one["profile"])["token"] == "Retrieved", "the token is there")

    def renew(self, profile: str) -> None:
        """Have a new access token, of the length that the provider gives now."""
        self.service.post(f"/api/v1/profiles/{profile}/token/renew")

    def status(self, profile: str) -> dict[str, Any]:
        """What `status` says of a setting."""
        status: dict[str, Any] = self.service.get(f"/api/v1/profiles/{profile}/status")
        return status

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, (self.directory / "service.log").read_text()
        try:
            self.service.get("/healthz")
        except CommandError:
            return False
        return True
