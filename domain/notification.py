"""When people are notified about a token or the installation as a whole: when a person is first needed, at growing
intervals for as long as it stays so, and once when it works again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from domain.expiry_forecast import Cause
from domain.outcomes import Reason
from domain.store_attention import CertificateExpiry, StoreAttention

_FIRST_REMINDER, _DOUBLINGS = timedelta(days=1), 4
"""A reminder comes 1, 2, 4, 8 and 16 days after the notification before it, and every 16 days from then on."""
_DURABLE = frozenset(code.value for code in (*Reason, *Cause, *StoreAttention))
"""The codes derived from the event log or the configuration. Any other code is an alarm, which a restart forgets."""


class Topic(StrEnum):
    """What a notification is about."""

    TOKENS = "tokens"
    HOLD = "hold"
    BACKUPS = "backups"
    ROWS = "rows"
    CERTIFICATE = "certificate"


class Trigger(StrEnum):
    """Why people are notified."""

    NEEDS_PERSON = "needs_person"
    ABOUT_TO_END = "about_to_end"
    RECOVERED = "recovered"
    REMINDER = "reminder"


@dataclass(frozen=True)
class LastNotification:
    """The last notification that a channel delivered about a subject. `attention` is None if it reported recovery."""

    attention: str | None
    at: datetime
    reminders: int = 0


@dataclass(frozen=True)
class Notification:
    """A message to people about a token, a provider whose tokens share a fault, or the installation as a whole.

    `subject_id` is the id of the token or provider, or of the other subject. `previous` is the notification before this
    one. `profiles` has the settings concerned; `account` and `provider` are None where these have different ones.
    """

    subject_id: UUID
    trigger: Trigger
    attention: str | None
    profiles: tuple[str, ...]
    account: str | None
    provider: str | None
    at: datetime
    previous: LastNotification | None = None
    topic: Topic = Topic.TOKENS
    certificate: CertificateExpiry | None = None

    @property
    def key(self) -> str:
        """The idempotency key: a receiver that gets a notification twice recognises it by this key.

        A notification has at most one successor, so the instant of `previous` is part of the key. `at` is not: a second
        delivery of the same notification has a later `at`.
        """
        previous = self.previous.at.isoformat() if self.previous else "first"
        return f"{self.subject_id}:{self.trigger}:{self.attention or ''}:{previous}"

    @property
    def as_last(self) -> LastNotification:
        """The record of this notification, to be stored after its delivery."""
        is_reminder = self.previous is not None and self.trigger is Trigger.REMINDER
        reminders = self.previous.reminders + 1 if self.previous and is_reminder else 0
        return LastNotification(self.attention, self.at, reminders)


def trigger_of(
    attention: str | None, *, works: bool, renewed_at: datetime | None, last: LastNotification | None, now: datetime
) -> Trigger | None:
    """The reason to notify people now; None if there is no reason.

    `works`: mail still works although the token needs attention. `renewed_at`: the instant of the newest credential.
    """
    if attention is None:
        return Trigger.RECOVERED if works and last and _is_over(last, renewed_at) else None
    if last is None or last.attention != attention:
        return Trigger.ABOUT_TO_END if works else Trigger.NEEDS_PERSON
    wait = _FIRST_REMINDER * 2 ** min(last.reminders, _DOUBLINGS)
    return Trigger.REMINDER if now - last.at >= wait else None


def _is_over(last: LastNotification, renewed_at: datetime | None) -> bool:
    """Whether the reported fault is over. For an alarm only a later renewal proves it, as a restart forgets alarms."""
    if last.attention is None:
        return False
    return last.attention in _DURABLE or (renewed_at is not None and renewed_at > last.at)
