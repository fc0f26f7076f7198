"""The clock of the service, the only reader of the wall clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from domain.errors import InvalidValue


class SystemClock:
    """The machine's wall clock, in UTC."""

    def now(self) -> datetime:
        """The present instant."""
        return datetime.now(UTC)

    def elapsed(self) -> float:
        """Seconds since a fixed instant, by a clock that never steps."""
        return time.monotonic()


def instant_text(instant: datetime) -> str:
    """The text of an instant in rows and JSON: UTC with microseconds, so that texts sort by time."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def read_instant(text: str) -> datetime:
    """Read an instant; a text without an offset means UTC.

    Raises:
        ValueError: the text is not an ISO 8601 instant.
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is UTC:
        return instant
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def read_as_of(text: str, now: datetime, field: str = "as_of") -> datetime | None:
    """Read the instant that a reader wants to look back at; None, for the live read, if it is in the present second.

    Raises:
        InvalidValue: the text is not an instant, or its instant has not come yet.
    """
    try:
        instant = read_instant(text)
    except (ValueError, OverflowError):
        raise InvalidValue(field, "not_an_instant", value=text) from None
    second, present = instant.replace(microsecond=0), now.replace(microsecond=0)
    if second > present:
        raise InvalidValue(field, "instant_in_the_future", value=text)
    return instant if second < present else None
