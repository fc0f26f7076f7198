"""When people are told about a token, and how often: once when it needs somebody, again at growing intervals while it
does, and once when it works again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from domain.forecast import Cause
from domain.outcomes import Reason

_FIRST_REMINDER, _DOUBLINGS = timedelta(days=1), 4
"""After 1, 2, 4, 8 and 16 days, and every 16 from then on."""
_DURABLE = frozenset(code.value for code in (*Reason, *Cause))
"""What the log or the configuration tells; any other code is an alarm, which a restart forgets."""


class Occasion(StrEnum):
    """Why people are told."""

    NEEDS_PERSON = "needs_person"
    ABOUT_TO_END = "about_to_end"
    RECOVERED = "recovered"
    REMINDER = "reminder"


@dataclass(frozen=True)
class Told:
    """What people were told last through one channel: no attention is that all is well again."""

    attention: str | None
    at: datetime
    reminders: int = 0


@dataclass(frozen=True)
class Notice:
    """What to tell people about a token, or about a provider if its tokens share the trouble: `subject_id` is whose.

    `before` is what they were told last. `account` and `provider` are None where they differ.
    """

    subject_id: UUID
    occasion: Occasion
    attention: str | None
    profiles: tuple[str, ...]
    account: str | None
    provider: str | None
    at: datetime
    before: Told | None = None

    @property
    def key(self) -> str:
        """For whoever receives it to recognise one that came twice: a notice follows the one before it only once.

        Not made of `at`, which is later when it is delivered again.
        """
        before = self.before.at.isoformat() if self.before else "first"
        return f"{self.subject_id}:{self.occasion}:{self.attention or ''}:{before}"

    @property
    def told(self) -> Told:
        """What people know once it has been delivered."""
        again = self.before is not None and self.occasion is Occasion.REMINDER
        return Told(self.attention, self.at, self.before.reminders + 1 if self.before and again else 0)


def occasion(
    attention: str | None, *, works: bool, renewed_at: datetime | None, told: Told | None, now: datetime
) -> Occasion | None:
    """Whether to tell people now.

    `works` is whether mail still works although attention is wanted, `renewed_at` when the newest credential came.
    """
    if attention is None:
        return Occasion.RECOVERED if works and told and _is_over(told, renewed_at) else None
    if told is None or told.attention != attention:
        return Occasion.ABOUT_TO_END if works else Occasion.NEEDS_PERSON
    wait = _FIRST_REMINDER * 2 ** min(told.reminders, _DOUBLINGS)
    return Occasion.REMINDER if now - told.at >= wait else None


def _is_over(told: Told, renewed_at: datetime | None) -> bool:
    """Whether what people were told is over: the silence of an alarm proves nothing until a renewal has worked."""
    if told.attention is None:
        return False
    return told.attention in _DURABLE or (renewed_at is not None and renewed_at > told.at)
