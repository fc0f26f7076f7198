"""See that the packages this program imports are its own.

They have everyday names, and Python takes the first of a name that it finds.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

_ROOMS = ("domain", "infrastructure", "adapters")


def shadow() -> str | None:
    """What stands in the place of one of our packages and what to do about it; None if all is well."""
    root = Path(__file__).resolve().parents[2]
    for room in _ROOMS:
        found = _found(room)
        if found is None:
            return f"its package {room!r} is missing from {root}: install mailtoken again"
        if found != root / room:
            return (
                f"{found} is in the place of its own package {root / room}: take {found.parent} off PYTHONPATH, "
                "or install mailtoken in an environment of its own"
            )
    return None


def _found(room: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(room)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    place = next(iter(spec.submodule_search_locations or ()), spec.origin)
    return Path(place).resolve() if place else None
