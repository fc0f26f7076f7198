"""The file descriptors of this process: the log has a line when they run out, and one when there are enough again."""

from __future__ import annotations

import asyncio
import os
import resource
from contextlib import suppress

import structlog

log = structlog.get_logger("mailtoken")

_SPARE = 16
_LOOK_EVERY_SECONDS = 5.0


def are_left() -> bool:
    """Whether the process can open a few more files."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        return most == resource.RLIM_INFINITY or len(os.listdir("/proc/self/fd")) + _SPARE <= most
    except FileNotFoundError:  # there is no /proc
        return True
    except OSError:
        return False


def allow(wanted: int) -> None:
    """Raise this process's limit on file descriptors to what is wanted, as far as the process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        with suppress(ValueError, OSError):
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def keep_logging() -> None:
    """Write a line into the log when descriptors run out, and one when there are enough again; never ends."""
    were_left = True
    while True:
        left = are_left()
        if left != were_left:
            if left:
                log.info("descriptors_enough")
            else:
                log.error("descriptors_few")
        were_left = left
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
