"""Counts of mail in the memory of a process, by profile and day, until they are stored or reported.

The relay imports this module, and with it nothing of the store.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import uuid4

from domain.ports import Clock

STORE_SECONDS = 20.0
"""The time between two times at which counts are stored."""


@dataclass(frozen=True)
class MailCount:
    """The mail of a profile on one day, in UTC. The profile has the name that it had on that day."""

    profile: str
    day: date
    messages: int = 0
    octets: int = 0
    refusals: int = 0


class MailCounters:
    """The counts of one process since its start, in memory. Safe to use from every thread."""

    def __init__(self, clock: Clock) -> None:
        self.source = uuid4().hex
        self._clock = clock
        self._counts: dict[tuple[str, date], MailCount] = {}
        self._stored: dict[tuple[str, date], MailCount] = {}
        self._lock = threading.Lock()

    def sent(self, profile: str, octets: int) -> None:
        """Count a message that the profile's mail server accepted."""
        self._add(profile, messages=1, octets=octets)

    def refused(self, profile: str) -> None:
        """Count a refusal of the profile's mail server."""
        self._add(profile, refusals=1)

    def unstored(self) -> list[MailCount]:
        """The counts that have changed since they were stored."""
        with self._lock:
            return [count for key, count in self._counts.items() if self._stored.get(key) != count]

    def mark_stored(self, counts: Sequence[MailCount]) -> None:
        """Take note that these counts are in the store; those of days that are over are no longer needed."""
        today = self._clock.now().date()
        with self._lock:
            for count in counts:
                self._stored[count.profile, count.day] = count
            over = [key for key, count in self._stored.items() if key[1] < today and self._counts[key] == count]
            for key in over:
                del self._counts[key], self._stored[key]

    def _add(self, profile: str, *, messages: int = 0, octets: int = 0, refusals: int = 0) -> None:
        key = (profile, self._clock.now().date())
        with self._lock:
            count = self._counts.get(key) or MailCount(*key)
            self._counts[key] = MailCount(
                *key,
                messages=count.messages + messages,
                octets=count.octets + octets,
                refusals=count.refusals + refusals,
            )
