"""The worker asks for whoever signs in, ends what ran out, and outlives whatever goes wrong."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from fakes import SCANNER, START, FakeClock, FakeProvider, Services
from store_examples import ADMIN, change
from waiting import wait_until

from domain.ports import Reply
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.tokens import polling_worker as worker_module
from infrastructure.tokens.polling_worker import PollingWorker

SERVICE = "office-mfp/smtp-service"
POPS = ["office-mfp/pop-internet-fax", "office-mfp/pop-email-print", "office-mfp/pop-email-status"]

StartWorker = Callable[[], PollingWorker]


@pytest.fixture
def installation(service: Services, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> Services:
    """The services with the manual's machine; a person is asked for without delay."""
    monkeypatch.setattr(worker_module, "_AFTER_AN_ERROR_SECONDS", 0.01)
    provider.interval_seconds = 0
    service.add_machine()
    return service


@pytest.fixture
def start(installation: Services) -> Iterator[StartWorker]:
    """Start a worker, which is stopped after the test."""
    started: list[PollingWorker] = []

    def begin() -> PollingWorker:
        worker = PollingWorker(installation.tokens)
        worker.start()
        started.append(worker)
        return worker

    yield begin
    for worker in started:
        worker.stop()


def test_a_sign_in_is_finished_without_anybody_asking(
    installation: Services, provider: FakeProvider, start: StartWorker
) -> None:
    worker = start()
    installation.tokens.request(SERVICE, None, ADMIN)
    worker.wake()
    wait_until(lambda: provider.requests.count("poll") >= 3, "the provider is polled three times")
    assert installation.label(SERVICE) == "Waiting for authorisation"
    provider.approve()
    wait_until(lambda: installation.label(SERVICE) == "Retrieved", "the token is Retrieved")


def test_an_attempt_that_ran_out_is_ended(installation: Services, clock: FakeClock, start: StartWorker) -> None:
    installation.tokens.request(SERVICE, None, ADMIN)
    clock.step(minutes=15)
    start()
    wait_until(
        lambda: "AuthorizationEnded" in [record.name for record in installation.history.records(SERVICE)],
        "the attempt is ended",
    )
    assert installation.tokens.waiting() == []


def test_what_an_earlier_run_left_is_read(installation: Services, provider: FakeProvider, start: StartWorker) -> None:
    installation.get_token(SERVICE)
    entry = installation.escrow.reserve(
        ClaimKey("renewal", installation.tokens.status(SERVICE).profile.token_id, "renewal-1", 1)
    )
    entry.keep(Reply(200, (), provider.grant(SCANNER).body, START))
    installation.escrow.leave(entry)
    start()
    wait_until(lambda: installation.tokens.status(SERVICE).token.generations == 2, "the reply in the escrow is stored")
    wait_until(lambda: not entry.path.exists(), "the escrow is cleared")


def test_after_a_restart_a_provider_is_not_asked_too_early(
    installation: Services, provider: FakeProvider, start: StartWorker
) -> None:
    patient = FakeProvider("fabrikam")
    patient.interval_seconds = 3600
    installation.providers["fabrikam"] = patient  # type: ignore[index]
    again = installation.restart()
    again.settings.set_profile(POPS[0], {"provider": "fabrikam"}, ADMIN)
    for name in (POPS[0], SERVICE):
        again.tokens.request(name, None, ADMIN)
    installation.tokens = installation.restart().tokens
    worker = start()
    wait_until(lambda: provider.requests.count("poll") >= 3, "the provider is polled three times")
    worker.stop()
    assert patient.requests == ["device_code"]


def test_one_provider_that_does_not_answer_holds_nobody_else_up(
    installation: Services, provider: FakeProvider, start: StartWorker
) -> None:
    over, other = threading.Event(), FakeProvider("fabrikam")
    installation.providers["fabrikam"] = other  # type: ignore[index]
    again = installation.restart()
    again.settings.set_profile(POPS[0], {"provider": "fabrikam"}, ADMIN)
    installation.tokens = again.tokens
    try:
        provider.meanwhile(over.wait)
        installation.tokens.request(SERVICE, None, ADMIN)
        start()
        wait_until(lambda: "poll" in provider.requests, "the provider is polled")
        installation.tokens.request(POPS[0], None, ADMIN)
        other.approve()
        wait_until(lambda: installation.label(POPS[0]) == "Retrieved", "the token of the other provider is Retrieved")
        assert provider.requests.count("poll") == 1
    finally:
        over.set()


def test_nothing_that_goes_wrong_ends_the_worker(
    installation: Services, provider: FakeProvider, start: StartWorker
) -> None:
    def explode() -> None:
        raise RuntimeError("the provider's library is broken")

    for _ in range(3):
        provider.meanwhile(explode)
    installation.tokens.request(SERVICE, None, ADMIN)
    worker = start()
    wait_until(lambda: provider.requests.count("poll") > 3, "the provider is polled after three failures")
    change(installation.store, "ALTER TABLE token RENAME TO elsewhere")
    asked = len(provider.requests)
    worker.wake()
    change(installation.store, "ALTER TABLE elsewhere RENAME TO token")
    wait_until(lambda: len(provider.requests) > asked, "the provider is polled again")
    provider.approve()
    wait_until(lambda: installation.label(SERVICE) == "Retrieved", "the token is Retrieved")


def test_stopping_waits_for_what_is_being_asked(installation: Services, provider: FakeProvider) -> None:
    asked, answer = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        assert answer.wait(60)

    provider.meanwhile(hold)
    provider.approve()
    installation.tokens.request(SERVICE, None, ADMIN)
    worker = PollingWorker(installation.tokens)
    worker.start()
    assert asked.wait(60)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    answer.set()
    stopping.join()
    assert installation.label(SERVICE) == "Retrieved"
    assert installation.tokens.waiting() == []


def test_many_sign_ins_at_once_are_all_asked_for_again_and_again(
    installation: Services, provider: FakeProvider, start: StartWorker
) -> None:
    """The worker's own thread and those that poll share what is due: none of them may trip over another."""
    names = [name for number in range(8) for name in installation.add_machine(f"mfp-{number}", "generic")]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        worker = start()
        for name in names:
            installation.tokens.request(name, None, ADMIN)
            worker.wake()
        wait_until(lambda: provider.requests.count("poll") > 3 * len(names), "the provider is polled for each sign-in")
        for name in names:
            installation.tokens.cancel(name, ADMIN)
            installation.tokens.request(name, None, ADMIN)
            worker.wake()
        asked = provider.requests.count("poll")
        wait_until(
            lambda: provider.requests.count("poll") > asked + 3 * len(names),
            "the provider is polled for each sign-in again",
        )
    finally:
        sys.setswitchinterval(interval)
    provider.approve()
    wait_until(lambda: len(installation.tokens.waiting()) == len(names) - 1, "the denied attempt is over")
