"""The command line as people run it: a command to its end, or one that goes on beside the test.

A command is forked from a process that has its imports (`forked_commands`); with `forked=False` it is the program that
is installed, in an interpreter of its own.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping
from pathlib import Path

from forked_commands import ForkedCommand, forking_process

MAILTOKEN = Path(sys.executable).with_name("mailtoken")
_LONGEST_SECONDS = 570
_UNWANTED = ("MAILTOKEN_CONFIG", "MAILTOKEN_KEY", "CREDENTIALS_DIRECTORY", "COLUMNS", "NO_COLOR", "FORCE_COLOR")

Done = subprocess.CompletedProcess[str]
Command = ForkedCommand | subprocess.Popen[str]
"""A command that goes on."""


def environment(**more: str) -> dict[str, str]:
    """The environment without what would send a command elsewhere or change how things look, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    return {**{name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}, "TZ": "UTC", **more}


def usual_signals() -> None:
    """Let Ctrl-C and its like end a child, which a shell has ignored in what it starts in the background."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def run(
    *arguments: str,
    cwd: Path,
    message: bytes | str = b"",
    program: Path = MAILTOKEN,
    forked: bool = True,
    **more: str,
) -> Done:
    """Run a command without a terminal, with `message` on its standard input and `more` in its environment."""
    given = message.encode() if isinstance(message, str) else message
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(given)
        stdin.seek(0)
        streams = (stdin.fileno(), stdout.fileno(), stderr.fileno())
        command = _start((str(program), *arguments), cwd, environment(**more), streams, forked)
        code = command.wait(_LONGEST_SECONDS)
        stdout.seek(0)
        stderr.seek(0)
        return Done(arguments, code, stdout.read().decode(), stderr.read().decode())


def begin(
    *arguments: str,
    cwd: Path,
    log: Path | None = None,
    forked: bool = True,
    clock: Path | None = None,
    **more: str,
) -> Command:
    """Start a command without waiting for its end. Its output goes into the file `log`, else the caller reads it.

    `clock` is the file of the `SteppedClock` that a forked one has.
    """
    with open(os.devnull, "rb") as nothing:
        if log:
            with log.open("ab") as said:
                streams = (nothing.fileno(), said.fileno(), said.fileno())
                return _start((str(MAILTOKEN), *arguments), cwd, environment(**more), streams, forked, clock=clock)
        pipes = [os.pipe(), os.pipe()]
        streams = (nothing.fileno(), pipes[0][1], pipes[1][1])
        command = _start((str(MAILTOKEN), *arguments), cwd, environment(**more), streams, forked)
    for _, writing in pipes:
        os.close(writing)
    command.stdout, command.stderr = (os.fdopen(reading) for reading, _ in pipes)
    return command


def begin_at_terminal(terminal: int, *arguments: str, cwd: Path, forked: bool = True, **more: str) -> Command:
    """Start a command whose standard streams, and keys like Ctrl-C, are those of this terminal."""
    given = environment(TERM="xterm-256color", **more)
    return _start((str(MAILTOKEN), *arguments), cwd, given, (terminal,) * 3, forked, terminal=True)


def _start(
    words: tuple[str, ...],
    cwd: Path,
    environment: Mapping[str, str],
    streams: tuple[int, int, int],
    forked: bool,
    terminal: bool = False,
    clock: Path | None = None,
) -> Command:
    if forked:
        return forking_process().start(
            words, cwd=cwd, environment=environment, streams=streams, terminal=terminal, clock=clock
        )

    def prepare() -> None:
        usual_signals()
        if terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    stdin, stdout, stderr = streams
    return subprocess.Popen(
        words,
        cwd=cwd,
        env=environment,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        text=True,
        start_new_session=terminal,
        preexec_fn=prepare,  # noqa: PLW1509
    )
