"""Tells the service manager the state of this process (sd_notify(3)); without a service manager nothing is sent.

The protocol is one datagram for each message, so no library is used for it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

_MICROSECONDS = 1_000_000


def notify(*assignments: str) -> None:
    """Send assignments such as `READY=1`; a service manager that can't be reached is no reason to fail."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        # An address with "@" is in the abstract namespace (unix(7)).
        sender.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        sender.sendall("\n".join(assignments).encode())


def notify_reloading() -> None:
    """Tell that a reload has begun; `READY=1` tells its end."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


async def keep_watchdog_quiet(works: Callable[[], bool]) -> None:
    """Tell twice in each watchdog interval that this process works, as long as it does and its event loop runs."""
    interval = _watchdog_seconds()
    while interval:
        if works():
            notify("WATCHDOG=1")
        await asyncio.sleep(interval / 2)


def _watchdog_seconds() -> float | None:
    """The interval in which the service manager wants a message from this process; None if it wants none."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    with suppress(ValueError):
        return max(int(os.environ.get("WATCHDOG_USEC", "0")), 0) / _MICROSECONDS or None
    return None
