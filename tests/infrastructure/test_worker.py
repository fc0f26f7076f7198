"""The worker asks for whoever signs in, ends what ran out, and outlives whatever goes wrong."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from fakes import SCANNER, START, FakeClock, FakeProvider, Services
from store_examples import ADMIN, change, until

from domain.ports import Reply
from infrastructure import worker as worker_module
from infrastructure.escrow import Work
from infrastructure.worker import Worker

SERVICE = "office-mfp/smtp-service"
POPS = ["office-mfp/pop-internet-fax", "office-mfp/pop-email-print", "office-mfp/pop-email-status"]

StartWorker = Callable[[], Worker]


@pytest.fixture
def office(service: Services, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> Services:
    """The services with the manual's machine; a person is asked for without delay."""
    monkeypatch.setattr(worker_module, "_AFTER_AN_ERROR_SECONDS", 0.01)
    provider.interval_seconds = 0
    service.add_machine()
    return service


@pytest.fixture
def start(office: Services) -> Iterator[StartWorker]:
    """Start a worker, which is stopped after the test."""
    started: list[Worker] = []

    def begin() -> Worker:
        worker = Worker(office.tokens)
        worker.start()
        started.append(worker)
        return worker

    yield begin
    for worker in started:
        worker.stop()


def test_a_sign_in_is_finished_without_anybody_asking(
    office: Services, provider: FakeProvider, start: StartWorker
) -> None:
    worker = start()
    office.tokens.request(SERVICE, None, ADMIN)
    worker.wake()
    until(lambda: provider.requests.count("poll") >= 3)
    assert office.label(SERVICE) == "Waiting for authorisation"
    provider.approve()
    until(lambda: office.label(SERVICE) == "Retrieved")


def test_an_attempt_that_ran_out_is_ended(office: Services, clock: FakeClock, start: StartWorker) -> None:
    office.tokens.request(SERVICE, None, ADMIN)
    clock.step(minutes=15)
    start()
    until(lambda: "AuthorizationEnded" in [record.name for record in office.audit.records(SERVICE)])
    assert office.tokens.waiting() == []


def test_what_an_earlier_run_left_is_read(office: Services, provider: FakeProvider, start: StartWorker) -> None:
    office.get_token(SERVICE)
    slot = office.escrow.reserve(Work("renewal", office.tokens.status(SERVICE).profile.token_id, "renewal-1", 1))
    slot.keep(Reply(200, (), provider.grant(SCANNER).body, START))
    office.escrow.leave(slot)
    start()
    until(lambda: office.tokens.status(SERVICE).token.generations == 2)
    until(lambda: not slot.path.exists())


def test_after_a_restart_a_provider_is_not_asked_too_early(
    office: Services, provider: FakeProvider, start: StartWorker
) -> None:
    patient = FakeProvider("fabrikam")
    patient.interval_seconds = 3600
    office.providers["fabrikam"] = patient  # type: ignore[index]
    again = office.restart()
    again.settings.set_profile(POPS[0], {"provider": "fabrikam"}, ADMIN)
    for name in (POPS[0], SERVICE):
        again.tokens.request(name, None, ADMIN)
    office.tokens = office.restart().tokens
    worker = start()
    until(lambda: provider.requests.count("poll") >= 3)
    worker.stop()
    assert patient.requests == ["device_code"]


def test_one_provider_that_does_not_answer_holds_nobody_else_up(
    office: Services, provider: FakeProvider, start: StartWorker
) -> None:
    over, other = threading.Event(), FakeProvider("fabrikam")
    office.providers["fabrikam"] = other  # type: ignore[index]
    again = office.restart()
    again.settings.set_profile(POPS[0], {"provider": "fabrikam"}, ADMIN)
    office.tokens = again.tokens
    try:
        provider.meanwhile(over.wait)
        office.tokens.request(SERVICE, None, ADMIN)
        start()
        until(lambda: "poll" in provider.requests)
        office.tokens.request(POPS[0], None, ADMIN)
        other.approve()
        until(lambda: office.label(POPS[0]) == "Retrieved")
        assert provider.requests.count("poll") == 1
    finally:
        over.set()


def test_nothing_that_goes_wrong_ends_the_worker(office: Services, provider: FakeProvider, start: StartWorker) -> None:
    def explode() -> None:
        raise RuntimeError("the provider's library is broken")

    for _ in range(3):
        provider.meanwhile(explode)
    office.tokens.request(SERVICE, None, ADMIN)
    worker = start()
    until(lambda: provider.requests.count("poll") > 3)
    change(office.store, "ALTER TABLE token RENAME TO elsewhere")
    asked = len(provider.requests)
    worker.wake()
    change(office.store, "ALTER TABLE elsewhere RENAME TO token")
    until(lambda: len(provider.requests) > asked)
    provider.approve()
    until(lambda: office.label(SERVICE) == "Retrieved")


def test_stopping_waits_for_what_is_being_asked(office: Services, provider: FakeProvider) -> None:
    asked, answer = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        assert answer.wait(20)

    provider.meanwhile(hold)
    provider.approve()
    office.tokens.request(SERVICE, None, ADMIN)
    worker = Worker(office.tokens)
    worker.start()
    assert asked.wait(20)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    answer.set()
    stopping.join()
    assert office.label(SERVICE) == "Retrieved"
    assert office.tokens.waiting() == []


def test_many_sign_ins_at_once_are_all_asked_for_again_and_again(
    office: Services, provider: FakeProvider, start: StartWorker
) -> None:
    """The worker's own thread and those that poll share what is due: none of them may trip over another."""
    names = [name for number in range(8) for name in office.add_machine(f"mfp-{number}", "generic")]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        worker = start()
        for name in names:
            office.tokens.request(name, None, ADMIN)
            worker.wake()
        until(lambda: provider.requests.count("poll") > 3 * len(names))
        for name in names:
            office.tokens.cancel(name, ADMIN)
            office.tokens.request(name, None, ADMIN)
            worker.wake()
        asked = provider.requests.count("poll")
        until(lambda: provider.requests.count("poll") > asked + 3 * len(names))
    finally:
        sys.setswitchinterval(interval)
    provider.approve()
    until(lambda: len(office.tokens.waiting()) == len(names) - 1)
