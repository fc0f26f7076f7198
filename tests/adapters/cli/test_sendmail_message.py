import socket
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest

from adapters.cli.sendmail_message import Message, addresses_of, is_local
from adapters.mail.submission import Submission
from domain.errors import InvalidValue

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


@pytest.mark.parametrize("sender", [b"scan@contoso.com", b"root"])
def test_bcc_is_left_out_whether_or_not_from_is_kept(sender: bytes) -> None:
    sent = completed(b"From: " + sender + b"\nBcc: hidden@x.org\nSubject: x\n\nbody\n")
    assert b"hidden" not in sent
    assert b"\nSubject: x\n" in sent


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
    assert [str(value) for value in sent.get_all("From", [])] == ["Cron Daemon <scan@contoso.com>"]
    assert sent["X-Cron-Env"] == "<HOME=/root>"


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("root", True),
        ("root@localhost", True),
        ("first.last@printer", True),
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


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("a@x.org; b@x.org", ["a@x.org", "b@x.org"]),
        ("a@x.org;b@x.org;", ["a@x.org", "b@x.org"]),
        ('"Doe; J" <a@x.org>; B (one; two) <b@x.org>', ["a@x.org", "b@x.org"]),
        ("team: a@x.org, B <b@x.org>;", ["a@x.org", "b@x.org"]),
        ("team: a@x.org; c@x.org", ["a@x.org", "c@x.org"]),
        ("team: a@x.org;, other: b@x.org; c@x.org", ["a@x.org", "b@x.org", "c@x.org"]),
        ("undisclosed-recipients:;", []),
        ("a@x.org,,b@x.org,", ["a@x.org", "b@x.org"]),
        ("a@[IPv6:::1]; b@x.org", ["a@[IPv6:::1]", "b@x.org"]),
    ],
)
def test_no_recipient_of_a_list_is_lost(value: str, addresses: list[str]) -> None:
    assert Message.read(f"To: {value}\n\n".encode()).recipients() == addresses
    assert addresses_of(value) == (addresses or [value])


@pytest.mark.parametrize("argument", ["a@x.org", "root", "a b@x.org", "", "\u00fc@x.org", "a@x.org\nBcc: b@x.org"])
def test_an_argument_that_is_no_list_stays_as_it_is(argument: str) -> None:
    assert addresses_of(argument) == [argument]


RESENT = b"Resent-To: a@x.org\nResent-Bcc: b@x.org\n"
OLDER = b"Resent-From: old@x.org\nResent-To: c@x.org\nResent-Bcc: hidden@x.org\n"


@pytest.mark.parametrize(
    "raw",
    [
        RESENT + b"To: e@x.org\nCc: f@x.org\n\n",
        b"To: e@x.org\n" + RESENT + b"Bcc: f@x.org\n\n",
        b"RESENT-TO: a@x.org\nTo: e@x.org\nresent-bcc: b@x.org\n\n",
        RESENT + b"Received: by x.org\n" + OLDER + b"To: e@x.org\n\n",
        RESENT + b"Resent-From: new@x.org\n" + OLDER + b"To: e@x.org\n\n",
        RESENT + b"Received: by x.org\nResent-Cc: g@x.org\nTo: e@x.org\n\n",
    ],
)
def test_the_newest_resent_fields_alone_name_the_recipients(raw: bytes) -> None:
    message = Message.read(raw)
    assert message.recipients() == ["a@x.org", "b@x.org"]
    sent = completed(raw)
    assert b"resent-bcc" not in sent.lower()
    assert b"b@x.org" not in sent
    assert b"hidden@x.org" not in sent


def test_resent_fields_without_a_recipient_send_the_message_to_nobody_in_to() -> None:
    assert Message.read(b"Resent-From: me@x.org\nTo: a@x.org\n\n").recipients() == []


def test_a_message_that_is_sent_again_keeps_its_author_and_gets_its_own_resent_fields() -> None:
    message = Message.read(b"Resent-To: a@x.org\nFrom: author@x.org\nDate: then\nMessage-ID: <1@x.org>\n\nbody\n")
    sent = message_from_bytes(message.completed(SCAN, None, NOW), policy=policy.default)
    assert (sent["From"], sent["Date"], sent["Message-ID"]) == ("author@x.org", "then", "<1@x.org>")
    assert (sent["Resent-From"], sent["Resent-Date"]) == (SCAN, "Sun, 22 Nov 2026 09:30:00 +0000")
    assert sent["Resent-Message-ID"].endswith("@contoso.com>")


def test_the_sender_of_a_message_that_is_sent_again_is_who_sends_it_again() -> None:
    assert Message.read(b"Resent-From: me@x.org\nResent-To: a@x.org\nFrom: author@x.org\n\n").sender() == "me@x.org"
    assert Message.read(b"Resent-From: root\nResent-To: a@x.org\nFrom: author@x.org\n\n").sender() == "author@x.org"


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"Subject: x\n\n10%\r50%\r100%\ndone\n", b"10% 50% 100%\ndone\n"),
        (b"Subject: x\r\r\n\r\r\none\r\r\ntwo\r\r\n", b"one\r\ntwo\r\n"),
        (b"Subject: x\n\none\0two\0\n", b"one two \n"),
        (b"Subject: x\r\rone\rtwo\r", b"one\ntwo\n"),
        (b"Subject: x\n\nlast\r", b"last "),
        (b"Subject: x\n\n.\rMAIL FROM:<a@x.org>\n", b". MAIL FROM:<a@x.org>\n"),
        (b"Subject: x\n\n\xff\xfe8-bit\n", b"\xff\xfe8-bit\n"),
    ],
)
def test_bytes_that_no_mail_server_takes_are_made_readable(raw: bytes, body: bytes) -> None:
    message = Message.read(raw)
    assert ([field.name for field in message.fields], message.body) == (["subject"], body)
    sent = Submission.of(SCAN, ["a@x.org"], completed(raw)).content
    assert sent.partition(b"\r\n\r\n")[2].splitlines() == body.splitlines()


@pytest.mark.parametrize(
    "field", [b"From: < \0\n[\\a@x.org,", b'From: =?utf-8?b?x?=:"', b"To: , .\xc3\xa4 )", b"To: \xff.: )"]
)
def test_a_malformed_field_loses_no_message(field: bytes) -> None:
    message = Message.read(field + b"\n\noutput\n")
    assert message.sender() is None
    message.recipients()
    assert message.completed(SCAN, message.sender_name(), NOW).endswith(b"\n\noutput\n")


@pytest.mark.parametrize(
    ("value", "code"),
    [(b", ".join([b"a@contoso.com"] * 3000), "header_field_too_long"), (b"(" * 5000, "header_field_too_deep")],
)
def test_a_list_of_recipients_that_would_take_the_parser_too_much_is_refused(value: bytes, code: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        Message.read(b"To: " + value + b"\n\nhello\n").recipients()
    assert (refused.value.field, refused.value.code) == ("to", code)
