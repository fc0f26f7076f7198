"""Attention: how urgently a person is needed for a token, by the code of why."""

from __future__ import annotations

from enum import StrEnum

from domain.expiry_forecast import Cause
from domain.outcomes import GrantWarning


class Urgency(StrEnum):
    """Whether something does not work now, or works and will soon end unless a person acts."""

    NOW = "now"
    SOON = "soon"


_SOON = frozenset({*map(str, Cause), *map(str, GrantWarning)})


def urgency_of(code: str) -> Urgency:
    """The urgency of an attention code: that of an expiry or of a credential that still works is `SOON`."""
    return Urgency.SOON if code in _SOON else Urgency.NOW
