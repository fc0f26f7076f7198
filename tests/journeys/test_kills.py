"""`kill -9` at random instants of request, acquisition, renewal, cancel and delete, again and again on one store.

After each restart the store is whole, what had been acknowledged holds, and a reply that had arrived is in force.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from effort import amount
from invariants import assert_agree, assert_whole
from postgres import PostgresServer
from practice_faults.provider import DEVICE_CODE_GRANT, FaultyProvider
from service_process import INVALID, NOT_RETRIEVED, RETRIEVED, SMTP, WAITING, Answer, Json, ServiceProcess, granted
from waiting import in_background, wait_until

from adapters.practice.ca import PracticeCA
from infrastructure.tokens.claims import ClaimOwner, _process

_POSSIBLE = {
    NOT_RETRIEVED: ["request", "acquire"],
    WAITING: ["acquire", "acquire", "cancel", "delete"],
    RETRIEVED: ["renew", "renew", "delete", "request", "request", "acquire"],
    INVALID: ["delete", "acquire"],
}


class Killer:
    """One service, killed again and again. `figures` say what the kills met."""

    def __init__(self, service: ServiceProcess, seed: int) -> None:
        self.figures: Counter[str] = Counter()
        self._service = service
        self._random = random.Random(seed)
        # How long each takes, learned as we go: half of the kills should come before the end.
        self._window_seconds = dict.fromkeys(("request", "acquire", "renew", "cancel", "delete"), 0.1)
        self._acknowledged: Future[Answer] | None = None
        self._attempt_id = ""
        self._approved = False
        self._reply_lost = False

    def kill_once(self) -> None:
        """Begin something, kill the service while it is at it, and look what there is after the restart."""
        service, practice = self._service, self._service.provider
        before = self._settled()
        held = service.brought_by()
        practice.rules.refresh = self._random.choice(["rotate", "grace"])
        operation = self._random.choice(_POSSIBLE[before["token"]])
        refreshed = practice.grant_counts["refresh_token"]
        self._acknowledged = None
        begun_at = getattr(self, f"_{operation}")(before)
        self._wait(operation, begun_at)
        service.kill()
        answer = self._acknowledgement()
        replies = {
            claim_key.attempt_id: token for claim_key, reply in service.kept_replies() if (token := granted(reply))
        }
        stored = service.brought_by()
        if self._random.random() < 0.5:
            assert_whole(service)
            assert_agree(service.read_offline())
        if self._random.random() < 0.2:
            self._kill_as_it_starts()
        service.start()
        after = assert_agree(service.statuses())
        assert_whole(service)
        brought_by = service.brought_by()
        self._check_acknowledged(operation, answer, after)
        for attempt_id, access_token in replies.items():
            assert (after["token"], brought_by) == (RETRIEVED, attempt_id), "a reply had arrived"
            assert service.access_token().body["access_token"] == access_token
        if after["token"] == INVALID:
            assert (self._reply_lost, after["reason"]) == (True, "reply_lost"), "it was invalid for nothing"
        asked = practice.grant_counts["refresh_token"] > refreshed
        self._reply_lost = self._reply_lost or (asked and brought_by == held)
        recovered = [attempt_id for attempt_id in replies if attempt_id != stored]
        moved = brought_by != held or (operation != "acquire" and _key(after) != _key(before))
        if operation == "renew" and answer and answer.status == 200:
            assert brought_by != held
        self._note(operation, after, done=bool(answer or (moved and not recovered)), recovered=len(recovered))

    # What is under way when the kill comes; each gives when it began

    def _request(self, before: Json) -> float:
        self._acknowledged = in_background(lambda: self._service.call("POST", f"/api/v1/profiles/{SMTP}/token", {}))
        return time.monotonic()

    def _acquire(self, before: Json) -> float:
        service = self._service
        with service.provider.hold(grant_type=DEVICE_CODE_GRANT, before_work=True) as poll:
            if before["token"] == WAITING:
                started = service.ask("GET", f"/api/v1/profiles/{SMTP}/token/attempt")
            else:
                started = service.request()
            poll.wait_until_held(60)
            service.sign_in(started)
            self._attempt_id, self._approved = started["attempt_id"], True
        return time.monotonic()

    def _renew(self, before: Json) -> float:
        self._acknowledged = in_background(self._service.renew)
        return time.monotonic()

    def _cancel(self, before: Json) -> float:
        self._acknowledged = in_background(self._service.cancel)
        return time.monotonic()

    def _delete(self, before: Json) -> float:
        self._acknowledged = in_background(self._service.delete)
        return time.monotonic()

    def _settled(self) -> Json:
        """What there is; an attempt that somebody signed in to comes to its end first."""
        service = self._service
        if self._approved:
            wait_until(lambda: service.status()["token"] != WAITING, "the attempt is over")
            ended = assert_agree(service.statuses())
            # A spent code whose reply was lost is refused, and whatever was held stays.
            assert ended["retrieved_by"] == self._attempt_id or ended["reason"] == "reply_lost"
            self._reply_lost = self._reply_lost and ended["retrieved_by"] != self._attempt_id
            self._approved = False
        return assert_agree(service.statuses())

    def _wait(self, operation: str, begun_at: float) -> None:
        instant = begun_at + self._random.uniform(0, self._window_seconds[operation])
        # Nothing is ever set: an event waits more precisely than a loop.
        threading.Event().wait(max(0, instant - time.monotonic()))

    def _kill_as_it_starts(self) -> None:
        self._service.launch()
        threading.Event().wait(self._random.uniform(0, 0.2))
        self._service.kill()
        self.figures["again as it started"] += 1

    def _acknowledgement(self) -> Answer | None:
        """What the service answered before it died; None if nothing."""
        try:
            return self._acknowledged.result(60) if self._acknowledged else None
        except Exception:
            return None

    def _check_acknowledged(self, operation: str, answer: Answer | None, after: Json) -> None:
        """What the service said it had done is done."""
        if answer is None or answer.status >= 300:
            return
        if operation == "request":
            assert (after["token"], after["attempt_id"]) == (WAITING, answer.body["attempt_id"])
        elif operation == "cancel":
            assert after["token"] != WAITING
        elif operation == "delete":
            assert after["token"] == NOT_RETRIEVED

    def _note(self, operation: str, after: Json, *, done: bool, recovered: int) -> None:
        self._window_seconds[operation] *= 0.85 if done else 1.15
        self.figures["kills"] += 1
        self.figures[f"in {operation}"] += 1
        self.figures["before the end"] += not done
        self.figures["replies recovered from the escrow"] += recovered
        self.figures[f"then {after['token']}"] += 1


def _key(status: Json) -> tuple[str, str | None]:
    return status["token"], status["attempt_id"]


KILLS = amount(2, of=5)


@contextmanager
def killer(directory: Path, ca: PracticeCA, seed: int, url: str | None) -> Iterator[Killer]:
    with (
        FaultyProvider(ca, interval=1) as practice,
        ServiceProcess(directory, practice, url=url, kind="oidc" if seed % 2 else "microsoft") as service,
    ):
        service.add_printer()
        yield Killer(service, seed)


@pytest.mark.parametrize(("engine", "seed"), [("sqlite", 1), ("sqlite", 2), ("sqlite", 3), ("postgresql", 4)])
def test_killed_again_and_again_at_random(tmp_path: Path, ca: PracticeCA, store_url: str | None, seed: int) -> None:
    with killer(tmp_path / "service", ca, seed, store_url) as one:
        for _ in range(KILLS):
            one.kill_once()
        assert one.figures["kills"] == KILLS


def test_a_process_that_was_killed_is_dead_even_if_its_parent_has_not_noticed() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        held = replace(ClaimOwner.this_process(), process=_process(process.pid))
        assert not held.is_dead()
        process.kill()
        wait_until(held.is_dead, "the kernel has ended it")
        assert process.returncode is None, "nobody has waited for it"


@pytest.mark.torture
def test_killed_five_hundred_times_at_random(tmp_path: Path, ca: PracticeCA, postgres: PostgresServer) -> None:
    stores = ["sqlite"] * 4 + ["postgresql"]
    seed = random.SystemRandom().randrange(10**6)

    def torture(number: int) -> Counter[str]:
        with ExitStack() as opened:
            url = opened.enter_context(postgres.new_database()) if stores[number] == "postgresql" else None
            one = opened.enter_context(killer(tmp_path / str(number), ca, seed + number, url))
            for _ in range(100):
                one.kill_once()
            return one.figures

    sys.stdout.write(f"\nfirst seed: {seed}\n")
    with ThreadPoolExecutor(len(stores)) as threads:
        each = list(threads.map(torture, range(len(stores))))
    total = sum(each, Counter())
    sys.stdout.write("".join(f"{count:5} {what}\n" for what, count in total.most_common()))
    assert total["kills"] == 500
    assert total["before the end"] > 100
    assert total["replies recovered from the escrow"] > 5
