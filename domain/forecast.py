"""What will end a token, and when: so that a person can act before it does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from domain.renewal import GrantLimits, grant_ends_at
from domain.token import TokenState

# A month, or the last fifth of what there was if that is less: a grant of thirty minutes is not about to end all day.
_SOON, _LAST_PART = timedelta(days=30), 0.2


class Cause(StrEnum):
    """What ends a token that works today."""

    GRANT_ENDS = "grant_ends"
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
        return left < (min(_SOON, (self.at - self.begin) * _LAST_PART) if self.begin else _SOON)


def forecast(state: TokenState, limits: GrantLimits, client_secret_expires_at: datetime | None) -> Ending | None:
    """What ends this token first; None if it is not held and alive, or nothing is known to end it."""
    credential = state.credential
    if credential is None or state.dead:
        return None
    endings = list(_client_secret(client_secret_expires_at))
    ends = grant_ends_at(credential, limits) if credential.renewable else credential.expires_at
    if ends:
        endings.append(Ending(Cause.GRANT_ENDS, ends, credential.issued_at))
    return min(endings, key=lambda ending: ending.at, default=None)


def _client_secret(expires_at: datetime | None) -> Iterable[Ending]:
    if expires_at:
        yield Ending(Cause.CLIENT_SECRET_EXPIRES, expires_at)
