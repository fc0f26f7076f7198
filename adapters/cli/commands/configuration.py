"""`mailtoken config check`: what is wrong with the configuration, before the service is started with it."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import typer

from adapters.cli import output
from adapters.cli.context import CommandContext
from adapters.cli.service_socket import print_error
from adapters.error_kinds import ExitCode
from adapters.texts.errors import sentence
from adapters.texts.wording import Surface
from domain.errors import InvalidValue, MailtokenError, facts
from infrastructure.config.lines import line_of

app = typer.Typer(no_args_is_help=True)

_FIELD = re.compile(r"\[(?P<table>.+?)\](?: (?P<key>\w+))?|(?P<provider>providers\..+)\.(?P<setting>\w+)")


@app.callback()
def config() -> None:
    """Check the configuration file."""


@app.command()
def check(context: typer.Context) -> None:
    """Print every fault of the configuration, each with its file and line. Nothing is changed."""
    from adapters.configuration_check import configuration_faults

    path = CommandContext.of(context).config
    faults = configuration_faults(path)
    lines = [_line(path, fault) for fault in faults]
    for line, fault in sorted(zip(lines, faults, strict=True), key=lambda found: found[0] or 0):
        sys.stdout.write(f"{_fault_text(path, line, fault)}\n")
    if faults:
        raise typer.Exit(ExitCode.USAGE)
    output.print_message(f"{path}: no faults.")
    _say_providers_left(path)


def _say_providers_left(path: Path) -> None:
    """Name the providers on which tokens depend and which the file lacks; nothing where the store can't be read."""
    from adapters import installation

    with suppress(MailtokenError):
        for provider, settings in installation.providers_left(path).items():
            print_error(
                f"{settings} settings have tokens of the provider {provider}, which is not in {path}: put it back, or"
                f" after renaming it there run mailtoken provider rename {provider} NEW"
            )


def _line(path: Path, fault: MailtokenError) -> int | None:
    place = _place(fault.field) if isinstance(fault, InvalidValue) else ()
    return line_of(path.read_text(errors="replace"), place) if place else None


def _fault_text(path: Path, line: int | None, fault: MailtokenError) -> str:
    """The fault as compilers write theirs: `FILE:LINE: [table] key: sentence`."""
    text = sentence(fault.code, {**facts(fault), "configuration_file": None}, Surface.COMMAND)
    where = f"{path}:{line}" if line else str(path)
    return text if text.startswith(f"{path}:") else f"{where}: {text}"


def _place(field: str) -> Sequence[str]:
    """The table, split at its names, and the key that an error's field names."""
    match = _FIELD.fullmatch(field)
    if not match:
        return ()
    table, key = match["table"] or match["provider"], match["key"] or match["setting"]
    # The name of a provider, or of a mail server, may have dots.
    names = table.split(".", 2 if table.startswith("relay.budgets.") else 1)
    return (*names, key) if key else names
