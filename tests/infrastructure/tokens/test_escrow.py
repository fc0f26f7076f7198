"""A reply is in the escrow, sealed and on stable storage, before anything parses it, or it was never asked for."""

from __future__ import annotations

import base64
import errno
import os
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from fakes import START, FakeProvider, Services
from store_examples import files_with, some_claim_key

from domain.errors import StorageFull, Unreachable
from domain.ports import Reply
from infrastructure.encryption.envelope import Sealer
from infrastructure.tokens.escrow import Escrow, EscrowEntry

STORE_ID = str(uuid4())
BODY = b'{"access_token": "access-token-in-clear", "refresh_token": "refresh-token-in-clear"}'
REPLY = Reply(200, (("Content-Type", "application/json"), ("X-Trace", "trace-in-clear")), BODY, START)
HEADER_BYTES = 1024
ROOM_BYTES = 512 * 1024
IN_CLEAR = ("in-clear", base64.b64encode(BODY)[:16], base64.b64encode(b"in-clear")[:8])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "escrow"


@pytest.fixture
def reopen(folder: Path, sealer: Sealer) -> Callable[[], Escrow]:
    """The escrow of the next run of the program."""
    return lambda: Escrow(folder, sealer, STORE_ID)


@pytest.fixture
def escrow(reopen: Callable[[], Escrow]) -> Escrow:
    return reopen()


def replies(escrow: Escrow) -> list[Reply | None]:
    """What is left over; it stays there."""
    found = []
    for entry in escrow.left_over():
        found.append(entry.reply)
        escrow.leave(entry)
    return found


# Keeping


def test_a_reply_survives_the_end_of_the_program(escrow: Escrow, reopen: Callable[[], Escrow]) -> None:
    claim_key = some_claim_key()
    escrow.reserve(claim_key).keep(REPLY)
    (entry,) = reopen().left_over()
    assert (entry.claim_key, entry.reply) == (claim_key, REPLY)


def test_a_reply_of_any_bytes_is_kept_as_it_came(escrow: Escrow, reopen: Callable[[], Escrow]) -> None:
    body = bytes(range(256)) * 1024
    reply = Reply(502, (("Retry-After", "5"), ("Set-Cookie", "a"), ("Set-Cookie", "b\xff")), body, START)
    escrow.reserve(some_claim_key()).keep(reply)
    assert replies(reopen()) == [reply]


def test_a_request_under_way_when_the_program_ended_left_no_reply(escrow: Escrow, reopen: Callable[[], Escrow]) -> None:
    claim_key = some_claim_key()
    escrow.reserve(claim_key)
    (entry,) = reopen().left_over()
    assert (entry.claim_key, entry.reply) == (claim_key, None)


def test_the_reply_is_on_stable_storage_when_keep_returns(escrow: Escrow, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, bytes]] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((path.suffix, path.read_bytes() if path.is_file() else b""))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    entry = escrow.reserve(some_claim_key())
    entry.keep(REPLY)
    assert [suffix for suffix, _ in synced] == [".reply", ""]
    assert synced[0][1] == entry.path.read_bytes()


def test_nothing_of_the_reply_can_be_read_in_the_folder(escrow: Escrow, folder: Path) -> None:
    escrow.reserve(some_claim_key()).keep(REPLY)
    doubtful = escrow.reserve(some_claim_key())
    doubtful.keep(REPLY)
    escrow.set_aside(doubtful)
    assert len(list(folder.iterdir())) == 2
    assert files_with(folder, *IN_CLEAR) == []


def test_the_folder_and_its_files_are_the_owners_alone(escrow: Escrow, folder: Path) -> None:
    entry = escrow.reserve(some_claim_key())
    assert (folder.stat().st_mode & 0o777, entry.path.stat().st_mode & 0o777) == (0o700, 0o600)


def test_what_was_cleared_is_gone(escrow: Escrow, folder: Path) -> None:
    entry = escrow.reserve(some_claim_key())
    entry.keep(REPLY)
    escrow.clear(entry)
    escrow.clear(entry)
    assert list(folder.iterdir()) == []


# Damage


def test_a_reply_that_was_not_written_to_its_end_is_none(escrow: Escrow, reopen: Callable[[], Escrow]) -> None:
    entry = escrow.reserve(some_claim_key())
    entry.keep(REPLY)
    whole = entry.path.read_bytes()
    end = whole.index(b"\n", HEADER_BYTES)
    assert len(whole) == ROOM_BYTES
    for cut in (
        *range(HEADER_BYTES, HEADER_BYTES + 40),
        *range(HEADER_BYTES + 40, end - 40, 37),
        *range(end - 40, end),
    ):
        for torn in (whole[:cut], whole[:cut].ljust(ROOM_BYTES, b"\0"), whole[:cut] + os.urandom(64)):
            entry.path.write_bytes(torn)
            assert replies(reopen()) == [None], cut
    for complete in (whole[:end], whole[: end + 1], whole):
        entry.path.write_bytes(complete)
        assert replies(reopen()) == [REPLY]


