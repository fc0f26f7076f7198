"""What is asked of a person: the confirmation messages of the manual, which `--yes` answers too, and passwords."""

from __future__ import annotations

import sys

import typer

from adapters.cli import screen
from adapters.cli.client import Client, Object
from adapters.cli.wire import CommandError, ExitCode, profile_path
from domain.secret import Secret


def check_answerable(yes: bool) -> None:
    """See whether there will be an answer, before anything is asked of anybody.

    Raises:
        CommandError: no terminal and no `--yes`.
    """
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandError(ExitCode.USAGE, "this wants to be confirmed and there is no terminal: say --yes")


def confirm(message: str, question: str) -> None:
    """Ask; only yes goes on.

    Raises:
        CommandError: anything else.
    """
    screen.err().print(message, soft_wrap=False)
    try:
        if typer.confirm(question, default=False, err=True):
            return
    except typer.Abort:
        sys.stderr.write("\n")
    raise CommandError(ExitCode.FAILED, "not confirmed: nothing was changed")


def new_password() -> Secret:
    """A new password: typed twice, unseen, at a terminal; else the one line of standard input.

    Raises:
        CommandError: there is none, or more than one line.
    """
    if sys.stdin.isatty():
        try:
            return Secret(typer.prompt("New password", hide_input=True, confirmation_prompt=True, err=True))
        except typer.Abort:
            sys.stderr.write("\n")
            raise CommandError(ExitCode.FAILED, "no password was given: nothing was changed") from None
    try:
        lines = sys.stdin.buffer.read().decode().splitlines()
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 1 or not lines[0]:
        raise CommandError(ExitCode.USAGE, "standard input is not one line with the password: give it, or --generate")
    return Secret(lines[0])


def linked_with(service: Client, status: Object) -> list[str]:
    """The other settings that use the same token."""
    if not status["group"]:
        return []
    others = service.get("/api/v1/status")
    return [one["profile"] for one in others if one["group"] == status["group"] and one["profile"] != status["profile"]]


def setting_status(service: Client, profile: str) -> Object:
    """The status of one setting."""
    status: Object = service.get(f"{profile_path(profile)}/status")
    return status
