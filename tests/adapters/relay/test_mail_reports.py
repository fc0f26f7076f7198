"""The relay's counts of mail reach the service: in time, at the end, and also after the service was away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fakes import START, FakeClock

from adapters.relay.mail_reports import reported
from domain.errors import Unreachable
from infrastructure.mail_counters import MailCount, MailCounters

SMTP = "press/smtp"


class FakeService:
    """Takes reports, unless it is away."""

    def __init__(self) -> None:
        self.is_away = False
        self.reports: list[tuple[str, list[MailCount]]] = []
        self.asked = asyncio.Event()

    async def put(self, source: str, counts: Sequence[MailCount]) -> None:
        self.asked.set()
        if self.is_away:
            raise Unreachable("service_not_running", socket="mailtoken.sock")
        self.reports.append((source, list(counts)))


def count(messages: int) -> MailCount:
    return MailCount(SMTP, START.date(), messages, 10 * messages, 0)


def test_counts_are_reported_while_the_relay_runs_and_when_it_ends(clock: FakeClock) -> None:
    async def story() -> None:
        counters, service = MailCounters(clock), FakeService()
        counters.sent(SMTP, 10)
        async with reported(counters, service.put, seconds=0.001):
            await asyncio.wait_for(service.asked.wait(), 30)
            counters.sent(SMTP, 10)
        assert service.reports[0] == (counters.source, [count(1)])
        assert service.reports[-1] == (counters.source, [count(2)])

    asyncio.run(story())


def test_without_mail_nothing_is_reported(clock: FakeClock) -> None:
    async def story() -> None:
        service = FakeService()
        async with reported(MailCounters(clock), service.put, seconds=3600):
            pass
        assert not service.asked.is_set()

    asyncio.run(story())


def test_counts_that_the_service_did_not_take_are_reported_later(clock: FakeClock) -> None:
    async def story() -> None:
        counters, service = MailCounters(clock), FakeService()
        service.is_away = True
        counters.sent(SMTP, 10)
        async with reported(counters, service.put, seconds=0.001):
            await asyncio.wait_for(service.asked.wait(), 30)
            counters.sent(SMTP, 10)
            service.is_away = False
        assert service.reports[-1] == (counters.source, [count(2)])

    asyncio.run(story())
