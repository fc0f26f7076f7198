"""The form of a sentence: a fact, which is the same everywhere, and the next step in the words of each surface."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Surface(StrEnum):
    """The surface on which a sentence is read."""

    COMMAND = "command"
    PAGE = "page"
    API = "api"


class ErrorText(NamedTuple):
    """A fact, and the next step: `step` if it is the same on all surfaces, else a step for each surface."""

    fact: str
    step: str | None = None
    command: str | None = None
    page: str | None = None
    api: str | None = None

    def next_step(self, surface: Surface) -> str | None:
        """The next step in the words of this surface."""
        own: str | None = getattr(self, surface.value)
        return own or self.step
