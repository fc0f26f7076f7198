"""Line ends and From of a device's messages are put right, and no message ends early by it."""

import random
from collections.abc import Sequence

import pytest
from sending_relay import ManyUserAdmissionClient, Sender, StartRelay
from smtp_peer import Peer

from adapters.mail.line_connection import BareControl, TooLong
from adapters.relay.device_message import NormalizingScanner, SenderRewriter
from adapters.relay.message_scanner import MessageScanner


def normalized(pieces: Sequence[bytes]) -> tuple[bytes, bytes | None]:
    """All that is passed on, and what came behind the end, None if the message did not end."""
    scanner, passed = NormalizingScanner(), b""
    for number, piece in enumerate(pieces):
        message, rest = scanner.feed(piece)
        passed += message
        if rest is not None:
            return passed, rest + b"".join(pieces[number + 1 :])
    return passed, None


@pytest.mark.parametrize(
    ("message", "passed"),
    [
        (b"a\nb\r\n.\r\n", b"a\r\nb\r\n.\r\n"),
        (b".\r\n", b".\r\n"),
        (b"..dot\r\n.\r\n", b"..dot\r\n.\r\n"),
        (b"a\n.\nb\r\n.\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\n.\r\nb\r\n.\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\r\nb\r\n.\r\n"),
        (b"a\n.\r\nMAIL FROM:<x@y.z>\r\n.\r\n", b"a\r\n..\r\nMAIL FROM:<x@y.z>\r\n.\r\n"),
        (b"\n\n\r\n.\r\n", b"\r\n\r\n\r\n.\r\n"),
    ],
)
def test_a_bare_lf_becomes_crlf_and_never_an_end(message: bytes, passed: bytes) -> None:
    assert normalized([message]) == (passed, b"")
    assert normalized([bytes([octet]) for octet in message]) == (passed, b"")


@pytest.mark.parametrize("message", [b"a\rb\r\n", b"a\r\r\n", b"a\0b\n", b"a\r.\r\n"])
def test_a_bare_cr_and_a_nul_stay_errors(message: bytes) -> None:
    with pytest.raises(BareControl):
        normalized([message])


def test_a_long_line_stays_an_error() -> None:
    with pytest.raises(TooLong):
        normalized([b"x" * 9000])


def test_whatever_comes_the_strict_scanner_sees_one_message_in_what_is_passed_on() -> None:
    generator = random.Random(20231218)
    ends = 0
    for _ in range(5_000):
        stream = bytes(generator.choices(b"\r\n.xy\0" if generator.random() < 0.2 else b"\r\n\n..x", k=30))
        stream += b"\r\n.\r\n" if generator.random() < 0.7 else b""
        at = generator.randrange(len(stream) + 1)
        try:
            passed, rest = normalized([stream[:at], stream[at:]])
        except BareControl:
            continue
        seen, behind = MessageScanner().feed(passed)
        if rest is None:
            assert behind is None
        else:
            assert (seen, behind) == (passed, b"")
            assert stream.endswith(rest)
            ends += 1
    assert ends > 100


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"From: mfp@local\r\n", b"From: scan@contoso.com\r\n"),
        (
            b"Subject: x\r\nfrom : Scanner <mfp@local>\r\nTo: y\r\n",
            b"Subject: x\r\nFrom: Scanner <scan@contoso.com>\r\nTo: y\r\n",
        ),
        (b'From: "Doe, J"\r\n <mfp@local>\r\nTo: y\r\n', b'From: "Doe, J" <scan@contoso.com>\r\nTo: y\r\n'),
        (b"From: a@b.c\r\nTo: y\r\nFrom: d@e.f\r\n", b"From: scan@contoso.com\r\nTo: y\r\n"),
        (b"To: y\r\n", b"From: scan@contoso.com\r\nTo: y\r\n"),
        (b"", b"From: scan@contoso.com\r\n"),
        (b"From: " + b"(" * 990 + b"\r\n", b"From: scan@contoso.com\r\n"),
        (b"From: " + b"(" * 9000 + b"\r\n", b"From: scan@contoso.com\r\n"),
    ],
)
@pytest.mark.parametrize("rest", [b"\r\nFrom: not a field\r\n.\r\n", b"\r\n.\r\n", b".\r\n"])
def test_from_gets_the_address_and_keeps_the_name(header: bytes, expected: bytes, rest: bytes) -> None:
    whole = SenderRewriter("scan@contoso.com").feed(header + rest, is_last=True)
    assert whole == expected + rest
    rewriter = SenderRewriter("scan@contoso.com")
    octets = [bytes([octet]) for octet in header + rest]
    assert b"".join(rewriter.feed(one, is_last=at == len(octets) - 1) for at, one in enumerate(octets)) == whole


def test_a_header_without_end_is_an_error() -> None:
    with pytest.raises(TooLong):
        SenderRewriter("scan@contoso.com").feed(b"x: y\r\n" * 60_000, is_last=False)


# Through the relay


def test_a_device_that_cant_be_told_sends_as_the_mailbox_with_crlf(
    send: StartRelay, peer: Peer, users: ManyUserAdmissionClient
) -> None:
    users.add(peer.port, sender="scan@contoso.com", normalizes=True)
    with Sender(send().port).greet() as client:
        client.sign_in()
        client.ask("MAIL FROM:<printer@local>", "250")
        client.ask("RCPT TO:<you@contoso.com>", "250")
        client.ask("DATA", "354")
        client.send(b"From: Scanner <printer@local>\nSubject: Scan\n\n.\nMAIL FROM:<x@y.z>\r\n.\r\n")
        client.hear("250")
        client.ask("NOOP", "250")
    assert peer.messages == [
        b"From: Scanner <scan@contoso.com>\r\nSubject: Scan\r\n\r\n..\r\nMAIL FROM:<x@y.z>\r\n.\r\n"
    ]
    assert b"MAIL FROM:<scan@contoso.com>\r\n" in peer.heard


@pytest.mark.parametrize("smuggled", [b"\r.\r", b"\r.\r\n", b"\n.\r", b"\r\n.\r", b"\0\r\n.\r\n"])
def test_a_bare_cr_or_a_nul_is_refused_also_with_normalize(
    send: StartRelay, peer: Peer, users: ManyUserAdmissionClient, smuggled: bytes
) -> None:
    users.add(peer.port, normalizes=True)
    with Sender(send().port).greet() as client:
        client.sign_in()
        client.begin()
        client.send(b"x" + smuggled + b"MAIL FROM:<x@y.z>\r\n.\r\n")
        client.hear("521")
    assert peer.messages == []


@pytest.mark.parametrize("smuggled", [b"\n.\n", b"\n.\r\n", b"\r\n.\n"])
def test_no_end_that_another_server_sees_is_passed_on_with_normalize(
    send: StartRelay, peer: Peer, users: ManyUserAdmissionClient, smuggled: bytes
) -> None:
    users.add(peer.port, normalizes=True)
    with Sender(send().port).greet() as client:
        client.sign_in()
        client.begin()
        client.send(b"x" + smuggled + b"MAIL FROM:<x@y.z>\r\n.\r\n")
        client.hear("250")
        client.ask("NOOP", "250")
    [message] = peer.messages
    assert message.count(b"\r\n.\r\n") == 1
    assert message.count(b"\n") == message.count(b"\r\n")
