"""The worker: polls pending authorizations, ends those that ran out, and finishes what was left undone.

It keeps nothing that a restart would miss: what is waiting is in the store, the device code in the vault.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import UUID

import structlog

from domain.errors import MailtokenError
from infrastructure.token_service import TokenService

log = structlog.get_logger("mailtoken")

_TICK_SECONDS = 1.0
_CHORES_EVERY_SECONDS = 10.0
_POLLS_AT_ONCE = 8
_AFTER_AN_ERROR_SECONDS = 10.0


class Worker:
    """A thread that looks what is due, and a few that ask providers."""

    def __init__(self, tokens: TokenService) -> None:
        self._tokens = tokens
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._pool = ThreadPoolExecutor(_POLLS_AT_ONCE, thread_name_prefix="poll")
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}
        self._polling: set[str] = set()

    def start(self) -> None:
        """Begin."""
        self._leave_alone_what_was_asked()
        self._thread.start()

    def wake(self) -> None:
        """Look now: something is waiting that was not."""
        self._wake.set()

    def stop(self) -> None:
        """Finish what is being asked and stop."""
        self._stop.set()
        self._wake.set()
        self._thread.join()
        self._pool.shutdown(wait=True)

    def _leave_alone_what_was_asked(self) -> None:
        """An earlier run may have asked a moment ago: to ask too early slows down for good (RFC 8628 section 3.5)."""
        for token_id, attempt_id in self._tokens.waiting():
            with suppress(MailtokenError):  # what is wrong shows when it is polled
                self._due[attempt_id] = time.monotonic() + self._tokens.seconds_between_polls(token_id)

    def _run(self) -> None:
        chores_at = 0.0
        while not self._stop.is_set():
            try:
                self._poll_what_is_due()
                if time.monotonic() >= chores_at:
                    chores_at = time.monotonic() + _CHORES_EVERY_SECONDS
                    self._tokens.recover()
                    self._tokens.forget()
                    self._tokens.client_faults()
            except Exception:
                # Whatever it was, the next look may find it gone; the thread must not die of it.
                log.exception("worker_failed")
            self._wake.wait(self._until_next())
            self._wake.clear()

    def _poll_what_is_due(self) -> None:
        waiting = self._tokens.waiting()
        alive = {attempt_id for _, attempt_id in waiting}
        with self._lock:
            self._due = {attempt_id: due for attempt_id, due in self._due.items() if attempt_id in alive}
            now = time.monotonic()
            due = [one for one in waiting if one[1] not in self._polling and self._due.get(one[1], 0.0) <= now]
            # Before it begins: it may be over before this goes on.
            self._polling.update(attempt_id for _, attempt_id in due)
        for token_id, attempt_id in due:
            self._pool.submit(self._poll, token_id, attempt_id)

    def _poll(self, token_id: UUID, attempt_id: str) -> None:
        wait: float | None = _AFTER_AN_ERROR_SECONDS
        try:
            wait = self._tokens.poll(token_id)
        except Exception:
            log.exception("poll_failed", token=str(token_id))
        finally:
            with self._lock:
                self._due[attempt_id] = time.monotonic() + (wait or 0.0)
                self._polling.discard(attempt_id)
            self._wake.set()

    def _until_next(self) -> float:
        now = time.monotonic()
        with self._lock:
            due = [due for attempt_id, due in self._due.items() if attempt_id not in self._polling]
        return min(max(min(due, default=now + _TICK_SECONDS) - now, 0.01), _TICK_SECONDS)
