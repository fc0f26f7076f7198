"""The polling worker: polls pending authorizations, ends expired attempts, and reads replies that earlier runs left.

The worker has no state that a restart would lose: the attempts are in the store, their device codes in the vault.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import UUID

import structlog

from domain.errors import MailtokenError
from infrastructure.ticker import Ticker
from infrastructure.tokens.token_service import TokenService

log = structlog.get_logger("mailtoken")

_LOOK_EVERY_SECONDS = 1.0
_CHORES_EVERY_SECONDS = 10.0
_POLLS_AT_ONCE = 8
_AFTER_AN_ERROR_SECONDS = 10.0


class PollingWorker:
    """A thread that finds the attempts due for a poll, a few threads that poll, and a thread for each chore.

    The chores are the recovery of replies, the wiping of deleted rows and the report of client faults. Each chore has a
    thread of its own, so that a chore which always fails does not delay another.
    """

    def __init__(self, tokens: TokenService) -> None:
        self._tokens = tokens
        self._polls = Ticker("polls", self._poll_due_attempts, self._seconds_to_next_poll)
        chores = {"recovery": tokens.recover, "forgetting": tokens.forget, "client_faults": tokens.client_faults}
        chore_tickers = [Ticker(name, chore, lambda: _CHORES_EVERY_SECONDS) for name, chore in chores.items()]
        self.tickers = (self._polls, *chore_tickers)
        self._pool = ThreadPoolExecutor(_POLLS_AT_ONCE, thread_name_prefix="poll")
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}
        self._polling: set[str] = set()

    def start(self) -> None:
        """Start the threads. Attempts of an earlier run are first polled after their interval."""
        self._respect_last_polls()
        for ticker in self.tickers:
            ticker.start()

    def wake(self) -> None:
        """Look for attempts at once, as an attempt has begun."""
        self._polls.wake()

    def stop(self) -> None:
        """Finish the polls and chores under way and stop."""
        for ticker in self.tickers:
            ticker.stop()
        self._pool.shutdown(wait=True)

    def _respect_last_polls(self) -> None:
        """Wait a whole interval before the first poll, as an earlier run may just have polled.

        A poll that comes too early lengthens the interval for good (RFC 8628 section 3.5).
        """
        for token_id, attempt_id in self._tokens.waiting():
            with suppress(MailtokenError):  # the poll reports it
                self._due[attempt_id] = time.monotonic() + self._tokens.seconds_between_polls(token_id)

    def _poll_due_attempts(self) -> None:
        if self._tokens.holds.is_on():
            return
        waiting = self._tokens.waiting()
        alive = {attempt_id for _, attempt_id in waiting}
        with self._lock:
            self._due = {attempt_id: due for attempt_id, due in self._due.items() if attempt_id in alive}
            now = time.monotonic()
            due = [
                (token_id, attempt_id)
                for token_id, attempt_id in waiting
                if attempt_id not in self._polling and self._due.get(attempt_id, 0.0) <= now
            ]
            # Marked before the polls begin, as a poll may be over before this function goes on.
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
            self._polls.wake()

    def _seconds_to_next_poll(self) -> float:
        now = time.monotonic()
        with self._lock:
            due = [due for attempt_id, due in self._due.items() if attempt_id not in self._polling]
        return min(max(min(due, default=now + _LOOK_EVERY_SECONDS) - now, 0.01), _LOOK_EVERY_SECONDS)
