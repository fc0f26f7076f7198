"""Lines of the log through a pipe that is full, closed or read again: the caller never waits, and losses are told."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress

import pytest
from waiting import in_background, wait_until

from infrastructure.log_writer import QUEUE_LINES, LogWriter

FILLING = b"." * 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe that holds one page."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, len(FILLING))
    yield reading, writing
    for end in (reading, writing):
        os.close(end)


def fill(writing: int) -> None:
    """Fill a pipe, so that the next write to it blocks."""
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, FILLING)
    os.set_blocking(writing, True)


def lost_line(lines: int) -> str:
    return f"{lines} lost\n"


def read_until(reading: int, end: bytes) -> list[str]:
    """The lines up to the one that is `end`."""

    def read() -> bytes:
        octets = b""
        while not octets.endswith(end + b"\n"):
            octets += os.read(reading, 65536)
        return octets

    return in_background(read).result().decode().lstrip(".").splitlines()


def test_lines_are_written_in_order(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LogWriter(writing, lost_line)
    for number in range(2000):
        writer.write(f"{number}\n")
    assert read_until(reading, b"1999") == [str(number) for number in range(2000)]
    writer.close()


def test_lines_to_a_full_pipe_wait_and_what_is_too_many_is_counted_once(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    fill(writing)
    writer = LogWriter(writing, lost_line)
    writer.write("the line that waits in the pipe\n")
    wait_until(lambda: not writer._waiting, "the writer waits for the pipe's reader")
    for number in range(QUEUE_LINES + 5):
        writer.write(f"{number}\n")
    kept = ["the line that waits in the pipe", *map(str, range(QUEUE_LINES))]
    assert read_until(reading, b"5 lost") == [*kept, "5 lost"]
    writer.write("later\n")
    assert read_until(reading, b"later") == ["later"]
    writer.close()


def test_a_pipe_that_stays_full_holds_up_no_end(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    fill(writing)
    writer = LogWriter(writing, lost_line)
    writer.write("unread\n")
    writer.close(seconds=0.05)
    writer.write("after the end\n")
    assert read_until(reading, b"unread") == ["unread"]
    writer._thread.join()


def test_the_last_lines_are_written_before_the_end(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LogWriter(writing, lost_line)
    writer.write("stopping\n")
    writer.close()
    assert os.read(reading, 100) == b"stopping\n"


@pytest.mark.parametrize("kind", ["full disk", "closed pipe"])
def test_lines_that_can_not_be_written_are_counted(kind: str, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    told: list[int] = []

    def lost(lines: int) -> str:
        told.append(lines)
        return lost_line(lines)

    writer = LogWriter(unusable(kind), lost)
    for number in range(3):
        writer.write(f"{number}\n")
    wait_until(lambda: 3 in told, "the lines were tried")
    os.dup2(writing, writer._descriptor)
    writer.write("again\n")
    assert read_until(reading, b"again") == ["3 lost", "again"]
    writer.close()


def unusable(kind: str) -> int:
    """A descriptor that takes no octets."""
    if kind == "full disk":
        return os.open("/dev/full", os.O_WRONLY)
    reading, writing = os.pipe()
    os.close(reading)
    return writing
