"""The connection to the service, and its errors. Few imports, since they slow each `token show`."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from urllib.parse import quote

from adapters.error_kinds import ExitCode, exit_code_for
from infrastructure.config.paths import (
    FILE_NAME,
    ConfigurationMissing,
    find_config,
    read_toml,
    socket_name,
    socket_path,
)
from infrastructure.unix_peer import StrangerListens, check_listener

TIMEOUT_SECONDS = 300.0
"""How long a command waits for an answer: a renewal waits for the provider, and maybe for another renewal first."""


class CommandError(Exception):
    """A command failed: one line for the person who typed it, and the exit code."""

    def __init__(self, exit_code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def config_file(option: str | None, *, searches_here: bool = True) -> Path:
    """The configuration file; `searches_here` as in `find_config`.

    Raises:
        CommandError: no configuration was found.
    """
    try:
        return find_config(option, os.environ, searches_here=searches_here)
    except ConfigurationMissing as missing:
        raise CommandError(ExitCode.USAGE, _missing(missing)) from None


def _missing(missing: ConfigurationMissing) -> str:
    if missing.is_named:
        return f"there is no configuration at {missing}: run mailtoken init, or correct the path"
    if missing.unsafe:
        return (
            f"{missing.unsafe} is not used, as another user owns or can write the file or its directory:"
            " name it with --config if you trust it"
        )
    return f"there is no {FILE_NAME} in {missing}: run mailtoken init, or name it with --config"


def socket_file(config: Path) -> Path:
    """The Unix socket of the service, as the configuration names it.

    Raises:
        CommandError: the configuration can't be read.
    """
    try:
        return socket_path(config, read_toml(config))
    except OSError as error:
        text = _text("configuration_unreadable", field=str(config), reason=error.strerror)
        raise CommandError(ExitCode.USAGE, text) from None
    except ValueError as error:
        raise CommandError(ExitCode.USAGE, _text("not_toml", field=str(config), reason=str(error))) from None


def connect(path: Path, timeout_seconds: float) -> socket.socket:
    """A connection to the service.

    Raises:
        CommandError: no service listens there, this user may not use the socket, or a stranger listens there.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_seconds)
    try:
        with socket_name(path) as name:
            connection.connect(name)
        check_listener(connection, path)
    except StrangerListens:
        connection.close()
        raise CommandError(ExitCode.NOT_PERMITTED, _text("stranger_listens", socket=str(path))) from None
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


def connection_lost(why: str) -> CommandError:
    """The error for a service that accepted the connection and then closed it without an answer."""
    return CommandError(ExitCode.UNREACHABLE, f"the service broke off ({why}): see its log, then try again")


def error_of_problem(status: int, body: bytes) -> CommandError:
    """The error that the service answered with, from its problem details (RFC 9457)."""
    try:
        problem = json.loads(body)
        message = _sentence(problem) or str(problem.get("detail") or problem["title"])
    except (ValueError, LookupError, AttributeError):
        message = f"the service answered {status} without saying why: see its log"
    return CommandError(exit_code_for(status), message)


def _sentence(problem: dict[str, object]) -> str | None:
    """The command line's own sentence for a problem; None if its code is missing or unknown here."""
    from adapters.texts.errors import ERRORS, sentence
    from adapters.texts.wording import Surface

    code, fields = problem.get("code"), problem.get("fields")
    if isinstance(code, str) and code in ERRORS and isinstance(fields, dict):
        return sentence(code, fields, Surface.COMMAND)
    return None


def _text(code: str, **fields: object) -> str:
    from adapters.texts.errors import sentence
    from adapters.texts.wording import Surface

    return sentence(code, fields, Surface.COMMAND)


def segment(name: str) -> str:
    """A name, quoted as one segment of a path."""
    return quote(name, safe="", errors="replace")


def path_of(kind: str, name: str) -> str:
    """The API's path of a machine, client, administrator or relay user; `kind` is one of these words.

    Raises:
        CommandError: `name` is empty or has a slash.
    """
    if not name or "/" in name:
        code = f"{kind.replace(' ', '_')}_not_found"
        raise CommandError(ExitCode.NOT_FOUND, _text(code, name=name, machine=name))
    return f"/api/v1/{kind.replace(' ', '/')}s/{segment(name)}"


def profile_path(name: str) -> str:
    """The API's path of a profile.

    Raises:
        CommandError: `name` is not of the form machine/setting.
    """
    machine, _, setting = name.partition("/")
    if not machine or not setting or "/" in setting:
        raise CommandError(ExitCode.NOT_FOUND, _text("profile_not_found", profile=name))
    return f"/api/v1/profiles/{segment(machine)}/{segment(setting)}"


def one_line(text: str) -> str:
    """`text` in one line: a space for each line break, control character or other character that is not printable."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def print_error(message: str) -> None:
    """Print one line to standard error."""
    sys.stderr.write(f"mailtoken: {one_line(message)}\n")


def unexpected(error: BaseException) -> CommandError:
    """The error for an exception without a rule of its own; --debug shows its traceback."""
    why = f" ({error})" if str(error) else ""
    return CommandError(ExitCode.FAILED, f"unexpected {type(error).__name__}{why}: --debug shows more")


def output_closed() -> ExitCode:
    """Standard output was closed by its reader: keep the interpreter from reporting that when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.OUTPUT_CLOSED
