"""The relay in front of a real Dovecot when nobody can have its log: every program is served as before."""

from __future__ import annotations

import imaplib
import poplib
import smtplib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Command
from dovecot import Dovecot
from peer_service import OfficeService, Settings
from ports import answers, free_ports
from relay_clients import Clients
from service_process import SCAN
from waiting import DEADLINE_SECONDS, wait_until

from adapters.mail.sasl_client import Mechanism

NAME, PASSWORD = "unheard", "correct horse"
FULL = Path("/dev/full")
SUBJECT = "Nobody reads the log"


@pytest.fixture(scope="module")
def profiles(service_process: OfficeService, settings: Settings, dovecots: dict[Mechanism, Dovecot]) -> list[str]:
    """The settings of a relay user of these tests."""
    names = [settings[Mechanism.XOAUTH2, protocol, "starttls"] for protocol in ("smtp", "pop", "imap")]
    added = service_process.run("relay", "user", "add", NAME, *names, message=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr
    dovecots[Mechanism.XOAUTH2].deliver(SCAN, f"Subject: {SUBJECT}\r\n\r\nOne line.\r\n".encode())
    return names


@pytest.fixture(params=["its reader is gone", "its disk is full"])
def unheard(
    request: pytest.FixtureRequest, service_process: OfficeService, clients: Clients, profiles: list[str]
) -> Iterator[Clients]:
    """Programs at a relay whose log nobody can have."""
    places = free_ports(*clients.places)
    text = service_process.config.read_text()
    for scheme, port in places.items():
        text = text.replace(f"{scheme}://127.0.0.1:{clients.places[scheme]}", f"{scheme}://127.0.0.1:{port}")
    configuration = service_process.directory / f"unheard-{places['smtp']}.toml"
    configuration.write_text(text)
    is_full = request.param == "its disk is full"
    relay = service_process.begin("--config", str(configuration), "relay", log=FULL if is_full else None)
    wait_until(lambda: relay.poll() is not None or all(map(answers, places.values())), "the relay listens")
    if not is_full:
        leave(relay)
    yield replace(clients, places=places)
    assert relay.poll() is None
    relay.terminate()
    assert relay.wait(DEADLINE_SECONDS) == 0


def leave(relay: Command) -> None:
    """Close the reader's end of the log."""
    for stream in (relay.stdout, relay.stderr):
        assert stream is not None
        stream.close()


def test_every_program_signs_in_and_is_refused_as_before(unheard: Clients, dovecots: dict[Mechanism, Dovecot]) -> None:
    with unheard.pop() as refused:
        refused.user(NAME)
        with pytest.raises(poplib.error_proto, match="AUTH"):
            refused.pass_("wrong")
    with unheard.pop() as receiving:
        receiving.user(NAME)
        receiving.pass_(PASSWORD)
        headers = [receiving.top(number + 1, 0)[1] for number in range(receiving.stat()[0])]
    assert [lines for lines in headers if f"Subject: {SUBJECT}".encode() in lines]
    with unheard.imap() as reading:
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            reading.login(NAME, "wrong")
        reading.login(NAME, PASSWORD)
        reading.select()
    to = f"unheard-{unheard.places['smtp']}@example.org"
    with unheard.smtp() as sending:
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            sending.login(NAME, "wrong")
        sending.login(NAME, PASSWORD)
        assert sending.sendmail(SCAN, [to], f"Subject: {SUBJECT}\r\nFrom: {SCAN}\r\n\r\nPage\r\n") == {}
    assert len(dovecots[Mechanism.XOAUTH2].messages(to)) == 1
