"""`mailtoken init`, `serve` and `demo`: the service itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from adapters.cli import screen
from adapters.cli.invocation import Invocation
from adapters.cli.wire import CommandError, ExitCode
from infrastructure.locate import FILE_NAME

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
    from adapters import bootstrap

    made = bootstrap.initialise(directory or _place(Invocation.of(context).config_option), store_url)
    screen.tell(f"configuration {made.config}")
    screen.tell(f"key {made.key}")
    screen.tell(f"store {made.store}")
    screen.tell("Keep a copy of the key elsewhere: without it nothing in the store opens.")
    screen.tell("Next: add a [providers.NAME] table to the configuration, then run mailtoken serve.")


def _place(option: str | None) -> Path:
    named = option or os.environ.get("MAILTOKEN_CONFIG")
    if not named:
        return Path.cwd()
    if Path(named).name != FILE_NAME:
        raise CommandError(ExitCode.USAGE, f"init writes {FILE_NAME}: name a file called so, or its directory")
    return Path(named).absolute().parent


def serve(context: typer.Context) -> None:
    """Run the service."""
    from adapters import bootstrap

    bootstrap.serve(Invocation.of(context).config)


def demo() -> None:
    """Try it all on this machine: a practice provider, a practice mail server and the service, guided."""
    try:
        from adapters.practice.demo import run
    except ModuleNotFoundError as missing:
        if missing.name not in _PRACTICE_MODULES:
            raise
        raise CommandError(
            ExitCode.FAILED, "the demo needs the practice servers: pip install 'mailtoken[practice]'"
        ) from None
    raise typer.Exit(run())
