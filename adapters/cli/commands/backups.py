"""`mailtoken backup`, `restore` and `resume`: a copy of everything but the key, and the way back from it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from adapters.cli import output
from adapters.cli.context import CommandContext, client
from adapters.cli.service_socket import CommandError, print_error
from adapters.error_kinds import ExitCode
from infrastructure.config.paths import FILE_NAME, ConfigurationMissing, find_config

BackupFile = Annotated[Path, typer.Argument(help="The backup.", show_default=False)]


def backup(
    context: typer.Context,
    file: BackupFile,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the backup again as a restore does; only that if FILE is there.")
    ] = False,
) -> None:
    """Back up the store and the configuration into one new file, while the service runs. The key is never in it."""
    from adapters import installation

    config = CommandContext.of(context).config
    if not (verify and file.is_file()):
        content = installation.back_up(config, file)
        print_error(
            f"{file} has {_events(content.events)} of {_instant(content.made_at)}, and no key: keep a copy of the key"
            " apart from it, for without the key no backup can be restored"
        )
    if verify:
        content = installation.check_backup(config, file)
        output.print_message(
            f"{file} can be restored with this key: {_events(content.events)} of {_instant(content.made_at)}."
        )


def restore(context: typer.Context, file: BackupFile) -> None:
    """Restore a backup into an empty store, on hold. The configuration is restored too if there is none."""
    from adapters import installation
    from adapters.configuration_check import configuration_faults
    from adapters.texts.errors import error_text
    from adapters.texts.wording import Surface

    restored = installation.restore(_config(context), file)
    if restored.is_new:
        output.print_message(f"configuration {restored.configuration}")
    content = restored.content
    output.print_message(f"restored {_events(content.events)}, as of {_instant(content.made_at)}")
    for fault in configuration_faults(restored.configuration):
        print_error(error_text(fault, Surface.COMMAND))
    output.print_message(
        "The store is on hold: tokens in hand are served, but none is renewed. Next: run mailtoken serve, see that the"
        " service that was backed up does not run any more, then run mailtoken resume."
    )


def resume(
    context: typer.Context,
    because: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="The reason, for the log. It is wanted if the log is another one."),
    ] = None,
) -> None:
    """Lift the hold of a store that was restored or put back, so that tokens are renewed again."""
    client(context).post("/api/v1/store/resume", {"because": because})
    output.print_message("The hold is lifted: tokens are renewed again.")


def _config(context: typer.Context) -> Path:
    """The configuration that is there, or the path of the one to write: what --config names, else here."""
    import os

    option = CommandContext.of(context).config_option
    try:
        return find_config(option, os.environ)
    except ConfigurationMissing as missing:
        if not missing.is_named:
            return Path.cwd() / FILE_NAME
    named = Path(option or os.environ["MAILTOKEN_CONFIG"]).absolute()
    if named.is_dir():
        raise CommandError(ExitCode.USAGE, f"{named} is a directory: name a file")
    return named


def _events(number: int) -> str:
    return f"{number:,} event{'' if number == 1 else 's'}"


def _instant(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
