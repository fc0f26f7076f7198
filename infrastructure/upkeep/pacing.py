"""The pace of long work beside a service: it rests between two pages, so that other writers are hardly kept waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator

_REST = 9
"""The work takes a tenth of the time."""


def with_rests(pages: Iterator[int]) -> Iterator[int]:
    """What `pages` yields, with a rest after each page."""
    while True:
        began = time.monotonic()
        done = next(pages, None)
        if done is None:
            return
        took = time.monotonic() - began
        yield done
        time.sleep(_REST * took)
