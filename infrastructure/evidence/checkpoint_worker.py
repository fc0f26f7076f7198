"""The worker that makes checkpoints of the log: a line of the journal names each, and a file has the last one."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import structlog

from infrastructure.evidence.checkpoint import Checkpoint
from infrastructure.evidence.log_evidence import GrowingLog, LogEvidence
from infrastructure.new_file import replace_file
from infrastructure.ticker import Ticker

log = structlog.get_logger("mailtoken")

_MODE = 0o644
"""A checkpoint is for strangers, and holds nothing that they must not know."""


class CheckpointWorker:
    """A thread that makes a checkpoint when it starts and then every so often, unless the log has not grown.

    The tree is kept from one checkpoint to the next, so only new events are read. On hold none is made, as the log may
    not be the one of the checkpoints before.
    """

    def __init__(
        self, evidence: LogEvidence, every: timedelta | None, file: Path | None, is_on_hold: Callable[[], bool]
    ) -> None:
        self._evidence = evidence
        self._is_on_hold = is_on_hold
        self._is_wanted = every is not None
        self._file = file
        self._grown = GrowingLog()
        self._noted: Checkpoint | None = None
        seconds = every.total_seconds() if every else 0.0
        self._ticker = Ticker("checkpoints", self.write, lambda: seconds)
        self.tickers = (self._ticker,)

    def start(self) -> None:
        """Start the thread if checkpoints are wanted."""
        if self._is_wanted:
            self._ticker.start()

    def stop(self) -> None:
        """Finish the checkpoint under way and stop."""
        self._ticker.stop()

    def write(self) -> None:
        """Make a checkpoint if the log has grown.

        Raises:
            OSError: the file can't be written; the next try makes the checkpoint again.
        """
        if self._is_on_hold():
            return
        made = self._evidence.extend(self._grown)
        checkpoint = made.checkpoint
        if checkpoint == self._noted:
            return
        if self._file:
            replace_file(self._file, made.text.encode(), _MODE)
        root = base64.b64encode(checkpoint.root).decode()
        log.info("checkpoint_made", origin=checkpoint.origin, events=checkpoint.size, root=root)
        self._noted = checkpoint
