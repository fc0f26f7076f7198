"""The escrow while many threads use it: a reply for which room was taken can always be kept."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from uuid import uuid4

from domain.ports import Reply
from infrastructure.encryption.envelope import Sealer
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.tokens.escrow import Escrow

REPLY = Reply(200, (), b"{}", datetime(2026, 3, 2, 8, tzinfo=UTC))


def test_whoever_looks_for_what_was_left_over_takes_nothing_from_a_request_under_way(
    tmp_path: Path, sealer: Sealer
) -> None:
    escrow = Escrow(tmp_path / "escrow", sealer, "store")
    over = Event()

    def ask_again_and_again() -> None:
        for _ in range(150):
            entry = escrow.reserve(ClaimKey("renewal", uuid4(), uuid4().hex, 1))
            entry.keep(REPLY)
            escrow.clear(entry)

    def look_for_what_was_left_over() -> int:
        looks = 0
        while not over.is_set():
            assert list(escrow.left_over()) == []
            looks += 1
        return looks

    with ThreadPoolExecutor() as threads:
        looking = [threads.submit(look_for_what_was_left_over) for _ in range(2)]
        asking = [threads.submit(ask_again_and_again) for _ in range(4)]
        try:
            for one in asking:
                one.result(60)
        finally:
            over.set()
        assert sum(one.result(60) for one in looking) > 100
    assert list((tmp_path / "escrow").iterdir()) == []


def test_a_second_request_of_an_attempt_leaves_the_reply_to_the_first_alone(tmp_path: Path, sealer: Sealer) -> None:
    escrow = Escrow(tmp_path / "escrow", sealer, "store")
    claim_key = ClaimKey("acquisition", uuid4(), uuid4().hex, 1)
    first = escrow.reserve(claim_key)
    first.keep(REPLY)
    escrow.leave(first)
    escrow.clear(escrow.reserve(claim_key))
    [left] = escrow.left_over()
    assert left.reply == REPLY
