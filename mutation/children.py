"""Work done in forked processes, with limits that a busy machine does not use up."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import TypeVar

_POLL_SECONDS = 1.0
_RUNS_OR_COULD = ("R", "D")
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of a random name is made in it

T = TypeVar("T")


class NoResult(Enum):
    """Why a process ended without a result."""

    TIMED_OUT = "it used up its limit of CPU time, or of waiting"
    DIED = "it ended by itself, or by another signal"


def in_child(work: Callable[[], T], idle_seconds: float) -> T | NoResult:
    """The result of `work`, done in a forked process with a folder of its own for temporary files.

    The process is ended when it and its own children have waited for `idle_seconds`, in which none of them could have
    used a processor. `limit_cpu` is the other limit.

    Raises:
        RuntimeError: `work` raised an exception.
    """
    reads, writes = os.pipe()
    with tempfile.TemporaryDirectory(
        prefix="m", dir=_MEMORY if _MEMORY.is_dir() else None, ignore_cleanup_errors=True
    ) as folder:
        child = os.fork()
        if child == 0:
            _work_and_exit(work, writes, folder)
        os.close(writes)
        with os.fdopen(reads, "rb") as pipe:
            received = _received(pipe.fileno(), child, idle_seconds)
        _end_group(child)
        _, status = os.waitpid(child, 0)
    if received is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF):
        return NoResult.TIMED_OUT
    if not received:
        return NoResult.DIED
    done, result = pickle.loads(received)  # noqa: S301 - our own child wrote it
    if not done:
        raise RuntimeError(result)
    returned: T = result
    return returned


def limit_cpu(seconds: float) -> None:
    """End this process when it has used so many more seconds of CPU time."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def in_parallel(works: Iterable[Callable[[], object]]) -> None:
    """Do each work in a forked process, and wait for the end of all. The first that fails ends the program."""
    children = [_forked(work) for work in works]
    statuses = [os.waitpid(child, 0)[1] for child in children]
    if any(statuses):
        sys.exit("a process of this run has failed")


def _forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return child


def _work_and_exit(work: Callable[[], object], writes: int, folder: str) -> None:
    try:
        os.setpgid(0, 0)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
        try:
            message = pickle.dumps((True, work()))
        except BaseException:
            message = pickle.dumps((False, traceback.format_exc()))
        with os.fdopen(writes, "wb") as pipe:
            pipe.write(message)
    finally:
        os._exit(0)


def _received(descriptor: int, group: int, idle_seconds: float) -> bytes | None:
    """What a process wrote until it ended; None if it waited for too long."""
    received, idle, end = b"", 0.0, os.pidfd_open(group)
    try:
        while True:
            ready = select.select([descriptor, end], [], [], _POLL_SECONDS)[0]
            if descriptor in ready and (more := os.read(descriptor, 1 << 16)):
                received += more
            elif ready:
                return received
            elif not _could_run(group):
                idle += _POLL_SECONDS
                if idle > idle_seconds:
                    return None
    finally:
        os.close(end)


def _could_run(group: int) -> bool:
    """Whether a thread of a process group runs, or waits for a processor or a disk."""
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getpgid(int(process)) != group:
                continue
            for thread in os.listdir(f"/proc/{process}/task"):
                stat = Path(f"/proc/{process}/task/{thread}/stat").read_text()
                if stat.rpartition(") ")[2].startswith(_RUNS_OR_COULD):
                    return True
        except OSError:  # it has ended
            continue
    return False


def _end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of it has ended
        os.killpg(group, signal.SIGKILL)
