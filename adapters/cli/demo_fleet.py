"""The small living fleet of the demo: settings that work, one Invalid, one Waiting, one near its end, and mail."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.cli.demo_site import APP_PROVIDER, PROVIDER, DemoSite, wait_until
from adapters.cli.http_client import Object
from adapters.cli.service_socket import CommandError, profile_path
from adapters.practice import browser_user
from domain.lifecycle import TokenStatus

WORKING = ("hamburg-001/smtp", "hamburg-002/smtp", "lisbon-001/smtp")
INVALID, WAITING, ENDING = "lisbon-002/smtp", "oslo-001/smtp", "oslo-002/smtp"
_SCAN, _ADMIN = "scan@contoso.com", "admin@contoso.com"
_MAIL_EVERY_SECONDS = 20.0


def make_fleet(site: DemoSite) -> None:
    """Add the machines and bring each of their tokens into its state."""
    for name in (*WORKING, INVALID, WAITING, ENDING):
        _add(site, name, _ADMIN if name == INVALID else _SCAN, APP_PROVIDER if name == ENDING else PROVIDER)
    started = {name: _begin(site, name, "device") for name in (*WORKING, INVALID, WAITING)}
    _begin(site, ENDING, "app")
    for name in (*WORKING, INVALID):
        account = _ADMIN if name == INVALID else _SCAN
        uri, code = started[name]["verification_uri"], started[name]["user_code"]
        browser_user.approve(uri, code, account, site.provider.ca_file)
    for name in (*WORKING, INVALID, ENDING):
        wait_until(lambda name=name: _label(site, name) == TokenStatus.RETRIEVED, f"{name} is not Retrieved")  # type: ignore[misc]
    site.provider.revoke_account(_ADMIN)
    with contextlib.suppress(CommandError):
        site.client.post(f"{profile_path(INVALID)}/token/renew")


def labels(site: DemoSite) -> dict[str, str]:
    """The label of each setting of the fleet that has a token or waits for one."""
    return {name: _label(site, name) for name in (*WORKING, INVALID, WAITING, ENDING)}


@contextmanager
def mail_flows(site: DemoSite) -> Iterator[None]:
    """Send a message through each working setting in turn, until the end."""
    over = threading.Event()

    def send() -> None:
        number = 0
        while not over.wait(_MAIL_EVERY_SECONDS if number else 0):
            # Whoever tries the console may delete a token or stop the service: the next message finds another one.
            with contextlib.suppress(CommandError):
                name = WORKING[number % len(WORKING)]
                site.client.post(f"{profile_path(name)}/test", {"to": _SCAN})
            number += 1

    sender = threading.Thread(target=send, name="mail", daemon=True)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


def _add(site: DemoSite, name: str, account: str, provider: str) -> None:
    machine = str(Path(name).parent)
    site.client.post("/api/v1/machines", {"name": machine, "catalogue": "generic"})
    port = str(site.mail_server.smtp_port)
    fields = {"server": "localhost", "port": port, "sender_address": account, "provider": provider, "account": account}
    site.client.patch(profile_path(name), fields)


def _begin(site: DemoSite, name: str, flow: str) -> Object:
    started: Object = site.client.post(f"{profile_path(name)}/token", {"flow": flow})
    return started


def _label(site: DemoSite, name: str) -> str:
    return str(site.client.get(f"{profile_path(name)}/status")["token"])
