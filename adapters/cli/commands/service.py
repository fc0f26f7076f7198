"""`mailtoken init`, `serve`, `upgrade` and `demo`: the service itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from adapters.cli import output
from adapters.cli.context import CommandContext
from adapters.cli.service_socket import CommandError
from adapters.error_kinds import ExitCode
from infrastructure.config.paths import FILE_NAME

_PRACTICE_MODULES = ("aiosmtpd", "flask")
"""What the extra `practice` brings."""


def init(
    context: typer.Context,
    directory: Annotated[
        Path | None, typer.Argument(help="Where to; by default beside --config, else here.", show_default=False)
    ] = None,
    store_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="PostgreSQL in place of a file: postgresql://user@host/database."),
    ] = None,
) -> None:
    """Make the configuration, a key and a store. Nothing is ever overwritten."""
    from adapters import installation

    made = installation.initialise(directory or _place(CommandContext.of(context).config_option), store_url)
    output.print_message(f"configuration {made.config}")
    output.print_message(f"key {made.key}")
    output.print_message(f"store {made.store}")
    output.print_message("Keep a copy of the key elsewhere: without it nothing in the store opens.")
    output.print_message("Next: run mailtoken serve, then add a provider in the pages or with mailtoken provider add.")


def _place(option: str | None) -> Path:
    named = option or os.environ.get("MAILTOKEN_CONFIG")
    if not named:
        return Path.cwd()
    if Path(named).name != FILE_NAME:
        raise CommandError(ExitCode.USAGE, f"init writes {FILE_NAME}: name a file called so, or its directory")
    return Path(named).absolute().parent


def serve(
    context: typer.Context,
    relay: Annotated[bool, typer.Option("--relay", help="Run the relay too, in a process beside the service.")] = False,
) -> None:
    """Run the service."""
    from adapters import serving

    serving.serve(CommandContext.of(context).config, with_relay=relay)


def upgrade(
    context: typer.Context,
    backup: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="PostgreSQL: what you call the backup that you made of the database."),
    ] = None,
) -> None:
    """Bring the store to this version of the program, after a backup beside it."""
    from adapters import installation
    from infrastructure.store.hash_chain import Head
    from infrastructure.upkeep.upgrade import BackedUp

    is_current = True
    for step in installation.upgrade(CommandContext.of(context).config, backup):
        is_current = False
        if isinstance(step, BackedUp):
            output.print_message(f"backup {step.place}")
        elif isinstance(step, Head):
            output.print_message(f"head {step.number} {step.link.hex()}")
        else:
            output.print_message(f"version {step.version}: {step.purpose}")
    output.print_message("The store is of this version already." if is_current else "Next: run mailtoken serve.")


def demo() -> None:
    """Try it all on this machine: a practice provider, a practice mail server and the service, guided."""
    try:
        from adapters.cli.commands.demo import run
    except ModuleNotFoundError as missing:
        if missing.name not in _PRACTICE_MODULES:
            raise
        raise CommandError(
            ExitCode.FAILED, "the demo needs the practice servers: pip install 'mailtoken[practice]'"
        ) from None
    raise typer.Exit(run())
