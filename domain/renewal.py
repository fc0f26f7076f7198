"""When an access token is renewed, and how much life a caller may ask for."""

from __future__ import annotations

from datetime import datetime

from domain.errors import InvalidValue
from domain.token import Generation

# Exchange Online answers `501 5.5.127` to a token that is about to expire: hand out ten minutes or more.
SERVING_MARGIN_SECONDS = 600


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

    Raises:
        InvalidValue: see `margin_seconds`.
    """
    return remaining_seconds(credential, now) < margin_seconds(credential, min_ttl_seconds)
