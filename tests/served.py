"""A service made within the test, which `listeners` can serve, and simulated time."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fakes import FakeClock, FakeProvider

from adapters.bootstrap import open_service
from adapters.installation import initialise
from domain.ports import Clock
from infrastructure.config.load import load_config
from infrastructure.service import Service
from infrastructure.store.schema import VIEWS

ADMIN = "administrator"
SMTP, POP, IMAP = "press/smtp", "press/pop", "press/imap"

_CONFIG = """
[providers.contoso]
kind = "oidc"
issuer = "https://login.contoso.com/realm"
client_id = "mailtoken"
"""


@contextmanager
def a_service(directory: Path, clock: Clock, provider: FakeProvider) -> Iterator[Service]:
    """A service on a new store, with a provider in memory.

    It has a machine whose settings have servers; its SMTP and POP tokens are Retrieved.
    """
    made = initialise(directory)
    with made.config.open("a") as config:
        config.write(_CONFIG)
    with open_service(load_config(made.config), clock=clock, providers={"contoso": provider}) as service:
        for name in service.settings.add_machine("press", "generic", ADMIN):
            server = f"{name.partition('/')[2]}.contoso.com"
            settings = {"server": server, "provider": "contoso", "account": "scan@contoso.com"}
            service.settings.set_profile(name, settings, ADMIN)
        for name in (SMTP, POP):
            service.tokens.request(name, None, ADMIN)
            provider.approve("scan@contoso.com")
            service.tokens.poll(service.tokens.status(name).profile.token_id)
        yield service


def all_that_lasts(service: Service) -> str:
    """A hash over the token states, the log, the vault, and every row that is made from the log."""
    seen = [status.as_json() for status in service.tokens.statuses()]
    with service.events.store.reading() as query:
        tables = ("stored_events", "chain", "vault", "claim", *VIEWS)
        rows = [tuple(row) for table in tables for row in query.rows(f"SELECT * FROM {table}")]
    return hashlib.sha256(repr((seen, rows)).encode()).hexdigest()


class SimulatedTime:
    """Seconds that pass only when told to; who sleeps wakes in the order of the instants they sleep until."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.now = 0.0
        self.slept: list[float] = []
        self._numbers = itertools.count()
        self._asleep: list[tuple[float, int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._asleep, (self.now + seconds, next(self._numbers), awake))
        await awake

    async def skip(self, seconds: float) -> None:
        """Sleep without anybody who must tell the time to pass: it passes at once."""
        self.slept.append(seconds)
        self.step(seconds)

    def step(self, seconds: float) -> None:
        """Let time pass with nobody asleep."""
        self.now += seconds
        self.clock.step(seconds=seconds)

    async def advance(self, seconds: float) -> None:
        """Let time pass, and everybody wake and do what they can on the way."""
        end = self.now + seconds
        await self._settle()
        while self._asleep and self._asleep[0][0] <= end:
            until, _, awake = heapq.heappop(self._asleep)
            self.step(until - self.now)
            if not awake.done():
                awake.set_result(None)
            await self._settle()
        self.step(end - self.now)

    async def _settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
