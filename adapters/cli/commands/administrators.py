"""`mailtoken administrator`: the people who may sign in, and their roles."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from adapters.cli import output
from adapters.cli.context import client
from adapters.cli.http_client import ServiceConnection
from adapters.cli.prompts import new_password
from adapters.cli.service_socket import path_of

app = typer.Typer(help="Say who may sign in, and as what.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Their name, like anna.")]
Roles = Annotated[
    list[str],
    typer.Option("--role", metavar="ROLE", help="administrator, operator or auditor. May be repeated."),
]


@app.command()
def add(
    context: typer.Context,
    name: Name,
    role: Roles,
    link: Annotated[
        bool, typer.Option("--link", help="Print a link with which they choose a password, good for an hour and once.")
    ] = False,
    machines: Annotated[
        list[str] | None,
        typer.Option(
            "--machines",
            metavar="PATTERN",
            help="Limit them to machines whose name is like this, such as 'hamburg-*'. May be repeated.",
        ),
    ] = None,
) -> None:
    """Add an administrator. The password is asked for, or read from standard input."""
    password = None if link else new_password().reveal()
    service = client(context)
    service.post(
        "/api/v1/administrators", {"name": name, "roles": role, "password": password, "machines": machines or []}
    )
    added = f"{name} is added."
    if link:
        sys.stderr.write(f"{added}\n")
        _show_link(service, name)
    else:
        output.print_message(added)


@app.command("list")
def list_all(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
) -> None:
    """List the administrators."""
    listed = client(context).get("/api/v1/administrators")
    if json:
        output.write_json(listed)
        return
    rows = (
        (
            one["name"],
            ", ".join(one["roles"]),
            ", ".join(one["machines"]) or "all",
            _yes_or_no(one["password"]),
            _yes_or_no(one["second_factor"]),
        )
        for one in listed
    )
    output.show(output.rows(("Administrator", "Roles", "Machines", "Password", "Second factor"), rows))


@app.command()
def roles(context: typer.Context, name: Name, role: Roles) -> None:
    """Let an administrator hold these roles and no others."""
    client(context).put(f"{_path(name)}/roles", {"roles": role})
    output.print_message(f"{name} is {', '.join(role)}.")


@app.command("machines")
def limit(
    context: typer.Context,
    name: Name,
    patterns: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATTERN]...", help="Names of machines, like 'hamburg-*'; none ends the limit."),
    ] = None,
) -> None:
    """Limit an operator or auditor to machines, by patterns of their names; without a pattern, end the limit."""
    client(context).put(f"{_path(name)}/machines", {"machines": patterns or []})
    output.print_message(f"{name} is limited to {', '.join(patterns)}." if patterns else f"{name} is not limited.")


@app.command("password")
def change_password(context: typer.Context, name: Name) -> None:
    """Give an administrator a new password; wherever they are signed in they are not any more."""
    client(context).put(f"{_path(name)}/password", {"password": new_password().reveal()})
    output.print_message(f"{name} has a new password.")


@app.command()
def link(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Who is to choose a password; none is the first administrator.")
    ] = None,
) -> None:
    """Print a link with which somebody chooses a password, good for an hour and once."""
    _show_link(client(context), name)


@app.command("reset-second-factor")
def reset_second_factor(context: typer.Context, name: Name) -> None:
    """Remove the second factor of an administrator who has lost it, which ends their sessions."""
    client(context).delete(f"{_path(name)}/second-factor")
    output.print_message(f"{name} has no second factor any more.")


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Remove an administrator; wherever they are signed in they are not any more."""
    client(context).delete(_path(name))
    output.print_message(f"{name} is removed.")


def _show_link(service: ServiceConnection, name: str | None) -> None:
    made = service.post("/api/v1/administrators/link", {"name": name})
    # The link is alone on standard output, so that a script can send it to the administrator.
    sys.stderr.write(f"Open this link until {made['expires_at'][11:16]} UTC; it is good once:\n")
    sys.stdout.write(f"{made['url']}\n")


def _yes_or_no(value: object) -> str:
    return "yes" if value else "no"


def _path(name: str) -> str:
    return path_of("administrator", name)
