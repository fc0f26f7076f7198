"""The one clock. Nothing else asks what time it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """The machine's wall clock, in UTC."""

    def now(self) -> datetime:
        """This instant."""
        return datetime.now(UTC)

    def elapsed(self) -> float:
        """Seconds since some instant, whatever steps the wall clock takes."""
        return time.monotonic()


def instant_text(instant: datetime) -> str:
    """An instant as stored in rows and shown in JSON: UTC, microseconds, so that text order is time order."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def read_instant(text: str) -> datetime:
    """The instant a text stands for; without an offset it is taken as UTC.

    Raises:
        ValueError: not an ISO 8601 instant.
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is UTC:
        return instant
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
