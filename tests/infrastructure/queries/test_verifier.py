"""The log is verified in the background: one run at a time, with its findings at the end."""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, datetime

from fakes import FakeClock, Services
from store_examples import change
from waiting import wait_until

from infrastructure.queries.audit import Verification
from infrastructure.queries.verifier import Verifier
from infrastructure.store.read_model import Progress


def ended(verifier: Verifier) -> Verification | None:
    run = wait_until(lambda: verifier.last if verifier.last and not verifier.last.is_running else None, "it has ended")
    return run.result


def test_a_whole_store_has_no_finding_and_an_altered_one_names_them(service: Services, clock: FakeClock) -> None:
    verifier = Verifier(service.audit, clock)
    assert verifier.last is None
    service.add_machine()
    verifier.begin("auditor:anna")
    result = ended(verifier)
    assert result
    assert (result.findings, result.events > 5) == ((), True)
    change(service.store, "UPDATE machine SET catalogue = 'generic'")
    verifier.begin("auditor:anna")
    result = ended(verifier)
    assert result
    assert [one.code for one in result.findings] == ["row_differs"]


class HeldAudit:
    """An audit that stops in the midst until it is released."""

    def __init__(self) -> None:
        self.released, self.runs = threading.Event(), 0

    def verify(self, progress: Progress) -> Verification:
        self.runs += 1
        progress(5000)
        self.released.wait(60)
        if self.runs == 2:
            raise OSError
        return Verification(9000)


def test_one_run_at_a_time_and_one_that_fails_says_so() -> None:
    audit, clock = HeldAudit(), FakeClock(datetime(2026, 3, 2, tzinfo=UTC))
    verifier = Verifier(audit, clock)  # type: ignore[arg-type]
    verifier.begin("auditor:anna")
    wait_until(lambda: verifier.last and verifier.last.events == 5000, "it tells how far it is")
    assert verifier.begin("auditor:audrey").by == "auditor:anna"
    audit.released.set()
    assert ended(verifier) == Verification(9000)
    verifier.begin("auditor:audrey")
    assert ended(verifier) is None
    assert audit.runs == 2
    assert verifier.last
    assert verifier.last.ended_at == clock.now()


class EndlessAudit:
    """An audit that goes on as long as nobody stops it."""

    def verify(self, progress: Progress) -> Verification:
        for events in itertools.count():
            progress(events)
        raise AssertionError


def test_a_service_that_ends_does_not_wait_for_the_end_of_the_log(clock: FakeClock) -> None:
    verifier = Verifier(EndlessAudit(), clock)  # type: ignore[arg-type]
    verifier.stop()
    verifier.begin("auditor:anna")
    verifier.stop()
    assert verifier.last
    assert (verifier.last.is_running, verifier.last.result) == (False, None)
