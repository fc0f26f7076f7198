"""How much a test tries: all of it with `--thorough`, as `.ci/run` has it, and else a part that shows the same."""

from __future__ import annotations

import os

_THOROUGH = "MAILTOKEN_TESTS_ARE_THOROUGH"


def be_thorough() -> None:
    """Let the modules that are imported after this, here and in child processes, try all of it."""
    os.environ[_THOROUGH] = "1"


def amount(few: int, *, of: int) -> int:
    """The number of examples, rounds or changes that this run tries."""
    return of if _THOROUGH in os.environ else few
