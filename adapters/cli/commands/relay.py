"""`mailtoken relay`: SMTP, POP3 and IMAP for programs that know only passwords, and the users of it."""

from __future__ import annotations

import sys
from typing import Annotated
from urllib.parse import quote

import typer

from adapters.cli import output
from adapters.cli.context import CommandContext, client
from adapters.cli.prompts import new_password
from adapters.cli.service_socket import path_of
from adapters.texts.relay_refusals import refusal_text
from adapters.texts.wording import Surface
from domain.secret import Secret

app = typer.Typer(help="Run the relay, or say who may use it.")
users = typer.Typer(help="Who may use the relay, and as which settings.", no_args_is_help=True)
app.add_typer(users, name="user")

Name = Annotated[str, typer.Argument(help="Their name, like printers or crm@contoso.com.")]
Profiles = Annotated[
    list[str], typer.Argument(metavar="PROFILE", help="What they send and receive as: one SMTP, POP and IMAP setting.")
]
Generate = Annotated[bool, typer.Option("--generate", help="Make a password and print it, this once.")]


@app.callback(invoke_without_command=True)
def relay(context: typer.Context) -> None:
    """Run the relay until it is told to stop, or say who may use it."""
    if context.invoked_subcommand is None:
        from adapters.relay.main import run

        run(CommandContext.of(context).config)


@app.command()
def refusals(
    context: typer.Context,
    address: Annotated[str | None, typer.Argument(help="The client's IP address; all of them if left out.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
) -> None:
    """Show the clients that the relay refused last: what they said, why, and what to set at their panel."""
    query = f"?address={quote(address)}" if address else ""
    listed = client(context).get(f"/api/v1/relay/refusals{query}")
    if json:
        output.write_json(listed)
        return
    if not listed:
        output.print_message("The relay has refused no client since the service began.")
        return
    for one in listed:
        who = f"{one['user']} at {one['address']}" if one["user"] else one["address"]
        lines = [f"{one['at']}  {who}  {one['protocol']}", f"why   {one['why']}"]
        lines += [f"sent  {command}" for command in one["commands"]]
        for line in (*lines, f"set   {refusal_text(one['cause'], Surface.COMMAND)}"):
            output.print_message(line)


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
        output.write_json(listed)
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
    output.show(output.rows(("User", "Settings", "Password", "Networks"), rows))


@users.command()
def remove(context: typer.Context, name: Name) -> None:
    """Remove a relay user, and end its sessions."""
    client(context).delete(_path(name))
    output.print_message(f"Relay user {name} is removed.")


@users.command("password")
def change_password(context: typer.Context, name: Name, generate: Generate = False) -> None:
    """Give a relay user a new password in place of the old one."""
    password = _password(generate)
    client(context).put(f"{_path(name)}/password", {"password": password.reveal()})
    _show(f"Relay user {name} has a new password.", password if generate else None)


@users.command("map")
def map_profiles(context: typer.Context, name: Name, profiles: Profiles) -> None:
    """Let a relay user send and receive as these settings and no others."""
    client(context).put(f"{_path(name)}/profiles", {"profiles": profiles})
    output.print_message(f"Relay user {name} uses {', '.join(profiles)}.")


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
    output.print_message(f"Relay user {name} needs no sign-in from {', '.join(networks) if networks else 'nowhere'}.")


@users.command("set")
def change_messages(
    context: typer.Context,
    name: Name,
    assignments: Annotated[
        list[str], typer.Argument(metavar="FIELD=VALUE", help="sender=ADDRESS, normalize=crlf; no value ends it.")
    ],
) -> None:
    """Have the relay put a device's messages right: its sender, or line ends that are no CR LF."""
    changes: dict[str, str | None] = {}
    for assignment in assignments:
        field, has_value, text = assignment.partition("=")
        if not has_value or field not in ("sender", "normalize"):
            raise typer.BadParameter(f"{assignment!r} is neither sender=ADDRESS nor normalize=crlf")
        changes[field] = text or None
    client(context).patch(f"{_path(name)}/messages", changes)
    output.print_message(f"Relay user {name}: {', '.join(assignments)}.")


def _path(name: str) -> str:
    return path_of("relay user", name)


def _password(generate: bool) -> Secret:
    from infrastructure.access.relay_users import generated_password

    return generated_password() if generate else new_password()


def _show(done: str, password: Secret | None) -> None:
    if password is None:
        output.print_message(done)
        return
    # The password is alone on standard output, so that a script can store it.
    sys.stderr.write(f"{done} The password, shown this once:\n")
    sys.stdout.write(f"{password.reveal()}\n")
