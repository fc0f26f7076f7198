"""`mailtoken client`: the programs with a key, and the access tokens they may read."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from adapters.cli import output
from adapters.cli.context import client as service
from adapters.cli.http_client import Object
from adapters.cli.service_socket import path_of

app = typer.Typer(help="Give programs keys, and say which tokens they may read.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Its name, like backup.")]
Expires = Annotated[
    str | None, typer.Option(metavar="DATE", help="The last day of the key, like 2027-11-22; by default it has none.")
]


@app.command()
def add(
    context: typer.Context,
    name: Name,
    profile: Annotated[
        list[str] | None, typer.Option(metavar="PROFILE", help="A setting whose token it may read. May be repeated.")
    ] = None,
    expires: Expires = None,
) -> None:
    """Add a client and print its key, this once."""
    added = service(context).post("/api/v1/clients", {"name": name, "profiles": profile or [], "expires": expires})
    _show(f"Client {name} is added.", added["key"])


@app.command()
def key(context: typer.Context, name: Name, expires: Expires = None) -> None:
    """Give a client a new key and print it, this once; the old one, if it has one, is no good any more."""
    issued = service(context).post(f"{_path(name)}/key", {"expires": expires})
    _show(f"Client {name} has a new key.", issued["key"])


@app.command()
def grant(
    context: typer.Context,
    name: Name,
    profiles: Annotated[list[str], typer.Argument(metavar="PROFILE", help="The settings whose tokens it may read.")],
) -> None:
    """Let a client read the access tokens of these settings too."""
    service(context).post(f"{_path(name)}/grants", {"profiles": profiles})
    output.print_message(f"Client {name} may read {', '.join(profiles)}.")


@app.command()
def revoke(
    context: typer.Context,
    name: Name,
    profiles: Annotated[
        list[str] | None, typer.Argument(metavar="PROFILE", help="Settings; none is all, and the key itself.")
    ] = None,
) -> None:
    """Let a client not read the access tokens of these settings any more; without any, remove it with its key."""
    if profiles:
        service(context).post(f"{_path(name)}/revocations", {"profiles": profiles})
        output.print_message(f"Client {name} may not read {', '.join(profiles)} any more.")
    else:
        service(context).delete(_path(name))
        output.print_message(f"Client {name} is removed with its key.")


@app.command("list")
def list_all(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
) -> None:
    """List the clients."""
    listed = service(context).get("/api/v1/clients")
    if json:
        output.write_json(listed)
        return
    rows = ((one["name"], ", ".join(one["profiles"]) or None, _until(one), _day(one["used_at"])) for one in listed)
    output.show(output.rows(("Client", "Settings", "Key until", "Last used"), rows))


def _until(listed: Object) -> str | None:
    return _day(listed["expires_at"]) if listed["key_id"] else "no key yet"


def _day(instant: str | None) -> str | None:
    return instant and f"{instant[:16].replace('T', ' ')} UTC"


def _path(name: str) -> str:
    return path_of("client", name)


def _show(done: str, key: str) -> None:
    # The key is alone on standard output, so that a script can store it.
    sys.stderr.write(f"{done} Its key, shown this once:\n")
    sys.stdout.write(f"{key}\n")
