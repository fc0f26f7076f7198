"""A command at a terminal: what it draws can be waited for, and keys can be pressed."""

import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import command_line
from waiting import DEADLINE_SECONDS, wait_until

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x1b\x07]*(?:\x07|\x1b\\)|[@-Z\\-_])")
CTRL_C = "\x03"
CTRL_D = "\x04"


class PseudoTerminal:
    """One command in a terminal of its own, from the start to its end."""

    def __init__(
        self,
        directory: Path,
        arguments: Sequence[str],
        columns: int = 100,
        lines: int = 40,
        *,
        forked: bool = True,
        **more: str,
    ) -> None:
        self._main, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
        self._process = command_line.begin_at_terminal(inner, *arguments, cwd=directory, forked=forked, **more)
        os.close(inner)
        self.raw = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        os.close(self._main)

    @property
    def text(self) -> str:
        """Everything drawn so far, without colours and cursor movements."""
        return _ESCAPE.sub("", self.raw).replace("\r", "")

    def wait_for(self, text: str, since: int = 0) -> int:
        """Wait until this is drawn; where it ends."""
        wait_until(lambda: text in self.text[since:], f"{text!r} is drawn", otherwise=lambda: self.text)
        return self.text.index(text, since) + len(text)

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
