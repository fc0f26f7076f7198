"""`mailtoken token`: get, show, renew, cancel and delete."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Annotated

import typer

from adapters.cli import screen
from adapters.cli.asking import check_answerable, confirm, linked_with, setting_status
from adapters.cli.client import Client, Object
from adapters.cli.invocation import Invocation, client
from adapters.cli.profiles import Name
from adapters.cli.redirect import listen
from adapters.cli.show import MECHANISMS, Wanted
from adapters.cli.show import run as run_show
from adapters.cli.wire import CommandError, ExitCode, profile_path

app = typer.Typer(help="Get, show, renew, cancel and delete tokens.", no_args_is_help=True)

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
    yes: Yes = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the code and return; the service waits.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print an object: the code with --no-wait, else how it ended.")
    ] = False,
) -> None:
    """Get a token: shows a code and where to enter it, and waits until somebody has signed in."""
    from adapters.cli import acquisition

    check_answerable(yes)
    service = client(context)
    status = setting_status(service, profile)
    linked = linked_with(service, status)
    # Without them the service refuses, and says what to fill in.
    if not yes and status["account"] and status["provider"]:
        confirm(_get_message(status, linked), "Get the token?")
    with ExitStack() as listening:
        redirects = None
        if _comes_back_here(service, flow, status["provider"]):
            redirects = listening.enter_context(listen())
        started = service.post(
            f"{profile_path(profile)}/token",
            {"flow": flow, "redirect_uri": redirects and redirects.redirect_uri},
        )
        if no_wait:
            if json:
                screen.write_json({field: started[field] for field in _PRINTED})
            elif started["flow"] != "app":
                acquisition.show_code(screen.out(), started)
            return
        console = screen.err() if json else screen.out()
        ended = (
            setting_status(service, profile)
            if started["flow"] == "app"
            else acquisition.wait(service, started, status["account"], console, redirects)
        )
    if json:
        screen.write_json(ended)
    acquisition.judge(ended, started["attempt_id"])
    if not json:
        acquisition.show_success(ended, linked)


def _comes_back_here(service: Client, flow: str | None, provider: str | None) -> bool:
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
    screen.tell(f"{profile}: {after['token']}.")


def _get_message(status: Object, linked: list[str]) -> str:
    account, provider = screen.clean(status["account"]), screen.clean(status["provider"])
    message = f"{screen.clean(status['profile'])} will use the account {account} at {provider}.{_in_concert(linked)}"
    if status["token"] == screen.RETRIEVED:
        message += "\nThe token that is there goes on working until the new one is in."
    return message


def _in_concert(linked: list[str]) -> str:
    names = "".join(f"\n  {screen.clean(name)}" for name in linked)
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
    raise typer.Exit(run_show(Wanted(profile, Invocation.of(context).config_option, seconds, sasl, json)))


@app.command()
def renew(context: typer.Context, profile: Name) -> None:
    """Renew a token now, whatever is left of it."""
    after = client(context).post(f"{profile_path(profile)}/token/renew")
    until = f", access token until {screen.ahead(after['expires_at'], screen.now())}" if after["expires_at"] else ""
    screen.tell(f"{profile}: {after['token']}{until}.")


@app.command()
def cancel(context: typer.Context, profile: Name) -> None:
    """End the sign-in that is under way; a token that works goes on working."""
    after = client(context).post(f"{profile_path(profile)}/token/cancel")
    screen.tell(f"{profile}: {after['token']}. No sign-in is under way.")


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
        screen.tell(f"{name}: Not Retrieved.")
    if deletion["revoked"]:
        screen.tell("The provider was told, and has forgotten the authorization.")


def _delete_message(status: Object, linked: list[str], spared: list[str]) -> str:
    name, account = screen.clean(status["profile"]), screen.clean(status["account"])
    whose = f" of {account}" if status["account"] else ""
    message = f"The token{whose} is deleted for good: {name} has none until a new one is there.{_in_concert(linked)}"
    if spared:
        names = "".join(f"\n  {screen.clean(one)}" for one in spared)
        message += f"\nThe provider is not told to forget the account, for that could end the tokens of:{names}"
    return message
