"""An event loop whose time passes only while nobody has anything to do, and then at once.

It is for code that waits by the loop's clock and for no socket: timers fire in their order and cost nothing.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_in_simulated_time(work: Coroutine[Any, Any, T]) -> T:
    """What the work returns; its timers and time-outs are those of a loop of its own."""
    with asyncio.Runner(loop_factory=_SimulatedLoop) as runner:
        return runner.run(work)


class _SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_NothingArrives(self._pass))

    def time(self) -> float:
        return self._now

    def _pass(self, seconds: float) -> None:
        self._now += seconds


class _NothingArrives(selectors.SelectSelector):
    """Does not wait for sockets: the time it should wait for passes."""

    def __init__(self, let_pass: Callable[[float], None]) -> None:
        super().__init__()
        self._let_pass = let_pass

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits for something that never comes"
        self._let_pass(max(0.0, timeout))
        return []
