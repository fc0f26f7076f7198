"""What can go wrong, by what a caller must do about it.

A message is one line for the person who asked: what is wrong, where, and what to do next. It never holds a secret.
The command line and the HTTP interface turn each class into an exit code and a status; nobody else does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class MailtokenError(Exception):
    """A failure with a reason a person can act on."""


class InvalidValue(MailtokenError):
    """The input is not acceptable: the field, what was wrong, and what is accepted."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class NotFound(MailtokenError):
    """Nothing has this name."""


class NotPermitted(MailtokenError):
    """The caller's role does not allow it."""


class Refused(MailtokenError):
    """Not in this state: nothing was changed."""


class Failed(MailtokenError):
    """It was tried and did not work; the message says whose move is next."""


class Unreachable(MailtokenError):
    """The service, the provider or a mail server can't be reached now: try again.

    `retry_after_seconds` is what the provider asked for, if it did.
    """

    def __init__(self, message: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StorageFull(Unreachable):
    """There is no room to keep a reply, so nothing was asked of the provider."""


class StoreRefused(MailtokenError):
    """The store can't be opened as it is: wrong key, newer version, or not ours. Nothing was changed."""


class Conflict(MailtokenError):
    """Somebody else changed the same thing first: load it again and decide again."""


class Outdated(Conflict):
    """It is not as the caller saw it any more, and they asked to go on only if it is: nothing was changed."""


class VaultDamaged(MailtokenError):
    """A sealed row is missing, was swapped or does not open: that token is quarantined and nothing else."""


class IllegalHistory(MailtokenError):
    """An event that the lifecycle does not allow at this point of the log."""


@contextmanager
def about(name: str) -> Iterator[None]:
    """Say in a refusal what it is about: a token does not know the name it is asked for by."""
    try:
        yield
    except Refused as refused:
        raise Refused(f"{name}: {refused}") from None
