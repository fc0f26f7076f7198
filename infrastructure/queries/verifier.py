"""Verifies the log in the background, one run at a time, and keeps the last result; a restart forgets it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from domain.ports import Clock
from infrastructure.queries.audit import Audit, Verification

log = structlog.get_logger("mailtoken")


@dataclass(frozen=True)
class VerifierRun:
    """A run: who began it, how many events it has read so far, and its result once it has ended.

    A run that could not be finished has ended without a result.
    """

    begun_at: datetime
    by: str
    events: int = 0
    ended_at: datetime | None = None
    result: Verification | None = None

    @property
    def is_running(self) -> bool:
        """Whether the run goes on."""
        return self.ended_at is None


class _Stopped(Exception):
    """Leaves a run that nobody waits for any more."""


class Verifier:
    """Runs `Audit.verify` in a thread."""

    def __init__(self, audit: Audit, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock
        self._lock = threading.Lock()
        self._run: VerifierRun | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def last(self) -> VerifierRun | None:
        """The run under way, or the last one; None if there was none."""
        return self._run

    def begin(self, by: str) -> VerifierRun:
        """Begin a run, unless one is under way; returns the one that is."""
        with self._lock:
            if self._run and self._run.is_running:
                return self._run
            self._run = VerifierRun(self._clock.now(), by)
            self._thread = threading.Thread(target=self._verify, args=(self._run,), name="verification", daemon=True)
            self._thread.start()
            return self._run

    def stop(self) -> None:
        """End the run under way; returns when it has let go of the store, which could not be closed before."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def _verify(self, run: VerifierRun) -> None:
        result = None
        try:
            result = self._audit.verify(lambda events: self._advance(replace(run, events=events)))
        except _Stopped:
            pass
        except Exception:
            log.exception("verification_failed")
        events = result.events if result else 0
        self._note(replace(run, events=events, ended_at=self._clock.now(), result=result))

    def _advance(self, run: VerifierRun) -> None:
        if self._stopping.is_set():
            raise _Stopped
        self._note(run)

    def _note(self, run: VerifierRun) -> None:
        self._run = run
