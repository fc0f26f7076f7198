"""`mailtoken machine`: the devices whose mail settings are kept here."""

from __future__ import annotations

from typing import Annotated

import typer

from adapters.cli import screen
from adapters.cli.invocation import client
from adapters.cli.wire import path_of

app = typer.Typer(help="Add, list and remove machines.", no_args_is_help=True)


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name, like office-mfp.")],
    catalogue: Annotated[str, typer.Option(help="The settings it has: sharp-bp or generic.")] = "generic",
) -> None:
    """Add a machine with the mail settings of its model."""
    added = client(context).post("/api/v1/machines", {"name": name, "catalogue": catalogue})
    screen.tell(f"{added['name']} is added, with these settings:")
    for profile in added["profiles"]:
        screen.tell(profile)


@app.command("list")
def list_all(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
) -> None:
    """List the machines."""
    machines = client(context).get("/api/v1/machines")
    if json:
        screen.write_json(machines)
    else:
        screen.show(screen.rows(("Machine", "Catalogue"), ((one["name"], one["catalogue"]) for one in machines)))


@app.command()
def remove(context: typer.Context, name: Annotated[str, typer.Argument(help="Its name.")]) -> None:
    """Remove a machine and its settings; refused while one of their tokens is held."""
    client(context).delete(path_of("machine", name))
    screen.tell(f"{name} and its settings are removed.")
