"""The table of the HTTP status and the exit code of each kind of error. Few imports, since `token show` loads it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ends: the stable contract, and the shell's own numbers for the signals SIGINT and SIGPIPE."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_PERMITTED = 3
    NOT_FOUND = 4
    REFUSED = 5
    UNREACHABLE = 6
    CHANGED = 7
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


ERROR_KINDS = {
    "InvalidValue": (422, ExitCode.USAGE),
    "NotPermitted": (403, ExitCode.NOT_PERMITTED),
    "NotFound": (404, ExitCode.NOT_FOUND),
    "Refused": (409, ExitCode.REFUSED),
    "Outdated": (412, ExitCode.REFUSED),
    "Conflict": (409, ExitCode.REFUSED),
    "TooManyRequests": (429, ExitCode.FAILED),
    "ProviderRefused": (424, ExitCode.FAILED),
    "Unreachable": (503, ExitCode.UNREACHABLE),
    "MailtokenError": (500, ExitCode.FAILED),
}
"""By the name of a class of `domain.errors`: the status (RFC 9110) and the exit code. A class without a row has
the row of its base class."""

RETRY_AFTER_SECONDS = 5
"""The default, where the service does not know how long the failure will last."""

# Statuses that the framework or a proxy answers with, without an error of `domain.errors`.
_OTHER_STATUSES = {
    400: ExitCode.USAGE,
    401: ExitCode.NOT_PERMITTED,
    502: ExitCode.UNREACHABLE,
    504: ExitCode.UNREACHABLE,
}
_EXIT_CODES = {**dict(ERROR_KINDS.values()), **_OTHER_STATUSES}


def status_of(error: Exception) -> int:
    """The HTTP status of an error of `domain.errors`."""
    return _row(error)[0]


def retry_after_seconds(error: Exception) -> int | None:
    """How long a caller should wait before the next try, in whole seconds; None if waiting does not help."""
    seconds: int | None = getattr(error, "retry_after_seconds", None)
    return RETRY_AFTER_SECONDS if seconds is None and status_of(error) == 503 else seconds


def exit_code_of(error: Exception) -> ExitCode:
    """The exit code of a command that failed with an error of `domain.errors`."""
    return _row(error)[1]


def exit_code_for(status: int) -> ExitCode:
    """The exit code of a command that got this HTTP status, 400 or above."""
    return _EXIT_CODES.get(status, ExitCode.FAILED)


def _row(error: Exception) -> tuple[int, ExitCode]:
    return next(ERROR_KINDS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in ERROR_KINDS)
