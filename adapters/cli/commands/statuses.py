"""`mailtoken status`: the label of each setting's token, and why, since when and until when it shows that label."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from adapters.cli import output
from adapters.cli.context import CommandContext, client
from adapters.cli.http_client import Object, ServiceConnection
from adapters.cli.service_socket import CommandError, print_error, profile_path
from adapters.error_kinds import ExitCode
from adapters.texts import reasons
from adapters.texts.profile_fields import missing_text
from adapters.texts.store_attention import store_sentences, subjects
from adapters.texts.wording import Surface
from infrastructure.clock import instant_text, read_as_of

if TYPE_CHECKING:
    from infrastructure.queries.setting_status import SettingStatus

Statuses = list[Object]

_EVERY_SECONDS = 1.0


def status(
    context: typer.Context,
    profile: Annotated[str | None, typer.Argument(help="Show this setting only.")] = None,
    as_of: Annotated[
        str | None,
        typer.Option(metavar="INSTANT", help="Show the states at this ISO 8601 instant; in your time zone by default."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep the states up to date, until Ctrl-C.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Show no table; exit with 1 if a token needs a person.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Read the store instead of asking the service.")] = False,
) -> None:
    """Show the state of every token."""
    instant = _earlier(as_of) if as_of is not None else None
    if watch:
        if json or check or offline or as_of is not None:
            raise CommandError(ExitCode.USAGE, "--watch can't be combined with --json, --check, --offline or --as-of")
        _watch(client(context), profile)
        return
    in_need = check and not json
    if offline:
        state = {} if instant else _store_state_offline(context)
        statuses = _begun(_from_store(context, profile, instant, in_need=in_need))
        print_error("read from the store, without the service")
    else:
        statuses = _begun(_from_service(client(context), profile, instant, in_need=in_need))
        state = {} if instant else client(context).get("/api/v1/store")
    of_store = store_sentences(state, Surface.COMMAND) if state else []
    for sentence in of_store:
        print_error(sentence.text)
    if instant:
        print_error(f"as of {_local(instant)}: alarms of the running service are of now, and left out")
    waiting: Statuses = []
    wanted = _noting(statuses, waiting)
    if json:
        output.write_json_array(wanted)
    elif check:
        deque(wanted, maxlen=0)
    else:
        shown = list(wanted)
        _show(shown, instant or output.now())
        if profile is not None:
            _show_provider_words(shown[0])
    if check:
        _check(waiting, [sentence.code for sentence in of_store])


def _earlier(text: str) -> datetime | None:
    """The instant of `--as-of`, in the reader's time zone unless it says another; None if it is as of now."""
    with suppress(ValueError, OverflowError):
        text = datetime.fromisoformat(text).astimezone().isoformat(" ")
    return read_as_of(text, output.now(), "--as-of")


def _local(instant: datetime) -> str:
    return instant.astimezone().isoformat(" ", "seconds")


def _noting(statuses: Iterable[Object], waiting: Statuses) -> Iterator[Object]:
    """The statuses, each as soon as it is read; those that need a person are added to `waiting`."""
    for one in statuses:
        if one["attention"]:
            waiting.append(one)
        yield one


def _begun(statuses: Iterator[Object]) -> Iterator[Object]:
    """The statuses, of which the first has been read: from now on an error is one of the middle."""
    return chain(list(islice(statuses, 1)), statuses)


def _from_service(
    service: ServiceConnection, profile: str | None, instant: datetime | None, *, in_need: bool = False
) -> Iterator[Object]:
    """The statuses; with `in_need` those without attention are left out."""
    query = {"as_of": instant_text(instant) if instant else None}
    try:
        if profile is not None:
            yield service.get(f"{profile_path(profile)}/status", query)
        elif instant or in_need:
            yield from service.get("/api/v1/status", query | {"attention": "true" if in_need else None})
        else:
            yield from service.objects("/api/v1/status")
    except CommandError as error:
        if error.exit_code is ExitCode.UNREACHABLE:
            raise CommandError(error.exit_code, f"{error}, or read the store with --offline") from None
        raise


