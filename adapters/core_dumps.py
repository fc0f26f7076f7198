"""Keeps tokens and keys out of core dumps, and other processes of the same user out of this one's memory."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4
"""prctl(2). The limit alone does not stop a kernel that pipes dumps to a program (core(5))."""


def forbid_core_dumps() -> None:
    """Have the kernel write no core dump of this process, and let no debugger attach that is not root's."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
