"""`mailtoken relay` as a process, between a program that knows a password and the practice mail server."""

from __future__ import annotations

import json
import poplib
import re
import resource
import select
import signal
import smtplib
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import cycle, takewhile
from pathlib import Path

import command_line
import pytest
from command_line import Command
from file_descriptors import few_descriptors, open_files, share_of_a_processor
from service_process import SCAN, ServiceProcess
from waiting import DEADLINE_SECONDS, wait_until

PASSWORD = "a-relay-password"
CONFIG = """
[server]
socket = "{socket}"
[mail]
ca_file = "{ca_file}"
[relay]
listen = {listen}
{more}
"""

Start = Callable[..., tuple[Command, list[int]]]


@pytest.fixture
def relay(service: ServiceProcess, tmp_path: Path) -> Iterator[Start]:
    """Start the relay with a configuration of its own; its process, and the ports where it listens, by `schemes`."""
    running: list[Command] = []

    def start(schemes: Sequence[str] = ("smtp",), more: str = "", *, forked: bool = True) -> tuple[Command, list[int]]:
        listen = [f"{scheme}://127.0.0.1:0" for scheme in schemes]
        config = tmp_path / "relay.toml"
        ca_file = service.provider.ca_file
        config.write_text(CONFIG.format(socket=service.socket, ca_file=ca_file, listen=listen, more=more))
        process = command_line.begin("--config", str(config), "relay", cwd=tmp_path, forked=forked)
        running.append(process)
        assert process.stderr is not None
        ports = []
        for scheme in schemes:
            line = process.stderr.readline()
            found = re.search(rf"{scheme}://127\.0\.0\.1:(\d+)", line)
            assert found, line
            ports.append(int(found[1]))
        return process, ports

    yield start
    for process in running:
        process.kill()
        process.wait(DEADLINE_SECONDS)
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def test_a_program_that_knows_only_a_password_sends_through_the_relay(
    service: ServiceProcess, smtp: str, machine: str, relay: Start
) -> None:
    service.get_token(smtp)
    added = service.run("relay", "user", "add", machine, smtp, message=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr
    process, (port,) = relay(forked=False)
    with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE_SECONDS) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError) as wrong:
            client.login(machine, "a-wrong-password")
        assert wrong.value.smtp_code == 535
        client.login(machine, PASSWORD)
        client.sendmail(SCAN, [f"{machine}@contoso.com"], b"Subject: Scan\r\n\r\nPage one\r\n")
    (message,) = service.mail.wait_for_messages(f"{machine}@contoso.com")
    assert b"Page one" in message
    wait_until(lambda: machine in service.done("relay", "refusals", "127.0.0.1"), "the service has the refusal")
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0
    assert process.stderr is not None
    lines = [json.loads(line) for line in process.stderr]
    assert [line["event"] for line in lines][-2:] == ["message_sent", "stopping"]
    assert PASSWORD not in json.dumps(lines)


def test_a_token_that_needs_a_person_is_told_to_the_program(
    service: ServiceProcess, smtp: str, machine: str, relay: Start
) -> None:
    added = service.run("relay", "user", "add", machine, smtp, message=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr
    _, (port,) = relay()
    with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE_SECONDS) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError) as told:
            client.login(machine, PASSWORD)
        assert told.value.smtp_code == 454
        assert b"token" in told.value.smtp_error


