"""One request for a generation leaves, over threads, processes and nodes; a wall clock that steps moves no claim."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from freezegun import freeze_time
from store_examples import another_process, change, everything, some_claim_key

from infrastructure.store.claim_rows import ClaimKey
from infrastructure.store.store import Store
from infrastructure.tokens.claims import STALE_AFTER_SECONDS, ClaimOwner, Claims

THREADS = 16
TOKEN = uuid4()


@pytest.fixture
def claims(store: Store) -> Claims:
    return Claims(store)


Claimant = Callable[[UUID], subprocess.Popen[str]]


@pytest.fixture
def claimant(store_address: str, store: Store) -> Iterator[Claimant]:
    """Start a process that will claim the renewal of a token's first generation once it is told to."""
    started: list[subprocess.Popen[str]] = []

    def start(token_id: UUID) -> subprocess.Popen[str]:
        process = another_process("claim", store_address, token_id)
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def take_together(claims: Claims, claim_keys: list[ClaimKey]) -> list[bool]:
    together = threading.Barrier(len(claim_keys))

    def take(claim_key: ClaimKey) -> bool:
        together.wait()
        return bool(claims.take(claim_key))

    with ThreadPoolExecutor(len(claim_keys)) as pool:
        return list(pool.map(take, claim_keys))


def test_of_many_threads_one_gets_the_work(claims: Claims) -> None:
    claim_keys = [some_claim_key(TOKEN) for _ in range(THREADS)]
    taken = take_together(claims, claim_keys)
    assert taken.count(True) == 1
    claims.release(claim_keys[taken.index(True)])
    assert claims.take(claim_keys[0])


def test_of_several_processes_one_gets_the_work(claims: Claims, claimant: Claimant) -> None:
    processes = [claimant(TOKEN) for _ in range(4)]
    for process in processes:
        go(process)
    assert sorted(answer(process) for process in processes) == ["refused"] * 3 + ["taken"]
    assert not claims.take(some_claim_key(TOKEN))


def test_the_claim_of_a_process_that_was_killed_is_taken_over_and_that_of_a_living_one_is_not(
    store: Store, claims: Claims, claimant: Claimant
) -> None:
    process = claimant(TOKEN)
    go(process)
    assert answer(process) == "taken"
    assert not claims.take(some_claim_key(TOKEN))
    assert claims.clear_dead() == 0
    process.kill()
    process.wait()
    claim_keys = [some_claim_key(TOKEN) for _ in range(THREADS)]
    taken = take_together(claims, claim_keys)
    assert taken.count(True) == 1
    (row,) = everything(store)["claim"]
    assert row["attempt_id"] == claim_keys[taken.index(True)].attempt_id


def test_the_claims_of_dead_processes_are_dropped_and_no_others(
    store: Store, claims: Claims, claimant: Claimant
) -> None:
    process, mine = claimant(TOKEN), some_claim_key()
    go(process)
    assert answer(process) == "taken"
    assert claims.take(mine)
    process.kill()
    process.wait()
    assert claims.clear_dead() == 1
    assert [row["attempt_id"] for row in everything(store)["claim"]] == [mine.attempt_id]


@pytest.mark.parametrize("instant", ["1970-01-02", "2025-01-01", "2099-12-31"])
def test_a_wall_clock_that_steps_moves_no_claim(store: Store, claims: Claims, instant: str) -> None:
    assert claims.take(some_claim_key(TOKEN))
    before = everything(store)
    with freeze_time(instant) as frozen:
        assert not claims.take(some_claim_key(TOKEN))
        frozen.tick(10 * STALE_AFTER_SECONDS)
        assert not claims.take(some_claim_key(TOKEN))
        assert claims.clear_dead() == 0
    assert everything(store) == before


def test_a_claim_is_taken_over_when_it_is_too_old_and_not_before(store: Store, claims: Claims) -> None:
    assert claims.take(some_claim_key(TOKEN))
    change(store, "UPDATE claim SET taken_at = taken_at - ?", STALE_AFTER_SECONDS - 60)
    assert not claims.take(some_claim_key(TOKEN))
    change(store, "UPDATE claim SET taken_at = taken_at - 61")
    assert take_together(claims, [some_claim_key(TOKEN) for _ in range(THREADS)]).count(True) == 1
    assert not claims.take(some_claim_key(TOKEN))


