"""The scanner of messages against one that looks at every octet."""

import random
import re
from collections.abc import Sequence

import pytest

from adapters.mail.line_connection import BareControl, TooLong
from adapters.relay.message_scanner import LINE_LIMIT_OCTETS, MessageScanner

ALPHABETS = [b"\r\n.", b"\r\n.\0", b"\r\n.xy", b"x\r\n.", bytes(range(256))]


def reference(stream: bytes) -> int | str | None:
    """Where the message ends, or what is wrong with it first, octet by octet."""
    line = 0
    begins_line, seen = True, b""
    for at, octet in enumerate(stream):
        seen += bytes([octet])
        if octet == 0 or (octet == 10 and stream[at - 1 : at] != b"\r"):
            return "bare"
        if octet != 10 and at and stream[at - 1] == 13:
            return "bare"
        if octet == 10:
            if begins_line and seen == b".\r\n":
                return at + 1
            seen, line, begins_line = b"", 0, True
        elif octet != 13:
            line += 1
            if line > LINE_LIMIT_OCTETS:
                return "long"
    return None


def scanned(pieces: Sequence[bytes]) -> tuple[bytes, bytes | None]:
    """What the scanner says of a stream that comes in pieces: all it passed on, and what came behind the end."""
    scanner, passed = MessageScanner(), b""
    for number, piece in enumerate(pieces):
        message, rest = scanner.feed(piece)
        passed += message
        if rest is not None:
            return passed, rest + b"".join(pieces[number + 1 :])
    return passed, None


def cut(generator: random.Random, stream: bytes) -> list[bytes]:
    pieces = []
    while stream:
        size = generator.choice([1, 2, 3, 5, 8, len(stream)])
        pieces.append(stream[:size])
        stream = stream[size:]
    return pieces


def test_it_finds_the_same_end_and_the_same_faults_as_octet_by_octet() -> None:
    generator = random.Random(20231218)
    ends = faults = 0
    for _ in range(20_000):
        alphabet = generator.choice(ALPHABETS)
        stream = bytes(generator.choices(alphabet, k=generator.randrange(40)))
        if generator.random() < 0.5:
            stream = stream.replace(b"\n", b"\r\n").replace(b"\r\r", b"\r") + b"\r\n.\r\n" + stream
        expected = reference(stream)
        pieces = cut(generator, stream)
        try:
            passed, rest = scanned(pieces)
        except BareControl:
            # Whole pieces are judged at once, so a fault behind the end is none, and one before it always is.
            assert expected == "bare", (stream, pieces)
            faults += 1
        else:
            assert expected != "bare" or rest is None, (stream, pieces)
            if rest is None:
                assert not isinstance(expected, int), (stream, pieces)
                # A CR at the very end waits for what follows it.
                assert passed == stream.removesuffix(b"\r"), (stream, pieces)
            else:
                assert len(passed) == expected, (stream, pieces)
                assert passed + rest == stream
                ends += 1
    assert ends > 1000
    assert faults > 1000


@pytest.mark.parametrize(
    "smuggled",
    [
        b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r", b"\n.\r", b"\r.\r\n", b"\r\n\0.\r\n", b"\r\r\n.\r\r\n",
        b"\r\n.\r\r\n", b"\n\r\n.", b"\n\n.\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_no_end_but_crlf_dot_crlf_is_ever_passed_on(smuggled: bytes, size: int) -> None:
    stream = b"Subject: x\r\n\r\nfirst" + smuggled + b"MAIL FROM:<admin@contoso.com>\r\n"
    passed: list[bytes] = []
    with pytest.raises(BareControl):
        feed(stream, size, passed)
    assert b"MAIL FROM" not in b"".join(passed)
    assert re.fullmatch(rb"(?:[^\r\n]|\r\n)*", b"".join(passed))


def feed(stream: bytes, size: int, passed: list[bytes]) -> None:
    scanner = MessageScanner()
    for start in range(0, len(stream), size):
        message, rest = scanner.feed(stream[start : start + size])
        assert rest is None or start + size >= len(stream)
        passed.append(message)


@pytest.mark.parametrize("size", [1, 7, 4096, 1_000_000])
def test_lines_up_to_the_limit_pass_and_longer_ones_do_not(size: int) -> None:
    longest = b"x" * LINE_LIMIT_OCTETS
    feed(longest + b"\r\n" + longest + b"\r\nshort\r\n" + longest + b"\r\n.\r\n", size, [])
    for stream in (
        longest + b"x\r\n",
        b"short\r\n" + longest + b"x\r\n",
        b"a\r\n" * 3000 + longest + b"x",
        b"\r\n" + longest + b"x",
    ):
        with pytest.raises(TooLong):
            feed(stream, size, [])


@pytest.mark.parametrize("pieces", [[b".\r\n"], [b".", b"\r", b"\n"], [b".\r", b"\n"]])
def test_an_empty_message_ends_with_its_first_line(pieces: Sequence[bytes]) -> None:
    assert scanned(pieces) == (b".\r\n", b"")


def test_stuffed_dots_are_no_end() -> None:
    stream = b"..\r\n.. \r\n.x\r\nx.\r\n.\r\nRSET\r\n"
    assert scanned([stream]) == (stream[:-6], b"RSET\r\n")
