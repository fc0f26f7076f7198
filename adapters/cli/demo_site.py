"""The servers of the demo: a practice provider, a practice mail server and the service, in a folder of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adapters.cli.http_client import ServiceConnection
from adapters.cli.service_socket import CommandError, socket_file
from adapters.installation import initialise
from adapters.practice.ca import PracticeCA
from adapters.practice.mail_server import PracticeMailServer
from adapters.practice.provider import PracticeProvider

COMMAND = (sys.executable, "-P", "-c", "import sys; from adapters.cli import main; sys.exit(main())")
LOOK_AGAIN_SECONDS = 0.1
_PATIENCE_SECONDS = 30.0
_LOG_LINES = 30


PROVIDER, APP_PROVIDER = "practice", "practice-app"
_SECRET_DAYS_LEFT = timedelta(days=21)


class StageFailed(Exception):
    """A stage did not have the announced result; the text says what happened instead."""


@dataclass(frozen=True)
class DemoSite:
    """The demo's servers and client, and the folder with their files."""

    directory: Path
    config: Path
    provider: PracticeProvider
    mail_server: PracticeMailServer
    service: subprocess.Popen[bytes]
    log: Path
    client: ServiceConnection
    origin: str

    def check_alive(self) -> None:
        """Check that the service runs.

        Raises:
            StageFailed: the service has ended; its log is printed.
        """
        code = self.service.poll()
        if code is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            sys.stderr.write("".join(f"  {line}\n" for line in lines))
            raise StageFailed(f"the service has ended with exit code {code}; its log is above")


def open_site(stack: ExitStack) -> DemoSite:
    """Start the servers in a new folder; `stack` stops them and removes the folder.

    Raises:
        StageFailed: the service does not start.
    """
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailtoken-demo-")))
    ca = PracticeCA.create(directory / "ca")
    provider = stack.enter_context(PracticeProvider(ca, interval=1))
    mail_server = stack.enter_context(PracticeMailServer(ca, provider))
    config = initialise(directory).config
    port = _free_port()
    config.write_text(config.read_text().replace("[server]", f'[server]\nlisten = "127.0.0.1:{port}"', 1))
    (directory / "practice-secret").write_text(provider.client_secret)
    with config.open("a") as file:
        file.write(_tables(provider, ca))
    log = directory / "service.log"
    service = stack.enter_context(serve(directory, config, log))
    client, origin = ServiceConnection(socket_file(config)), f"http://localhost:{port}"
    site = DemoSite(directory, config, provider, mail_server, service, log, client, origin)
    wait_until(lambda: _answers(site), "the service does not answer")
    return site


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _tables(provider: PracticeProvider, ca: PracticeCA) -> str:
    ca_file = json.dumps(str(ca.ca_file))
    return f"""
[providers.{PROVIDER}]
kind = "microsoft"
issuer = "{provider.issuer}"
client_id = "{provider.client_id}"
revokes_one_grant = true
ca_file = {ca_file}

[providers.{APP_PROVIDER}]
kind = "oidc"
issuer = "{provider.issuer}"
client_id = "{provider.confidential_client_id}"
client_secret_file = "practice-secret"
client_secret_expires = {(datetime.now(UTC) + _SECRET_DAYS_LEFT).date().isoformat()}
scopes = ["openid", "email", "offline_access"]
ca_file = {ca_file}

[mail]
ca_file = {ca_file}
"""


@contextmanager
def serve(directory: Path, config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the service as a process of its own, out of reach of the terminal's Ctrl-C."""
    with log.open("wb") as file:
        service = subprocess.Popen(  # noqa: S603 - our own program
            [*COMMAND, "--config", str(config), "serve"],
            cwd=directory,
            env=environment(config),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            process_group=0,
        )
    try:
        yield service
    finally:
        service.terminate()
        try:
            service.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            service.kill()
            service.wait()


def environment(config: Path) -> Mapping[str, str]:
    """The environment of this process, with this configuration, and without a proxy for loopback."""
    here = "localhost,127.0.0.1"
    return {**os.environ, "MAILTOKEN_CONFIG": str(config), "NO_PROXY": here, "no_proxy": here}


def _answers(site: DemoSite) -> bool:
    site.check_alive()
    try:
        site.client.get("/readyz")
    except CommandError:
        return False
    return True


def wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    """Wait until the condition holds; `otherwise` describes the failure to hold in time.

    Raises:
        StageFailed: the condition did not hold in time.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise StageFailed(f"{otherwise} within {_PATIENCE_SECONDS:g} seconds")
        time.sleep(LOOK_AGAIN_SECONDS)
