"""A command at a terminal: what it draws can be waited for, and keys can be pressed."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mailtoken_house import DEADLINE_SECONDS, MAILTOKEN, environment

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x1b\x07]*(?:\x07|\x1b\\)|[@-Z\\-_])")
CTRL_C = "\x03"
CTRL_D = "\x04"


class PseudoTerminal:
    """One command in a terminal of its own, from the start to its end."""

    def __init__(self, directory: Path, arguments: Sequence[str], columns: int = 100, lines: int = 40) -> None:
        self._main, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
        self._process = subprocess.Popen(
            [MAILTOKEN, *arguments],
            cwd=directory,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=environment(TERM="xterm-256color"),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - so that Ctrl-C is a signal
        )
        os.close(inner)
        self.raw = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join(DEADLINE_SECONDS)
        os.close(self._main)

    @property
    def text(self) -> str:
        """Everything drawn so far, without colours and cursor movements."""
        return _ESCAPE.sub("", self.raw).replace("\r", "")

    def wait_for(self, text: str, since: int = 0) -> int:
        """Wait until this is drawn; where it ends."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (at := self.text.find(text, since)) < 0:
            assert time.monotonic() < deadline, f"{text!r} was never drawn: {self.text}"
            time.sleep(0.02)
        return at + len(text)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._main, keys.encode())

    def end(self) -> int:
        """Wait for the end; the exit code."""
        code = self._process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        return code

    def _read(self) -> None:
        pending = b""
        while True:
            try:
                data = os.read(self._main, 65536)
            except OSError:
                return
            pending += data
            whole = pending.decode("utf-8", "ignore")
            self.raw, pending = self.raw + whole, pending[len(whole.encode()) :]
