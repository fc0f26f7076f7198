"""When an access token is renewed, and how much remaining life a caller may ask for. Every instant is an argument.

A token in use is renewed after a fixed part of the time for which its access token can be served, spread by jitter. An
idle token is renewed just often enough to keep its grant alive, so that the event log grows with use, not with time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from domain.errors import InvalidValue
from domain.outcomes import Reason
from domain.token_state import Generation, TokenState

# Exchange Online answers `501 5.5.127` to a token that is about to expire: serve ten minutes or more.
SERVING_MARGIN_SECONDS = 600
REVIVAL_EVERY = timedelta(days=1)
LONGEST_USE = timedelta(days=7)
"""An upper bound of an access token's life: a token last served longer ago than this is idle."""
# An access token of an hour is renewed after 40 to 45 minutes; a fourth of its life is left for repetitions.
_IN_USE_RATIO, _IDLE_RATIO, _SPREAD = 0.8, 0.6, 0.1


@dataclass(frozen=True)
class GrantLimits:
    """The limits of a provider's grants. `inactivity`: a grant unused for so long ends; None: no such limit."""

    inactivity: timedelta | None = None


def lifetime_seconds(credential: Generation) -> int:
    """The life of an access token from issue to expiry."""
    return int((credential.expires_at - credential.issued_at).total_seconds())


def remaining_seconds(credential: Generation, now: datetime) -> float:
    """The remaining life of an access token; negative after its expiry."""
    return (credential.expires_at - now).total_seconds()


def margin_seconds(credential: Generation, min_ttl_seconds: int | None) -> float:
    """The remaining life needed to serve a token: ten minutes, or half its life if less, or more if the caller asks.

    Raises:
        InvalidValue: the caller asks for more than the token's whole life, which the error names.
    """
    life = lifetime_seconds(credential)
    wanted = min_ttl_seconds or 0
    if wanted > life:
        raise InvalidValue("min_ttl", "longer_than_life", value=wanted, life_seconds=life)
    return max(wanted, min(SERVING_MARGIN_SECONDS, life / 2))


def is_due(credential: Generation, now: datetime, min_ttl_seconds: int | None = None) -> bool:
    """Whether the access token must be renewed before it is served.

    A token with an issue time in the future was issued while the clock was ahead. Its remaining life is unknown, so it
    is due.

    Raises:
        InvalidValue: see `margin_seconds`.
    """
    margin = margin_seconds(credential, min_ttl_seconds)
    ahead = (credential.issued_at - now).total_seconds()
    return remaining_seconds(credential, now) < margin or ahead > SERVING_MARGIN_SECONDS


def emergency_at(credential: Generation) -> datetime:
    """The instant after which the access token has too little life left to be served without a renewal."""
    return credential.expires_at - timedelta(seconds=margin_seconds(credential, None))


def unused_until(credential: Generation, limits: GrantLimits) -> datetime | None:
    """When the grant ends unless it is renewed; None if it does not end, or if a renewal would not postpone the end.

    The last renewal shows it: an end that it did not postpone is fixed. The application's own credentials have no
    grant that could end.
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
    """When to renew this generation; None if it can't be renewed or needs no renewal.

    A token is in use if it was last served (`last_served_at`) less than an access token's whole life ago.
    """
    if not credential.renewable:
        return None
    begin, jitter = credential.issued_at, _jitter(token_id, credential.number)
    instants = []
    ends = unused_until(credential, limits)
    if ends:
        instants.append(begin + (ends - begin) * (_IDLE_RATIO + _SPREAD * jitter))
    if last_served_at and now - last_served_at < credential.expires_at - begin:
        instants.append(begin + (emergency_at(credential) - begin) * (_IN_USE_RATIO + _SPREAD * jitter))
    return min(instants, default=None)


def idle_since(inactivity: timedelta, now: datetime) -> datetime:
    """The latest issue time at which an idle token can be due at `now`, for any jitter."""
    return now - inactivity * _IDLE_RATIO


def next_revival_at(state: TokenState, tried_at: datetime | None) -> datetime | None:
    """When to try an Invalid token again: daily if its account was unavailable, as that may pass; otherwise None."""
    if state.dead is not Reason.ACCOUNT_NOT_AVAILABLE or not state.credential or not state.credential.renewable:
        return None
    return (tried_at or state.since) + REVIVAL_EVERY


def _jitter(token_id: UUID, generation: int) -> float:
    """A number from 0 to 1 derived from token and generation, so that every node and every run gets the same number."""
    digest = hashlib.sha256(token_id.bytes + generation.to_bytes(8, "big")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