def _from_store(
    context: typer.Context, profile: str | None, instant: datetime | None, *, in_need: bool
) -> Iterator[Object]:
    from adapters import installation

    with installation.offline(CommandContext.of(context).config) as store:
        chosen: Iterable[SettingStatus]
        if instant and profile is not None:
            chosen = [store.history.status_as_of(profile, instant)]
        elif instant:
            chosen = store.audit.statuses_as_of(instant)
        elif profile is not None:
            chosen = [store.status(profile)]
        else:
            chosen = store.statuses_in_need() if in_need else store.statuses()
        for one in chosen:
            yield one.as_json()


def _store_state_offline(context: typer.Context) -> Object:
    """The state of the store as a whole, read without the service. An empty store may be a copy, which is said."""
    from adapters import installation

    with installation.offline(CommandContext.of(context).config) as store:
        if store.looks_new():
            print_error("the store has nothing yet, or is a copy without its -wal file, which has the newest changes")
        return store.store_state.now().as_json()


def _check(waiting: Statuses, of_store: Sequence[str]) -> None:
    if waiting:
        names = _some([one["profile"] for one in waiting])
        raise CommandError(ExitCode.FAILED, f"a person is needed for {_counted(waiting)}: {names}")
    if of_store:
        raise CommandError(ExitCode.FAILED, f"a person is needed for {subjects(of_store)}")


def _counted(waiting: Statuses) -> str:
    """The number of settings that need a person, and of causes, each with those that are not urgent yet."""
    settings = Counter(one["urgency"] for one in waiting)
    causes = Counter({one["cause"]: one["urgency"] for one in waiting}.values())
    return f"{_of(settings, 'setting')}, from {_of(causes, 'cause')}"


def _of(numbers: Mapping[str, int], noun: str) -> str:
    total = sum(numbers.values())
    soon = f" ({numbers['soon']} soon)" if numbers["soon"] else ""
    return f"{total} {noun}{'s' if total > 1 else ''}{soon}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


def _show(statuses: Statuses, at: datetime) -> None:
    if not statuses:
        output.print_message("There is no machine yet: mailtoken machine add NAME --catalogue sharp-bp")
        return
    if not output.out().is_terminal:
        output.show(_wide(statuses, at))
        return
    output.out().print(Group(_table(statuses, at), Text(), _summary(statuses)))


def _show_provider_words(one: Object) -> None:
    said = reasons.provider_said(one) if _why(one) else None
    if said:
        output.print_message(said)


def _table(statuses: Statuses, at: datetime) -> RenderableType:
    return _wide(statuses, at) if output.out().width >= output.WIDE else _narrow(statuses, at)


def _wide(statuses: Statuses, at: datetime) -> Table:
    table = output.table("Setting", "Token", "Account", "Since", "Until", "Why")
    table.columns[0].no_wrap = table.columns[3].no_wrap = table.columns[4].no_wrap = True
    for _, settings in _by_machine(statuses):
        if table.rows and output.out().is_terminal:
            table.add_row()
        for one in settings:
            table.add_row(
                Text(output.clean(one["profile"])),
                _token(one),
                _account(one),
                output.ago(one["since"], at),
                _until(one, at) or output.ABSENT,
                Text(output.clean(_why(one))),
            )
    return table


def _narrow(statuses: Statuses, at: datetime) -> RenderableType:
    parts: list[RenderableType] = []
    for machine, settings in _by_machine(statuses):
        grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        grid.add_column(overflow="fold", ratio=2, max_width=20)
        grid.add_column(overflow="fold", ratio=5)
        for one in settings:
            grid.add_row(Text(f"  {output.clean(one['setting'])}"), _block(one, at))
        parts += [*([Text()] if parts else []), Text(output.clean(machine), "bold"), grid]
    return Group(*parts)


