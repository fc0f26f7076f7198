"""`mailtoken status`: what each setting displays under "Token", and why, since when, until when."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from adapters import texts
from adapters.cli import screen
from adapters.cli.client import Client, Object
from adapters.cli.invocation import Invocation, client
from adapters.cli.wire import CommandError, ExitCode, profile_path, say
from infrastructure.clock import instant_text, read_instant

Statuses = list[Object]

_EVERY_SECONDS = 1.0


def status(
    context: typer.Context,
    profile: Annotated[str | None, typer.Argument(help="One setting; all of them without it.")] = None,
    as_of: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="As a reader at this ISO 8601 instant saw it; UTC by default.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it, until Ctrl-C.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if a token needs a person.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Read the store instead of asking the service.")] = False,
) -> None:
    """Show the state of every token."""
    instant = _instant(as_of) if as_of is not None else None
    if watch:
        if json or check or offline or instant:
            raise CommandError(ExitCode.USAGE, "--watch goes with none of --json, --check, --offline and --as-of")
        _watch(client(context), profile)
        return
    statuses = _stored(context, profile, instant) if offline else _asked(client(context), profile, instant)
    if json:
        screen.write_json(statuses)
    else:
        _show(statuses, instant or screen.now())
    if check:
        _check(statuses)


def _instant(text: str) -> datetime:
    try:
        return read_instant(text)
    except (ValueError, OverflowError):
        raise CommandError(
            ExitCode.USAGE, f"--as-of: {text!r} is not an ISO 8601 instant like 2026-11-22T09:30:00+00:00"
        ) from None


def _asked(service: Client, profile: str | None, instant: datetime | None) -> Statuses:
    query = {"as_of": instant_text(instant) if instant else None}
    try:
        if profile is not None:
            return [service.get(f"{profile_path(profile)}/status", query)]
        statuses: Statuses = service.get("/api/v1/status", query)
    except CommandError as error:
        if error.exit_code is ExitCode.UNREACHABLE:
            raise CommandError(error.exit_code, f"{error}, or read the store with --offline") from None
        raise
    return statuses


def _stored(context: typer.Context, profile: str | None, instant: datetime | None) -> Statuses:
    from adapters import bootstrap
    from infrastructure.status import named

    with bootstrap.offline(Invocation.of(context).config) as store:
        statuses = store.audit.statuses_as_of(instant) if instant else store.statuses()
    say("read from the store, without the service")
    chosen = [named(statuses, profile)] if profile is not None else statuses
    return [one.as_json() for one in chosen]


def _check(statuses: Statuses) -> None:
    needy = [one["profile"] for one in statuses if one["attention"]]
    if needy:
        raise CommandError(
            ExitCode.FAILED, f"a person is needed for {len(needy)} of {len(statuses)} settings: {_some(needy)}"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


def _show(statuses: Statuses, at: datetime) -> None:
    if not statuses:
        screen.tell("There is no machine yet: mailtoken machine add NAME --catalogue sharp-bp")
        return
    if not screen.out().is_terminal:
        screen.show(_wide(statuses, at))
        return
    screen.out().print(Group(_table(statuses, at), Text(), _summary(statuses)))


def _table(statuses: Statuses, at: datetime) -> RenderableType:
    return _wide(statuses, at) if screen.out().width >= screen.WIDE else _narrow(statuses, at)


def _wide(statuses: Statuses, at: datetime) -> Table:
    table = screen.table("Setting", "Token", "Account", "Since", "Until", "Why")
    table.columns[0].no_wrap = table.columns[3].no_wrap = table.columns[4].no_wrap = True
    for _, settings in _by_machine(statuses):
        if table.rows and screen.out().is_terminal:
            table.add_row()
        for one in settings:
            table.add_row(
                Text(screen.clean(one["profile"])),
                screen.label(one["token"]),
                _account(one),
                screen.ago(one["since"], at),
                screen.ahead(one["expires_at"], at) if one["expires_at"] else screen.ABSENT,
                Text(screen.clean(_why(one))),
            )
    return table


def _narrow(statuses: Statuses, at: datetime) -> RenderableType:
    parts: list[RenderableType] = []
    for machine, settings in _by_machine(statuses):
        grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        grid.add_column(overflow="fold", ratio=2, max_width=20)
        grid.add_column(overflow="fold", ratio=5)
        for one in settings:
            grid.add_row(Text(f"  {screen.clean(one['setting'])}"), _block(one, at))
        parts += [*([Text()] if parts else []), Text(screen.clean(machine), "bold"), grid]
    return Group(*parts)


def _block(one: Object, at: datetime) -> Text:
    block = Text.assemble(screen.label(one["token"]), "  ", _account(one))
    if one["provider"] or one["expires_at"]:
        until = f", until {screen.ahead(one['expires_at'], at)}" if one["expires_at"] else ""
        block.append(f"\nsince {screen.ago(one['since'], at)}{until}", "dim")
    if why := _why(one):
        block.append(f"\n{screen.clean(why)}")
    block.no_wrap = False
    return block


def _by_machine(statuses: Statuses) -> Iterator[tuple[str, Iterator[Object]]]:
    return groupby(statuses, lambda one: str(one["machine"]))


def _why(one: Object) -> str | None:
    """Not how an earlier attempt ended, while another one is under way."""
    return texts.why(one) if one["attention"] or not one["attempt_id"] else None


def _account(one: Object) -> Text:
    account, mailbox = one["account"], one["mailbox"]
    if not account:
        return Text("not filled in", "dim")
    return Text(screen.clean(account if mailbox == account else f"{account} for {mailbox}"))


def _summary(statuses: Statuses) -> Text:
    counts = Counter(one["token"] for one in statuses)
    counted = ", ".join(f"{count} {token}" for token, count in counts.most_common())
    needy = sum(bool(one["attention"]) for one in statuses)
    summary = Text(f"{len(statuses)} {'setting' if len(statuses) == 1 else 'settings'}: {counted}. ", "dim")
    if needy:
        summary.append(f"A person is needed for {needy}.", "bold red")
    return summary


def _watch(service: Client, profile: str | None) -> None:
    if not screen.out().is_terminal:
        raise CommandError(ExitCode.USAGE, "--watch needs a terminal: use --json, or --check in a script")
    from rich.live import Live

    statuses = _asked(service, profile, None)
    with Live(console=screen.out(), screen=True, auto_refresh=False) as live:
        trouble = ""
        try:
            while True:
                live.update(_watched(statuses, trouble), refresh=True)
                time.sleep(_EVERY_SECONDS)
                statuses, trouble = _again(statuses, lambda: _asked(service, profile, None))
        except KeyboardInterrupt:
            return


def _again(statuses: Statuses, read: Callable[[], Statuses]) -> tuple[Statuses, str]:
    """What is there now; what was there before, and why, while the service does not answer."""
    try:
        return read(), ""
    except CommandError as error:
        if error.exit_code is not ExitCode.UNREACHABLE:
            raise
        return statuses, str(error)


def _watched(statuses: Statuses, trouble: str) -> RenderableType:
    at, console = screen.now(), screen.out()
    head = Text(f"mailtoken status, {at.astimezone():%H:%M:%S}", "bold")
    head.append("   Ctrl-C ends it", "dim")
    parts: list[RenderableType] = [head, Text(trouble, "bold red"), _summary(statuses), Text()]
    every = _table(statuses[: console.height], at)
    if len(statuses) <= console.height and len(console.render_lines(every)) <= console.height - len(parts):
        return Group(*parts, every)
    parts[3:] = [Text("Not all of them fit here: those that work are left out.", "dim"), Text()]
    others = [one for one in statuses if one["token"] != screen.RETRIEVED or one["attention"]]
    return Group(*parts, _table(others[: console.height], at))