@pytest.mark.parametrize("cut", [0, 1, 100, HEADER_BYTES - 1000])
def test_a_file_without_a_whole_header_is_removed_as_nothing_was_asked_then(
    escrow: Escrow, reopen: Callable[[], Escrow], cut: int
) -> None:
    entry = escrow.reserve(some_claim_key())
    entry.path.write_bytes(entry.path.read_bytes()[:cut].ljust(ROOM_BYTES, b"\0"))
    assert replies(reopen()) == []
    assert not entry.path.exists()


@pytest.mark.parametrize("at", [0, 20, 60, -2])
def test_a_damaged_reply_is_none(escrow: Escrow, reopen: Callable[[], Escrow], at: int) -> None:
    entry = escrow.reserve(some_claim_key())
    entry.keep(REPLY)
    whole = bytearray(entry.path.read_bytes())
    end = whole.index(b"\n", HEADER_BYTES)
    whole[HEADER_BYTES + at if at >= 0 else end + at] ^= 0x04
    entry.path.write_bytes(whole)
    assert replies(reopen()) == [None]


def test_a_reply_opens_only_with_the_key_of_its_store_and_for_its_own_request(
    escrow: Escrow, folder: Path, sealer: Sealer
) -> None:
    entry, other = escrow.reserve(some_claim_key()), escrow.reserve(some_claim_key())
    entry.keep(REPLY)
    for stranger in (Escrow(folder, Sealer(bytes(32)), STORE_ID), Escrow(folder, sealer, str(uuid4()))):
        assert replies(stranger) == [None, None]
    kept = entry.path.read_bytes()
    other.path.write_bytes(other.path.read_bytes()[:HEADER_BYTES] + kept[HEADER_BYTES:])
    assert [reply for reply in replies(Escrow(folder, sealer, STORE_ID)) if reply] == [REPLY]


# Room


def test_room_for_the_largest_reply_is_taken_before_it_is_asked_for(escrow: Escrow) -> None:
    entry = escrow.reserve(some_claim_key())
    assert entry.path.stat().st_blocks * 512 >= ROOM_BYTES
    entry.keep(Reply(200, (), os.urandom(256 * 1024), START))
    assert entry.path.stat().st_size == ROOM_BYTES


