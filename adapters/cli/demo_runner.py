"""Runs the demo's stages: commands as a person types them, sign-ins, and checks of the result."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from textwrap import indent

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from adapters.cli import sign_in_progress
from adapters.cli.demo_site import COMMAND, LOOK_AGAIN_SECONDS, DemoSite, StageFailed, environment, wait_until
from adapters.cli.http_client import Object
from adapters.cli.service_socket import CommandError, profile_path
from adapters.error_kinds import ExitCode
from adapters.practice import browser_user
from adapters.texts import reasons
from adapters.texts.wording import Surface
from domain.lifecycle import TokenStatus


class StageRunner:
    """Runs stages at a site. `stage` names the stage under way; `guided` says that a person sets the pace."""

    def __init__(self, site: DemoSite, console: Console, *, guided: bool) -> None:
        self.stage = ""
        self._number = 0
        self._site = site
        self._console = console
        self._guided = guided

    def _perform(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except (CommandError, browser_user.CouldNotSignIn) as error:
            self._site.check_alive()
            raise StageFailed(str(error)) from None

    # Output

    def _begin(self, heading: str, saying: str) -> None:
        self._number += 1
        self.stage = f"{self._number} ({heading})"
        self._head(f"{self._number}. {heading}")
        self._say(saying)

    def _head(self, heading: str) -> None:
        self._console.print()
        self._console.print(Rule(Text(heading, "bold"), align="left", style="blue"))

    def _say(self, sentence: str) -> None:
        self._console.print(Text(sentence), soft_wrap=not self._guided)

    def _quote(self, text: str) -> None:
        self._console.print(Text(indent(text.rstrip("\n"), "    "), "dim"), soft_wrap=True)

    def _prompt(self, line: str) -> None:
        self._console.print()
        self._console.print(Text.assemble(("$ ", "green"), (line, "bold")), soft_wrap=True)
        self._console.file.flush()

    def _command(self, *words: str, standard_input: Path | None = None) -> None:
        redirected = f" < {shlex.quote(str(standard_input))}" if standard_input else ""
        self._prompt(f"mailtoken {shlex.join(words)}{redirected}")
        self._run(words, standard_input)

    def _run(
        self, words: Sequence[str], standard_input: Path | None = None, output: int | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        with (standard_input or Path(os.devnull)).open("rb") as given:
            ended = subprocess.run(  # noqa: S603 - our own program
                [*COMMAND, *words],
                cwd=self._site.directory,
                env=environment(self._site.config),
                stdin=given,
                stdout=output,
                check=False,
            )
        if ended.returncode != 0:
            self._site.check_alive()
            raise StageFailed(f"mailtoken {shlex.join(words)} ended with exit code {ended.returncode}")
        return ended

    def _pause(self) -> None:
        self._console.print()
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
        with contextlib.suppress(EOFError):
            self._console.input(Text("Enter goes on ", "dim"))

    # Signing in

    def _have_signed_in(self, name: str, account: str) -> None:
        if self._guided:
            self._wait_for_person(name, account)
            self._say(f"{account} has signed in.")
        else:
            self._approve(self._attempt(name), account)
            self._say(f"\n{account} has signed in: the demo played that part, over HTTPS as a browser does.")
            wait_until(
                lambda: self._status(name)["token"] == TokenStatus.RETRIEVED, f"the token of {name} is not Retrieved"
            )

    def _wait_for_person(self, name: str, account: str) -> None:
        """Watch as `mailtoken token get` does, with Enter as the way out for those without a browser at hand."""
        self._say(
            "\nOpen the link in a browser; it warns, since the certificate is of a private authority that lives as"
            " long as this demo. Or press Enter, and the demo signs in. (A phone can scan the code of a real provider,"
            " but can't reach this one.)"
        )
        while True:
            # The person may have signed in, declined or waited too long before this stage.
            status = self._status(name)
            if status["token"] == TokenStatus.RETRIEVED:
                return
            if not status["attempt_id"]:
                self._say(reasons.why_in_full(status, Surface.COMMAND) or status["token"])
                self._command("token", "get", name, "--yes", "--no-wait")
            try:
                started = self._attempt(name)
            except CommandError:
                # The person has answered within this moment.
                self._site.check_alive()
                continue
            with self._on_enter(partial(self._approve, started, account)):
                status = self._watch(started, account)
            if status["token"] == TokenStatus.RETRIEVED:
                return

    def _watch(self, started: Object, account: str) -> Object:
        try:
            return sign_in_progress.wait(
                self._site.client, started, account, self._console, ctrl_c="ends the demo and removes everything"
            )
        except CommandError as error:
            if error.exit_code is ExitCode.INTERRUPTED:
                raise KeyboardInterrupt from None
            raise

    @contextmanager
    def _on_enter(self, sign_in: Callable[[], None]) -> Iterator[None]:
        """Sign in if Enter is pressed before the block ends."""
        over = threading.Event()

        def listen() -> None:
            while not over.is_set():
                if select.select([sys.stdin], [], [], LOOK_AGAIN_SECONDS)[0]:
                    sys.stdin.readline()
                    # The person's browser may have been faster.
                    with contextlib.suppress(browser_user.CouldNotSignIn):
                        sign_in()
                    return

        termios.tcflush(sys.stdin, termios.TCIFLUSH)

        listener = threading.Thread(target=listen, name="enter", daemon=True)
        listener.start()
        try:
            yield
        finally:
            over.set()
            listener.join()

    def _approve(self, attempt: Object, account: str) -> None:
        browser_user.approve(attempt["verification_uri"], attempt["user_code"], account, self._site.provider.ca_file)

    # Checks

    def _attempt(self, name: str) -> Object:
        attempt: Object = self._site.client.get(f"{profile_path(name)}/token/attempt")
        return attempt

    def _status(self, name: str) -> Object:
        status: Object = self._site.client.get(f"{profile_path(name)}/status")
        return status

    def _settings(self, protocol: str) -> list[Object]:
        statuses: list[Object] = self._site.client.get("/api/v1/status")
        return [one for one in statuses if one["protocol"] == protocol]

    def _count(self, protocol: str) -> int:
        return len(self._settings(protocol))

    def _expect(self, *, smtp: TokenStatus, pop: TokenStatus, but: Mapping[str, TokenStatus] | None = None) -> None:
        """Check the label "Token" of every setting; `but` has the exceptions by name."""
        for protocol, usual in (("smtp", smtp), ("pop", pop)):
            for one in self._settings(protocol):
                expected = (but or {}).get(one["profile"], usual)
                if one["token"] != expected:
                    raise StageFailed(f"{one['profile']} is {one['token']}, not {expected}")