def test_without_the_service_the_relay_says_so_and_ends(own_service: ServiceProcess) -> None:
    done = own_service.run("relay")
    assert (done.returncode, done.stdout) == (6, "")
    assert "mailtoken serve" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_value_in_the_configuration_is_one_line(own_service: ServiceProcess) -> None:
    own_service.configure('\n[relay]\nlisten = ["smtp://nowhere"]\n')
    done = own_service.run("relay")
    assert done.returncode != 0
    assert "smtp://127.0.0.1:2587" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_whoever_is_not_let_in_any_more_goes_but_not_in_the_middle_of_a_message(
    service: ServiceProcess, smtp: str, pop: str, machine: str, relay: Start
) -> None:
    for profile in (smtp, pop):
        service.get_token(profile)
    added = service.run("relay", "user", "add", machine, smtp, pop, message=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr
    process, (smtp_port, pop_port) = relay(("smtp", "pop3"))
    receiving = poplib.POP3("127.0.0.1", pop_port, timeout=DEADLINE_SECONDS)
    receiving.user(machine)
    receiving.pass_(PASSWORD)
    with ExitStack() as clients:
        idle, sending = (
            clients.enter_context(smtplib.SMTP("127.0.0.1", smtp_port, timeout=DEADLINE_SECONDS)) for _ in range(2)
        )
        for client in (idle, sending):
            client.login(machine, PASSWORD)
        sending.mail(SCAN)
        sending.rcpt(f"{machine}@contoso.com")
        assert sending.docmd("DATA")[0] == 354
        sending.send(b"Subject: Scan\r\n\r\n")

        removed = service.run("relay", "user", "remove", machine)
        assert removed.returncode == 0, removed.stderr
        assert idle.getreply()[0] == 421
        with pytest.raises((poplib.error_proto, OSError)):
            receiving.stat()
        sending.send(b"Page one\r\n.\r\n")
        assert sending.getreply()[0] == 250
        assert sending.getreply()[0] == 421
        again = clients.enter_context(smtplib.SMTP("127.0.0.1", smtp_port, timeout=DEADLINE_SECONDS))
        with pytest.raises(smtplib.SMTPAuthenticationError):
            again.login(machine, PASSWORD)
    (message,) = service.mail.wait_for_messages(f"{machine}@contoso.com")
    assert message == b"Subject: Scan\r\n\r\nPage one\r\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0


# A crowd

IDLE = 10_000
OTHERS = 20
DESCRIPTORS = IDLE + 500
PER_ADDRESS = 250
"""As it is unless the configuration says otherwise."""
MOST_OCTETS_EACH = 32 * 1024
UNFINISHED = b"x" * 8000
# What an idle client has said, and what the relay has answered last.
SAYS_NOTHING: Sequence[tuple[str, bytes, bytes]] = (
    ("smtp", b"", b"ESMTP Mailtoken\r\n"),
    ("smtp", b"EHL", b"ESMTP Mailtoken\r\n"),
    ("smtp", b"AUTH LOGIN\r\n" + UNFINISHED, b"334 VXNlcm5hbWU6\r\n"),
    ("pop3", b"", b"+OK Mailtoken relay\r\n"),
    ("pop3", b"USER x\r\nPA", b"+OK Send PASS\r\n"),
    ("pop3", b"AUTH PLAIN\r\n" + UNFINISHED, b"+ \r\n"),
    ("imap", b"", b"] Mailtoken relay\r\n"),
    ("imap", b"a1 LOGI", b"] Mailtoken relay\r\n"),
    ("imap", b"a1 LOGIN {8001}\r\n" + UNFINISHED, b"+ Go on\r\n"),
)


@pytest.fixture
def descriptors() -> Iterator[Callable[[int], None]]:
    """Set how many files this process, and those it starts, may open; it is put back at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard >= DESCRIPTORS, (
        f"{IDLE:,} connections need a hard limit of {DESCRIPTORS:,} open files (ulimit -Hn); here it is {hard:,}"
    )
    yield lambda limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def idle_client(port: int, address: str, says: bytes, hears: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS, source_address=(address, 0))
    client.sendall(says)
    heard = b""
    while not heard.endswith(hears):
        data = client.recv(65536)
        assert data, (says[:20], heard)
        heard += data
    return client


def resident_octets(process: Command) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def silent(clients: Sequence[socket.socket]) -> int:
    """How many of them have heard nothing more: neither a word nor the end."""
    waiting = select.poll()
    for client in clients:
        waiting.register(client, select.POLLIN)
    return len(clients) - len(waiting.poll(0))


def send_and_fetch(service: ServiceProcess, user: str, ports: dict[str, int], number: int) -> None:
    """One session of somebody else's by SMTP and one by POP3, with all that was said at the other end."""
    to = f"{user}-{number}@contoso.com"
    text = f"Subject: Scan {number}\r\n\r\n.dots stay\r\n.\r\nPage one\r\n".encode()
    with smtplib.SMTP("127.0.0.1", ports["smtp"], timeout=DEADLINE_SECONDS) as sending:
        sending.login(user, PASSWORD)
        sending.sendmail(SCAN, [to], text)
    (message,) = service.mail.wait_for_messages(to)
    assert message == text
    service.mail.deliver(SCAN, text)
    receiving = poplib.POP3("127.0.0.1", ports["pop3"], timeout=DEADLINE_SECONDS)
    receiving.user(user)
    receiving.pass_(PASSWORD)
    count, _ = receiving.stat()
    assert b"\r\n".join([*receiving.retr(count)[1], b""]) == text
    receiving.dele(count)
    receiving.quit()


@pytest.mark.torture
def test_ten_thousand_clients_that_say_nothing_or_half_a_word_are_in_nobodys_way(
    service: ServiceProcess, smtp: str, pop: str, machine: str, relay: Start, descriptors: Callable[[int], None]
) -> None:
    for profile in (smtp, pop):
        service.get_token(profile)
    added = service.run("relay", "user", "add", machine, smtp, pop, message=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr
    schemes = ("smtp", "pop3", "imap")
    # As systemd starts a service: the relay has to raise its own.
    descriptors(1024)
    process, listening = relay(schemes, f"connections = {IDLE + OTHERS}\nidle_timeout = 3600", forked=False)
    descriptors(DESCRIPTORS)
    ports = dict(zip(schemes, listening, strict=True))
    before = resident_octets(process)
    with ExitStack() as crowd:
        addresses = (f"127.0.0.{2 + number // PER_ADDRESS}" for number in range(IDLE))
        idle = [
            crowd.enter_context(idle_client(ports[scheme], address, says, hears))
            for address, (scheme, says, hears) in zip(addresses, cycle(SAYS_NOTHING), strict=False)
        ]
        each = (resident_octets(process) - before) / IDLE
        sys.stdout.write(f"\n{IDLE:,} idle connections: {each / 1000:.1f} kB of the relay's memory each\n")
        assert each < MOST_OCTETS_EACH
        for number in range(OTHERS):
            send_and_fetch(service, machine, ports, number)
        assert silent(idle) == IDLE
        for client in idle[: len(SAYS_NOTHING)]:
            client.sendall(b"\r\n")
            assert client.recv(65536)


@pytest.mark.needs("root")  # another process's descriptors are not for its own user, as it can't be dumped
def test_a_relay_without_descriptors_says_so_does_not_spin_and_goes_on_when_clients_leave(
    relay: Start,
) -> None:
    process, (port,) = relay()
    lines = (json.loads(line) for line in process.stderr or ())
    with few_descriptors(process.pid) as most:
        with ExitStack() as clients:
            for _ in range(40):
                clients.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS))
            wait_until(lambda: open_files(process.pid) >= most - 1, "it has no descriptor left")
            assert any(line["event"] == "descriptors_few" for line in lines)
            assert share_of_a_processor(process.pid, 3) < 0.5
        wait_until(lambda: _greets(port), "it takes clients again")
    assert any(line["event"] == "descriptors_enough" for line in lines)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0


