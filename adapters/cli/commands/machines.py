"""`mailtoken machine`: the devices whose mail settings are kept here."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import typer

from adapters.cli import output
from adapters.cli.context import client
from adapters.cli.http_client import ServiceConnection
from adapters.cli.prompts import check_answerable, confirm
from adapters.cli.service_socket import path_of, print_error

app = typer.Typer(help="Add, list and remove machines.", no_args_is_help=True)


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name, like office-mfp.")],
    catalogue: Annotated[str, typer.Option(help="The settings it has: sharp-bp or generic.")] = "generic",
) -> None:
    """Add a machine with the mail settings of its model."""
    added = client(context).post("/api/v1/machines", {"name": name, "catalogue": catalogue})
    output.print_message(f"{added['name']} is added, with these settings:")
    for profile in added["profiles"]:
        output.print_message(profile)


@app.command("list")
def list_all(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="Only machines in which every word is somewhere.")
    ] = None,
    state: Annotated[str, typer.Option(help="Only machines whose worst setting is in this state.")] = "",
    account: Annotated[str, typer.Option(help="Only machines with a setting of this account.")] = "",
    tag: Annotated[str, typer.Option(help="Only machines with this tag.")] = "",
    cause: Annotated[str, typer.Option(help="Only machines that need a person for this cause, or for any.")] = "",
    sort: Annotated[str, typer.Option(help="name, state, account, mail or end.")] = "name",
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
) -> None:
    """List the machines, each with the worst state of its settings."""
    wanted = {"state": state, "account": account, "tag": tag, "cause": cause}
    query = urlencode({"sort": sort, "q": " ".join(words or ()), **wanted})
    machines = client(context).get(f"/api/v1/machines?{query}")
    if json:
        output.write_json(machines)
    else:
        output.show(
            output.rows(
                ("Machine", "Catalogue", "Token", "Account", "Last mail", "Tags"),
                (
                    (
                        one["name"],
                        one["catalogue"],
                        one["state"],
                        " ".join(one["accounts"]),
                        one["last_mail"] or "",
                        " ".join(one["tags"]),
                    )
                    for one in machines
                ),
            )
        )


@app.command()
def tag(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name.")],
    tags: Annotated[list[str] | None, typer.Argument(metavar="[TAG]...", help="Tags to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="A tag to take away; may be repeated.")] = None,
) -> None:
    """Add tags to a machine, or take tags away, and print those that it has then."""
    body = {"add": tags or [], "remove": remove or []}
    tagged = client(context).post(f"{path_of('machine', name)}/tags", body)
    output.print_message(f"{name}: {' '.join(tagged['tags']) or 'no tags'}")


@app.command()
def rename(
    context: typer.Context,
    old: Annotated[str, typer.Argument(help="Its name now.")],
    new: Annotated[str, typer.Argument(help="Its new name.")],
) -> None:
    """Give a machine another name; its tokens, grants and relay users follow."""
    renamed = client(context).post(f"{path_of('machine', old)}/rename", {"name": new})
    output.print_message(f"{old} is called {new} now, with its {len(renamed['profiles'])} settings.")
    for key in renamed["stale"]:
        print_error(f"{key} in the configuration still names {old}: correct it")


@app.command()
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove a machine and its settings; refused while one of their tokens is held."""
    check_answerable(yes)
    service = client(context)
    if not yes:
        confirm(_removal_message(service, name), "Remove the machine?")
    service.delete(path_of("machine", name))
    output.print_message(f"{name} and its settings are removed.")


def _removal_message(service: ServiceConnection, name: str) -> str:
    settings = [one["profile"] for one in service.objects("/api/v1/status") if one["machine"] == name]
    listed = "".join(f"\n  {output.clean(one)}" for one in settings)
    return f"{output.clean(name)} is removed, with its settings; the history stays.{listed}"
