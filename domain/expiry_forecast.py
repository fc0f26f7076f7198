"""The forecast of the cause and the instant of a token's end, so that a person can act before that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from domain.renewal import GrantLimits
from domain.token_state import Generation, TokenState

# A month, or the last fifth of a token's time if that is less: a grant of thirty minutes is not near its end all day.
SOON, _LAST_PART = timedelta(days=30), 0.2


class Cause(StrEnum):
    """The cause that will end a token which works today."""

    GRANT_ENDS = "grant_ends"
    SIGN_IN_DUE = "sign_in_due"
    CLIENT_SECRET_EXPIRES = "client_secret_expires"  # noqa: S105 - a cause, not a password


@dataclass(frozen=True)
class Expiry:
    """The end of a token, unless somebody acts. `begin` is when its time began to run, if that is known."""

    cause: Cause
    at: datetime
    begin: datetime | None = None

    def is_near(self, now: datetime) -> bool:
        """Whether a person should act now."""
        left = self.at - now
        return left < (min(SOON, (self.at - self.begin) * _LAST_PART) if self.begin else SOON)


def used_since(inactivity: timedelta, now: datetime) -> datetime:
    """The start of the period in which a grant must have been used, or else its end by inactivity is near."""
    return now - inactivity * (1 - _LAST_PART)


def forecast(state: TokenState, limits: GrantLimits, client_secret_expires_at: datetime | None) -> Expiry | None:
    """The first known end of this token; None if it has no live credential or no known end."""
    if state.credential is None or state.dead:
        return None
    return first_expiry(state.credential, state.sign_in_seconds, limits, client_secret_expires_at)


def first_expiry(
    credential: Generation, sign_in_seconds: int | None, limits: GrantLimits, client_secret_expires_at: datetime | None
) -> Expiry | None:
    """The first known end of this live credential; None if no end is known."""
    expiries = list(_grant(credential, limits, sign_in_seconds))
    if client_secret_expires_at:
        expiries.append(Expiry(Cause.CLIENT_SECRET_EXPIRES, client_secret_expires_at))
    return min(expiries, key=lambda expiry: expiry.at, default=None)


def _grant(credential: Generation, limits: GrantLimits, sign_in_seconds: int | None) -> Iterator[Expiry]:
    if not credential.renewable:
        yield Expiry(Cause.GRANT_ENDS, credential.expires_at, credential.issued_at)
    elif credential.flow != "app":
        if credential.grant_expires_at:
            yield Expiry(Cause.GRANT_ENDS, credential.grant_expires_at, credential.end_set_at)
        if limits.inactivity:
            yield Expiry(Cause.GRANT_ENDS, credential.issued_at + limits.inactivity, credential.issued_at)
        if sign_in_seconds is not None:
            due_at = credential.granted_at + timedelta(seconds=sign_in_seconds)
            yield Expiry(Cause.SIGN_IN_DUE, due_at, credential.granted_at)
