"""`mailtoken token show` as a mail program runs it: a whole process each time, against the real service."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from adapters.cli.demo_site import DemoSite, open_site
from adapters.cli.http_client import ServiceConnection
from adapters.cli.service_socket import profile_path
from adapters.practice import browser_user
from bench.rounds import Figure, Measure, Size, compare

_PATIENCE_SECONDS = 120.0
_PROFILE = "office-mfp/smtp-service"
_ACCOUNT = "scan@contoso.com"


def token_show(size: Size) -> Figure:
    """`mailtoken token show`, beside a Python that only starts and imports."""
    with ExitStack() as stack:
        site = open_site(stack)
        _get_token(site)
        mailtoken = str(Path(sys.executable).with_name("mailtoken"))
        return compare(
            "mailtoken token show",
            ours=_milliseconds(mailtoken, "--config", str(site.config), "token", "show", _PROFILE),
            peer=_milliseconds(sys.executable, "-c", "import socket, json"),
            peer_name='python -c "import socket, json"',
            rounds=size.rounds,
            unit="ms",
            more_is_better=False,
            target=2.0,
            limited_by="the start of Python and what it imports",
        )


def _get_token(site: DemoSite) -> None:
    service: ServiceConnection = site.client
    service.post("/api/v1/machines", {"name": "office-mfp", "catalogue": "sharp-bp"})
    service.patch(profile_path(_PROFILE), {"provider": "practice", "account": _ACCOUNT})
    started = service.post(f"{profile_path(_PROFILE)}/token", {"flow": None})
    browser_user.approve(started["verification_uri"], started["user_code"], _ACCOUNT, site.provider.ca_file)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while service.get(f"{profile_path(_PROFILE)}/status")["token"] != "Retrieved":
        if time.monotonic() > deadline:
            raise TimeoutError("the practice provider's token does not come")
        time.sleep(0.05)


def _milliseconds(*command: str) -> Measure:
    def of_one_run() -> float:
        started = time.perf_counter()
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return (time.perf_counter() - started) * 1000

    return of_one_run
