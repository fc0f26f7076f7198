"""`serve` and `relay` with a pipe as log that is full, and then closed: the mail and the renewals go on."""

from __future__ import annotations

import fcntl
import imaplib
import json
import os
import poplib
import signal
import smtplib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import command_line
import pytest
from ports import answers, free_ports
from service_process import FAX, POP, PRINTER, SCAN, SMTP, ServiceProcess
from waiting import DEADLINE_SECONDS, in_background, wait_until

PASSWORD = "a-relay-password"
CONFIG = """
[relay]
listen = ["smtp://127.0.0.1:{smtp}", "pop3://127.0.0.1:{pop}", "imap://127.0.0.1:{imap}"]
"""
FILLING = b"\n" * 4096


class UnreadPipe:
    """A named pipe that is full until `read_until` reads it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR)
        fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, len(FILLING))
        self.fill()

    def fill(self) -> None:
        os.set_blocking(self._descriptor, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self._descriptor, FILLING)

    def read_until(self, event: str) -> list[str]:
        """The events of the log up to this one."""

        def read() -> list[str]:
            events: list[str] = []
            os.set_blocking(self._descriptor, True)
            with os.fdopen(os.dup(self._descriptor)) as lines:
                while event not in events:
                    line = lines.readline().strip()
                    events += [json.loads(line)["event"]] if line else []
            return events

        return in_background(read).result(DEADLINE_SECONDS)

    def close(self) -> None:
        """Go away, so that a write to the pipe fails."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@pytest.fixture
def pipes(tmp_path: Path) -> Iterator[list[UnreadPipe]]:
    """The logs of the service and of the relay."""
    pipes = [UnreadPipe(tmp_path / "service.pipe"), UnreadPipe(tmp_path / "relay.pipe")]
    yield pipes
    for pipe in pipes:
        pipe.close()


def test_a_log_that_nobody_reads_or_whose_reader_is_gone_stops_neither_mail_nor_renewals(
    own_service: ServiceProcess, pipes: list[UnreadPipe]
) -> None:
    service, (service_log, relay_log) = own_service, pipes
    ports = free_ports("smtp", "pop", "imap")
    service.log = service_log.path
    service.configure(CONFIG.format(**ports))
    service.start()
    service.add_printer(PRINTER)
    service.get_token(SMTP)
    service.get_token(POP)
    added = service.run("relay", "user", "add", "printer", SMTP, POP, message=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr
    relay = command_line.begin("relay", cwd=service.directory, log=relay_log.path)
    try:
        wait_until(lambda: all(map(answers, ports.values())), "the relay listens")
        refused_sign_in(ports["imap"])
        for number in range(2):
            send(ports["smtp"], f"somebody-{number}@contoso.com")
            service.mail.wait_for_messages(f"somebody-{number}@contoso.com")
            receive(ports["pop"])
            assert service.renew(SMTP).status == 200
        events = relay_log.read_until("message_sent")
        assert events[:4] == [*["listening"] * 3, "sign_in_refused"]
        relay_log.close()
        service_log.close()
        assert service.renew(SMTP).status == 200
        send(ports["smtp"], "nobody-reads@contoso.com")
        service.mail.wait_for_messages("nobody-reads@contoso.com")
        receive(ports["pop"])
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(DEADLINE_SECONDS) == 0
        assert service.stop() == 0
    finally:
        relay.kill()


def test_a_log_on_a_full_disk_stops_neither_mail_nor_renewals_nor_sign_ins_nor_notices(
    own_service: ServiceProcess, tmp_path: Path
) -> None:
    service, ports, notices = own_service, free_ports("smtp", "pop", "imap"), tmp_path / "notices"
    service.log = Path("/dev/full")
    command = json.dumps(["/bin/sh", "-c", f"cat >> {notices}"])
    service.configure(f"{CONFIG.format(**ports)}[notify]\ncommand = {command}\n")
    service.start()
    service.add_printer(PRINTER)
    service.get_token(SMTP)
    service.fill_in(POP, FAX)
    service.get_token(POP, FAX)
    added = service.run("relay", "user", "add", "printer", SMTP, POP, message=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr
    relay = command_line.begin("relay", cwd=service.directory, log=Path("/dev/full"))
    try:
        wait_until(lambda: all(map(answers, ports.values())), "the relay listens")
        for number in range(2):
            refused_sign_in(ports["imap"])
            send(ports["smtp"], f"full-{number}@contoso.com")
            service.mail.wait_for_messages(f"full-{number}@contoso.com")
            receive(ports["pop"])
            assert service.renew(SMTP).status == 200
        service.provider.disable_account(FAX)
        assert service.run("token", "renew", POP).returncode == 1
        wait_until(lambda: notices.exists() and "account_not_available" in notices.read_text(), "people are told")
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(DEADLINE_SECONDS) == 0
        assert service.stop() == 0
    finally:
        service.provider.enable_account(FAX)
        relay.kill()


def send(port: int, to: str) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE_SECONDS) as client:
        client.login("printer", PASSWORD)
        client.sendmail(SCAN, [to], b"Subject: Scan\r\n\r\nPage one\r\n")


def receive(port: int) -> None:
    client = poplib.POP3("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    client.user("printer")
    client.pass_(PASSWORD)
    client.stat()
    client.quit()


def refused_sign_in(port: int) -> None:
    client = imaplib.IMAP4("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        client.login("printer", "a-wrong-password")
    client.logout()
