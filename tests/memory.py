"""A file system in memory for temporary folders: an fsync on a disk takes milliseconds, and a test has twenty of them.

What has to be fsynced is checked by call; that a disk keeps it is the system's promise.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 * 1024**3


def memory() -> str | None:
    """The folder of a file system in memory that has room and lets programs run; None if there is none."""
    if not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK):
        return None
    runs_programs = not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    return str(MEMORY) if runs_programs and shutil.disk_usage(MEMORY).free > _ROOM_BYTES else None
