"""Writes the lines of the log in a thread of its own, so that a reader that is slow or gone stops no work."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

QUEUE_LINES = 10_000
"""The number of lines that wait for the reader; further ones are lost."""
CLOSE_SECONDS = 2.0


class LogWriter:
    """Writes lines to a file descriptor in their order. `write` never blocks and never raises.

    A line is lost while the queue is full, or if it can't be written (a full disk, a closed pipe). The number of lost
    lines becomes a line of its own, made by `lost_line`, as soon as the descriptor takes lines again.
    """

    def __init__(self, descriptor: int, lost_line: Callable[[int], str]) -> None:
        self._descriptor = os.dup(descriptor)
        self._lost_line = lost_line
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._is_closed = False
        # A daemon, since a blocked write must not keep the process from its end.
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Have a line written."""
        with self._changed:
            if self._is_closed:
                return
            if len(self._waiting) < QUEUE_LINES:
                self._waiting.append(line)
            else:
                self._dropped += 1
            self._changed.notify()

    def flush(self) -> None:
        """Do nothing: a caller never waits for its lines."""

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Take no more lines, and wait until the others are written, for some seconds at most."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        lost = 0
        while (taken := self._next()) is not None:
            lines, dropped = taken
            lost = self._told(lost)
            lost += sum(not self._written(line) for line in lines) + dropped
            lost = self._told(lost)
        os.close(self._descriptor)

    def _next(self) -> tuple[list[str], int] | None:
        """Wait for lines; returns them and the number that was dropped behind them, None after the last ones."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if not self._waiting:
                return None
            taken = list(self._waiting), self._dropped
            self._waiting.clear()
            self._dropped = 0
            return taken

    def _told(self, lost: int) -> int:
        """Write the number of lost lines if there are any; returns the number that is still to be told."""
        return lost if lost and not self._written(self._lost_line(lost)) else 0

    def _written(self, line: str) -> bool:
        octets = line.encode("utf-8", "backslashreplace")
        try:
            while octets:
                octets = octets[os.write(self._descriptor, octets) :]
        except OSError:
            return False
        return True
