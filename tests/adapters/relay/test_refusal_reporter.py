"""Records of refusals reach the service once and in order, also after it was away, and the newest are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from simulated_loop import run_in_simulated_time

from adapters.relay.refusals import RefusalReporter
from adapters.relay_documents import RelayRefusal
from domain.errors import Unreachable

KEPT = 1000


class FakeService:
    """Takes records, unless `trouble` comes first."""

    def __init__(self, *trouble: Exception) -> None:
        self.trouble = list(trouble)
        self.taken: list[str] = []
        self.reports = 0
        self.during: Callable[[], object] = lambda: None

    async def take(self, records: Sequence[RelayRefusal]) -> None:
        self.reports += 1
        self.during()
        await asyncio.sleep(1)
        if self.trouble:
            raise self.trouble.pop(0)
        self.taken += [record.why for record in records]


def refusal(number: int) -> RelayRefusal:
    return RelayRefusal(
        at="2026-11-22T10:30:00.000000+00:00",
        address="192.0.2.7",
        protocol="smtp",
        user=None,
        profile=None,
        commands=[],
        cause="command",
        why=str(number),
    )


def told(service: FakeService, story: Callable[[RefusalReporter], Awaitable[None]]) -> None:
    """Run a story beside a reporter to this service."""

    async def run() -> None:
        reporter = RefusalReporter(service.take)
        sending = asyncio.create_task(reporter.keep_sending())
        await story(reporter)
        assert not sending.done()
        sending.cancel()

    run_in_simulated_time(run())


def test_records_are_reported_once_and_in_order() -> None:
    async def story(reporter: RefusalReporter) -> None:
        for number in range(3):
            reporter.add(refusal(number))
        await asyncio.sleep(60)
        reporter.add(refusal(3))
        await asyncio.sleep(60)

    service = FakeService()
    told(service, story)
    assert service.taken == ["0", "1", "2", "3"]
    assert service.reports == 2, "nothing is reported while there is nothing"


def test_records_that_come_during_a_report_are_in_the_next_one() -> None:
    async def story(reporter: RefusalReporter) -> None:
        def during() -> None:
            if service.reports == 1:
                reporter.add(refusal(1))

        service.during = during
        reporter.add(refusal(0))
        await asyncio.sleep(60)

    service = FakeService()
    told(service, story)
    assert service.taken == ["0", "1"]


@pytest.mark.parametrize("trouble", [Unreachable("service_not_running", socket="x"), ZeroDivisionError()])
def test_records_wait_while_the_service_takes_none(trouble: Exception) -> None:
    async def story(reporter: RefusalReporter) -> None:
        reporter.add(refusal(0))
        await asyncio.sleep(60)

    service = FakeService(trouble, trouble)
    told(service, story)
    assert service.taken == ["0"]
    assert service.reports == 3


def test_of_too_many_records_the_oldest_are_dropped() -> None:
    async def story(reporter: RefusalReporter) -> None:
        reporter.add(refusal(0))
        await asyncio.sleep(0.5)
        for number in range(1, KEPT + 6):
            reporter.add(refusal(number))
        await asyncio.sleep(60)

    service = FakeService(Unreachable("service_not_running", socket="x"))
    told(service, story)
    assert service.taken == [str(number) for number in range(6, KEPT + 6)]


def test_a_record_that_was_dropped_during_its_report_takes_no_other_with_it() -> None:
    async def story(reporter: RefusalReporter) -> None:
        def during() -> None:
            if service.reports == 1:
                for number in range(1, KEPT + 1):
                    reporter.add(refusal(number))

        service.during = during
        reporter.add(refusal(0))
        await asyncio.sleep(60)

    service = FakeService()
    told(service, story)
    assert service.taken == [str(number) for number in range(KEPT + 1)]
