"""Misbehaviour that is armed in advance: a fault, what it is for, and how often it has been met.

A *fault* says what goes wrong; each server has its own kinds. A server asks `Misbehaviours.meet` at the points
where something of that kind can go wrong, naming the place (an endpoint, a protocol) and what is asked there (a
grant type, a command).
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
class Misbehaviour:
    """A fault that is armed: for which requests, and how often it has been met.

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

    def wait_until_met(self, timeout_seconds: float = 5, *, times: int = 1) -> None:
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
        """Count one request, if it is one to misbehave for."""
        with self._changed:
            if self.remaining == 0 or self.place not in {None, place} or self.asked not in {None, asked}:
                return False
            if self.remaining is not None:
                self.remaining -= 1
            self.met += 1
            self._changed.notify_all()
            return True


class Misbehaviours:
    """All that is armed at one server, first come first met."""

    def __init__(self) -> None:
        self._armed: list[Misbehaviour] = []
        self._lock = threading.Lock()

    def arm(self, misbehaviour: Misbehaviour) -> Misbehaviour:
        """Put one more at the end."""
        with self._lock:
            self._armed.append(misbehaviour)
        return misbehaviour

    def meet(self, kind: type[F], place: str, asked: str | None) -> F | None:
        """Give the first fault of this kind that is armed for the request, and use it up once."""
        with self._lock:
            for misbehaviour in self._armed:
                if isinstance(misbehaviour.fault, kind) and misbehaviour.meets(place, asked):
                    return misbehaviour.fault
        return None

    def disarm(self) -> None:
        """End them all."""
        with self._lock:
            armed, self._armed = self._armed, []
        for misbehaviour in armed:
            misbehaviour.stop()
