"""The limits that a mail server sets for all users of one mailbox together, and the queue of waiting clients.

Exchange Online allows a mailbox three connections at once and thirty messages a minute. Clients above the limits take
turns in the order in which they came, regardless of how many requests each client has. All clients wait while the
server asks for a pause.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

from domain.errors import Unreachable
from infrastructure.config.tables import MailboxLimitsTable

_MINUTE_SECONDS = 60.0
_QUEUES_KEPT = 1000


class QuotaTimeout(Unreachable):
    """A client waited too long for its turn at a mailbox."""

    def __init__(self) -> None:
        super().__init__("mailbox_limit_reached")


class Use(StrEnum):
    """The kind of use that a client waits for."""

    CONNECTION = "connection"
    MESSAGE = "message"


@dataclass(frozen=True)
class MailboxLimits:
    """The limits that a mail server sets for one mailbox; None is no limit."""

    connections: int | None = None
    messages_per_minute: int | None = None


@dataclass(frozen=True)
class WaitingTurn:
    """A client's request for one use of a mailbox; `number` distinguishes the requests of one client."""

    client: Hashable
    number: int
    use: Use


class _FairQueue:
    """A queue of waiting turns in which the clients alternate."""

    def __init__(self) -> None:
        self._turns_by_client: dict[Hashable, deque[WaitingTurn]] = {}

    def __bool__(self) -> bool:
        return bool(self._turns_by_client)

    def add(self, turn: WaitingTurn) -> None:
        self._turns_by_client.setdefault(turn.client, deque()).append(turn)

    def remove(self, turn: WaitingTurn) -> None:
        turns = self._turns_by_client.get(turn.client, deque())
        if turn in turns:
            turns.remove(turn)
            if not turns:
                del self._turns_by_client[turn.client]

    def pop(self) -> WaitingTurn:
        client = next(iter(self._turns_by_client))
        turns = self._turns_by_client.pop(client)
        turn = turns.popleft()
        if turns:
            self._turns_by_client[client] = turns
        return turn


class MailboxQuota:
    """The current use of one mailbox, its limits, and the turns that wait.

    `now` is in seconds, by any clock that never goes back. Connections and messages have a queue each: a client that
    waits to begin a message holds a connection, so it must not wait behind clients that wait for a connection.
    """

    def __init__(self, limits: MailboxLimits) -> None:
        self._limits = limits
        self._connections = 0
        self._messages_begun_at: deque[float] = deque()
        self._waiting = {use: _FairQueue() for use in Use}
        self._paused_until = 0.0

    def is_unused(self, now: float) -> bool:
        """Whether no client uses the mailbox or waits for it, and no past use counts against its limits any more."""
        self._forget_old_messages(now)
        used = self._connections or self._messages_begun_at or any(self._waiting.values())
        return not used and now >= self._paused_until

    def take(self, use: Use, now: float) -> bool:
        """Count one use at once if the limits allow it and no client waits for the same kind; else return False."""
        if now < self._paused_until or self._waiting[use]:
            return False
        self._forget_old_messages(now)
        return self._count(use, now)

    def wait(self, turn: WaitingTurn) -> None:
        """Put a turn in the queue for its kind of use."""
        self._waiting[turn.use].add(turn)

    def withdraw(self, turn: WaitingTurn) -> None:
        """Take a turn out of its queue; without effect on a turn that has come."""
        self._waiting[turn.use].remove(turn)

    def next_turns(self, now: float) -> list[WaitingTurn]:
        """Remove the turns that have come from the queues, in order, and count the use of each."""
        turns: list[WaitingTurn] = []
        if now < self._paused_until:
            return turns
        self._forget_old_messages(now)
        for use, waiting in self._waiting.items():
            while waiting and self._count(use, now):
                turns.append(waiting.pop())
        return turns

    def next_turn_at(self, now: float) -> float | None:
        """The time at which the next turn may come; None if only the end of a connection can bring a turn."""
        if not any(self._waiting.values()):
            return None
        if now < self._paused_until:
            return self._paused_until
        if self._waiting[Use.MESSAGE] and self._messages_begun_at:
            return self._messages_begun_at[0] + _MINUTE_SECONDS
        return None

    def release_connection(self) -> None:
        """Count one connection less."""
        self._connections -= 1

    def pause(self, until: float) -> None:
        """Let no turn come before `until`, as the server asks with 432 4.3.2 or 421."""
        self._paused_until = max(self._paused_until, until)

    def _count(self, use: Use, now: float) -> bool:
        """Count one use if the limits allow it, and return whether they do."""
        if use is Use.CONNECTION:
            if not _is_below(self._connections, self._limits.connections):
                return False
            self._connections += 1
        elif self._limits.messages_per_minute is not None:
            if len(self._messages_begun_at) >= self._limits.messages_per_minute:
                return False
            self._messages_begun_at.append(now)
        return True

    def _forget_old_messages(self, now: float) -> None:
        # The same sum as in `next_turn_at`: rounding may give the difference `now - minute` another result.
        while self._messages_begun_at and self._messages_begun_at[0] + _MINUTE_SECONDS <= now:
            self._messages_begun_at.popleft()


