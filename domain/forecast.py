"""What will end a token, and when: so that a person can act before it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from domain.renewal import GrantLimits
from domain.token import Generation, TokenState

# A month, or the last fifth of what there was if that is less: a grant of thirty minutes is not about to end all day.
SOON, _LAST_PART = timedelta(days=30), 0.2


class Cause(StrEnum):
    """What ends a token that works today."""

    GRANT_ENDS = "grant_ends"
    SIGN_IN_DUE = "sign_in_due"
    CLIENT_SECRET_EXPIRES = "client_secret_expires"  # noqa: S105 - a cause, not a password


@dataclass(frozen=True)
class Ending:
    """A token will end at this instant if nobody does anything. `begin` is when the time began to run."""

    cause: Cause
    at: datetime
    begin: datetime | None = None

    def is_near(self, now: datetime) -> bool:
        """Whether a person should act now."""
        left = self.at - now
        return left < (min(SOON, (self.at - self.begin) * _LAST_PART) if self.begin else SOON)


def used_since(inactivity: timedelta, now: datetime) -> datetime:
    """A grant that was used after this instant is not near its end by inactivity."""
    return now - inactivity * (1 - _LAST_PART)


def forecast(state: TokenState, limits: GrantLimits, client_secret_expires_at: datetime | None) -> Ending | None:
    """What ends this token first; None if it is not held and alive, or nothing is known to end it."""
    if state.credential is None or state.dead:
        return None
    return first_ending(state.credential, state.sign_in_seconds, limits, client_secret_expires_at)


def first_ending(
    credential: Generation, sign_in_seconds: int | None, limits: GrantLimits, client_secret_expires_at: datetime | None
) -> Ending | None:
    """What ends this credential first, which is alive; None if nothing is known to."""
    endings = list(_grant(credential, limits, sign_in_seconds))
    if client_secret_expires_at:
        endings.append(Ending(Cause.CLIENT_SECRET_EXPIRES, client_secret_expires_at))
    return min(endings, key=lambda ending: ending.at, default=None)


def _grant(credential: Generation, limits: GrantLimits, sign_in_seconds: int | None) -> Iterator[Ending]:
    if not credential.renewable:
        yield Ending(Cause.GRANT_ENDS, credential.expires_at, credential.issued_at)
    elif credential.flow != "app":
        if credential.grant_expires_at:
            yield Ending(Cause.GRANT_ENDS, credential.grant_expires_at, credential.end_set_at)
        if limits.inactivity:
            yield Ending(Cause.GRANT_ENDS, credential.issued_at + limits.inactivity, credential.issued_at)
        if sign_in_seconds is not None:
            due_at = credential.granted_at + timedelta(seconds=sign_in_seconds)
            yield Ending(Cause.SIGN_IN_DUE, due_at, credential.granted_at)
