"""The machine's clock, which a test can set forward for a service that runs in a process of its own."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from infrastructure.clock import SystemClock


class SteppedClock(SystemClock):
    """Ahead of the machine's clock by the seconds that its file says; not at all without the file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self._ahead())

    def elapsed(self) -> float:
        return super().elapsed() + self._ahead()

    def step(self, **span: float) -> None:
        """Let this `timedelta` pass, for everybody who has the same file."""
        written = self._file.with_suffix(".next")
        written.write_text(str(self._ahead() + timedelta(**span).total_seconds()))
        os.replace(written, self._file)

    def _ahead(self) -> float:
        try:
            return float(self._file.read_text())
        except FileNotFoundError:
            return 0.0
