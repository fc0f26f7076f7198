"""`mailtoken provider`: the authorization servers in the configuration, and what is wrong with a registration."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer
from rich.text import Text

from adapters.cli import output
from adapters.cli.context import client
from adapters.cli.http_client import Object
from adapters.cli.service_socket import print_error
from adapters.error_kinds import ExitCode
from adapters.texts.provider_check import finding_text, remedy_text, step_text
from adapters.texts.wording import Surface

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
        output.write_json(providers)
        return
    fields = ("name", "kind", "authority", "client_id")
    output.show(
        output.rows(("Provider", "Kind", "Authority", "Client id"), ([one[f] for f in fields] for one in providers))
    )
    for one in providers:
        for credential, code in one["refused"].items():
            output.print_message(f"{one['name']} refuses {credential} ({code}); another one works: replace it.")


@app.command()
def check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A provider of the configuration.")],
    json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Check all of a client registration that can be seen from outside, with a remedy for what is wrong."""
    report = client(context).post(f"/api/v1/providers/{quote(name, safe='')}/check")
    if json:
        output.write_json(report)
    else:
        _show(report)
    if not report["ok"]:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def rename(
    context: typer.Context,
    old: Annotated[str, typer.Argument(help="The name that settings have.")],
    new: Annotated[str, typer.Argument(help="The name that the configuration has.")],
) -> None:
    """Have settings and tokens follow a provider that has another name in the configuration."""
    renamed = client(context).post(f"/api/v1/providers/{quote(old, safe='')}/rename", {"name": new})
    output.print_message(f"{len(renamed['profiles'])} settings have the provider {new} now; their tokens stay.")
    for key in renamed["stale"]:
        print_error(f"{key} in the configuration still names {old}: correct it")


def _show(report: Object) -> None:
    for item in report["items"]:
        sign, style = _SIGNS[item["state"]]
        detail = finding_text(item["code"], item["fields"], Surface.COMMAND)
        output.show(Text.assemble((f"{sign} {item['state']:<12}", style), f"{item['name']}: {detail}"))
        if item["remedy_code"]:
            remedy = remedy_text(item["remedy_code"], item["fields"], Surface.COMMAND)
            output.show(Text(f"  {'':<12}{remedy}", "bold"))
    output.show(Text("\nTo set it up:"))
    for number, step in enumerate(report["step_codes"], start=1):
        output.show(Text(f"{number:>2}. {step_text(step['code'], step['fields'], Surface.COMMAND)}"))
    output.show(Text("\nA firewall must let through:"))
    for host in report["hosts"]:
        output.show(Text(f"    {host}"))


_SIGNS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red"), "not checked": ("-", "dim")}
