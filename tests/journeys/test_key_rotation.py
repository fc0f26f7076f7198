"""`key rotate --integrity`, killed again and again beside a service that renews and hands out tokens."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from practice_faults.provider import FaultyProvider
from service_process import POP, RETRIEVED, SMTP, ServiceProcess
from waiting import wait_until

from adapters.practice.ca import PracticeCA

_KEY = "mailtoken.key"
_EARLIER = "2026-01-01T00:00:00+00:00"
_TAKEN_UP = "SELECT 1 FROM node, meta WHERE meta.name = 'canary' AND meta.value LIKE '%' || node.key_in_use || '%'"


class Client(threading.Thread):
    """Renews and reads two tokens until it is stopped."""

    def __init__(self, service: ServiceProcess) -> None:
        super().__init__(daemon=True)
        self.answers: Counter[int] = Counter()
        self._service = service
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.is_set():
            for profile in (SMTP, POP):
                self.answers[self._service.renew(profile).status] += 1
                self.answers[self._service.access_token(profile).status] += 1

    def stop(self) -> None:
        self._enough.set()
        self.join(60)


@contextmanager
def busy(directory: Path, ca: PracticeCA, url: str | None) -> Iterator[tuple[ServiceProcess, Client]]:
    with (
        FaultyProvider(ca, interval=1) as practice,
        ServiceProcess(directory, practice, url=url, kind="oidc") as service,
    ):
        service.add_printer()
        for profile in (SMTP, POP):
            service.get_token(profile)
        client = Client(service)
        client.start()
        yield service, client


def age(service: ServiceProcess) -> None:
    """Let the rotation under way have begun an hour ago, in which the service has taken up the key in use."""
    wait_until(lambda: service.rows(_TAKEN_UP), "the service seals with the key in use")
    path = service.directory / _KEY
    then = path.stat().st_mtime - 3600
    os.utime(path, (then, then))
    service.change(f"UPDATE meta SET value = '{_EARLIER}' WHERE name = 'integrity_rotation_at'")


def rotate_and_kill(service: ServiceProcess, random_: random.Random, window: float) -> bool:
    """Begin a rotation and kill it within `window` seconds; whether it was over before."""
    command = service.begin("key", "rotate", "--integrity")
    time.sleep(random_.uniform(0, window))
    over = command.poll() is not None
    command.send_signal(signal.SIGKILL)
    command.wait(60)
    return over


def kill_rotations(service: ServiceProcess, client: Client, kills: int, seed: int) -> Counter[str]:
    random_, window, figures = random.Random(seed), 0.3, Counter[str]()
    for number in range(kills):
        over = rotate_and_kill(service, random_, window)
        window *= 0.85 if over else 1.15
        figures["over before" if over else "killed"] += 1
        if number % 10 == 9:
            age(service)
        for profile in (SMTP, POP):
            assert service.access_token(profile).status == 200
    client.stop()
    assert set(client.answers) == {200}, client.answers
    service.done("key", "rotate")
    return figures


def check_restart(service: ServiceProcess) -> None:
    assert service.stop() == 0
    service.start()
    for profile in (SMTP, POP):
        assert service.status(profile)["token"] == RETRIEVED
        assert service.renew(profile).status == 200
        assert service.access_token(profile).status == 200
    assert service.findings() == ()


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_rotations_killed_four_times_lose_nothing(tmp_path: Path, ca: PracticeCA, store_url: str | None) -> None:
    with busy(tmp_path / "service", ca, store_url) as (service, client):
        kill_rotations(service, client, 4, seed=1)
        check_restart(service)


@pytest.mark.torture
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_rotations_killed_fifty_times_lose_nothing(tmp_path: Path, ca: PracticeCA, store_url: str | None) -> None:
    seed = random.SystemRandom().randrange(10**6)
    sys.stdout.write(f"\nseed: {seed}\n")
    with busy(tmp_path / "service", ca, store_url) as (service, client):
        figures = kill_rotations(service, client, 50, seed)
        age(service)
        service.done("key", "rotate")
        check_restart(service)
        figures["keys retired"] = len(list(service.directory.glob(f"{_KEY}.retired-*")))
        sys.stdout.write("".join(f"{count:5} {what}\n" for what, count in figures.most_common()))
        sys.stdout.write(f"{client.answers.total():5} renewals and hand-outs meanwhile\n")
        assert figures["killed"] > 10
        assert figures["keys retired"] > 0
