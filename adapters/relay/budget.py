"""Waiting for one's turn at a mailbox, as the budget of its mail server decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from itertools import count

from domain.errors import Unreachable
from domain.mailbox_budget import Allowance, MailboxBudget, Need, Ticket
from infrastructure.config import BudgetTable

_KEPT = 1000


class Crowded(Unreachable):
    """A turn did not come in time."""


class Turns:
    """Turns at one mailbox of one mail server, which allows it `limit` connections.

    Nobody waits longer than `wait_seconds` for one thing.
    """

    def __init__(self, table: BudgetTable) -> None:
        self._budget = MailboxBudget(Allowance(table.connections, table.messages_per_minute))
        self.limit = table.connections
        self.wait_seconds = float(table.wait)
        self.pause_seconds = float(table.pause)
        self._loop = asyncio.get_running_loop()
        self._numbers = count()
        self._coming: dict[Ticket, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_unused(self) -> bool:
        """Whether nobody has or wants a turn, and nothing is left to remember."""
        return not self._coming and self._budget.is_unused(self._loop.time())

    async def connection(self, client: Hashable, seconds: float) -> None:
        """Wait until one more connection may be used; `give_back` when it isn't any more.

        Raises:
            Crowded: it took longer than `seconds`.
        """
        await self._turn(client, Need.CONNECTION, seconds)

    async def message(self, client: Hashable) -> None:
        """Wait until one more message may be begun.

        Raises:
            Crowded: it took too long.
        """
        await self._turn(client, Need.MESSAGE, self.wait_seconds)

    def give_back(self) -> None:
        """A connection is not used any more."""
        self._budget.give_back()
        if self._coming:
            self._look()

    def pause(self) -> None:
        """The server wants to be left alone (432 4.3.2, 421): nobody's turn comes for a while."""
        self._budget.pause(self._loop.time() + self.pause_seconds)

    async def _turn(self, client: Hashable, need: Need, seconds: float) -> None:
        if self._budget.take(need, self._loop.time()):
            return
        ticket = Ticket(client, next(self._numbers), need)
        turn = self._coming[ticket] = self._loop.create_future()
        self._budget.queue(ticket)
        self._look()
        try:
            async with asyncio.timeout(seconds):
                await turn
        except TimeoutError:
            self._give_up(ticket)
            raise Crowded("the mailbox is at the limit that its mail server sets: try again later") from None
        except BaseException:
            self._give_up(ticket)
            raise

    def _give_up(self, ticket: Ticket) -> None:
        """Take back a turn that comes just when its client gives up."""
        if self._coming.pop(ticket, None) is not None:
            self._budget.withdraw(ticket)
        elif ticket.need is Need.CONNECTION:
            self.give_back()

    def _look(self) -> None:
        """Give the turns that there are, and look again when time brings more."""
        now = self._loop.time()
        for ticket in self._budget.next(now):
            turn = self._coming.pop(ticket)
            if not turn.done():
                turn.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
        at = self._budget.look_again_at(now)
        self._timer = None if at is None else self._loop.call_at(at, self._look)


class Budgets:
    """The turns of every mailbox, by mail server."""

    def __init__(self, budget_of: Callable[[str], BudgetTable]) -> None:
        self._budget_of = budget_of
        self._turns: dict[tuple[str, str], Turns] = {}

    def of(self, host: str, mailbox: str) -> Turns:
        """The turns at a mailbox; case does not matter."""
        key = (host.casefold(), mailbox.casefold())
        turns = self._turns.get(key)
        if turns is None:
            if len(self._turns) >= _KEPT:
                self._turns = {name: kept for name, kept in self._turns.items() if not kept.is_unused}
            turns = self._turns[key] = Turns(self._budget_of(key[0]))
        return turns
