"""`mailtoken send` through a real Dovecot: who gets the message, and what each of them can read in it."""

from __future__ import annotations

from email import message_from_bytes, policy
from uuid import uuid4

import pytest
from dovecot import Dovecot
from peer_service import OfficeService, Settings
from service_process import SCAN

from adapters.mail.sasl_client import Mechanism

OLDER = "Resent-From: old@example.org\nResent-To: old-{run}@example.org\nResent-Bcc: hidden-{run}@example.org\n"


@pytest.fixture
def run() -> str:
    """What only the addresses of one test have."""
    return uuid4().hex


@pytest.fixture
def server(dovecots: dict[Mechanism, Dovecot]) -> Dovecot:
    """One that knows XOAUTH2 only."""
    return dovecots[Mechanism.XOAUTH2]


@pytest.fixture
def profile(settings: Settings) -> str:
    """The setting to send through."""
    return settings[Mechanism.XOAUTH2, "smtp", "starttls"]


@pytest.mark.parametrize(
    ("header", "recipients"),
    [
        ("Resent-To: a-{run}@example.org\nResent-Bcc: b-{run}@example.org\nTo: c-{run}@example.org\n", "ab"),
        ("To: c-{run}@example.org\nCc: d-{run}@example.org\nResent-Cc: Anna <a-{run}@example.org>\n", "a"),
        ("Resent-Bcc: b-{run}@example.org,\n\tAnna <a-{run}@example.org>\nTo: c-{run}@example.org\n", "ab"),
        ("Resent-To: a-{run}@example.org\nReceived: by mx.example.org\n" + OLDER + "To: c-{run}@example.org\n", "a"),
        ("Resent-To: a-{run}@example.org\nResent-From: {scan}\n" + OLDER + "To: c-{run}@example.org\n", "a"),
        ("To: team: a-{run}@example.org, Ben <b-{run}@example.org>;\nBcc: undisclosed-recipients:;\n", "ab"),
        ("TO: a-{run}@example.org\nbcc : b-{run}@example.org\nBCC: c-{run}@example.org\n", "abc"),
    ],
    ids=["to and bcc", "cc alone", "bcc folded", "older after a trace", "older after a repetition", "group", "bcc"],
)
def test_the_right_recipients_get_it_and_none_reads_who_was_not_to_be_seen(
    service_process: OfficeService, profile: str, server: Dovecot, run: str, header: str, recipients: str
) -> None:
    fields = header.format(run=run, scan=SCAN)
    raw = f"{fields}From: {SCAN}\nSubject: Sent again\n\nPage one\n"
    done = service_process.run("send", "--profile", profile, "-t", "-i", message=raw)
    assert done.returncode == 0, done.stderr
    [envelope] = [one for one in server.exchanger.envelopes if any(run in to for to in one.rcpt_tos)]
    assert sorted(envelope.rcpt_tos) == [f"{name}-{run}@example.org" for name in recipients]
    for name in recipients:
        [delivered] = server.messages(f"{name}-{run}@example.org")
        read = message_from_bytes(delivered, policy=policy.default)
        assert [field for field in read if field.lower() in ("bcc", "resent-bcc")] == []
        assert f"hidden-{run}".encode() not in delivered
        assert read["Subject"] == "Sent again"
        is_resent = "resent" in header.lower()
        assert all(bool(read[field]) is is_resent for field in ("Resent-From", "Resent-Date", "Resent-Message-ID"))
        assert read.get_content() == "Page one\n"
    for name in set("abcd") - set(recipients):
        assert server.messages(f"{name}-{run}@example.org") == []


def test_resent_fields_without_a_recipient_send_it_to_nobody(
    service_process: OfficeService, profile: str, server: Dovecot, run: str
) -> None:
    raw = f"Resent-From: {SCAN}\nTo: a-{run}@example.org\nSubject: Sent again\n\nPage one\n"
    done = service_process.run("send", "--profile", profile, "-t", message=raw)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert server.messages(f"a-{run}@example.org") == []


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (b" 10%\r 50%\r100%\ndone\n", "10%  50% 100%\ndone\n"),
        (b"one\r\r\ntwo\0\n", "one\ntwo \n"),
        (b".\n..\n.\rMAIL FROM:<x@y.z>\n", ".\n..\n. MAIL FROM:<x@y.z>\n"),
    ],
    ids=["progress bar", "carriage returns and a NUL", "dots"],
)
def test_what_a_program_prints_arrives(
    service_process: OfficeService, profile: str, server: Dovecot, run: str, said: bytes, read: str
) -> None:
    to = f"cron-{run}@example.org"
    done = service_process.run(
        "send", "--profile", profile, "-oi", "-f", "", "--", to, message=b"Subject: x\n\n" + said
    )
    assert done.returncode == 0, done.stderr
    [delivered] = server.messages(to)
    content = message_from_bytes(delivered, policy=policy.default).get_content()
    assert content.strip(" ") == read.strip(" ")
