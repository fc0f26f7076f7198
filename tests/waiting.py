"""Waiting for what another thread or process does: by condition, with a deadline that only a failure reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

DEADLINE_SECONDS = 60.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.005, 0.05

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T | None],
    what: str,
    seconds: float = DEADLINE_SECONDS,
    otherwise: Callable[[], object] = lambda: "",
) -> T:
    """Wait for a condition to hold; what it gave then. `otherwise` tells what there is if it does not.

    The pauses become longer: a condition may ask the service, which takes both processes some work.
    """
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in vain for {seconds:g} s: {what} {otherwise()}"
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
    return found


def in_background(work: Callable[[], T]) -> Future[T]:
    """Do something in a thread that nobody has to wait for."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future
