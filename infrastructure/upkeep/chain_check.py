"""The check of the log against its keyed chain, event by event, in memory that does not grow with the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from eventsourcing.persistence import StoredEvent

from infrastructure.encryption.integrity_keys import MacKeys, key_number
from infrastructure.store.hash_chain import GENESIS, Head, head_of, link_message
from infrastructure.store.query import Query

_PAGE = 2000


@dataclass(frozen=True)
class ChainFault:
    """A difference between log and chain: its code, and the number and position that it is about, where it has them.

    `count` says how many numbers from that one on it is about.
    """

    code: str
    number: int | None = None
    position: int | None = None
    topic: str | None = None
    count: int = 1


class _Link(NamedTuple):
    number: int
    position: int
    link: bytes


class ChainCheck:
    """Takes the events in the order of the log, then the end. Without `keys` it checks all but the MACs."""

    def __init__(self, query: Query, keys: MacKeys | None) -> None:
        self._query = query
        self._keys = keys
        self._links = self._read_links()
        self._next = next(self._links, None)
        self._last = 0
        self._number: int | None = None
        self._key_number = 0
        self._previous: bytes | None = GENESIS
        """The link before the next one; None if it is missing."""

    @property
    def number(self) -> int | None:
        """The number of the event that was checked last; None if it has no link."""
        return self._number

    def check(self, position: int, event: StoredEvent) -> list[ChainFault]:
        """Compare the next event with its link."""
        faults = list[ChainFault]()
        while self._next and self._next.position < position:
            faults += self._without_event(self._next)
        link, self._number = self._next, None
        if link is None or link.position != position:
            return [*faults, ChainFault("event_not_in_chain", None, position, event.topic)]
        faults += self._before(link)
        if self._keys:
            if self._previous is None:
                faults.append(ChainFault("event_unproven", link.number, position, event.topic))
            elif not self._fits(self._keys, link, event):
                faults.append(ChainFault("event_hash_differs", link.number, position, event.topic))
        self._take(link)
        self._number = link.number
        return faults

    def end(self) -> list[ChainFault]:
        """Compare what is left of the chain, and its head, with the events so far."""
        faults = list[ChainFault]()
        while self._next:
            faults += self._without_event(self._next)
        rows = self._query.rows("SELECT id, number, position, link, mac FROM chain_head ORDER BY id")
        head = head_of([row for row in rows if row["id"] == 1])
        faults += [ChainFault("head_added") for row in rows if row["id"] != 1]
        return [*faults, *self._about_head(head)]

    def _about_head(self, head: Head | None) -> Iterator[ChainFault]:
        if head is None:
            yield ChainFault("head_missing")
        elif self._keys and not head.is_valid(self._keys):
            yield ChainFault("head_altered", head.number)
        elif head.number < self._last:
            yield ChainFault("head_older", head.number)
        elif head.number > self._last:
            yield ChainFault("event_cut_off", self._last + 1, count=head.number - self._last)
        elif self._previous is not None and head.link != self._previous:
            yield ChainFault("head_altered", head.number)

    def _without_event(self, link: _Link) -> list[ChainFault]:
        faults = [*self._before(link), ChainFault("event_removed", link.number, link.position)]
        self._take(link)
        return faults

    def _before(self, link: _Link) -> list[ChainFault]:
        """The links that are missing before this one."""
        missing = link.number - self._last - 1
        if missing == 0:
            return []
        self._previous = None
        return [
            ChainFault("link_removed", self._last + 1, count=missing)
            if missing > 0
            else ChainFault("link_added", link.number)
        ]

    def _fits(self, keys: MacKeys, link: _Link, event: StoredEvent) -> bool:
        assert self._previous is not None
        made_by = key_number(link.link)
        if made_by < self._key_number:
            return False
        self._key_number = made_by
        return keys.is_valid(link_message(link.number, self._previous, link.position, event), link.link)

    def _take(self, link: _Link) -> None:
        self._last, self._previous = link.number, link.link
        self._next = next(self._links, None)

    def _read_links(self) -> Iterator[_Link]:
        # Numbers begin with 1, so a link with a lower one was put there; the first page takes it in.
        statement = "SELECT number, position, link FROM chain WHERE number > ? ORDER BY number LIMIT ?"
        after = -(2**62)
        while rows := self._query.rows(statement, (after, _PAGE)):
            for row in rows:
                yield _Link(row["number"], row["position"], bytes(row["link"]))
            after = rows[-1]["number"]
