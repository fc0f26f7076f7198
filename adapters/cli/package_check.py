"""Checks that `domain`, `infrastructure` and `adapters` are this program's own packages.

Other distributions may have packages of these names, and Python imports the first that it finds.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

_PACKAGES = ("domain", "infrastructure", "adapters")


def problem() -> str | None:
    """A sentence about the first package that is missing or another distribution's; None if all are our own."""
    root = Path(__file__).resolve().parents[2]
    for package in _PACKAGES:
        found = _found(package)
        if found is None:
            return f"its package {package!r} is missing from {root}: install mailtoken again"
        if found != root / package:
            return (
                f"{found} is in the place of its own package {root / package}: take {found.parent} off PYTHONPATH, "
                "or install mailtoken in an environment of its own"
            )
    return None


def _found(package: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    place = next(iter(spec.submodule_search_locations or ()), spec.origin)
    return Path(place).resolve() if place else None
