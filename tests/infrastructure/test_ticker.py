"""A ticker runs its work again and again until it is stopped, and nothing the work raises ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from infrastructure import ticker
from infrastructure.ticker import Ticker

DEADLINE_SECONDS = 60.0


class Panic(BaseException):
    """A panic of an extension in Rust is derived from BaseException, as this is."""


def recurse() -> None:
    recurse()


def raises(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


class Runs:
    """Work that counts its runs; each does the next of `steps`, and nothing once they are used up."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.count = 0
        self._steps = list(steps)
        self._counted = threading.Condition()

    def __call__(self) -> None:
        with self._counted:
            self.count += 1
            self._counted.notify_all()
        if self._steps:
            self._steps.pop(0)()

    def wait_for(self, count: int) -> None:
        with self._counted:
            assert self._counted.wait_for(lambda: self.count >= count, DEADLINE_SECONDS), f"{self.count} runs"


@pytest.fixture
def begin() -> Iterator[Callable[..., Ticker]]:
    """Start a ticker that is stopped when the test ends."""
    started: list[Ticker] = []

    def start(work: Callable[[], object], interval: Callable[[], float] = lambda: 0.0) -> Ticker:
        started.append(Ticker("chores", work, interval))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def without_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticker, "_FIRST_WAIT_SECONDS", 0.0)


def test_work_is_run_again_after_each_interval(begin: Callable[..., Ticker]) -> None:
    runs = Runs()
    begin(runs)
    runs.wait_for(5)


def test_waking_ends_the_wait(begin: Callable[..., Ticker]) -> None:
    runs = Runs()
    sleeping = begin(runs, lambda: 3600.0)
    runs.wait_for(1)
    sleeping.wake()
    runs.wait_for(2)


@pytest.mark.parametrize(
    "failing",
    [raises(ValueError("no")), recurse, raises(MemoryError()), raises(SystemExit(1)), raises(Panic("panic"))],
    ids=["an error", "a recursion without end", "no memory", "an exit", "a panic"],
)
@pytest.mark.usefixtures("without_backoff")
def test_nothing_that_the_work_raises_ends_it(begin: Callable[..., Ticker], failing: Callable[[], None]) -> None:
    with capture_logs() as logs:
        runs = Runs(failing, failing)
        begin(runs)
        runs.wait_for(4)
    assert [(line["event"], line["worker"], line["log_level"]) for line in logs] == [
        ("worker_failed", "chores", "error")
    ] * 2


@pytest.mark.usefixtures("without_backoff")
def test_an_interval_that_can_not_be_told_does_not_end_it(begin: Callable[..., Ticker]) -> None:
    runs = Runs()
    begin(runs, raises(ZeroDivisionError()))
    runs.wait_for(3)


@pytest.mark.usefixtures("without_backoff")
def test_a_failure_that_can_not_be_logged_does_not_end_it(
    begin: Callable[..., Ticker], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unwritable:
        def exception(self, *_: object, **__: object) -> None:
            raise OSError("No space left on device")

    monkeypatch.setattr(ticker, "log", Unwritable())
    runs = Runs(recurse, raises(ValueError("no")))
    begin(runs)
    runs.wait_for(4)


def test_the_wait_doubles_after_each_failure_in_a_row_up_to_a_minute_and_begins_anew_after_a_success() -> None:
    fail = raises(ValueError("no"))
    once = Ticker("chores", Runs(*[fail] * 8, lambda: None, fail), lambda: 7.0)
    waits = [once._run_once() for _ in range(10)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 7, 1]


def test_stopping_ends_a_long_wait_at_once(begin: Callable[..., Ticker]) -> None:
    runs = Runs()
    sleeping = begin(runs, lambda: 3600.0)
    runs.wait_for(1)
    sleeping.stop()
    assert runs.count == 1


def test_stopping_waits_for_the_run_under_way_which_can_see_it() -> None:
    is_running, finished = threading.Event(), threading.Event()

    def work() -> None:
        is_running.set()
        while not stopping.is_stopping:
            time.sleep(0.001)
        finished.set()

    stopping = Ticker("chores", work, lambda: 0.0)
    stopping.start()
    assert is_running.wait(DEADLINE_SECONDS)
    stopping.stop()
    assert finished.is_set()


def test_a_ticker_that_was_never_started_can_be_stopped() -> None:
    Ticker("chores", Runs(), lambda: 0.0).stop()
