"""The format of the log. A line has only the fields in `ALLOWED_FIELDS`, so that no secret gets into the log.

Warnings and errors are counted by their event, also those whose line can't be written.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

import structlog

from infrastructure.log_writer import LogWriter

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
        "alarm",
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
        "file",
        "link",
        "version",
        "worker",
        "lines",
        "known",
        "origin",
        "root",
    }
)
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
"""The priorities of syslog(3), by level."""


class FaultCounts:
    """A structlog processor that counts the warnings and errors of this process by event. Safe for every thread."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._lock = threading.Lock()

    def __call__(self, _: object, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Count an event."""
        if _PRIORITIES[fields["level"]] <= _PRIORITIES["warning"]:
            with self._lock:
                self._counts[str(fields["event"])] += 1
        return fields

    def by_event(self) -> Mapping[str, int]:
        """The number of each event since the process started."""
        with self._lock:
            return dict(self._counts)


FAULT_COUNTS = FaultCounts()


def only_allowed_fields(_: object, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that drops every field not in `ALLOWED_FIELDS`."""
    return {name: value for name, value in fields.items() if name in ALLOWED_FIELDS}


class JournalRenderer:
    """Renders JSON lines, each with the priority prefix that the journal reads (sd-daemon(3))."""

    def __init__(self) -> None:
        self._json = structlog.processors.JSONRenderer()

    def __call__(self, logger: object, name: str, fields: MutableMapping[str, Any]) -> str:
        """Return the line of an event."""
        line = self._json(logger, name, fields)
        assert isinstance(line, str)
        return f"<{_PRIORITIES[fields['level']]}>{line}"


class SafeLogger(structlog.make_filtering_bound_logger(logging.INFO)):  # type: ignore[misc]
    """A logger that never raises: a full disk or a closed terminal loses the line, but does not stop the work."""

    def _proxy_to_logger(self, *arguments: Any, **fields: Any) -> Any:
        with suppress(Exception):
            return super()._proxy_to_logger(*arguments, **fields)
        return None


def _in_journal() -> bool:
    """Whether standard error is connected to the journal and not redirected to a file or a pipe (systemd.exec(5))."""
    try:
        about = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"


@contextmanager
def logging_to_standard_error() -> Iterator[None]:
    """A context in which the log goes to standard error: readable lines on a terminal, JSON lines elsewhere.

    Lines for the journal have priorities. Tracebacks never show the values of variables. No line waits for its reader,
    also no line of a library; at the end of the context the last lines have some seconds. A process that was started
    without standard error logs nothing.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - it stays open as long as the process runs
    processors = _processors()

    def lost_line(lines: int) -> str:
        fields: Any = {"event": "log_lines_lost", "lines": lines}
        for processor in processors:
            fields = processor(None, "warning", fields)
        return f"{fields}\n"

    writer = LogWriter(sys.stderr.fileno(), lost_line)
    stream = cast("TextIO", writer)
    structlog.configure(
        processors=processors, logger_factory=structlog.WriteLoggerFactory(file=stream), wrapper_class=SafeLogger
    )
    last_resort, logging.lastResort = logging.lastResort, _library_handler(stream)
    try:
        yield
    finally:
        logging.lastResort = last_resort
        writer.close()


def _processors() -> list[structlog.typing.Processor]:
    at_terminal = sys.stderr.isatty()
    renderer = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if at_terminal
        else JournalRenderer()
        if _in_journal()
        else structlog.processors.JSONRenderer()
    )
    return [
        structlog.processors.add_log_level,
        FAULT_COUNTS,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        only_allowed_fields,
        *([] if at_terminal else [structlog.processors.format_exc_info]),
        renderer,
    ]


def _library_handler(stream: TextIO) -> logging.StreamHandler[TextIO]:
    """The handler of warnings of libraries, which use the standard library's logging and set up no handler."""
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.WARNING)
    return handler
