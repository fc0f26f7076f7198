"""Waiting for a person to sign in: the code, the link, a QR code, and what is left of the time.

The service does the waiting; this only watches, and may go away at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from rich.align import Align
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from adapters import texts
from adapters.cli import screen
from adapters.cli.asking import setting_status
from adapters.cli.client import Client, Object
from adapters.cli.redirect import Redirects
from adapters.cli.wire import CommandError, ExitCode, profile_path
from domain.outcomes import Reason

_EVERY_SECONDS = 1.0
_LAST_MOMENT = timedelta(seconds=3)
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_GAP = 3
_QUIET_MODULES = 2
"""The light margin of a QR code; readers want four at most, and are content with two."""


def show_code(console: Console, started: Object) -> None:
    """Say in plain lines where to enter which code."""
    uri, complete = started["verification_uri"], started["verification_uri_complete"]
    if started["authorization_uri"]:
        lines = [f"Open {started['authorization_uri']}"]
    else:
        lines = [f"Open {uri} and enter the code {started['user_code']}"]
    if complete:
        lines.append(f"or open {complete}")
    lines.append(f"This is good until {screen.ahead(started['expires_at'], screen.now())}.")
    for line in lines:
        console.print(Text(screen.clean(line)), soft_wrap=True)


def wait(
    service: Client, started: Object, account: str, console: Console, redirects: Redirects | None = None
) -> Object:
    """Watch until the attempt is over, and pass on what a browser brings back; the setting's status then.

    Raises:
        CommandError: interrupted by the person; the attempt goes on.
    """
    try:
        if not console.is_terminal:
            show_code(console, started)
            console.print("Waiting for authorisation ...")
            console.file.flush()
            return _watch(service, started, redirects, lambda _: None)
        sight = _Sight(console, started, account)
        with Live(get_renderable=sight.draw, console=console, refresh_per_second=8, transient=True):
            return _watch(service, started, redirects, sight.note)
    except KeyboardInterrupt:
        name = started["profile"]
        raise CommandError(
            ExitCode.INTERRUPTED,
            f"the sign-in goes on without this command: mailtoken status {name} shows how it ends,"
            f" mailtoken token cancel {name} ends it",
        ) from None


def _watch(service: Client, started: Object, redirects: Redirects | None, note: Callable[[str], None]) -> Object:
    """Ask about once a second. A service that does not answer may be restarting: the attempt survives that."""
    deadline = datetime.fromisoformat(started["expires_at"])
    while True:
        if redirects and (url := redirects.take()):
            note(_pass_on(service, started["profile"], url))
        try:
            status = setting_status(service, started["profile"])
            if status["attempt_id"] != started["attempt_id"] and not _may_be_read_yet(status, deadline):
                return status
            if not redirects:
                note("")
        except CommandError as error:
            if error.exit_code is not ExitCode.UNREACHABLE or screen.now() > deadline:
                raise
            note(str(error))
        time.sleep(_EVERY_SECONDS)


def _pass_on(service: Client, profile: str, url: str) -> str:
    """Give the service what the browser was sent back with; what is wrong with it, or nothing."""
    try:
        service.post(f"{profile_path(profile)}/token/redirect", {"redirected_to": url})
    except CommandError as error:
        return str(error)
    return ""


def _may_be_read_yet(status: Object, deadline: datetime) -> bool:
    """Whether a reply that came in time, at the last moment, may still be on its way into the store."""
    return status["reason"] == Reason.EXPIRED_TOKEN and screen.now() < deadline + _LAST_MOMENT


def judge(status: Object, attempt_id: str) -> None:
    """See whether it was this attempt that brought what is there.

    Raises:
        CommandError: it was not; says why.
    """
    if status["retrieved_by"] == attempt_id:
        return
    name, why = status["profile"], texts.why({**status, "attention": None})
    if status["attempt_id"]:
        why = "This sign-in is over: another one was begun."
    elif not why:
        why = f"This sign-in is over and the token is {status['token']}: see mailtoken audit log {name}."
    elif status["token"] == screen.RETRIEVED:
        why += " The token that was there goes on working."
    raise CommandError(ExitCode.FAILED, f"{name}: {why}")


def show_success(status: Object, linked: list[str]) -> None:
    """Say what there is now."""
    until = f", access token until {screen.ahead(status['expires_at'], screen.now())}" if status["expires_at"] else ""
    who = f"{screen.clean(status['profile'])}, {screen.clean(status['account'])}"
    screen.show(Text.assemble(screen.label(status["token"]), f"  {who}{until}"))
    for name in linked:
        screen.show(Text.assemble(screen.label(status["token"]), f"  {screen.clean(name)}, in concert"))


class _Sight:
    """What the person sees while waiting."""

    def __init__(self, console: Console, started: Object, account: str) -> None:
        self._console = console
        self._started = {field: screen.clean(value) if value else "" for field, value in started.items()}
        self._account = account
        self._trouble = ""
        uri = self._started["verification_uri_complete"] or self._started["verification_uri"]
        # A browser has to come back to this machine, so a telephone would not do.
        self._code = _qr_code(uri) if uri else []

    def note(self, trouble: str) -> None:
        """Take why the service does not answer; nothing if it does."""
        self._trouble = trouble

    def draw(self) -> RenderableType:
        """All of it, as of now."""
        parts: list[RenderableType] = [Text(), self._with_qr_code(self._steps()), Text(), self._state()]
        if self._trouble:
            parts.append(Text(self._trouble, "red"))
        return Group(*parts)

    def _steps(self) -> RenderableType:
        uri = self._started["verification_uri"] or self._started["authorization_uri"]
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row("Open", Text(uri, f"bold underline link {uri}"))
        if self._started["user_code"]:
            code = Panel(Text(self._started["user_code"], "bold"), padding=(1, 4), expand=False, border_style="green")
            grid.add_row("\n\nEnter", code)
        else:
            grid.add_row("", Text("in a browser on this machine, or elsewhere and paste here where it ended", "dim"))
        grid.add_row("Sign in", Text(f"as {screen.clean(self._account)}, and approve"))
        grid.add_row("For", Text(self._started["profile"]))
        return grid

    def _with_qr_code(self, steps: RenderableType) -> RenderableType:
        """Beside the steps or below them, where there is room; a QR code without colours can't be relied on."""
        console, code = self._console, self._code
        side = len(code)
        if not code or console.no_color or not console.color_system or console.options.ascii_only:
            return steps
        picture = _picture(code)
        if console.width >= side + console.measure(steps).maximum + _GAP:
            grid = Table.grid(padding=(0, _GAP, 0, 0))
            grid.add_row(picture, Align(steps, vertical="middle"))
            return grid
        height = len(console.render_lines(steps)) + (side + 1) // 2 + 4
        return Group(steps, Text(), picture) if side <= console.width and height <= console.height else steps

    def _state(self) -> RenderableType:
        left = (datetime.fromisoformat(self._started["expires_at"]) - screen.now()).total_seconds()
        turn = _SPINNER[int(time.monotonic() * 8) % len(_SPINNER)]
        state = Text.assemble((f"{turn} Waiting for authorisation", "yellow"), f"   {screen.countdown(left)} left")
        state.append("   Ctrl-C only stops watching", "dim")
        return state


def _qr_code(uri: str) -> list[list[bool]]:
    """The dark modules, row by row, with a light margin."""
    import segno

    code: Any = segno.make(uri, error="l", micro=False)
    return [[bool(module) for module in row] for row in code.matrix_iter(border=_QUIET_MODULES)]


def _picture(code: list[list[bool]]) -> Text:
    """Two rows of modules in one of characters, dark on light whatever the terminal's colours are."""
    blank = [False] * len(code)
    lines = (
        "".join(" ▄▀█"[2 * above + below] for above, below in zip(upper, lower, strict=True))
        for upper, lower in zip(code[::2], [*code[1::2], blank], strict=False)
    )
    return Text("\n".join(lines), "black on bright_white", no_wrap=True)
