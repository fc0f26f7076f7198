"""A service for real mail servers, and settings with tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from practice_faults.provider import FaultyProvider
from service_process import RETRIEVED, SCAN, ServiceProcess

from adapters.cli.http_client import ServiceConnection
from adapters.practice import browser_user

LENGTHS = [50, pytest.param(1000, marks=pytest.mark.thorough), 2500]
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


class OfficeService(ServiceProcess):
    """A service with generic machines, and the connection to it that commands have."""

    def __init__(self, directory: Path, provider: FaultyProvider, more: str = "") -> None:
        super().__init__(directory, provider, kind="oidc")
        self.configure(more)
        self.service = ServiceConnection(self.socket)

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
        begun = [self.request(name) for name in profiles]
        for one in begun:
            browser_user.approve(one["verification_uri"], one["user_code"], account, self.provider.ca_file)
        for one in begun:
            self.wait_for(RETRIEVED, one["profile"])
