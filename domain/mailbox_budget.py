"""How much of a mailbox everybody who shares it may use at once, and who is next.

A mail server allows one mailbox so many connections, and so many messages a minute (Exchange Online: 3 and 30). Who
wants more waits: the clients take turns in the order of their coming, however often one of them asks, and nobody goes
while the server asks to be left alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum

_MINUTE_SECONDS = 60.0


class Need(StrEnum):
    """What somebody waits for."""

    CONNECTION = "connection"
    MESSAGE = "message"


@dataclass(frozen=True)
class Allowance:
    """What the server allows for one mailbox; None is no limit."""

    connections: int | None = None
    messages_per_minute: int | None = None


@dataclass(frozen=True)
class Ticket:
    """One request of a client; `number` tells its requests apart."""

    client: Hashable
    number: int
    need: Need


class _Queue:
    """Tickets, one of each client in turn."""

    def __init__(self) -> None:
        self._of: dict[Hashable, deque[Ticket]] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def join(self, ticket: Ticket) -> None:
        self._of.setdefault(ticket.client, deque()).append(ticket)

    def leave(self, ticket: Ticket) -> None:
        tickets = self._of.get(ticket.client, deque())
        if ticket in tickets:
            tickets.remove(ticket)
            if not tickets:
                del self._of[ticket.client]

    def pop(self) -> Ticket:
        client = next(iter(self._of))
        tickets = self._of.pop(client)
        ticket = tickets.popleft()
        if tickets:
            self._of[client] = tickets
        return ticket


class MailboxBudget:
    """The use of one mailbox.

    `now` is in seconds, by any clock that only goes forward. Connections and messages have queues of their own: who
    waits for a message has a connection already, and would otherwise wait for those who wait for it.
    """

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._connections = 0
        self._begun: deque[float] = deque()
        self._waiting = {need: _Queue() for need in Need}
        self._paused_until = 0.0

    def is_unused(self, now: float) -> bool:
        """Whether nobody has or wants anything of it, and nothing is left to remember."""
        self._forget(now)
        used = self._connections or self._begun or any(self._waiting.values())
        return not used and now >= self._paused_until

    def take(self, need: Need, now: float) -> bool:
        """Whether one may go at once: nobody waits for the same, and there is room. It is taken with that."""
        if now < self._paused_until or self._waiting[need]:
            return False
        self._forget(now)
        return self._admit(need, now)

    def queue(self, ticket: Ticket) -> None:
        """Wait for a connection, or for leave to begin a message."""
        self._waiting[ticket.need].join(ticket)

    def withdraw(self, ticket: Ticket) -> None:
        """Wait no longer; without effect for a ticket whose turn has come."""
        self._waiting[ticket.need].leave(ticket)

    def next(self, now: float) -> list[Ticket]:
        """Whose turn it is now, in order; what they waited for is theirs with that."""
        turns: list[Ticket] = []
        if now < self._paused_until:
            return turns
        self._forget(now)
        for need, waiting in self._waiting.items():
            while waiting and self._admit(need, now):
                turns.append(waiting.pop())
        return turns

    def look_again_at(self, now: float) -> float | None:
        """When a turn may come by time alone; None if nobody waits, or only for connections that are in use."""
        if not any(self._waiting.values()):
            return None
        if now < self._paused_until:
            return self._paused_until
        if self._waiting[Need.MESSAGE] and self._begun:
            return self._begun[0] + _MINUTE_SECONDS
        return None

    def give_back(self) -> None:
        """A connection has ended."""
        self._connections -= 1

    def pause(self, until: float) -> None:
        """The server wants to be left alone until then (432 4.3.2, 421)."""
        self._paused_until = max(self._paused_until, until)

    def _admit(self, need: Need, now: float) -> bool:
        """Take one more, if there is room for it."""
        if need is Need.CONNECTION:
            if not _is_below(self._connections, self._allowance.connections):
                return False
            self._connections += 1
        elif self._allowance.messages_per_minute is not None:
            if len(self._begun) >= self._allowance.messages_per_minute:
                return False
            self._begun.append(now)
        return True

    def _forget(self, now: float) -> None:
        # Reckoned as `look_again_at` does it: a minute less than now need not be the same number.
        while self._begun and self._begun[0] + _MINUTE_SECONDS <= now:
            self._begun.popleft()


def _is_below(used: int, limit: int | None) -> bool:
    return limit is None or used < limit