def _greets(port: int) -> bool:
    """Whether a relay takes a client; a connection that it took too late for the limit is reset."""
    with suppress(OSError, smtplib.SMTPException), smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE_SECONDS) as client:
        return client.noop()[0] == 250
    return False


def test_sighup_has_the_relay_read_its_table_and_keeps_its_ports_and_sessions(relay: Start, tmp_path: Path) -> None:
    process, (port,) = relay()
    config = tmp_path / "relay.toml"
    text = config.read_text()
    more = text.replace("'smtp://127.0.0.1:0'", "'smtp://127.0.0.1:0', 'pop3://127.0.0.1:0'")
    lines = (json.loads(line) for line in process.stderr or ())

    def reload(text: str, event: str) -> list[str]:
        """The places where the relay listens anew, up to this event."""
        config.write_text(text)
        process.send_signal(signal.SIGHUP)
        until = takewhile(lambda line: line["event"] != event, lines)
        return [line["listen"] for line in until if line["event"] == "listening"]

    with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE_SECONDS) as client:
        assert reload(f"{more}colour = 3\n", "configuration_not_reloaded") == []
        assert client.noop()[0] == 250
    smtp, pop = reload(more, "configuration_reloaded")
    assert smtp == f"smtp://127.0.0.1:{port}"
    with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE_SECONDS) as client:
        assert client.noop()[0] == 250
    poplib.POP3("127.0.0.1", int(pop.rpartition(":")[2]), timeout=DEADLINE_SECONDS).quit()
    taken = more.replace("pop3://127.0.0.1:0", f"imap://127.0.0.1:{port}")
    assert reload(taken, "configuration_not_reloaded") == [smtp]
    with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE_SECONDS) as client:
        assert client.noop()[0] == 250
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0
