"""`mailtoken profile`: what each mail setting of a machine holds."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from adapters.cli import screen
from adapters.cli.invocation import client
from adapters.cli.wire import CommandError, ExitCode, profile_path

app = typer.Typer(help="Fill in, list, show and remove mail settings.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="PROFILE", help="machine/setting, like office-mfp/smtp-service.")]

_UNITS = {"timeout": "seconds", "check_interval": "minutes"}


@app.command("set")
def fill_in(
    context: typer.Context,
    profile: Name,
    changes: Annotated[
        list[str],
        typer.Argument(
            metavar="FIELD=VALUE",
            help="server, port, tls (starttls, implicit, none), timeout, sender_name, sender_address,"
            " check_interval, provider, account, mailbox. An empty value clears the field.",
        ),
    ],
) -> None:
    """Fill in fields of a setting."""
    texts = read_changes(changes)
    after = client(context).patch(profile_path(profile), texts)
    for field in texts:
        screen.tell(f"{profile}: {field} = {screen.clean(after[field])}")


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
        screen.write_json(profiles)
        return
    fields = ("profile", "server", "port", "tls", "provider", "account", "group")
    headings = ("Setting", "Server", "Port", "TLS", "Provider", "Account", "Group")
    screen.show(screen.rows(headings, ([one[field] for field in fields] for one in profiles)))


@app.command()
def show(
    context: typer.Context,
    profile: Name,
    json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Show what a setting holds."""
    held = client(context).get(profile_path(profile))
    if json:
        screen.write_json(held)
        return
    lines = Text()
    for field, value in held.items():
        if field not in ("machine", "setting"):
            lines.append(f"{field:<16}", "dim")
            unit = f" {_UNITS[field]}" if field in _UNITS and value is not None else ""
            lines.append(f"{screen.clean(value)}{unit}\n")
    lines.rstrip()
    screen.show(lines)


@app.command()
def remove(context: typer.Context, profile: Name) -> None:
    """Remove a setting; refused while it is the last one of a token that is held."""
    client(context).delete(profile_path(profile))
    screen.tell(f"{profile} is removed.")
