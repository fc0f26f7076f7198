"""The renewal worker over a real store: what it begins, what it leaves alone, and what a look costs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import product
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from fakes import GARBAGE, NOTHING, SCANNER, START, Answer, FakeClock, FakeProvider, Services, error
from store_examples import change, change_with_key
from waiting import wait_until

from domain.outcomes import Reason
from domain.renewal import GrantLimits
from infrastructure.clock import instant_text
from infrastructure.encryption.envelope import Sealer
from infrastructure.store.open import create_store
from infrastructure.store.sqlite import SqliteStore
from infrastructure.store.store import Store
from infrastructure.tokens.renewal_worker import RenewalWorker

LIMITS = {"contoso": GrantLimits(timedelta(days=90)), "fabrikam": GrantLimits(timedelta(days=180))}
Hire = Callable[[Services], RenewalWorker]


@pytest.fixture
def hire(clock: FakeClock) -> Iterator[Hire]:
    """Make workers, and end them after the test."""
    workers: list[RenewalWorker] = []

    def make(service: Services) -> RenewalWorker:
        workers.append(RenewalWorker(service.events, service.tokens, clock, LIMITS))
        return workers[-1]

    yield make
    for worker in workers:
        worker.stop()


@pytest.fixture
def sqlite(tmp_path: Path, sealer: Sealer) -> Iterator[Store]:
    store = SqliteStore(tmp_path / "one.db")
    create_store(store, sealer)
    yield store
    store.close()


@pytest.fixture
def two_providers(sqlite: Store, sealer: Sealer, tmp_path: Path, clock: FakeClock) -> Services:
    """Twelve tokens of contoso and three of fabrikam, all obtained at the start and served then."""
    providers = {name: FakeProvider(name) for name in ("contoso", "fabrikam")}
    service = Services(sqlite, sealer, "store", tmp_path, clock, providers)
    for machine, provider in [*((f"mfp-{n}", "contoso") for n in range(4)), ("fax", "fabrikam")]:
        for name in service.add_machine(machine, "generic"):
            service.settings.set_profile(name, {"provider": provider}, "administrator")
            service.get_token(name)
            service.access_token(name)
    for fake in providers.values():
        fake.requests.clear()
    return service


def provider_of(service: Services, name: str) -> FakeProvider:
    provider = service.providers[name]
    assert isinstance(provider, FakeProvider)
    return provider


def finish(worker: RenewalWorker) -> int:
    """Look once and wait for what was begun; how much that was."""
    begun = worker.renew_what_is_due()
    for one in begun:
        one.result(30)
    return len(begun)


def generation(service: Services, name: str) -> int:
    credential = service.tokens.status(name).token.credential
    assert credential
    return credential.number


# What is due


@pytest.fixture
def name(service: Services) -> str:
    """A setting with a token that was just obtained."""
    name = service.add_machine()[0]
    service.get_token(name)
    return name


def test_a_token_in_use_is_renewed_before_it_runs_short(
    service: Services, hire: Hire, clock: FakeClock, name: str
) -> None:
    worker = hire(service)
    service.access_token(name)
    clock.step(minutes=39)
    assert (finish(worker), generation(service, name)) == (0, 1)
    clock.step(minutes=7)
    assert (finish(worker), generation(service, name)) == (1, 2)
    assert (finish(worker), service.label(name)) == (0, "Retrieved")


def test_a_token_that_nobody_asks_for_is_left_alone_until_its_grant_is_at_stake(
    service: Services, hire: Hire, clock: FakeClock, name: str
) -> None:
    worker = hire(service)
    for _ in range(53):
        clock.step(days=1)
        assert finish(worker) == 0
    clock.step(days=10)
    assert (finish(worker), generation(service, name)) == (1, 2)


def test_after_its_last_use_a_token_is_renewed_once_and_then_idle(
    service: Services, hire: Hire, clock: FakeClock, name: str
) -> None:
    worker = hire(service)
    service.access_token(name)
    renewals = 0
    for _ in range(24 * 60 // 5):
        clock.step(minutes=5)
        renewals += finish(worker)
    assert (renewals, generation(service, name)) == (1, 2)


def test_a_restart_forgets_who_was_in_use_and_serving_reminds_it(
    service: Services, hire: Hire, clock: FakeClock, name: str
) -> None:
    service.access_token(name)
    clock.step(minutes=46)
    again = service.restart()
    worker = hire(again)
    assert worker.due() == []
    again.access_token(name)
    assert [due.generation for due in worker.due()] == [1]


def test_the_most_urgent_comes_first(two_providers: Services, hire: Hire, clock: FakeClock) -> None:
    clock.step(minutes=50)
    instants = [due.at for due in hire(two_providers).due()]
    assert len(instants) == 15
    assert instants == sorted(instants)


def test_a_token_waiting_for_a_new_sign_in_is_still_renewed(
    service: Services, hire: Hire, clock: FakeClock, name: str
) -> None:
    worker = hire(service)
    service.access_token(name)
    clock.step(minutes=45)
    service.tokens.request(name, None, "administrator")
    assert (finish(worker), service.label(name)) == (1, "Waiting for authorisation")


# Bounds


def test_a_provider_that_hangs_is_asked_by_eight_at_most_and_keeps_no_other_waiting(
    two_providers: Services, hire: Hire, clock: FakeClock
) -> None:
    worker, contoso = hire(two_providers), provider_of(two_providers, "contoso")
    go_on = threading.Event()
    for _ in range(8):
        contoso.meanwhile(go_on.wait)
    clock.step(minutes=50)
    begun = worker.renew_what_is_due()
    try:
        assert len(begun) == 8 + 3
        fabrikam = [f"fax/{setting}" for setting in ("smtp", "pop", "imap")]
        wait_until(
            lambda: {generation(two_providers, name) for name in fabrikam} == {2}, "fabrikam's tokens are renewed"
        )
        assert worker.renew_what_is_due() == [], "what is under way is not begun again, nor is there room for more"
    finally:
        go_on.set()
    for one in begun:
        one.result(30)
    assert finish(worker) == 4
    assert contoso.requests.count("refresh") == 12
    assert worker.due() == []


def test_an_outage_opens_the_circuit_of_its_provider_alone(
    two_providers: Services, hire: Hire, clock: FakeClock
) -> None:
    worker, contoso = hire(two_providers), provider_of(two_providers, "contoso")
    all_begun = threading.Event()
    for _ in range(8):
        contoso.answers(NOTHING)
        contoso.meanwhile(all_begun.wait)
    clock.step(minutes=46)
    begun = worker.renew_what_is_due()
    contoso.reachable = False
    all_begun.set()
    for renewal in begun:
        renewal.result(30)
    assert len(begun) == 8 + 3
    assert (len(worker.due()), finish(worker)) == (12, 0)
    for _ in range(10):
        clock.step(minutes=1)
        assert finish(worker) <= 1
    assert 8 < contoso.requests.count("refresh") < 15
    assert {generation(two_providers, f"fax/{setting}") for setting in ("smtp", "pop", "imap")} == {2}


def test_looking_what_is_due_asks_nobody_and_uses_up_no_try(
    two_providers: Services, hire: Hire, clock: FakeClock
) -> None:
    worker, contoso = hire(two_providers), provider_of(two_providers, "contoso")
    contoso.reachable = False
    clock.step(minutes=46)
    finish(worker)
    contoso.reachable = True
    clock.step(minutes=7)
    for _ in range(5):
        assert len(worker.due()) == 12
    answered = threading.Event()
    contoso.meanwhile(answered.wait)
    try:
        trial = worker.renew_what_is_due()
    finally:
        answered.set()
    assert len(trial) == 1
    trial[0].result(30)
    assert finish(worker) == 8
    assert finish(worker) == 3


# Failures


@pytest.mark.parametrize("answer", [NOTHING, GARBAGE, error("temporarily_unavailable", 503), error("invalid_client")])
def test_a_renewal_that_fails_waits_before_it_is_tried_again(
    service: Services, hire: Hire, clock: FakeClock, provider: FakeProvider, name: str, answer: Answer | None
) -> None:
    worker = hire(service)
    service.access_token(name)
    clock.step(minutes=46)
    provider.answers(answer)
    assert finish(worker) == 1
    assert (finish(worker), service.label(name)) == (0, "Retrieved")
    clock.step(seconds=20)
    assert (finish(worker), generation(service, name)) == (1, 2)


def test_a_token_that_does_not_open_is_not_tried_again_and_again(
    service: Services, hire: Hire, clock: FakeClock, provider: FakeProvider, name: str
) -> None:
    worker = hire(service)
    service.access_token(name)
    clock.step(minutes=46)
    change(service.store, "UPDATE vault SET wrapped = body")
    provider.requests.clear()
    assert [finish(worker) for _ in range(5)] == [1, 0, 0, 0, 0]
    token_id = service.tokens.status(name).profile.token_id
    assert (service.tokens.alarms[token_id], provider.requests) == ("vault_damaged", [])


def test_a_token_whose_provider_is_not_configured_any_more_is_not_tried_again_and_again(
    service: Services, hire: Hire, clock: FakeClock, name: str
) -> None:
    service.providers = {}
    again = service.restart()
    worker = hire(again)
    again.access_token(name)
    clock.step(minutes=46)
    assert [finish(worker) for _ in range(5)] == [1, 0, 0, 0, 0]
    assert again.label(name) == "Retrieved"


def test_an_error_nobody_thought_of_is_put_off_too(
    service: Services, hire: Hire, clock: FakeClock, provider: FakeProvider, name: str
) -> None:
    worker = hire(service)
    service.access_token(name)
    clock.step(minutes=46)
    provider.answers(NOTHING)
    provider.meanwhile(lambda: 1 / 0)
    assert [finish(worker) for _ in range(5)] == [1, 0, 0, 0, 0]
    clock.step(seconds=20)
    assert (finish(worker), generation(service, name)) == (1, 2)


# Dead tokens


def test_a_token_whose_account_was_not_available_is_tried_once_a_day_until_it_is_back(
    service: Services, hire: Hire, clock: FakeClock, provider: FakeProvider, name: str
) -> None:
    worker = hire(service)
    service.tokens.renew(name, "administrator")
    # The fake has one word for a dead grant; the practice provider says AADSTS50057 in the journey.
    provider.answers(error("invalid_grant"))
    clock.step(minutes=46)
    service.access_token(name)
    finish(worker)
    change_with_key(service.store, "token", "UPDATE token SET dead = ?", Reason.ACCOUNT_NOT_AVAILABLE.value)
    assert service.label(name) == "Invalid"
    tries = 0
    provider.answers(NOTHING, NOTHING)
    for _ in range(2 * 24):
        clock.step(hours=1)
        tries += finish(worker)
    assert (tries, service.label(name)) == (2, "Invalid")
    for _ in range(24):
        clock.step(hours=1)
        tries += finish(worker)
    assert (tries, service.label(name)) == (3, "Retrieved")


def test_a_token_that_is_dead_for_good_is_left_to_a_person(
    service: Services, hire: Hire, clock: FakeClock, provider: FakeProvider, name: str
) -> None:
    worker = hire(service)
    service.access_token(name)
    provider.kill_grants()
    clock.step(minutes=46)
    assert (finish(worker), service.label(name)) == (1, "Invalid")
    for _ in range(100):
        clock.step(days=1)
        assert finish(worker) == 0


# Ten thousand


COPIES = 1_000


def copy_token(service: Services, name: str) -> list[UUID]:
    """Copies of a token's row; their ids."""
    with service.store.writing() as query:
        (row,) = query.rows("SELECT * FROM token WHERE generation IS NOT NULL")
        columns = list(row.keys())
        ids = [uuid4() for _ in range(COPIES)]
        copies = [tuple({**dict(row), "id": str(id)}[column] for column in columns) for id in ids]
        query.run_many(f"INSERT INTO token VALUES ({', '.join('?' * len(columns))})", copies)
    return ids


