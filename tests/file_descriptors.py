"""The file descriptors of another process: how many it has, and what it does when there are no more."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

from waiting import wait_until

_TICKS = os.sysconf("SC_CLK_TCK")


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid: int) -> float:
    """The time that the process has spent on a processor (proc_pid_stat(5))."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def few_descriptors(pid: int) -> Iterator[int]:
    """The process may open a few more files than it has, until the end of the block."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    most = open_files(pid) + 5
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield most
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def share_of_a_processor(pid: int, seconds: float) -> float:
    """The share of one processor that the process uses in the next seconds."""
    spent, began = cpu_seconds(pid), time.monotonic()
    wait_until(lambda: time.monotonic() - began >= seconds, "the time is over")
    return (cpu_seconds(pid) - spent) / (time.monotonic() - began)