@contextmanager
def small_disk(folder: Path) -> Iterator[str]:
    """A file system of 128 KiB below `folder`; without the right to mount one, files can't become larger than that.

    What the system says of it.
    """
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k,mode=0700", "tmpfs", str(folder)]
    if shutil.which("mount") and subprocess.run(mount, check=False, capture_output=True).returncode == 0:
        try:
            yield os.strerror(errno.ENOSPC)
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (128 * 1024, hard))
    try:
        yield os.strerror(errno.EFBIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_without_room_nothing_may_be_asked_and_nothing_is_left(folder: Path, sealer: Sealer) -> None:
    with small_disk(folder) as why:
        escrow = Escrow(folder, sealer, STORE_ID)
        with pytest.raises(StorageFull) as full:
            escrow.reserve(some_claim_key())
        assert (full.value.code, full.value.fields) == ("no_space_in_escrow", {"reason": why, "directory": str(folder)})
        assert list(folder.iterdir()) == []
        assert replies(escrow) == []


def test_without_room_in_the_escrow_the_provider_is_not_asked(service: Services, provider: FakeProvider) -> None:
    scanner = service.add_machine()[0]
    service.get_token(scanner)
    # What a database file needs to grow by has been written by now.
    service.tokens.forget()
    asked = list(provider.requests)
    service.directory = service.directory / "elsewhere"
    service.directory.mkdir()
    with small_disk(service.directory / "escrow"):
        cramped = service.restart()
        with pytest.raises(StorageFull, match="no_space_in_escrow"):
            cramped.tokens.renew(scanner, "administrator")
    assert provider.requests == asked
    assert service.label(scanner) == "Retrieved"
    assert service.audit.verify().findings == ()


def test_a_reply_that_may_be_only_half_on_the_disk_is_not_wiped(
    service: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An fsync that fails says nothing about what is on the disk (fault 6)."""
    scanner = service.add_machine()[0]
    service.get_token(scanner)

    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as failing_disk:
        failing_disk.setattr("infrastructure.tokens.escrow.os.fsync", failing)
        with pytest.raises(Unreachable, match="reply_not_safe"):
            service.tokens.renew(scanner, "administrator")
    again = service.restart()
    assert again.tokens.recover() == 1
    assert again.tokens.status(scanner).token.generations == 2
    assert again.access_token(scanner).account == "scan@contoso.com"


# What is left over


def test_the_oldest_is_read_first(escrow: Escrow, reopen: Callable[[], Escrow]) -> None:
    claim_keys = [some_claim_key() for _ in range(5)]
    entries = [escrow.reserve(claim_key) for claim_key in claim_keys]
    for second, entry in enumerate(entries):
        os.utime(entry.path, (second, second))
    assert [entry.claim_key for entry in reopen().left_over()] == claim_keys


def test_what_is_under_way_is_not_left_over_until_it_was_left(escrow: Escrow) -> None:
    entry = escrow.reserve(some_claim_key())
    entry.keep(REPLY)
    assert list(escrow.left_over()) == []
    escrow.leave(entry)
    (again,) = escrow.left_over()
    assert again.reply == REPLY
    assert list(escrow.left_over()) == []
    escrow.leave(again)
    assert replies(escrow) == [REPLY]


def test_what_is_left_of_one_token_can_be_asked_for(escrow: Escrow, reopen: Callable[[], Escrow]) -> None:
    one, other = some_claim_key(), some_claim_key()
    for claim_key in (one, other):
        escrow.reserve(claim_key)
    again = reopen()
    assert again.tokens() == {one.subject_id, other.subject_id}
    assert [entry.claim_key for entry in again.left_over(other.subject_id)] == [other]


def test_a_reply_that_makes_no_sense_is_set_aside_until_its_token_has_another(
    escrow: Escrow, reopen: Callable[[], Escrow], folder: Path
) -> None:
    entry, other = escrow.reserve(some_claim_key()), escrow.reserve(some_claim_key())
    for one in (entry, other):
        one.keep(REPLY)
        escrow.set_aside(one)
    assert replies(escrow) == replies(reopen()) == []
    escrow.wipe_traces(entry.claim_key.subject_id)
    (left,) = folder.iterdir()
    assert left.name.startswith(other.claim_key.attempt_id)
    assert left.suffix == ".doubt"


def test_of_the_replies_that_are_set_aside_the_last_three_of_each_token_are_kept(escrow: Escrow, folder: Path) -> None:
    token_id, other = some_claim_key().subject_id, some_claim_key()
    claim_keys = [some_claim_key(token_id) for _ in range(5)]
    for number, claim_key in enumerate([other, *claim_keys]):
        entry = escrow.reserve(claim_key)
        os.utime(entry.path, ns=(number, number))
        escrow.set_aside(entry)
    kept = {path.name.rpartition("-")[0] for path in folder.glob("*.doubt")}
    assert kept == {claim_key.attempt_id for claim_key in (other, *claim_keys[2:])}


def test_two_requests_for_one_attempt_dont_share_a_file(escrow: Escrow) -> None:
    claim_key = some_claim_key()
    first = escrow.reserve(claim_key)
    first.keep(REPLY)
    escrow.leave(first)
    second = escrow.reserve(claim_key)
    assert second.path != first.path
    assert replies(escrow) == [REPLY]


# Several threads


def test_of_many_that_look_for_what_is_left_each_slot_is_given_to_one(
    escrow: Escrow, reopen: Callable[[], Escrow]
) -> None:
    claim_keys = {some_claim_key() for _ in range(50)}
    for claim_key in claim_keys:
        escrow.reserve(claim_key)
    again, together = reopen(), threading.Barrier(8)

    def look() -> list[EscrowEntry]:
        together.wait()
        return list(again.left_over())

    with ThreadPoolExecutor(8) as pool:
        found = [entry.claim_key for looking in [pool.submit(look) for _ in range(8)] for entry in looking.result()]
    assert len(found) == len(claim_keys)
    assert set(found) == claim_keys


def test_a_request_that_is_about_to_leave_is_never_taken_for_one_that_was_left_over(escrow: Escrow) -> None:
    over = threading.Event()
    taken: list[EscrowEntry] = []

    def look() -> None:
        while not over.is_set():
            taken.extend(escrow.left_over())

    looking = [threading.Thread(target=look) for _ in range(3)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(150):
            entry = escrow.reserve(some_claim_key())
            entry.keep(REPLY)
            escrow.clear(entry)
    finally:
        over.set()
        for thread in looking:
            thread.join()
    assert taken == []
