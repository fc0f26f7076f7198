"""A transaction of either engine, in which statements run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast
from uuid import UUID

from eventsourcing.persistence import StoredEvent

_VALUES_AT_ONCE = 500


class Query(Protocol):
    """A transaction that has begun. A statement writes a parameter as `?`; a row is a mapping by column."""

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Mapping[str, Any]]:
        """The rows that a statement returns."""
        ...

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement; returns the number of rows that it changed."""
        ...

    def run_many(self, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each set of parameters."""
        ...

    def events(self, after: int, limit: int) -> list[tuple[int, StoredEvent]]:
        """The first `limit` events of the log behind the position `after`, with their positions."""
        ...

    def events_near(
        self, position: int, limit: int, *, backwards: bool = False, of: Sequence[UUID] | None = None
    ) -> list[tuple[int, StoredEvent]]:
        """Up to `limit` events behind the position in log order, or with `backwards` before it, the newest first.

        With `of` only events of these aggregates.
        """
        ...

    def events_of(
        self, ids: Sequence[UUID], until: int | None, but: Sequence[str] = ()
    ) -> list[tuple[int, StoredEvent]]:
        """The events of these aggregates, in log order: up to the position `until`, if it is given.

        Topics that begin with one of `but` are left out.
        """
        ...

    def first_events(self, ids: Sequence[UUID]) -> list[tuple[int, StoredEvent]]:
        """The first event of each of these aggregates, in log order."""
        ...

    def copy_events(self, events: Sequence[tuple[int, StoredEvent]]) -> None:
        """Store events at these positions, which must be behind the last event; for the restore of a backup."""
        ...

    def last_version(self, id: str) -> str:
        """The SQL expression for the number of an aggregate's events in the log, null if it has none.

        `id` is the SQL expression for its id as text; the expression is null for a text that is no id.
        """
        ...

    def joined(self, expression: str) -> str:
        """The SQL expression for the texts of a group, with spaces between them; null if there is none."""
        ...

    def texts(self, parameter: str) -> str:
        """The SQL subquery for the texts of a JSON array, which is a parameter: `IN` takes any number of them so."""
        ...

    def pairs(self, parameter: str) -> str:
        """The SQL subquery for the columns `key` and `value`, both texts, of a JSON object, which is a parameter."""
        ...

    def by_code_point(self, expression: str) -> str:
        """The SQL expression that compares a text as Python does, whatever the database's collation is."""
        ...

    def write_chain(self, links: Sequence[tuple[int, int, bytes]], head: tuple[int, int, bytes, bytes]) -> None:
        """Store new links and, in place of the head, a new one, in as few statements as the engine can."""
        ...

    def last_of(self, topics: Sequence[str], after: int) -> int | None:
        """The position of the last event of these topics behind the position `after`; None if there is none."""
        ...

    def version_of(self, id: UUID) -> int | None:
        """The number of this aggregate's events in the log; None if it has none."""
        ...


def as_dict(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with fast look-ups: SQLite's own compares the name with that of each column in turn."""
    return row if isinstance(row, dict) else dict(zip(row.keys(), cast("Iterable[Any]", row), strict=True))


def plain_for_like(text: str) -> str:
    """The text for LIKE with the escape sign `\\`, in which it stands for itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def rows_in(query: Query, statement: str, values: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The rows of a statement that ends with `IN`, for any number of values: an engine takes only so many at once."""
    for begin in range(0, len(values), _VALUES_AT_ONCE):
        some = values[begin : begin + _VALUES_AT_ONCE]
        yield from query.rows(f"{statement} ({', '.join('?' * len(some))})", some)
