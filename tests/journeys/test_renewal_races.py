"""Many processes, one store, and every token due at the same moment: one request for each generation leaves.

The provider ends a grant whose refresh token comes twice, so a second request would be seen at once. The store is in
PostgreSQL, as only one service may use a SQLite file.
"""

from __future__ import annotations

import copy
import itertools
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import point_driver
import pytest
import race_driver
from practice_faults.provider import FaultyProvider
from race_driver import AheadClock, Handed, Wave
from service_process import SCAN, ServiceProcess
from waiting import wait_until

from adapters import bootstrap
from adapters.practice.ca import PracticeCA
from adapters.practice.registry import Decision
from infrastructure.clock import SystemClock, read_instant
from infrastructure.config.load import load_config

_LIFE = timedelta(seconds=3600)
# Expired, so that nobody has anything to hand out; then due, and good for some minutes yet.
_STEPS = (_LIFE + timedelta(seconds=60), _LIFE - timedelta(seconds=200))
_SETTINGS = ("smtp", "pop", "imap")
_ASKING_AT_ONCE = 4


def with_tokens(service: ServiceProcess, count: int) -> list[str]:
    """Settings with a token each, of a sign-in each; nothing runs on the store before or after."""
    machines = [f"m{number}" for number in range(-(-count // len(_SETTINGS)))]
    names = [f"{machine}/{setting}" for machine in machines for setting in _SETTINGS][:count]
    with (
        bootstrap.open_service(load_config(service.config)) as opened,
        ThreadPoolExecutor(_ASKING_AT_ONCE) as pool,
    ):
        for machine in machines:
            opened.settings.add_machine(machine, "generic", "administrator")

        def get_token(name: str) -> None:
            opened.settings.set_profile(name, {"provider": "contoso", "account": SCAN}, "administrator")
            started = opened.tokens.request(name, "device", "administrator")
            # What the sign-in page does when somebody approves, without the page: it takes most of the time.
            registry = service.provider._registry
            with registry.lock:
                code = registry.device_code_of(started.user_code or "")
                assert code
                code.decision = Decision(SCAN, approved=True)
            assert opened.tokens.poll(opened.tokens.status(name).profile.token_id) is None

        list(pool.map(get_token, names))
    return names


@contextmanager
def crowd(service: ServiceProcess, processes: int) -> Iterator[list[point_driver.Process]]:
    """Processes with a service each, on the store of this one; each has an escrow of its own, as it must."""
    with ExitStack() as running:
        started = []
        for number in range(processes):
            config = other_folder(service, f"process-{number}")
            log = config.with_name("service.log")
            one = point_driver.start(race_driver.race, log, config, _ASKING_AT_ONCE)
            started.append(running.enter_context(one))
        for one in started:
            assert one.hear() == "ready"
        yield started


def other_folder(service: ServiceProcess, name: str) -> Path:
    """A folder with the key and a configuration of the same store; the configuration."""
    directory = service.directory.parent / name
    directory.mkdir()
    shutil.copy(service.directory / "mailtoken.key", directory)
    config = directory / service.config.name
    config.write_text(service.config.read_text().replace('path = "mailtoken.db"', f'path = "{service.database}"', 1))
    return config


def assert_one_request_for_each_generation(service: ServiceProcess, tokens: int) -> None:
    """The provider saw as many as there are generations beyond the first, and refused none."""
    refreshed = [one.outcome for one in service.provider.requests if one.grant_type == "refresh_token"]
    assert set(refreshed) == {"200"}
    rows = service.rows("SELECT generation, dead FROM token WHERE generation IS NOT NULL")
    assert len(rows) == tokens
    assert len(refreshed) == sum(generation - 1 for generation, _ in rows)
    assert {bool(dead) for _, dead in rows} == {False}
    assert len(service.provider.live_refresh_tokens(SCAN)) == tokens


def assert_clean(service: ServiceProcess, logs: Sequence[Path]) -> None:
    assert service.findings() == ()
    assert service.rows("SELECT * FROM claim") == []
    assert not [path for log in logs for path in log.parent.glob("escrow/*.reply")]
    said = "".join(log.read_text() for log in logs)
    assert "locked" not in said
    assert "Traceback" not in said


def play(service: ServiceProcess, clock: AheadClock, processes: int, tokens: int) -> None:
    """Everybody asks for everything, twice, and each time everything is due."""
    profiles = with_tokens(service, tokens)
    with crowd(service, processes) as started:
        for number, step in enumerate(_STEPS, 1):
            clock.ahead += step
            began = time.monotonic()
            for one in started:
                one.pipe.send(Wave(clock.ahead, profiles))
            heard: list[Handed] = [one.hear() for one in started]
            took = time.monotonic() - began
            assert [error for one in heard for error in one.errors] == []
            assert [profile for one in heard for profile in one.expired] == []
            handed = {name: {one.tokens[name] for one in heard} for name in profiles}
            assert {name: len(different) for name, different in handed.items()} == dict.fromkeys(profiles, 1)
            assert set().union(*handed.values()) <= set(service.provider.live_access_tokens(SCAN))
            assert service.provider.grant_counts["refresh_token"] == tokens * number
            sys.stdout.write(f"\n{processes} processes, {tokens} tokens, wave {number}: {took:.1f} s\n")
        for one in started:
            one.pipe.send(None)
        assert [one.ended() for one in started] == [0] * processes
    assert_one_request_for_each_generation(service, tokens)
    assert_clean(service, [one.log for one in started])


def test_four_processes_renew_forty_tokens_at_once(tmp_path: Path, ca: PracticeCA, postgres_url: str) -> None:
    clock = AheadClock()
    with FaultyProvider(ca, interval=1, now=clock.now) as practice:
        play(ServiceProcess(tmp_path / "service", practice, kind="oidc", url=postgres_url), clock, 4, 40)


@pytest.mark.torture
def test_sixteen_processes_renew_two_hundred_tokens_at_once(tmp_path: Path, ca: PracticeCA, postgres_url: str) -> None:
    clock = AheadClock()
    with FaultyProvider(ca, interval=1, now=clock.now) as practice:
        play(ServiceProcess(tmp_path / "service", practice, kind="oidc", url=postgres_url), clock, 16, 200)


def two_nodes(service: ServiceProcess) -> tuple[ServiceProcess, ServiceProcess]:
    """The service and another one on the same store."""
    other = copy.copy(service)
    other.config = other_folder(service, "other")
    other.directory = other.config.parent
    other.log = other.directory / "service.log"
    return service, other


def renew_on_two_nodes(service: ServiceProcess, tokens: int) -> None:
    """Both nodes are asked for every token when all have expired, and told to renew every token."""
    practice = service.provider
    practice.rules.access_token_seconds = 2
    profiles = with_tokens(service, tokens)
    expired_at = max(read_instant(at) for (at,) in service.rows("SELECT expires_at FROM token WHERE generation = 1"))
    nodes = two_nodes(service)
    with nodes[0], nodes[1], ThreadPoolExecutor(2 * _ASKING_AT_ONCE) as pool:
        wait_until(lambda: SystemClock().now() > expired_at, "they have expired")
        practice.rules.access_token_seconds = 3600
        asked = list(itertools.product(profiles, nodes))

        def ask(profile: str, node: ServiceProcess) -> tuple[str, str]:
            answer = node.access_token(profile)
            assert answer.status == 200, answer.body
            assert read_instant(answer.body["expires_at"]) > SystemClock().now()
            return profile, answer.body["access_token"]

        handed = set(pool.map(ask, *zip(*asked, strict=True)))
        assert len(handed) == tokens, "both hand out the same"
        assert {token for _, token in handed} <= set(practice.live_access_tokens(SCAN))
        assert practice.grant_counts["refresh_token"] == tokens
        answers = list(pool.map(lambda profile, node: node.renew(profile), *zip(*asked, strict=True)))
        assert {answer.status for answer in answers} == {200}
        assert tokens * 2 <= practice.grant_counts["refresh_token"] <= tokens * 3
        assert_one_request_for_each_generation(service, tokens)
    assert_clean(service, [node.log for node in nodes])


def test_two_nodes_renew_twenty_tokens_at_once(tmp_path: Path, practice: FaultyProvider, postgres_url: str) -> None:
    renew_on_two_nodes(ServiceProcess(tmp_path / "service", practice, kind="oidc", url=postgres_url), 20)


@pytest.mark.torture
def test_two_nodes_renew_two_hundred_tokens_at_once(
    tmp_path: Path, practice: FaultyProvider, postgres_url: str
) -> None:
    renew_on_two_nodes(ServiceProcess(tmp_path / "service", practice, kind="oidc", url=postgres_url), 200)
