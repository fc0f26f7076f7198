"""The engines of a store, for tests that show something of what is kept in it."""

from __future__ import annotations

import pytest

BOTH = ("sqlite", "postgresql")
MOSTLY_SQLITE = ("sqlite", pytest.param("postgresql", marks=pytest.mark.thorough))
"""For what no engine decides. Transactions, claims and recovery are always tried on both."""
