"""`mailtoken group`: which SMTP settings share one token."""

from __future__ import annotations

from typing import Annotated

import typer

from adapters.cli import output
from adapters.cli.commands.profiles import Name
from adapters.cli.context import client
from adapters.cli.service_socket import CommandError, profile_path, segment
from adapters.error_kinds import ExitCode

app = typer.Typer(help="Link SMTP settings, so that they share one token.", no_args_is_help=True)


@app.command("list")
def list_all(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
) -> None:
    """List the SMTP groups."""
    groups = client(context).get("/api/v1/groups")
    if json:
        output.write_json(groups)
        return
    table = output.table("Group", "Token", "Settings")
    for one in groups:
        table.add_row(output.clean(one["name"]), output.label(one["token"]), output.clean(", ".join(one["profiles"])))
    output.show(table)


@app.command()
def link(
    context: typer.Context,
    group: Annotated[str, typer.Argument(help="The group; it is made if it is not there.")],
    profiles: Annotated[list[str], typer.Argument(metavar="PROFILE", help="SMTP settings, all of them or none.")],
) -> None:
    """Link SMTP settings into a group; they use its token from now on."""
    if not group or "/" in group:
        raise CommandError(ExitCode.USAGE, f"{group!r} can't be the name of a group: give the group, then its settings")
    client(context).post(f"/api/v1/groups/{segment(group)}/profiles", {"profiles": profiles})
    output.print_message(f"{', '.join(profiles)}: linked into {group}.")


@app.command()
def unlink(context: typer.Context, profile: Name) -> None:
    """Take a setting out of its group; it gets a token of its own."""
    client(context).delete(f"{profile_path(profile)}/group")
    output.print_message(f"{profile} has a token of its own now, Not Retrieved.")
