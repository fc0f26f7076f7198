"""The lines of the program that a test executes, also in its threads and in the processes it forks."""

from __future__ import annotations

import mmap
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from mutation.mutants import Mutant

ROOMS = ("domain", "infrastructure", "adapters")

Trace = Callable[[FrameType, str, Any], Any]


class ReachedLines:
    """One byte for each line of the three rooms, in memory that forked processes share. A line's index is its place."""

    def __init__(self, root: Path) -> None:
        self._places: dict[str, range] = {}
        size = 0
        for file in sorted(file for room in ROOMS for file in (root / room).rglob("*.py")):
            end = size + len(file.read_text().splitlines()) + 1
            self._places[str(file.relative_to(root))] = range(size, end)
            size = end
        self._reached = mmap.mmap(-1, size)
        self._traces = {str(root / path): self._trace_of(places.start) for path, places in self._places.items()}

    def of_statement(self, mutant: Mutant) -> range:
        """The lines of the mutant's statement."""
        return self._places[mutant.path][mutant.first_line : mutant.last_line + 1]

    def of_file(self, mutant: Mutant) -> range:
        """The lines of the mutant's file."""
        return self._places[mutant.path]

    def begin(self) -> None:
        """Note lines from now on, in this thread and in those it starts."""
        threading.settrace(self._trace)
        sys.settrace(self._trace)

    def take(self) -> frozenset[int]:
        """The lines reached since the last time."""
        reached = self._reached[:]
        self._reached[:] = bytes(len(reached))
        return frozenset(found.start() for found in re.finditer(b"\1", reached))

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Trace | None:
        trace = self._traces.get(frame.f_code.co_filename)
        return trace and trace(frame, event, argument)

    def _trace_of(self, first: int) -> Trace:
        reached = self._reached

        def trace(frame: FrameType, _event: str, _argument: Any) -> Trace:
            if frame.f_lineno:
                reached[first + frame.f_lineno] = 1
            return trace

        return trace
