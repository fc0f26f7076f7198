"""`mailtoken token`: get, code, show, renew, cancel and delete."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Annotated

import typer

from adapters.cli import output
from adapters.cli.commands.profiles import Name
from adapters.cli.context import CommandContext, client
from adapters.cli.http_client import Object, ServiceConnection
from adapters.cli.loopback_redirect import listen
from adapters.cli.prompts import check_answerable, confirm, linked_with, setting_status
from adapters.cli.service_socket import CommandError, profile_path
from adapters.cli.token_show import MECHANISMS, Wanted
from adapters.cli.token_show import run as run_show
from adapters.error_kinds import ExitCode

app = typer.Typer(
    help="Get, show, renew, cancel and delete tokens; show a sign-in under way again.", no_args_is_help=True
)

_PRINTED = (
    "profile",
    "flow",
    "user_code",
    "verification_uri",
    "verification_uri_complete",
    "authorization_uri",
    "expires_at",
)

Yes = Annotated[bool, typer.Option("--yes", help="Answer the confirmation with yes.")]


@app.command()
def get(
    context: typer.Context,
    profile: Name,
    flow: Annotated[
        str | None,
        typer.Option(help="device, browser or app; by default what the provider has first.", show_default=False),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="The account's address, if it has changed or the account was made anew: it is taken over.",
            show_default=False,
        ),
    ] = None,
    yes: Yes = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the code and return; the service waits.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print an object: the code with --no-wait, else how it ended.")
    ] = False,
) -> None:
    """Get a token: shows a code and where to enter it, and waits until somebody has signed in."""
    from adapters.cli import sign_in_progress

    check_answerable(yes)
    service = client(context)
    status = setting_status(service, profile)
    linked = linked_with(service, status)
    if status["attempt_id"] and not yes:
        _continue(service, profile, status, linked)
        return
    # Without an account and a provider the service refuses, and its error names the missing fields.
    if not yes and status["account"] and status["provider"]:
        confirm(_get_message({**status, "account": account or status["account"]}, linked), "Get the token?")
    with ExitStack() as listening:
        redirects = None
        if _comes_back_here(service, flow, status["provider"]):
            redirects = listening.enter_context(listen())
        started = service.post(
            f"{profile_path(profile)}/token",
            {"flow": flow, "redirect_uri": redirects and redirects.redirect_uri, "account": account},
        )
        if no_wait:
            _show_started(started, json=json)
            if started["flow"] == "app":
                sign_in_progress.judge(setting_status(service, profile), started["attempt_id"])
            return
        console = output.err() if json else output.out()
        ended = sign_in_progress.wait(service, started, account or status["account"], console, redirects)
    if json:
        output.write_json(ended)
    sign_in_progress.judge(ended, started["attempt_id"])
    if not json:
        sign_in_progress.show_success(ended, linked)


def _continue(service: ServiceConnection, profile: str, status: Object, linked: list[str]) -> None:
    """Offer to show the sign-in under way again, and wait for it."""
    from adapters.cli import sign_in_progress

    started = service.get(f"{profile_path(profile)}/token/attempt")
    confirm(
        f"A sign-in for {output.clean(profile)} is under way already"
        f" (mailtoken token code {output.clean(profile)} shows it, mailtoken token cancel ends it).",
        "Show it again and wait?",
    )
    ended = sign_in_progress.wait(service, started, status["account"], output.out())
    sign_in_progress.judge(ended, started["attempt_id"])
    sign_in_progress.show_success(ended, linked)


def _show_started(started: Object, *, json: bool) -> None:
    from adapters.cli import sign_in_progress

    if json:
        output.write_json({field: started[field] for field in _PRINTED})
    elif started["flow"] != "app":
        sign_in_progress.show_code(output.out(), started)


@app.command()
def code(
    context: typer.Context,
    profile: Name,
    json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Show the code and link of the sign-in that is under way, again."""
    _show_started(client(context).get(f"{profile_path(profile)}/token/attempt"), json=json)


