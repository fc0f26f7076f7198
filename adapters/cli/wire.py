"""The way to the service and the ways it can fail: what `token show` can afford to import, so light modules only."""

from __future__ import annotations

import json
import os
import socket
import sys
from enum import IntEnum
from pathlib import Path
from urllib.parse import quote

from infrastructure.locate import find_config, read_toml, socket_name, socket_path

PATIENCE_SECONDS = 300.0
"""A renewal waits for the provider, and perhaps for somebody else's renewal first."""


class ExitCode(IntEnum):
    """How a command ends: the stable contract, and the shell's own numbers for the signals SIGINT and SIGPIPE."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_PERMITTED = 3
    NOT_FOUND = 4
    REFUSED = 5
    UNREACHABLE = 6
    CHANGED = 7
    INTERRUPTED = 130
    NOBODY_READS = 141


_EXIT_CODES = {
    400: ExitCode.USAGE,
    401: ExitCode.NOT_PERMITTED,
    403: ExitCode.NOT_PERMITTED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.REFUSED,
    412: ExitCode.REFUSED,
    422: ExitCode.USAGE,
    502: ExitCode.UNREACHABLE,
    503: ExitCode.UNREACHABLE,
    504: ExitCode.UNREACHABLE,
}


class CommandError(Exception):
    """The end of a command that was not done: one line for the person who asked, and the exit code."""

    def __init__(self, exit_code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def locate_config(option: str | None) -> Path:
    """The configuration file.

    Raises:
        CommandError: there is none.
    """
    try:
        return find_config(option, os.environ)
    except FileNotFoundError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from None


def locate_socket(config: Path) -> Path:
    """Where the service listens.

    Raises:
        CommandError: the configuration can't be read.
    """
    try:
        return socket_path(config, read_toml(config))
    except OSError as error:
        raise CommandError(ExitCode.USAGE, f"{config}: can't be read ({error.strerror})") from None
    except ValueError as error:
        raise CommandError(ExitCode.USAGE, f"{config}: not TOML: {error}") from None


def connect(path: Path, patience_seconds: float) -> socket.socket:
    """A connection to the service.

    Raises:
        CommandError: nobody answers there, or this user may not ask.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(patience_seconds)
    try:
        with socket_name(path) as name:
            connection.connect(name)
    except PermissionError:
        connection.close()
        raise CommandError(
            ExitCode.NOT_PERMITTED, f"you may not use {path}: [socket] in the service's configuration says who may"
        ) from None
    except OSError:
        connection.close()
        raise CommandError(
            ExitCode.UNREACHABLE,
            f"the service is not running (no answer at {path}): start it with mailtoken serve",
        ) from None
    return connection


def broken_off(why: str) -> CommandError:
    """The service was there, and then it was not."""
    return CommandError(ExitCode.UNREACHABLE, f"the service broke off ({why}): see its log, then try again")


def refusal(status: int, body: bytes) -> CommandError:
    """What the service refuses, from its problem details (RFC 9457)."""
    try:
        problem = json.loads(body)
        message = str(problem.get("detail") or problem["title"])
    except (ValueError, LookupError, AttributeError):
        message = f"the service answered {status} without saying why: see its log"
    return CommandError(_EXIT_CODES.get(status, ExitCode.FAILED), message)


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="", errors="replace")


def path_of(kind: str, name: str) -> str:
    """Where what is called so is in the service's API; `kind` is machine, client, administrator or relay user.

    Raises:
        CommandError: nothing can have this name.
    """
    if not name or "/" in name:
        raise CommandError(ExitCode.NOT_FOUND, f"no {kind} is called {name!r}: see mailtoken {kind} list")
    return f"/api/v1/{kind.replace(' ', '/')}s/{segment(name)}"


def profile_path(name: str) -> str:
    """Where a profile is in the service's API.

    Raises:
        CommandError: `name` has not even the form of a profile's.
    """
    machine, _, setting = name.partition("/")
    if not machine or not setting or "/" in setting:
        raise CommandError(
            ExitCode.NOT_FOUND,
            f"no profile is called {name!r}: they are named machine/setting, see mailtoken profile list",
        )
    return f"/api/v1/profiles/{segment(machine)}/{segment(setting)}"


def one_line(text: str) -> str:
    """`text` without line breaks, control characters and what else could disturb a terminal."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def say(message: str) -> None:
    """Say one line on standard error."""
    sys.stderr.write(f"mailtoken: {one_line(message)}\n")


def unexpected(error: BaseException) -> CommandError:
    """An error that nobody foresaw, without its traceback."""
    why = f" ({error})" if str(error) else ""
    return CommandError(ExitCode.FAILED, f"unexpected {type(error).__name__}{why}: --debug shows more")


def nobody_reads() -> ExitCode:
    """Standard output was closed by its reader: keep the interpreter from complaining about it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.NOBODY_READS
