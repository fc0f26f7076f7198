"""`mailtoken apply` and `export`: a whole fleet in one file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from adapters.cli import output, prompts
from adapters.cli.context import client
from adapters.cli.http_client import Object
from adapters.cli.service_socket import CommandError, print_error
from adapters.error_kinds import ExitCode
from adapters.texts import plan_changes
from adapters.texts.errors import ERRORS, sentence
from adapters.texts.wording import Surface

_TARGET = "/api/v1/apply"


def apply(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What is to be so: .toml, .yaml, or .csv with a line for each setting.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the plan as an object.")] = False,
    detailed_exit_code: Annotated[
        bool, typer.Option("--detailed-exit-code", help="Exit with 7 if something was changed, or would be.")
    ] = False,
) -> None:
    """Make machines, settings, groups, clients and providers as a file says; what it does not name stays as it is."""
    from adapters.fleet_files import NotAFleetFile, read

    try:
        fleet = read(file)
    except NotAFleetFile as why:
        raise CommandError(ExitCode.USAGE, f"{file}: {why}") from None
    service = client(context)
    plan = service.post(f"{_TARGET}?dry_run=true", fleet.document)
    _check(plan, fleet.where, file)
    if json:
        output.write_json(plan)
    else:
        _show(plan)
    changed = bool(plan["changes"])
    if changed and not dry_run:
        if not yes:
            prompts.check_answerable(yes)
            prompts.confirm(_summary(plan), "Change this?")
        service.post(_TARGET, fleet.document, if_match=plan["fingerprint"])
        if not json:
            output.print_message("Done.")
    if changed and detailed_exit_code:
        raise typer.Exit(ExitCode.CHANGED)


def export(
    context: typer.Context,
    file_format: Annotated[
        str, typer.Option("--format", help="toml, yaml, or csv: the settings alone, without groups and clients.")
    ] = "toml",
) -> None:
    """Write the file that makes an empty store what this one is, but for tokens and the keys of clients."""
    from adapters.fleet_files import FORMATS, write

    if file_format not in FORMATS:
        raise CommandError(ExitCode.USAGE, f"--format: {file_format!r} is not {', '.join(FORMATS)}")
    sys.stdout.write(write(client(context).get("/api/v1/export"), file_format))


def _check(plan: Object, where: Callable[[Iterable[str]], str], file: Path) -> None:
    refusals = plan["refusals"]
    for refusal in refusals:
        print_error(f"{file}: {where(refusal['place'])}: {_why(refusal)}")
    if refusals:
        raise CommandError(ExitCode.REFUSED, f"{file}: can't be applied as it is, see above: nothing was changed")


def _why(refusal: Object) -> str:
    """The command line's own sentence; that of the service for a code which only a newer version knows."""
    known = refusal["code"] in ERRORS
    return sentence(refusal["code"], refusal["fields"], Surface.COMMAND) if known else str(refusal["why"])


def _show(plan: Object) -> None:
    for change in plan["changes"]:
        output.print_message(plan_changes.change_text(change, Surface.COMMAND))
    if not plan["changes"]:
        output.print_message("Everything is so already: nothing to change.")
    elif len(plan["changes"]) > 1:
        output.print_message(_summary(plan))


def _summary(plan: Object) -> str:
    counts = Counter(change["change"] for change in plan["changes"])
    return f"{len(plan['changes'])} changes: {', '.join(f'{kind} {number}' for kind, number in counts.items())}."