def test_nothing_is_known_of_a_process_of_another_node(store: Store, claims: Claims) -> None:
    assert claims.take(some_claim_key(TOKEN))
    change(store, "UPDATE claim SET node = 'another-node', boot = 'another-boot', process = '1:1'")
    assert not claims.take(some_claim_key(TOKEN))
    assert claims.clear_dead() == 0


def test_what_a_service_with_another_escrow_died_at_is_left_to_its_next_run(store: Store) -> None:
    """The reply may be in its escrow, where nobody else can read it."""
    here, elsewhere = Claims(store, "/srv/one/escrow"), Claims(store, "/srv/two/escrow")
    assert elsewhere.take(some_claim_key(TOKEN))
    change(store, "UPDATE claim SET process = '999999999:1'")
    assert not here.take(some_claim_key(TOKEN))
    assert here.clear_dead() == 0
    assert elsewhere.clear_dead() == 1
    assert here.take(some_claim_key(TOKEN))


def test_a_claim_that_is_held_does_not_go_stale_and_one_that_was_taken_over_is_not_taken_back(
    store: Store, claims: Claims
) -> None:
    mine, other = some_claim_key(TOKEN), some_claim_key(TOKEN)
    claims.hold(mine)
    change(store, "UPDATE claim SET taken_at = taken_at - ?", 2 * STALE_AFTER_SECONDS)
    claims.hold(mine)
    assert not claims.take(other)
    change(store, "UPDATE claim SET taken_at = taken_at - ?", 2 * STALE_AFTER_SECONDS)
    assert claims.take(other)
    claims.hold(mine)
    assert [row["attempt_id"] for row in everything(store)["claim"]] == [other.attempt_id]


def test_a_claim_of_another_node_is_never_held_even_for_the_same_attempt(store: Store) -> None:
    here, elsewhere = Claims(store, "/srv/one/escrow"), Claims(store, "/srv/two/escrow")
    claim_key = some_claim_key(TOKEN)
    assert elsewhere.take(claim_key)
    change(store, "UPDATE claim SET taken_at = taken_at - 60")
    before = everything(store)["claim"]
    here.hold(claim_key)
    assert everything(store)["claim"] == before


@pytest.mark.parametrize("change_of", [{"boot": "another-boot"}, {"process": "1:1"}, {"process": "999999999:1"}])
def test_a_process_from_before_the_boot_or_with_a_number_that_was_used_again_is_dead(
    claims: Claims, store: Store, change_of: dict[str, str]
) -> None:
    assert not ClaimOwner.this_process().is_dead()
    assert replace(ClaimOwner.this_process(), **change_of).is_dead()
    assert claims.take(some_claim_key(TOKEN))
    ((column, value),) = change_of.items()
    change(store, f"UPDATE claim SET {column} = ?", value)
    assert claims.take(some_claim_key(TOKEN))


@pytest.mark.parametrize("change_of", [{"boot": "another"}, {"process": "4194305:1"}])
def test_a_process_on_another_host_is_never_known_to_be_dead(change_of: dict[str, str]) -> None:
    assert not replace(ClaimOwner.this_process(), node="elsewhere:/var/lib/escrow", **change_of).is_dead()


def test_only_ones_own_claim_is_released(claims: Claims) -> None:
    mine, other = some_claim_key(TOKEN), some_claim_key(TOKEN)
    assert claims.take(mine)
    claims.release(other)
    assert claims.is_taken(mine)
    assert not claims.take(other)
    claims.release(mine)
    claims.release(mine)
    assert not claims.is_taken(mine)
    assert claims.take(other)


def test_a_claim_is_for_one_kind_of_work_on_one_generation_of_one_token(claims: Claims) -> None:
    assert claims.take(some_claim_key(TOKEN))
    assert claims.take(some_claim_key(TOKEN, "acquisition"))
    assert claims.take(some_claim_key(TOKEN, generation=2))
    assert claims.take(some_claim_key())
    assert not claims.take(some_claim_key(TOKEN))