def _block(one: Object, at: datetime) -> Text:
    block = Text.assemble(_token(one), "  ", _account(one))
    if one["provider"] or one["expires_at"]:
        end = _until(one, at)
        until = f", {end}" if one["renews_itself"] else f", until {end}" if end else ""
        block.append(f"\nsince {output.ago(one['since'], at)}{until}", "dim")
    if why := _why(one):
        block.append(f"\n{output.clean(why)}")
    block.no_wrap = False
    return block


def _by_machine(statuses: Statuses) -> Iterator[tuple[str, Iterator[Object]]]:
    return groupby(statuses, lambda one: str(one["machine"]))


def _why(one: Object) -> str | None:
    """The sentence of its reason; None while a new attempt is under way, since the reason is an earlier attempt's."""
    return reasons.why(one, Surface.COMMAND) if one["attention"] or not one["attempt_id"] else None


def _token(one: Object) -> Text:
    """The label, letter for letter, and what the setting lacks to be of use beside a token that works."""
    lacks = missing_text(one["missing"]) if one["token"] == output.RETRIEVED else None
    return Text.assemble(output.label(one["token"]), (f", {lacks}", "yellow") if lacks else "")


def _until(one: Object, at: datetime) -> str:
    """The end of the token, or that it renews itself; the expiry of such a token's access token is no end of it."""
    if one["renews_itself"]:
        return "renews itself"
    return output.ahead(one["ends_at"], at) if one["ends_at"] else ""


def _account(one: Object) -> Text:
    account, mailbox = one["account"], one["mailbox"]
    if not account:
        return Text("not filled in", "dim")
    return Text(output.clean(account if mailbox == account else f"{account} for {mailbox}"))


def _summary(statuses: Statuses) -> Text:
    counts = Counter(one["token"] for one in statuses)
    counted = ", ".join(f"{count} {token}" for token, count in counts.most_common())
    waiting = [one for one in statuses if one["attention"]]
    summary = Text(f"{len(statuses)} {'setting' if len(statuses) == 1 else 'settings'}: {counted}. ", "dim")
    if waiting:
        urgent = any(one["urgency"] == "now" for one in waiting)
        summary.append(f"A person is needed for {_counted(waiting)}.", "bold red" if urgent else "bold yellow")
    return summary


def _watch(service: ServiceConnection, profile: str | None) -> None:
    if not output.out().is_terminal:
        raise CommandError(ExitCode.USAGE, "--watch needs a terminal: use --json, or --check in a script")
    from rich.live import Live

    statuses = list(_from_service(service, profile, None))
    with Live(console=output.out(), screen=True, auto_refresh=False) as live:
        trouble = ""
        try:
            while True:
                live.update(_watched(statuses, trouble), refresh=True)
                time.sleep(_EVERY_SECONDS)
                statuses, trouble = _again(statuses, lambda: list(_from_service(service, profile, None)))
        except KeyboardInterrupt:
            return


def _again(statuses: Statuses, read: Callable[[], Statuses]) -> tuple[Statuses, str]:
    """The statuses read now; those before, with the error, while the service can't be reached."""
    try:
        return read(), ""
    except CommandError as error:
        if error.exit_code is not ExitCode.UNREACHABLE:
            raise
        return statuses, str(error)


def _watched(statuses: Statuses, trouble: str) -> RenderableType:
    at, console = output.now(), output.out()
    head = Text(f"mailtoken status, {at.astimezone():%H:%M:%S}", "bold")
    head.append("   Ctrl-C ends it", "dim")
    parts: list[RenderableType] = [head, Text(trouble, "bold red"), _summary(statuses), Text()]
    every = _table(statuses[: console.height], at)
    if len(statuses) <= console.height and len(console.render_lines(every)) <= console.height - len(parts):
        return Group(*parts, every)
    parts[3:] = [Text("There is no room for all: settings whose token works are left out.", "dim"), Text()]
    others = [one for one in statuses if one["token"] != output.RETRIEVED or one["attention"]]
    return Group(*parts, _table(others[: console.height], at))
