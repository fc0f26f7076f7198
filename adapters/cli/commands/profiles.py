"""`mailtoken profile`: what each mail setting of a machine holds."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from adapters.cli import output
from adapters.cli.context import client
from adapters.cli.service_socket import CommandError, profile_path
from adapters.error_kinds import ExitCode
from adapters.texts.profile_fields import accepted, unit_of
from domain.profile_fields import FIELDS

app = typer.Typer(help="Fill in, list, show and remove mail settings.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="PROFILE", help="machine/setting, like office-mfp/smtp-service.")]


def _fields_help() -> str:
    ranges = ((name, accepted(name)) for name in FIELDS)
    fields = ", ".join(
        f"{name} ({range_or_choices})" if range_or_choices else name for name, range_or_choices in ranges
    )
    return f"{fields}. An empty value clears the field."


@app.command("set")
def fill_in(
    context: typer.Context,
    profile: Name,
    changes: Annotated[
        list[str],
        typer.Argument(metavar="FIELD=VALUE", help=_fields_help()),
    ],
) -> None:
    """Fill in fields of a setting."""
    texts = read_changes(changes)
    after = client(context).patch(profile_path(profile), texts)
    for field in texts:
        output.print_message(f"{profile}: {field} = {output.clean(after[field])}")


def read_changes(arguments: list[str]) -> dict[str, str]:
    """The fields and their texts.

    Raises:
        CommandError: an argument is not field=value, or names a field again.
    """
    texts: dict[str, str] = {}
    for argument in arguments:
        field, has_value, text = argument.partition("=")
        if not field or not has_value:
            raise CommandError(ExitCode.USAGE, f"{argument!r} is not field=value, like port=587")
        if field in texts:
            raise CommandError(ExitCode.USAGE, f"{field} is given twice")
        texts[field] = text
    return texts


@app.command("list")
def list_all(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
) -> None:
    """List the settings."""
    profiles = client(context).get("/api/v1/profiles")
    if json:
        output.write_json(profiles)
        return
    fields = ("profile", "server", "port", "tls", "provider", "account", "group")
    headings = ("Setting", "Server", "Port", "TLS", "Provider", "Account", "Group")
    output.show(output.rows(headings, ([one[field] for field in fields] for one in profiles)))


@app.command()
def show(
    context: typer.Context,
    profile: Name,
    json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Show what a setting holds."""
    held = client(context).get(profile_path(profile))
    if json:
        output.write_json(held)
        return
    lines = Text()
    for field, value in held.items():
        if field not in ("machine", "setting"):
            lines.append(f"{field:<16}", "dim")
            unit = unit_of(field) if field in FIELDS and value is not None else None
            lines.append(f"{output.clean(value)} {unit}\n" if unit else f"{output.clean(value)}\n")
    lines.rstrip()
    output.show(lines)


@app.command()
def remove(context: typer.Context, profile: Name) -> None:
    """Remove a setting; refused while it is the last one of a token that is held."""
    client(context).delete(profile_path(profile))
    output.print_message(f"{profile} is removed.")
