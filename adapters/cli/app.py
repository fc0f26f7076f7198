"""All commands of the command line, and the rule that turns each error into one line and an exit code."""

from __future__ import annotations

import functools
import itertools
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from io import TextIOWrapper
from typing import Annotated

import typer
from typer.core import TyperGroup

from adapters.cli.commands import (
    administrators,
    apply,
    audits,
    backups,
    clients,
    configuration,
    doctor,
    groups,
    keys,
    machines,
    mail,
    profiles,
    providers,
    relay,
    service,
    shell,
    statuses,
    tokens,
)
from adapters.cli.context import CommandContext
from adapters.cli.service_socket import CommandError, output_closed, print_error, unexpected
from adapters.error_kinds import ExitCode, exit_code_of
from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain import errors

app = typer.Typer(
    name="mailtoken",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_BEGIN, _EVERY_DAY, _RECORD = "Begin", "Every day", "Record"

app.command(rich_help_panel=_BEGIN)(service.demo)
app.command(rich_help_panel=_BEGIN)(service.init)
app.command(rich_help_panel=_BEGIN)(service.serve)
app.add_typer(machines.app, name="machine", rich_help_panel=_BEGIN)
app.add_typer(profiles.app, name="profile", rich_help_panel=_BEGIN)
app.add_typer(groups.app, name="group", rich_help_panel=_BEGIN)
app.add_typer(providers.app, name="provider", rich_help_panel=_BEGIN)
app.command(rich_help_panel=_BEGIN)(apply.apply)
app.command(rich_help_panel=_BEGIN)(apply.export)
app.add_typer(tokens.app, name="token", rich_help_panel=_EVERY_DAY)
app.add_typer(configuration.app, name="config", rich_help_panel=_BEGIN)
app.command(rich_help_panel=_EVERY_DAY)(statuses.status)
app.command(rich_help_panel=_EVERY_DAY)(doctor.doctor)
app.command("test", rich_help_panel=_EVERY_DAY)(mail.try_connection)
# sendmail's -h is the number of hops so far.
app.command(rich_help_panel=_EVERY_DAY, context_settings={"help_option_names": ["--help"]})(mail.send)
app.add_typer(relay.app, name="relay", rich_help_panel=_EVERY_DAY)
app.add_typer(clients.app, name="client", rich_help_panel=_EVERY_DAY)
app.add_typer(administrators.app, name="administrator", rich_help_panel=_EVERY_DAY)
app.command(rich_help_panel=_RECORD)(backups.backup)
app.command(rich_help_panel=_RECORD)(backups.restore)
app.command(rich_help_panel=_RECORD)(backups.resume)
app.command(rich_help_panel=_RECORD)(service.upgrade)
app.add_typer(audits.app, name="audit", rich_help_panel=_RECORD)
app.add_typer(keys.app, name="key", rich_help_panel=_RECORD)
app.command(rich_help_panel=_BEGIN)(shell.completion)
app.command(rich_help_panel=_BEGIN)(shell.man_pages)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"mailtoken {version('mailtoken')}\n")
        raise typer.Exit


@app.callback()
def mailtoken(
    context: typer.Context,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="The configuration; or MAILTOKEN_CONFIG in the environment.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """OAuth 2.0 tokens for mail: get them once, and machines, servers and scripts can send and receive."""
    context.obj = replace(context.obj, config_option=config)


@functools.cache
def commands() -> TyperGroup:
    """Every command, as Typer reads it from its function's annotations: half of a short command's work."""
    return typer.main.get_group(app)


def run(arguments: Sequence[str], *, searches_here: bool = True) -> int:
    """Run a command; returns its exit code. `searches_here`: whether a configuration in this directory counts."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the terminal's encoding does not have is replaced; no command fails because of it.
            stream.reconfigure(errors="replace")
    options, rest = global_options_anywhere(arguments)
    if shell.VARIABLE in os.environ:
        shell.prepare_completion()
    try:
        started = CommandContext(searches_here=searches_here)
        ended = commands()([*options, *rest], prog_name="mailtoken", standalone_mode=False, obj=started)
        sys.stdout.flush()
        return ended if isinstance(ended, int) else ExitCode.DONE
    except BrokenPipeError:
        return output_closed()
    except SystemExit as leaving:
        # Typer and Rich turn a closed pipe into an exit of their own.
        if isinstance(leaving.__context__, BrokenPipeError):
            return output_closed()
        raise
    except BaseException as error:
        if "--debug" in options:
            traceback.print_exc()
        command_error = _command_error(error)
        if str(command_error):
            print_error(str(command_error))
        return command_error.exit_code


def global_options_anywhere(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate --config and --debug, which may stand anywhere before `--`, from the other arguments.

    Behind `send` they are no options: a program that puts a stranger's words there, as many callers of sendmail do,
    must not let the stranger choose the service.
    """
    general: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--" or (argument == "send" and not rest):
            rest += [argument, *left]
        elif argument == "--config":
            general += [argument, *itertools.islice(left, 1)]
        elif argument == "--debug" or argument.startswith("--config="):
            general.append(argument)
        else:
            rest.append(argument)
    return general, rest


def _command_error(error: BaseException) -> CommandError:
    match error:
        case CommandError():
            return error
        case errors.MailtokenError():
            return CommandError(exit_code_of(error), error_text(error, Surface.COMMAND))
        case typer.TyperException():
            return _usage(error)
        case KeyboardInterrupt():
            return CommandError(ExitCode.INTERRUPTED, "")
        case OSError(filename=str(path), strerror=str(why)):
            forbidden = isinstance(error, PermissionError)
            return CommandError(ExitCode.NOT_PERMITTED if forbidden else ExitCode.FAILED, f"{path}: {why}")
        case _:
            return unexpected(error)


def _usage(error: typer.TyperException) -> CommandError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "mailtoken"
    message = " ".join(error.format_message().split()).rstrip(".")
    # Without a command Typer has printed the help and there is no message.
    return CommandError(ExitCode.USAGE, f"{message}: see {command} --help" if message else "")