def test_the_rows_of_idle_tokens_are_not_read(
    sqlite: Store, sealer: Sealer, tmp_path: Path, clock: FakeClock, hire: Hire
) -> None:
    service = Services(sqlite, sealer, "store", tmp_path, clock, {"contoso": FakeProvider()})
    (name, *_) = service.add_machine()
    service.get_token(name)
    ids = copy_token(service, name)
    worker = hire(service)
    clock.step(hours=1)
    with service.store.reading() as query:
        assert list(worker._candidates(query, clock.now())) == []
    assert worker.due() == []
    in_use: Mapping[UUID, object] = dict.fromkeys(ids[:600], clock.instant)
    service.tokens.served_at.update(in_use)  # type: ignore[arg-type]
    assert {due.token_id for due in worker.due()} == set(in_use)
    clock.step(days=63)
    assert len(worker.due()) == COPIES + 1


@pytest.mark.parametrize(("provider", "days"), [*product(["contoso", "fabrikam", "elsewhere"], [50, 64, 130])])
def test_the_rows_that_are_read_are_those_the_policy_could_name(
    sqlite: Store, sealer: Sealer, tmp_path: Path, clock: FakeClock, hire: Hire, provider: str, days: int
) -> None:
    service = Services(sqlite, sealer, "store", tmp_path, clock, {"contoso": FakeProvider()})
    (name, *_) = service.add_machine()
    service.get_token(name)
    change_with_key(sqlite, "token", "UPDATE token SET provider = ?", provider)
    worker = hire(service)
    clock.step(days=days)
    limit = LIMITS.get(provider, GrantLimits()).inactivity
    assert bool(worker.due()) is bool(limit and days > limit.days * 0.7)
    change_with_key(sqlite, "token", "UPDATE token SET grant_expires_at = ?", instant_text(START + timedelta(days=40)))
    assert len(worker.due()) == 1


# The thread


def test_the_thread_renews_what_is_due_and_finishes_it_before_it_stops(
    two_providers: Services, hire: Hire, clock: FakeClock
) -> None:
    worker = hire(two_providers)
    clock.step(minutes=46)
    worker.start()
    wait_until(lambda: not worker.due(), "what is due is renewed")
    worker.stop()
    assert {
        status.token.credential.number for status in two_providers.tokens.statuses() if status.token.credential
    } == {2}
    assert two_providers.access_token("fax/smtp").account == SCANNER
