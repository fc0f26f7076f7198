"""`mailtoken provider`: the authorization servers in the configuration, and what is wrong with a registration."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer
from rich.text import Text

from adapters.cli import screen
from adapters.cli.client import Object
from adapters.cli.invocation import client
from adapters.cli.wire import ExitCode

app = typer.Typer(no_args_is_help=True)


@app.callback()
def provider() -> None:
    """List the providers of the configuration, and check a registration."""


@app.command("list")
def list_all(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
) -> None:
    """List the providers and our client registrations there."""
    providers = client(context).get("/api/v1/providers")
    if json:
        screen.write_json(providers)
        return
    fields = ("name", "kind", "authority", "client_id")
    screen.show(
        screen.rows(("Provider", "Kind", "Authority", "Client id"), ([one[f] for f in fields] for one in providers))
    )
    for one in providers:
        for credential, code in one["refused"].items():
            screen.tell(f"{one['name']} refuses {credential} ({code}); another one works: replace it.")


@app.command()
def check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A provider of the configuration.")],
    json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Check all of a client registration that can be seen from outside, with a remedy for what is wrong."""
    report = client(context).post(f"/api/v1/providers/{quote(name, safe='')}/check")
    if json:
        screen.write_json(report)
    else:
        _show(report)
    if not report["ok"]:
        raise typer.Exit(ExitCode.FAILED)


def _show(report: Object) -> None:
    for item in report["items"]:
        sign, style = _SIGNS[item["state"]]
        screen.show(Text.assemble((f"{sign} {item['state']:<12}", style), f"{item['name']}: {item['detail']}"))
        if item["remedy"]:
            screen.show(Text(f"  {'':<12}{item['remedy']}", "bold"))
    screen.show(Text("\nTo set it up:"))
    for number, step in enumerate(report["steps"], start=1):
        screen.show(Text(f"{number:>2}. {step}"))
    screen.show(Text("\nA firewall must let through:"))
    for host in report["hosts"]:
        screen.show(Text(f"    {host}"))


_SIGNS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red"), "not checked": ("-", "dim")}
