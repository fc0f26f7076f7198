"""The questions to a person: the manual's confirmation messages, which `--yes` answers too, and passwords."""

from __future__ import annotations

import sys

import typer

from adapters.cli import output
from adapters.cli.http_client import Object, ServiceConnection
from adapters.cli.service_socket import CommandError, profile_path
from adapters.error_kinds import ExitCode
from domain.secret import Secret


def check_answerable(yes: bool) -> None:
    """Check that a confirmation can be answered, before anything else is done.

    Raises:
        CommandError: there is neither a terminal nor `--yes`.
    """
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandError(ExitCode.USAGE, "this has to be confirmed and there is no terminal: say --yes")


def confirm(message: str, question: str) -> None:
    """Print the message and ask the question; returns if the answer is yes.

    Raises:
        CommandError: the answer is not yes.
    """
    output.err().print(message, soft_wrap=False)
    try:
        if typer.confirm(question, default=False, err=True):
            return
    except typer.Abort:
        sys.stderr.write("\n")
    raise CommandError(ExitCode.FAILED, "not confirmed: nothing was changed")


def new_password() -> Secret:
    """A new password: at a terminal typed twice, without echo; else the only line of standard input.

    Raises:
        CommandError: standard input is empty or has more than one line.
    """
    return _new_secret("New password", "password", "or use --generate", is_repeated=True)


def new_client_secret() -> Secret:
    """A client secret: at a terminal pasted once, without echo; else the only line of standard input.

    Raises:
        CommandError: standard input is empty or has more than one line.
    """
    return _new_secret("Client secret", "client secret", "or use --client-secret-file", is_repeated=False)


def _new_secret(question: str, what: str, otherwise: str, *, is_repeated: bool) -> Secret:
    if sys.stdin.isatty():
        try:
            return Secret(typer.prompt(question, hide_input=True, confirmation_prompt=is_repeated, err=True))
        except typer.Abort:
            sys.stderr.write("\n")
            raise CommandError(ExitCode.FAILED, f"no {what} was given: nothing was changed") from None
    try:
        lines = sys.stdin.buffer.read().decode().splitlines()
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 1 or not lines[0]:
        raise CommandError(
            ExitCode.USAGE, f"standard input is not one line with the {what}: give one line, {otherwise}"
        )
    return Secret(lines[0])


def linked_with(service: ServiceConnection, status: Object) -> list[str]:
    """The other settings that use the same token."""
    if not status["group"]:
        return []
    others = service.get("/api/v1/status")
    return [one["profile"] for one in others if one["group"] == status["group"] and one["profile"] != status["profile"]]


def setting_status(service: ServiceConnection, profile: str) -> Object:
    """The status of one setting."""
    status: Object = service.get(f"{profile_path(profile)}/status")
    return status
