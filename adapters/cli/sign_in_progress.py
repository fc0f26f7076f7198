"""Waiting for a person to sign in: the code, the link, a QR code, and the time left.

The service waits for the provider. The command only watches, and may end at any time.
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

from adapters.cli import output
from adapters.cli.http_client import Object, ServiceConnection
from adapters.cli.loopback_redirect import Redirects
from adapters.cli.prompts import setting_status
from adapters.cli.service_socket import CommandError, profile_path
from adapters.error_kinds import ExitCode
from adapters.texts import reasons
from adapters.texts.wording import Surface
from domain.outcomes import Reason

_EVERY_SECONDS = 1.0
_LAST_MOMENT = timedelta(seconds=3)
_UNTIL_RECORDED = timedelta(seconds=30)
"""The longest wait for the record of why the requests of a sign-in failed, after its time has run out."""
_SIGN_IN_ALARMS = frozenset({"sign_in_failing", "client_registration", "reply_in_doubt", "unknown_error"})
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_GAP = 3
_QUIET_MODULES = 2
"""The light margin of a QR code; the standard asks for four modules, and readers manage with two."""


def show_code(console: Console, started: Object) -> None:
    """Say in plain lines where to enter which code."""
    uri, complete = started["verification_uri"], started["verification_uri_complete"]
    if started["authorization_uri"]:
        lines = [f"Open {started['authorization_uri']}"]
    else:
        lines = [f"Open {uri} and enter the code {started['user_code']}"]
    if complete:
        lines.append(f"or open {complete}")
    lines.append(f"This is good until {output.ahead(started['expires_at'], output.now())}.")
    for line in lines:
        console.print(Text(output.clean(line)), soft_wrap=True)


def wait(
    service: ServiceConnection,
    started: Object,
    account: str,
    console: Console,
    redirects: Redirects | None = None,
    *,
    ctrl_c: str = "only stops watching",
) -> Object:
    """Watch until the attempt is over, and pass on what a browser brings back; the setting's status then.

    `ctrl_c` says what Ctrl-C does.

    Raises:
        CommandError: interrupted by the person; the attempt goes on.
    """
    try:
        if not console.is_terminal:
            if started["flow"] != "app":
                show_code(console, started)
            console.print("Waiting for authorisation ...")
            console.file.flush()
            return _watch(service, started, redirects, _Lines(console).note)
        sight = _Sight(console, started, account, ctrl_c)
        with Live(get_renderable=sight.draw, console=console, refresh_per_second=8, transient=True):
            return _watch(service, started, redirects, sight.note)
    except KeyboardInterrupt:
        name = started["profile"]
        raise CommandError(
            ExitCode.INTERRUPTED,
            f"the sign-in goes on without this command: mailtoken status {name} shows how it ends,"
            f" mailtoken token cancel {name} ends it",
        ) from None


def _watch(
    service: ServiceConnection, started: Object, redirects: Redirects | None, note: Callable[[str], None]
) -> Object:
    """Ask about once a second. A service that does not answer may be restarting: the attempt survives that."""
    deadline = datetime.fromisoformat(started["expires_at"])
    trouble = ""
    while True:
        if redirects and (url := redirects.take()):
            note(_pass_on(service, started["profile"], url))
        try:
            status = setting_status(service, started["profile"])
            if status["attempt_id"] == started["attempt_id"]:
                trouble = _trouble(status)
            elif not _may_be_read_yet(status, deadline, _UNTIL_RECORDED if trouble else _LAST_MOMENT):
                return status
            if trouble or not redirects:
                note(trouble)
        except CommandError as error:
            if error.exit_code is not ExitCode.UNREACHABLE or output.now() > deadline:
                raise
            note(str(error))
        time.sleep(_EVERY_SECONDS)


def _pass_on(service: ServiceConnection, profile: str, url: str) -> str:
    """Give the service the URL of the redirect; returns the error's sentence, or an empty text."""
    try:
        service.post(f"{profile_path(profile)}/token/redirect", {"redirected_to": url})
    except CommandError as error:
        return str(error)
    return ""


def _trouble(status: Object) -> str:
    """The sentence about what goes wrong with the sign-in under way, or an empty text."""
    return (reasons.why_in_full(status, Surface.COMMAND) or "") if status["attention"] in _SIGN_IN_ALARMS else ""