def _is_below(used: int, limit: int | None) -> bool:
    return limit is None or used < limit


class MailboxQueue:
    """Lets the relay's tasks wait for their turns at one mailbox of one mail server.

    `connection_limit` is the number of connections that the server allows for the mailbox. A client waits for one
    message, or for one connection with all its attempts, up to `wait_seconds`.
    """

    def __init__(self, table: MailboxLimitsTable) -> None:
        self.connection_limit = table.connections
        self.wait_seconds = float(table.wait)
        self.pause_seconds = float(table.pause)
        self._session_messages = table.session_messages
        self._session_seconds = float(table.session_age)
        self._quota = MailboxQuota(MailboxLimits(table.connections, table.messages_per_minute))
        self._loop = asyncio.get_running_loop()
        self._numbers = count()
        self._waiting: dict[WaitingTurn, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_unused(self) -> bool:
        """Whether no client uses the mailbox or waits for it, and no past use counts against its limits any more."""
        return not self._waiting and self._quota.is_unused(self._loop.time())

    @property
    def waiting_count(self) -> int:
        """How many requests wait for their turn."""
        return len(self._waiting)

    def is_used_up(self, messages: int, seconds: float) -> bool:
        """Whether a session that has begun so many messages, and is of this age, is not to be used again."""
        return messages >= self._session_messages or seconds >= self._session_seconds

    async def connection(self, client: Hashable, seconds: float) -> None:
        """Wait until one more connection may be used; `release_connection` ends its use.

        Raises:
            QuotaTimeout: the turn did not come within `seconds`.
        """
        await self._turn(client, Use.CONNECTION, seconds)

    async def message(self, client: Hashable) -> None:
        """Wait until one more message may be begun.

        Raises:
            QuotaTimeout: the turn did not come within `wait_seconds`.
        """
        await self._turn(client, Use.MESSAGE, self.wait_seconds)

    def release_connection(self) -> None:
        """End the use of one connection."""
        self._quota.release_connection()
        if self._waiting:
            self._wake_next()

    def pause(self) -> None:
        """Let no turn come for `pause_seconds`, as the server asks with 432 4.3.2 or 421."""
        self._quota.pause(self._loop.time() + self.pause_seconds)

    async def _turn(self, client: Hashable, use: Use, seconds: float) -> None:
        if self._quota.take(use, self._loop.time()):
            return
        turn = WaitingTurn(client, next(self._numbers), use)
        coming = self._waiting[turn] = self._loop.create_future()
        self._quota.wait(turn)
        self._wake_next()
        try:
            async with asyncio.timeout(seconds):
                await coming
        except TimeoutError:
            self._give_up(turn)
            raise QuotaTimeout from None
        except BaseException:
            self._give_up(turn)
            raise

    def _give_up(self, turn: WaitingTurn) -> None:
        """Withdraw a turn; if the turn came at the moment its client gave up, release its connection."""
        if self._waiting.pop(turn, None) is not None:
            self._quota.withdraw(turn)
        elif turn.use is Use.CONNECTION:
            self.release_connection()

    def _wake_next(self) -> None:
        """Wake the tasks whose turns have come, and set a timer for the next turn."""
        now = self._loop.time()
        for turn in self._quota.next_turns(now):
            coming = self._waiting.pop(turn)
            if not coming.done():
                coming.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
        at = self._quota.next_turn_at(now)
        self._timer = None if at is None else self._loop.call_at(at, self._wake_next)


class MailboxQueues:
    """The queues of all mailboxes. `limits_of` gives the limits that the server of this name sets."""

    def __init__(self, limits_of: Callable[[str], MailboxLimitsTable]) -> None:
        self._limits_of = limits_of
        self._queues: dict[tuple[str, str], MailboxQueue] = {}

    def of(self, host: str, mailbox: str) -> MailboxQueue:
        """The queue of a mailbox. The case of both names is ignored."""
        key = (host.casefold(), mailbox.casefold())
        queue = self._queues.get(key)
        if queue is None:
            if len(self._queues) >= _QUEUES_KEPT:
                self._queues = {name: kept for name, kept in self._queues.items() if not kept.is_unused}
            queue = self._queues[key] = MailboxQueue(self._limits_of(key[0]))
        return queue
