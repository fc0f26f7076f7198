"""Postfix as the recipes set it up, with a relay of its own where a test kills it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from command_line import Command, environment
from peer_service import OfficeService
from ports import answers, free_ports
from recipe_desk import Desk
from recipe_pages import Block, sections
from waiting import DEADLINE_SECONDS, wait_until

SECTIONS = sections()
POSTFIX = """
compatibility_level = 3.6
queue_directory = ~/postfix/queue
data_directory = ~/postfix/data
maillog_file = ~/postfix/log
maillog_file_prefixes = ~
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = crm.example.com
mydestination =
alias_maps =
"""
"""The settings of a Postfix beside the machine's own."""
LIMITS = """
[relay.budgets.localhost]
connections = 3
messages_per_minute = 900
pause = 1
"""


def set_up_smarthost(desk: Desk, more: str = "") -> Block:
    """Set Postfix up as the recipe for a smarthost says; returns what it says to try."""
    desk.write("/etc/postfix/main.cf", POSTFIX + more)
    desk.write("/etc/postfix/master.cf", Path("/usr/share/postfix/master.cf.dist").read_text())
    *preparing, trying = SECTIONS["postfix.md", ""].blocks()
    for block in preparing:
        desk.do(block)
    desk.type("mkdir ~/postfix/queue ~/postfix/data && chown postfix ~/postfix/data", as_root=True)
    return trying


def set_up_queue(desk: Desk, more: str = "") -> int:
    """Set Postfix up as the recipe for a queue says; returns the port for devices."""
    (port,) = free_ports("device").values()
    desk.write("/etc/postfix/main.cf", POSTFIX)
    master = Path("/usr/share/postfix/master.cf.dist").read_text()
    master = re.sub(r"(?m)^smtp +inet", f"127.0.0.1:{port} inet", master)
    # A queue manager that was killed begins again with the next message, or else after this many seconds.
    desk.write("/etc/postfix/master.cf", re.sub(r"(?m)^(qmgr .*) 300 ", r"\1 1 ", master))
    *preparing, _ = SECTIONS["postfix.md", ""].blocks()
    for block in (*preparing, *SECTIONS["postfix.md", "A queue for devices that never retry"].blocks()):
        desk.do(block)
    desk.write("/etc/postfix/main.cf", more)
    # Each daemon of Postfix warns of a parameter that is set twice. If the ten warnings that wait for postlogd are
    # there before it is, it waits for itself with its own, and everybody else waits for it.
    desk.type("postconf -n 2>/dev/null >~/postfix/each-once && mv ~/postfix/each-once ~/postfix/main.cf")
    desk.type("mkdir ~/postfix/queue ~/postfix/data && chown postfix ~/postfix/data", as_root=True)
    return port


@contextmanager
def postfix(desk: Desk, *, keeps_queue: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """Postfix as this desk has set it up. It ends with the test, however that ends; `postfix start-fg` would not."""
    desk.type("postfix check", as_root=True)
    master = f"{desk.type('postconf -h daemon_directory').strip()}/master"
    running = subprocess.Popen(
        desk.command("setpriv", "--pdeathsig", "TERM", master, "-s", as_root=True),
        stdin=subprocess.DEVNULL,
        env=environment(),
    )
    try:
        yield running
    finally:
        running.terminate()
        running.wait(DEADLINE_SECONDS)
        if not keeps_queue:
            desk.type("rm -rf ~/postfix/queue ~/postfix/data", as_root=True)


class OwnRelay:
    """A relay of a test alone, beside the one that the recipes share."""

    def __init__(self, service_process: OfficeService, port: int) -> None:
        self.port = port
        self.process: Command
        self._service_process = service_process
        self._configuration = service_process.directory / f"relay-{port}.toml"
        text = re.split(r"(?m)^\[relay\]", service_process.config.read_text())[0]
        self._configuration.write_text(f'{text}[relay]\nlisten = ["smtp://127.0.0.1:{port}"]\n{LIMITS}')

    def start(self) -> None:
        log = self._configuration.with_suffix(".log")
        self.process = self._service_process.begin("--config", str(self._configuration), "relay", log=log)

        def listens() -> bool:
            assert self.process.poll() is None, log.read_text()
            return answers(self.port)

        wait_until(listens, "the relay listens")

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(DEADLINE_SECONDS) == 0
