"""`mailtoken relay`: SMTP, POP3 and IMAP for programs that know only passwords, and who may use it."""

from __future__ import annotations

import secrets
import sys
from typing import Annotated

import typer

from adapters.cli import screen
from adapters.cli.asking import new_password
from adapters.cli.invocation import Invocation, client
from adapters.cli.wire import path_of
from domain.secret import Secret

app = typer.Typer(help="Run the relay, or say who may use it.")
users = typer.Typer(help="Who may use the relay, and as which settings.", no_args_is_help=True)
app.add_typer(users, name="user")

# Without letters that look alike: somebody types it at a printer's panel. 20 of 31 are 99 bits.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_LENGTH = 20

Name = Annotated[str, typer.Argument(help="Their name, like printers or crm@contoso.com.")]
Profiles = Annotated[
    list[str], typer.Argument(metavar="PROFILE", help="What they send and receive as: one SMTP, POP and IMAP setting.")
]
Generate = Annotated[bool, typer.Option("--generate", help="Make a password and print it, this once.")]


@app.callback(invoke_without_command=True)
def relay(context: typer.Context) -> None:
    """Run the relay until it is told to stop, or say who may use it."""
    if context.invoked_subcommand is None:
        from adapters.relay.run import run

        run(Invocation.of(context).config)


@users.command()
def add(
    context: typer.Context,
    name: Name,
    profiles: Profiles,
    network: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CIDR", help="SMTP clients from there need no sign-in, like 10.20.30.0/24. May be repeated."
        ),
    ] = None,
    generate: Generate = False,
) -> None:
    """Add a relay user with a password, or with networks from which SMTP needs no sign-in; POP3 and IMAP always do.

    The password is asked for, or read from standard input, unless networks are given; with --generate it is made.
    """
    password = _password(generate) if generate or not network else None
    body = {"name": name, "profiles": profiles, "networks": network or [], "password": password and password.reveal()}
    client(context).post("/api/v1/relay/users", body)
    _show(f"Relay user {name} is added.", password if generate else None)


@users.command("list")
def list_all(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
) -> None:
    """List the relay users."""
    listed = client(context).get("/api/v1/relay/users")
    if json:
        screen.write_json(listed)
        return
    rows = (
        (
            one["name"],
            ", ".join(one["profiles"].values()),
            "yes" if one["password"] else "no",
            ", ".join(one["networks"]) or None,
        )
        for one in listed
    )
    screen.show(screen.rows(("User", "Settings", "Password", "Networks"), rows))


@users.command()
def remove(context: typer.Context, name: Name) -> None:
    """Remove a relay user; whoever is signed in as one has to go."""
    client(context).delete(_path(name))
    screen.tell(f"Relay user {name} is removed.")


@users.command("password")
def change_password(context: typer.Context, name: Name, generate: Generate = False) -> None:
    """Give a relay user a new password; the old one is no good any more."""
    password = _password(generate)
    client(context).put(f"{_path(name)}/password", {"password": password.reveal()})
    _show(f"Relay user {name} has a new password.", password if generate else None)


@users.command("map")
def map_profiles(context: typer.Context, name: Name, profiles: Profiles) -> None:
    """Let a relay user send and receive as these settings and no others."""
    client(context).put(f"{_path(name)}/profiles", {"profiles": profiles})
    screen.tell(f"Relay user {name} uses {', '.join(profiles)}.")


@users.command("networks")
def set_networks(
    context: typer.Context,
    name: Name,
    networks: Annotated[
        list[str] | None, typer.Argument(metavar="CIDR", help="Like 10.20.30.0/24; none is none.")
    ] = None,
) -> None:
    """Let a relay user's SMTP clients in without a sign-in from these networks and no others."""
    client(context).put(f"{_path(name)}/networks", {"networks": networks or []})
    screen.tell(f"Relay user {name} needs no sign-in from {', '.join(networks) if networks else 'nowhere'}.")


def _path(name: str) -> str:
    return path_of("relay user", name)


def _password(generate: bool) -> Secret:
    return Secret("".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))) if generate else new_password()


def _show(done: str, password: Secret | None) -> None:
    if password is None:
        screen.tell(done)
        return
    # The password is alone on standard output, for a script to put where it belongs.
    sys.stderr.write(f"{done} The password, shown this once:\n")
    sys.stdout.write(f"{password.reveal()}\n")
