"""What may be in a log line: named fields only. A field nobody listed here is left out, whatever it holds."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

ALLOWED_FIELDS = frozenset(
    {
        "event",
        "level",
        "timestamp",
        "exception",
        "exc_info",
        "token",
        "profile",
        "provider",
        "why",
        "error",
        "replies",
        "events",
        "socket",
        "address",
        "protocol",
        "listen",
        "server",
        "user",
        "store",
        "link",
        "version",
    }
)
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
"""By level, as syslog(3) numbers them."""


def only_allowed_fields(_: object, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop every field that is not on the list."""
    return {name: value for name, value in fields.items() if name in ALLOWED_FIELDS}


class JournalRenderer:
    """JSON lines, each with its priority as the journal reads it (sd-daemon(3))."""

    def __init__(self) -> None:
        self._json = structlog.processors.JSONRenderer()

    def __call__(self, logger: object, name: str, fields: MutableMapping[str, Any]) -> str:
        """One line."""
        line = self._json(logger, name, fields)
        assert isinstance(line, str)
        return f"<{_PRIORITIES[fields['level']]}>{line}"


def _in_journal() -> bool:
    """Whether standard error is the journal and not something it was redirected to (systemd.exec(5))."""
    try:
        about = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"


def configure_logging() -> None:
    """Log to standard error: for people at a terminal, with priorities to the journal, as JSON lines elsewhere.

    Tracebacks are plain: never with the values of variables.
    """
    at_terminal = sys.stderr.isatty()
    renderer = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if at_terminal
        else JournalRenderer()
        if _in_journal()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            only_allowed_fields,
            *([] if at_terminal else [structlog.processors.format_exc_info]),
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
