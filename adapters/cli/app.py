"""The whole command line: its commands, and how each of its errors becomes one line and an exit code."""

from __future__ import annotations

import itertools
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated

import typer

from adapters.cli import (
    administrators,
    apply,
    audits,
    clients,
    groups,
    machines,
    mail,
    profiles,
    providers,
    relay,
    service,
    statuses,
    tokens,
)
from adapters.cli.invocation import Invocation
from adapters.cli.wire import CommandError, ExitCode, nobody_reads, say, unexpected
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
app.command(rich_help_panel=_EVERY_DAY)(statuses.status)
app.command("test", rich_help_panel=_EVERY_DAY)(mail.try_connection)
app.command(rich_help_panel=_EVERY_DAY)(mail.send)
app.add_typer(relay.app, name="relay", rich_help_panel=_EVERY_DAY)
app.add_typer(clients.app, name="client", rich_help_panel=_EVERY_DAY)
app.add_typer(administrators.app, name="administrator", rich_help_panel=_EVERY_DAY)
app.add_typer(audits.app, name="audit", rich_help_panel=_RECORD)


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
    context.obj = Invocation(config)


def run(arguments: Sequence[str]) -> int:
    """Run a command; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal that has no such letter shows another; no command fails of it.
            stream.reconfigure(errors="replace")
    general, rest = hoist(arguments)
    try:
        ended = app([*general, *rest], prog_name="mailtoken", standalone_mode=False)
        sys.stdout.flush()
        return ended if isinstance(ended, int) else ExitCode.DONE
    except BrokenPipeError:
        return nobody_reads()
    except SystemExit as leaving:
        # Typer and Rich make their own end of a closed pipe.
        if isinstance(leaving.__context__, BrokenPipeError):
            return nobody_reads()
        raise
    except BaseException as error:
        if "--debug" in general:
            traceback.print_exc()
        ending = _ending(error)
        if str(ending):
            say(str(ending))
        return ending.exit_code


def hoist(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take --config and --debug out, so that they may stand anywhere; what is left comes second."""
    general: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            rest += [argument, *left]
        elif argument == "--config":
            general += [argument, *itertools.islice(left, 1)]
        elif argument == "--debug" or argument.startswith("--config="):
            general.append(argument)
        else:
            rest.append(argument)
    return general, rest


_EXIT_CODES: dict[type[Exception], ExitCode] = {
    errors.InvalidValue: ExitCode.USAGE,
    errors.NotPermitted: ExitCode.NOT_PERMITTED,
    errors.NotFound: ExitCode.NOT_FOUND,
    errors.Refused: ExitCode.REFUSED,
    errors.Conflict: ExitCode.REFUSED,
    errors.Unreachable: ExitCode.UNREACHABLE,
    errors.MailtokenError: ExitCode.FAILED,
}


def _ending(error: BaseException) -> CommandError:
    match error:
        case CommandError():
            return error
        case errors.MailtokenError():
            exit_code = next(code for kind, code in _EXIT_CODES.items() if isinstance(error, kind))
            return CommandError(exit_code, str(error))
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
    # Without a command there is no message either, but the help.
    return CommandError(ExitCode.USAGE, f"{message}: see {command} --help" if message else "")
