import socket
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest

from adapters.cli.message import Message, is_local

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
SCAN = "scan@contoso.com"


def completed(raw: bytes, sender: str = SCAN, name: str | None = None) -> bytes:
    return Message.read(raw).completed(sender, name, NOW)


def test_what_sendmail_adds_is_added_and_nothing_else_is_touched() -> None:
    raw = b"Subject: =?utf-8?q?Scan?=\nX-Odd :  two  spaces \n\tand a fold\n\nBody \x80\xff\n..\n.\n"
    sent = completed(raw, name="Scanner")
    assert sent.endswith(raw)
    added = message_from_bytes(sent.removesuffix(raw), policy=policy.default)
    assert added["Date"] == "Sun, 22 Nov 2026 09:30:00 +0000"
    assert added["From"] == "Scanner <scan@contoso.com>"
    assert added["Message-ID"].endswith("@contoso.com>")
    assert len(added.keys()) == 3


def test_a_complete_message_stays_as_it_is_byte_for_byte() -> None:
    raw = b"From: a@x.org\r\nDate: then\r\nmessage-id: <1@x.org>\r\n\r\nbody\r\n"
    assert completed(raw) == raw


def test_added_fields_end_their_lines_as_the_message_does() -> None:
    assert b"\n" not in completed(b"Subject: x\r\n\r\nbody").replace(b"\r\n", b"")
    assert b"\r" not in completed(b"Subject: x\n\nbody")


@pytest.mark.parametrize(
    ("raw", "names", "body"),
    [
        (b"no header here\n", [], b"no header here\n"),
        (b"\nSubject: in the body\n", [], b"Subject: in the body\n"),
        (b"Subject: x\nno blank line\n", ["subject"], b"no blank line\n"),
        (b"Subject: x\n", ["subject"], b""),
        (b"Subject: x", ["subject"], b""),
        (b"From root Sun Nov 22 09:30:00 2026\nSubject: x\n\nb", ["subject"], b"b"),
        (b" folded at the start\n", [], b" folded at the start\n"),
        (b"", [], b""),
    ],
)
def test_the_body_begins_where_the_header_ends(raw: bytes, names: list[str], body: bytes) -> None:
    message = Message.read(raw)
    assert ([field.name for field in message.fields], message.body) == (names, body)


def test_a_message_without_a_header_gets_one() -> None:
    head, _, body = completed(b"hello\n").partition(b"\n\n")
    assert body == b"hello\n"
    assert [line.split(b":")[0] for line in head.split(b"\n")] == [b"Date", b"Message-ID", b"From"]


def test_recipients_are_taken_from_to_cc_and_bcc_and_bcc_is_never_sent() -> None:
    raw = (
        b'To: "Doe, Jane" <jane@x.org>, Group: g1@x.org, g2@x.org;\n'
        b"CC: k\xc3\xa4the@x.org,\n  jane@x.org (again)\n"
        b"Bcc: hidden@x.org,\n\tdeep@x.org\n"
        b"To: undisclosed-recipients:;\n\nbody\n"
    )
    assert Message.read(raw).recipients() == [
        "jane@x.org",
        "g1@x.org",
        "g2@x.org",
        "käthe@x.org",
        "hidden@x.org",
        "deep@x.org",
    ]
    assert b"hidden" not in completed(raw)
    assert b"deep" not in completed(raw)


@pytest.mark.parametrize(
    ("raw", "sender"),
    [
        (b"From: Scanner <scan@contoso.com>\n\n", SCAN),
        (b"From: root (Cron Daemon)\n\n", None),
        (b"From: Cron Daemon <root@localhost>\n\n", None),
        (b"From: root@%s\n\n" % socket.gethostname().encode(), None),
        (b"From:\n\n", None),
        (b"Subject: x\n\n", None),
    ],
)
def test_the_sender_is_the_address_in_from(raw: bytes, sender: str | None) -> None:
    assert Message.read(raw).sender() == sender


def test_a_from_that_only_this_machine_knows_gives_way_and_keeps_its_name() -> None:
    message = Message.read(b'From: "Cron Daemon" <root@localhost>\nX-Cron-Env: <HOME=/root>\n\noutput\n')
    sent = message_from_bytes(message.completed(SCAN, message.sender_name(), NOW), policy=policy.default)
    assert [str(value) for value in sent.get_all("From")] == ["Cron Daemon <scan@contoso.com>"]
    assert sent["X-Cron-Env"] == "<HOME=/root>"


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("root", True),
        ("root@localhost", True),
        (f"root@{socket.gethostname()}", True),
        ("", True),
        (SCAN, False),
        ("root@[192.0.2.1]", False),
    ],
)
def test_an_address_is_local_if_no_other_machine_can_reply_to_it(address: str, local: bool) -> None:
    assert is_local(address) is local


def test_a_sender_that_is_not_in_ascii_is_written_as_it_is() -> None:
    assert "From: käthe@contoso.com\n".encode() in completed(b"Subject: x\n\n", "käthe@contoso.com", "Käthe")
