"""Faults that are injected in advance: what goes wrong, for which requests, and how often it has happened.

Each server has its own kinds of `Fault`. A server asks `FaultInjection.meet` at the points where something of that
kind can go wrong, naming the place (an endpoint, a protocol) and what is asked there (a grant type, a command).
"""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Self, TypeVar


class Fault:
    """Something that goes wrong."""

    def release(self) -> None:
        """Let go of whoever it keeps waiting."""


@dataclass(frozen=True)
class Waiting(Fault):
    """A fault that keeps requests waiting, until `release`."""

    released: Future[None] = field(default_factory=Future, kw_only=True)

    def release(self) -> None:
        """Let everybody go on, also those still to come."""
        if not self.released.done():
            self.released.set_result(None)


F = TypeVar("F", bound=Fault)


@dataclass
class InjectedFault:
    """A fault, for which requests it is meant, and how often it has been met.

    `place` and `asked` are None for any. Used as a context manager it stops at the end of the block.
    """

    fault: Fault
    place: str | None
    asked: str | None
    remaining: int | None
    met: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until_met(self, timeout_seconds: float = 60, *, times: int = 1) -> None:
        """Wait until `times` requests have met the fault.

        Raises:
            TimeoutError: they didn't come in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.met >= times, timeout_seconds):
                raise TimeoutError(f"{self.met} of {times} requests met {self.fault}")

    wait_until_held = wait_until_met

    def release(self) -> None:
        """Let go of the requests that wait in it."""
        self.fault.release()

    def stop(self) -> None:
        """Meet no more requests, and let go of those that wait."""
        with self._changed:
            self.remaining = 0
        self.release()

    def meets(self, place: str, asked: str | None) -> bool:
        """Count one request, if the fault is injected for it."""
        with self._changed:
            if self.remaining == 0 or self.place not in {None, place} or self.asked not in {None, asked}:
                return False
            if self.remaining is not None:
                self.remaining -= 1
            self.met += 1
            self._changed.notify_all()
            return True


class FaultInjection:
    """All faults injected at one server; the first that fits a request is met."""

    def __init__(self) -> None:
        self._injected: list[InjectedFault] = []
        self._lock = threading.Lock()

    def inject(self, fault: InjectedFault) -> InjectedFault:
        """Put one more at the end."""
        with self._lock:
            self._injected.append(fault)
        return fault

    def meet(self, kind: type[F], place: str, asked: str | None) -> F | None:
        """The first fault of this kind that is injected for the request; it is used up once."""
        with self._lock:
            for injected in self._injected:
                if isinstance(injected.fault, kind) and injected.meets(place, asked):
                    return injected.fault
        return None

    def clear(self) -> None:
        """End every fault, and let go of the requests that wait in one."""
        with self._lock:
            injected, self._injected = self._injected, []
        for fault in injected:
            fault.stop()
