"""A worker's loop: a thread that calls a function repeatedly and survives every exception."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import structlog

log = structlog.get_logger("mailtoken")

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 60.0


class Ticker:
    """Calls `work`, waits for the seconds that `interval` returns or until `wake`, and repeats.

    After an exception the wait is at least a second; it doubles with each further exception in a row, up to a minute.
    """

    def __init__(self, name: str, work: Callable[[], object], interval: Callable[[], float]) -> None:
        self.name = name
        self.failures = 0
        """How often `work` has failed since the start."""
        self._work = work
        self._interval = interval
        self._failures_in_a_row = 0
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._was_started = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called; long work checks this and returns."""
        return self._stopping.is_set()

    @property
    def is_dead(self) -> bool:
        """Whether the loop has ended although nobody has stopped it."""
        return self._was_started and not self._thread.is_alive() and not self.is_stopping

    def start(self) -> None:
        """Start the thread, which calls `work` at once."""
        self._thread.start()
        self._was_started = True

    def wake(self) -> None:
        """End the wait that is under way, or skip the next one."""
        self._woken.set()

    def stop(self) -> None:
        """Stop the loop; returns when the call of `work` under way is over. `stop` may be called before `start`."""
        self._stopping.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            seconds = self._run_once()
            self._woken.wait(seconds)
            self._woken.clear()

    def _run_once(self) -> float:
        """Call `work` once and log an exception; returns the seconds to wait."""
        try:
            self._work()
            seconds = self._interval()
        except BaseException:
            self.failures += 1
            self._failures_in_a_row += 1
            self._log_failure()
            return min(_FIRST_WAIT_SECONDS * 2.0 ** min(self._failures_in_a_row - 1, 16), _LONGEST_WAIT_SECONDS)
        self._failures_in_a_row = 0
        return seconds

    def _log_failure(self) -> None:
        with suppress(BaseException):
            log.exception("worker_failed", worker=self.name)