def _may_be_read_yet(status: Object, deadline: datetime, longest: timedelta) -> bool:
    """Whether the reply that came at the last moment, or why none came, may still be on its way into the store."""
    return status["reason"] == Reason.EXPIRED_TOKEN and output.now() < deadline + longest


def judge(status: Object, attempt_id: str) -> None:
    """Check that this attempt obtained the current grant.

    Raises:
        CommandError: it did not; the text says why.
    """
    if status["retrieved_by"] == attempt_id:
        return
    name, why = status["profile"], reasons.why_in_full({**status, "attention": None}, Surface.COMMAND)
    is_unread = status["reason"] == Reason.EXPIRED_TOKEN and status["attention"] in _SIGN_IN_ALARMS
    if status["attempt_id"] and status["attempt_id"] != attempt_id:
        why = "This sign-in is over: another one was begun."
    elif is_unread or status["attempt_id"]:
        why = _trouble(status) or f"The sign-in goes on: see mailtoken status {name}."
    elif not why:
        why = f"This sign-in is over and the token is {status['token']}: see mailtoken audit log {name}."
    elif status["token"] == output.RETRIEVED:
        why += " The token that was there goes on working."
    is_unreachable = is_unread or status["attempt_id"] or status["reason"] == Reason.PROVIDER_FAILED
    raise CommandError(ExitCode.UNREACHABLE if is_unreachable else ExitCode.FAILED, f"{name}: {why}")


def show_success(status: Object, linked: list[str]) -> None:
    """Print the token's label and its expiry, and the settings that share it."""
    until = f", access token until {output.ahead(status['expires_at'], output.now())}" if status["expires_at"] else ""
    who = f"{output.clean(status['profile'])}, {output.clean(status['account'])}"
    output.show(Text.assemble(output.label(status["token"]), f"  {who}{until}"))
    for name in linked:
        output.show(Text.assemble(output.label(status["token"]), f"  {output.clean(name)}, in concert"))


class _Lines:
    """Prints each new sentence about a failure on a line of its own, where nothing can be drawn again."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""

    def note(self, trouble: str) -> None:
        """Print the sentence, unless it is the last one."""
        if trouble and trouble != self._last:
            self._console.print(Text(output.clean(trouble)), soft_wrap=True)
            self._console.file.flush()
        self._last = trouble or self._last


class _Sight:
    """The live display while a person signs in."""

    def __init__(self, console: Console, started: Object, account: str, ctrl_c: str) -> None:
        self._console = console
        self._started = {field: output.clean(value) if value else "" for field, value in started.items()}
        self._account = account
        self._ctrl_c = ctrl_c
        self._trouble = ""
        uri = self._started["verification_uri_complete"] or self._started["verification_uri"]
        # A browser has to come back to this machine, so a telephone would not do.
        self._code = _qr_code(uri) if uri else []

    def note(self, trouble: str) -> None:
        """Set the sentence about a failure; an empty text clears it."""
        self._trouble = trouble

    def draw(self) -> RenderableType:
        """The whole display, as of now."""
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
        grid.add_row("Sign in", Text(f"as {output.clean(self._account)}, and approve"))
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
        left = (datetime.fromisoformat(self._started["expires_at"]) - output.now()).total_seconds()
        turn = _SPINNER[int(time.monotonic() * 8) % len(_SPINNER)]
        state = Text.assemble((f"{turn} Waiting for authorisation", "yellow"), f"   {output.countdown(left)} left")
        state.append(f"   Ctrl-C {self._ctrl_c}", "dim")
        return state


def _qr_code(uri: str) -> list[list[bool]]:
    """The dark modules, row by row, with a light margin."""
    import segno

    code: Any = segno.make(uri, error="l", micro=False)
    return [[bool(module) for module in row] for row in code.matrix_iter(border=_QUIET_MODULES)]


def _picture(code: list[list[bool]]) -> Text:
    """The modules, two rows in a line of text, dark on light in any colours of the terminal."""
    blank = [False] * len(code)
    lines = (
        "".join(" ▄▀█"[2 * above + below] for above, below in zip(upper, lower, strict=True))
        for upper, lower in zip(code[::2], [*code[1::2], blank], strict=False)
    )
    return Text("\n".join(lines), "black on bright_white", no_wrap=True)
