"""The token requests of sign-ins under way that failed in a row, so that a sign-in's end can say what really happened.

They are in memory only: they are no events, as a provider's outage would add one every few seconds.
"""

from __future__ import annotations

import threading

from domain.outcomes import FailedRequests, Reason


class RequestFailures:
    """The failures of each attempt since its last answer that was none. Safe to share between threads."""

    def __init__(self) -> None:
        self._failed: dict[str, FailedRequests] = {}
        self._lock = threading.Lock()

    def add(self, attempt_id: str, reason: Reason, code: str) -> FailedRequests:
        """Count a failure of the attempt."""
        with self._lock:
            before = self._failed.get(attempt_id)
            failed = FailedRequests(reason, code, before.count + 1 if before else 1)
            self._failed[attempt_id] = failed
        return failed

    def of(self, attempt_id: str) -> FailedRequests | None:
        """The failures in a row up to now; None if the last request did not fail."""
        return self._failed.get(attempt_id)

    def count(self) -> int:
        """The number of attempts whose last request failed."""
        with self._lock:
            return len(self._failed)

    def clear(self, attempt_id: str) -> bool:
        """Forget the failures, as the provider has answered or the attempt is over; whether there were any."""
        with self._lock:
            return self._failed.pop(attempt_id, None) is not None
