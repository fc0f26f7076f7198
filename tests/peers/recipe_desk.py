"""Somebody at a machine who follows a recipe to the letter, and what everybody else there can see meanwhile."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from command_line import MAILTOKEN, environment
from peer_service import OfficeService
from recipe_pages import Block, Section
from waiting import DEADLINE_SECONDS

TRACE = ["strace", "-f", "--seccomp-bpf", "-e", "execve", "-s", "65536", "-A", "-o", "arguments"]
SERVICE_CONFIGURATION = "mailtoken.toml"
"""What recipes have there the service has from its start."""


class Desk:
    """A home directory, and the commands typed in it. `places` is what stands here for what the recipes name.

    A recipe for Postfix finds its configuration in the home directory too.
    """

    def __init__(self, service_process: OfficeService, home: Path, places: Mapping[str, str]) -> None:
        self.home = home
        self.places = {"~": str(home), **places}
        self.variables = {
            "HOME": str(home),
            "PATH": f"{MAILTOKEN.parent}:{os.environ['PATH']}:/usr/sbin",
            "MAILTOKEN_CONFIG": str(service_process.config),
            "MAIL_CONFIG": f"{home}/postfix",
            "CURL_CA_BUNDLE": str(service_process.provider.ca_file),
            "TERM": "xterm",
        }

    def follow(self, section: Section) -> str:
        """Do all that the section says; returns what was on the screen."""
        return "".join(map(self.do, section.blocks()))

    def do(self, block: Block, *, as_root: bool = False) -> str:
        """Type it, or write it into its file; returns what was on the screen."""
        if block.file is None:
            return self.type(block.content, as_root=as_root)
        if block.file != SERVICE_CONFIGURATION:
            self.write(block.file, block.content)
        return ""

    def write(self, file: str, content: str) -> None:
        """Write at the end of a file."""
        path = Path(filled(file, self.places))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as written:
            written.write(filled(content, self.places))

    def type(self, commands: str, *, as_root: bool = False) -> str:
        """Type commands; returns what was on the screen, but for errors."""
        done = subprocess.run(
            self.command(*TRACE, "sh", "-eu", "-c", filled(commands, self.places), as_root=as_root),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment(),
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def arguments(self) -> str:
        """Those of every program that was started, by what was typed or by another: anybody there may read them."""
        return (self.home / "arguments").read_text()

    def command(self, *arguments: str, as_root: bool = False) -> list[str]:
        """The arguments of a command as this desk has it."""
        rights = ["sudo", "-n"] if as_root and os.geteuid() != 0 else []
        return [*rights, "env", *(f"{name}={value}" for name, value in self.variables.items()), *arguments]


def filled(text: str, places: Mapping[str, str]) -> str:
    """The text with what stands here in place of what a recipe names."""
    names = "|".join(map(re.escape, sorted(places, key=len, reverse=True)))
    return re.sub(rf"(?<![\w.])(?:{names})(?![\w-])", lambda found: places[found[0]], text)
