"""`mailtoken provider`: the authorization servers, of the configuration file and of the store, and their checks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from adapters.cli import output, prompts
from adapters.cli.commands.profiles import read_changes
from adapters.cli.context import client
from adapters.cli.http_client import Object
from adapters.cli.service_socket import CommandError, print_error, segment
from adapters.error_kinds import ExitCode
from adapters.texts.provider_check import finding_text, remedy_text, step_text
from adapters.texts.provider_fields import provider_accepted
from adapters.texts.wording import Surface
from domain.provider_fields import KINDS, PROVIDER_FIELDS, PROVIDER_SECRETS

app = typer.Typer(no_args_is_help=True)


@app.callback()
def provider() -> None:
    """List the providers, check a registration, and add, change and remove those in the store."""


def _fields_help() -> str:
    accepted = ((name, provider_accepted(name)) for name in PROVIDER_FIELDS)
    fields = ", ".join(f"{name} ({what})" if what else name for name, what in accepted)
    return f"{fields}. An empty value clears the field."


Name = Annotated[str, typer.Argument(help="A provider in the store.")]
Asked = Annotated[
    bool,
    typer.Option("--client-secret", help="Upload the client secret: typed at the terminal, or one line of input."),
]
SecretFile = Annotated[Path | None, typer.Option("--client-secret-file", help="Upload the client secret in this file.")]
CertificateFile = Annotated[
    Path | None,
    typer.Option("--certificate-file", help="Upload the certificate and private key in this file (PEM)."),
]
AccountFile = Annotated[
    Path | None, typer.Option("--service-account-file", help="Upload the service account's key in this file (JSON).")
]


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name that settings will have.")],
    fields: Annotated[
        list[str], typer.Argument(metavar="FIELD=VALUE", help=f"kind ({', '.join(KINDS)}), {_fields_help()}")
    ],
    client_secret: Asked = False,
    client_secret_file: SecretFile = None,
    certificate_file: CertificateFile = None,
    service_account_file: AccountFile = None,
) -> None:
    """Add a provider to the store; it is used at once, without a restart."""
    texts = read_changes(fields)
    if "kind" not in texts:
        raise CommandError(ExitCode.USAGE, f"kind= is missing: {', '.join(KINDS)}")
    files = (client_secret_file, certificate_file, service_account_file)
    body = {
        "name": name,
        "kind": texts.pop("kind"),
        "fields": texts,
        "secrets": _secrets(*files, is_asked=client_secret),
    }
    client(context).post("/api/v1/providers", body)
    output.print_message(f"{name} is added. Next: mailtoken provider check {name}")


@app.command("set")
def fill_in(
    context: typer.Context,
    name: Name,
    fields: Annotated[list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...", help=_fields_help())] = None,
    client_secret: Asked = False,
    client_secret_file: SecretFile = None,
    certificate_file: CertificateFile = None,
    service_account_file: AccountFile = None,
    remove_secret: Annotated[
        list[str] | None, typer.Option("--remove-secret", help=f"Remove a secret: {', '.join(PROVIDER_SECRETS)}.")
    ] = None,
) -> None:
    """Change fields and secrets of a provider in the store; a changed registration ends the sign-ins under way."""
    texts = read_changes(fields or [])
    files = (client_secret_file, certificate_file, service_account_file)
    secrets: dict[str, str | None] = {**dict.fromkeys(remove_secret or ()), **_secrets(*files, is_asked=client_secret)}
    if not texts and not secrets:
        raise CommandError(ExitCode.USAGE, "nothing to change: give field=value, or a secret")
    after = client(context).patch(_path(name), {"fields": texts, "secrets": secrets})
    for field in texts:
        output.print_message(f"{name}: {field} = {output.clean(after['fields'].get(field))}")
    for secret, value in secrets.items():
        output.print_message(f"{name}: {secret} {'removed' if value is None else 'uploaded'}")


@app.command()
def show(
    context: typer.Context,
    name: Name,
    json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Show a provider in the store, without its secrets."""
    held = client(context).get(_path(name))
    if json:
        output.write_json(held)
        return
    lines = Text()
    secrets = {one["name"]: "uploaded" if one["uploaded"] else "to be uploaded" for one in held["secrets"]}
    for field, value in {"kind": held["kind"], **held["fields"], **secrets}.items():
        lines.append(f"{field:<22}", "dim")
        lines.append(f"{output.clean(value)}\n")
    if not held["in_use"]:
        lines.append("It is not in use: mailtoken status says why.\n")
    lines.rstrip()
    output.show(lines)


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Remove a provider from the store with its secrets; refused while settings or tokens have it."""
    client(context).delete(_path(name))
    output.print_message(f"{name} is removed.")


def _path(name: str) -> str:
    return f"/api/v1/providers/{segment(name)}"


def _secrets(
    client_secret: Path | None, certificate: Path | None, service_account: Path | None, *, is_asked: bool
) -> dict[str, str]:
    """The secrets to upload, read here: the service reads no file that a client names."""
    files = {"client_secret": client_secret, "certificate": certificate, "service_account": service_account}
    secrets = {name: _content(file) for name, file in files.items() if file}
    if is_asked:
        if client_secret:
            raise CommandError(ExitCode.USAGE, "give --client-secret or --client-secret-file, not both")
        secrets["client_secret"] = prompts.new_client_secret().reveal()
    return secrets


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise CommandError(ExitCode.USAGE, f"{file}: can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise CommandError(ExitCode.USAGE, f"{file}: not UTF-8 text; a certificate is given as PEM") from None


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
    headings = ("Provider", "Kind", "Authority", "Client id", "In")
    fields = ("name", "kind", "authority", "client_id")
    rows = ([*(one[f] for f in fields), "store" if one["stored"] else "file"] for one in providers)
    output.show(output.rows(headings, rows))
    for one in providers:
        for credential, code in one["refused"].items():
            output.print_message(f"{one['name']} refuses {credential} ({code}); another one works: replace it.")


@app.command()
def check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A provider.")],
    json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Check all of a client registration that can be seen from outside, with a remedy for what is wrong."""
    report = client(context).post(f"{_path(name)}/check")
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
    new: Annotated[str, typer.Argument(help="The name that the provider gets, or has in the file.")],
) -> None:
    """Rename a provider in the store, or have settings follow one that has another name in the configuration file."""
    renamed = client(context).post(f"{_path(old)}/rename", {"name": new})
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
