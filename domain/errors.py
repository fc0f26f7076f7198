"""The errors: a class for each way in which a caller must react.

An error carries a code and facts, but no sentence. Each surface (the command line, the pages, the API) takes its
sentence from `adapters.texts.errors`, and `adapters.error_kinds` gives each class its HTTP status and exit code.
Neither the code nor the facts contain a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

Fact = str | int | float | bool | None | Sequence[str]
"""The value of an error's field: a JSON value."""
_SHOWN_CHARACTERS = 1000


class MailtokenError(Exception):
    """A failure with a reason that a person can act on: `code` names the reason, `fields` are the facts by name."""

    def __init__(self, code: str, **fields: Fact) -> None:
        super().__init__(code)
        self.code = code
        self.fields: dict[str, Any] = fields

    def __str__(self) -> str:
        """The code and the facts, for a log."""
        return " ".join([self.code, *(f"{name}={value!r}" for name, value in self.fields.items())])


class InvalidValue(MailtokenError):
    """The input is not acceptable. `field` names the rejected value; `code` says why it was rejected."""

    def __init__(self, field: str, code: str, **fields: Fact) -> None:
        super().__init__(code, **fields)
        self.field = field

    def __str__(self) -> str:
        return f"{self.field}: {super().__str__()}"


class InvalidValues(InvalidValue):
    """Several values are not acceptable. As an `InvalidValue` it is the first of the `problems`."""

    def __init__(self, problems: Sequence[InvalidValue]) -> None:
        first = problems[0]
        super().__init__(first.field, first.code, **first.fields)
        self.problems = tuple(problems)


class NotFound(MailtokenError):
    """No object has this name."""


class NotPermitted(MailtokenError):
    """The caller's role does not allow the action."""


class Refused(MailtokenError):
    """The present state does not permit the action. Nothing was changed."""


class Failed(MailtokenError):
    """The action was tried and did not work."""


class ProviderRefused(Failed):
    """The provider was asked and refused."""


class Unreachable(MailtokenError):
    """The service, the provider or a mail server can't be reached now: try again.

    `retry_after_seconds` is the wait that the other side asked for, or None.
    """

    def __init__(self, code: str, retry_after_seconds: int | None = None, **fields: Fact) -> None:
        super().__init__(code, **fields)
        self.retry_after_seconds = retry_after_seconds


class TooManyRequests(MailtokenError):
    """The caller has tried too often. The request was not examined; the next is, after `retry_after_seconds`."""

    def __init__(self, code: str, retry_after_seconds: int, **fields: Fact) -> None:
        super().__init__(code, retry_after_seconds=retry_after_seconds, **fields)
        self.retry_after_seconds = retry_after_seconds


class StorageFull(Unreachable):
    """The storage has no room for a reply, so no request was sent to the provider."""


class StoreRefused(MailtokenError):
    """The store can't be opened: wrong key, a newer version, or not a store of Mailtoken. Nothing was changed."""


class Conflict(MailtokenError):
    """Another writer changed the same object first: load the object and decide again."""


class Outdated(Conflict):
    """The object has changed since the caller read it, and the caller asked to be refused then. Nothing was changed."""


class VaultDamaged(MailtokenError):
    """A sealed row is missing, was swapped or does not open. Only the token of that row is quarantined."""


class IllegalHistory(MailtokenError):
    """The event log contains an event that the lifecycle does not permit at that point."""


def facts(error: MailtokenError) -> Mapping[str, Any]:
    """The facts that a surface shows: the error's fields, and the name of the value that an `InvalidValue` rejects.

    A text is cut, since a request may hold one of any length, and would get it back more than once.
    """
    named = {**error.fields, "field": error.field} if isinstance(error, InvalidValue) else error.fields
    return {name: _cut(value) for name, value in named.items()}


def _cut(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_cut(item) for item in value]
    is_long = isinstance(value, str) and len(value) > _SHOWN_CHARACTERS
    return f"{value[:_SHOWN_CHARACTERS]}…" if is_long else value


@contextmanager
def about(profile: str) -> Iterator[None]:
    """Add the setting's name to a refusal raised inside: a token does not know the names of its settings."""
    try:
        yield
    except Refused as refused:
        refused.fields.setdefault("profile", profile)
        raise
