"""The windows in which pages are looked at: a width, and the colours of light or dark."""

from __future__ import annotations

from effort import amount

_EVERY = [("wide", "light"), ("narrow", "dark"), ("wide", "dark"), ("narrow", "light")]
VARIANTS = _EVERY[: amount(1, of=4)]
"""Each page is made for these."""
OPPOSITE_VARIANTS = VARIANTS[:2]
"""For what differs less from one to another."""
