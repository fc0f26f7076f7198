"""When an access token is renewed, and how much life a caller may ask for. Pure: every instant is an input.

A token in use is kept warm: it is renewed at a ratio of the time for which its access token can be handed out, spread
by jitter, and never after that. An idle one is renewed just often enough to keep its grant alive, so that the log grows
with use and not with the clock.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from domain.errors import InvalidValue
from domain.outcomes import Reason
from domain.token import Generation, TokenState

# Exchange Online answers `501 5.5.127` to a token that is about to expire: hand out ten minutes or more.
SERVING_MARGIN_SECONDS = 600
REVIVAL_EVERY = timedelta(days=1)
LONGEST_USE = timedelta(days=7)
"""No access token is believed to live longer, so one that was served before that is idle."""
# Of an hour's access token: after 40 to 45 minutes, with a fourth of its life left for trying again, as certmagic does.
_WARM_RATIO, _IDLE_RATIO, _SPREAD = 0.8, 0.6, 0.1


@dataclass(frozen=True)
class GrantLimits:
    """What ends a grant of this provider: not being used for so long, by default for ever."""

    inactivity: timedelta | None = None


def lifetime_seconds(credential: Generation) -> int:
    """The whole life of this access token."""
    return int((credential.expires_at - credential.issued_at).total_seconds())


def remaining_seconds(credential: Generation, now: datetime) -> float:
    """What is left of it; negative once it has expired."""
    return (credential.expires_at - now).total_seconds()


def margin_seconds(credential: Generation, min_ttl_seconds: int | None) -> float:
    """The least life to serve with: ten minutes or half the life if that is less, or more if the caller asks for it.

    Raises:
        InvalidValue: the caller asks for more than the token's whole life, which is named.
    """
    life = lifetime_seconds(credential)
    wanted = min_ttl_seconds or 0
    if wanted > life:
        raise InvalidValue("min_ttl", f"{wanted} seconds is more than this token's whole life of {life} seconds")
    return max(wanted, min(SERVING_MARGIN_SECONDS, life / 2))


def is_due(credential: Generation, now: datetime, min_ttl_seconds: int | None = None) -> bool:
    """Whether to renew before serving.

    A token from the future was issued while the clock was ahead: what is left of it can't be known, so it is due.

    Raises:
        InvalidValue: see `margin_seconds`.
    """
    margin = margin_seconds(credential, min_ttl_seconds)
    ahead = (credential.issued_at - now).total_seconds()
    return remaining_seconds(credential, now) < margin or ahead > SERVING_MARGIN_SECONDS


def emergency_at(credential: Generation) -> datetime:
    """From when on too little is left to hand it out without a renewal."""
    return credential.expires_at - timedelta(seconds=margin_seconds(credential, None))


def unused_until(credential: Generation, limits: GrantLimits) -> datetime | None:
    """When the grant ends if it is not used again and using it helps; None is never.

    An end that a renewal has left where it was is not moved by the next one either. The application's own credentials
    are no grant that could end so.
    """
    if credential.flow == "app":
        return None
    moves = credential.grant_expires_at and credential.end_set_at == credential.issued_at
    ends = [credential.grant_expires_at] if credential.grant_expires_at and moves else []
    if limits.inactivity:
        ends.append(credential.issued_at + limits.inactivity)
    return min(ends, default=None)


def next_renewal_at(
    token_id: UUID, credential: Generation, limits: GrantLimits, last_served_at: datetime | None, now: datetime
) -> datetime | None:
    """When to renew this generation; None is never, as nothing would come of it or nothing would be lost.

    A token is in use if it was served at `last_served_at`, less than a whole life of its access token ago.
    """
    if not credential.renewable:
        return None
    begin, jitter = credential.issued_at, _jitter(token_id, credential.number)
    instants = []
    ends = unused_until(credential, limits)
    if ends:
        instants.append(begin + (ends - begin) * (_IDLE_RATIO + _SPREAD * jitter))
    if last_served_at and now - last_served_at < credential.expires_at - begin:
        instants.append(begin + (emergency_at(credential) - begin) * (_WARM_RATIO + _SPREAD * jitter))
    return min(instants, default=None)


def idle_since(inactivity: timedelta, now: datetime) -> datetime:
    """An idle token that came after this instant is not due by `now`, whatever its jitter."""
    return now - inactivity * _IDLE_RATIO


def next_revival_at(state: TokenState, tried_at: datetime | None) -> datetime | None:
    """When to try a dead token again: rarely, and only if its account was not available, as that may pass."""
    if state.dead is not Reason.ACCOUNT_NOT_AVAILABLE or not state.credential or not state.credential.renewable:
        return None
    return (tried_at or state.since) + REVIVAL_EVERY


def _jitter(token_id: UUID, generation: int) -> float:
    """From 0 to 1, other for each generation of each token, and the same whoever computes it again."""
    digest = hashlib.sha256(token_id.bytes + generation.to_bytes(8, "big")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