def _comes_back_here(service: ServiceConnection, flow: str | None, provider: str | None) -> bool:
    """Whether a browser will come back to this command: it is to sign in, and the service has no callback itself."""
    known = {one["name"]: one for one in service.get("/api/v1/providers")}
    if provider not in known:
        return False
    return (flow or known[provider]["flows"][0]) == "browser" and not known[provider]["callback"]


@app.command()
def redirect(context: typer.Context, profile: Name) -> None:
    """Finish a browser sign-in: reads the address where the browser ended from standard input."""
    url = sys.stdin.readline().strip()
    if not url:
        raise CommandError(ExitCode.USAGE, "paste the whole address where the browser ended on standard input")
    after = client(context).post(f"{profile_path(profile)}/token/redirect", {"redirected_to": url})
    output.print_message(f"{profile}: {after['token']}.")


def _get_message(status: Object, linked: list[str]) -> str:
    account, provider = output.clean(status["account"]), output.clean(status["provider"])
    message = f"{output.clean(status['profile'])} will use the account {account} at {provider}.{_in_concert(linked)}"
    if status["token"] == output.RETRIEVED:
        message += "\nThe token that is there goes on working until the new one is in."
    return message


def _in_concert(linked: list[str]) -> str:
    names = "".join(f"\n  {output.clean(name)}" for name in linked)
    return f"\nThese linked settings are updated in concert:{names}" if linked else ""


@app.command()
def show(
    context: typer.Context,
    profile: Name,
    min_ttl: Annotated[
        int | None, typer.Option(min=0, metavar="SECONDS", help="How long it has to go on working, at least.")
    ] = None,
    sasl: Annotated[
        str | None, typer.Option(metavar="|".join(MECHANISMS), help="Print the SASL initial response in its place.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Print the access token alone, for a mail program; renewed first if it ends soon."""
    if sasl not in (None, *MECHANISMS):
        raise CommandError(ExitCode.USAGE, f"--sasl: {sasl!r} is not {' or '.join(MECHANISMS)}")
    if sasl and json:
        raise CommandError(ExitCode.USAGE, "--sasl and --json don't go together: leave one out")
    seconds = None if min_ttl is None else str(min_ttl)
    raise typer.Exit(run_show(Wanted(profile, CommandContext.of(context).config_option, seconds, sasl, json)))


@app.command()
def renew(context: typer.Context, profile: Name) -> None:
    """Renew a token now, whatever is left of it."""
    after = client(context).post(f"{profile_path(profile)}/token/renew")
    until = f", access token until {output.ahead(after['expires_at'], output.now())}" if after["expires_at"] else ""
    output.print_message(f"{profile}: {after['token']}{until}.")


@app.command()
def cancel(context: typer.Context, profile: Name) -> None:
    """End the sign-in that is under way; a token that works goes on working."""
    after = client(context).post(f"{profile_path(profile)}/token/cancel")
    output.print_message(f"{profile}: {after['token']}. No sign-in is under way.")


@app.command()
def delete(context: typer.Context, profile: Name, yes: Yes = False) -> None:
    """Delete a token for good, for every setting that uses it."""
    check_answerable(yes)
    service = client(context)
    if not yes:
        status = setting_status(service, profile)
        preview = service.get(f"{profile_path(profile)}/token/deletion")
        confirm(_delete_message(status, linked_with(service, status), preview["spared"]), "Delete the token?")
    deletion = service.delete(f"{profile_path(profile)}/token")
    for name in deletion["profiles"]:
        output.print_message(f"{name}: Not Retrieved.")
    if deletion["revoked"]:
        output.print_message("The provider was told, and has forgotten the authorization.")


def _delete_message(status: Object, linked: list[str], spared: list[str]) -> str:
    name, account = output.clean(status["profile"]), output.clean(status["account"])
    whose = f" of {account}" if status["account"] else ""
    message = f"The token{whose} is deleted for good: {name} has none until a new one is there.{_in_concert(linked)}"
    if spared:
        names = "".join(f"\n  {output.clean(one)}" for one in spared)
        message += f"\nThe provider is not told to forget the account, for that could end the tokens of:{names}"
    return message
