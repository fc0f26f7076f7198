"""Each recipe of docs/recipes, followed to the letter: the real program, a real mail server, the message arrives."""

from __future__ import annotations

import json
import os
import poplib
import re
import shutil
import smtplib
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from dovecot import SIZE_LIMIT_OCTETS, Dovecot
from peer_service import OfficeService
from ports import answers, free_ports
from postfix_desk import OwnRelay, postfix, set_up_queue, set_up_smarthost
from practice_faults.provider import FaultyProvider
from recipe_desk import SERVICE_CONFIGURATION, Desk, filled
from recipe_pages import PAGES, sections
from service_process import RETRIEVED
from waiting import DEADLINE_SECONDS, in_background, wait_until

from adapters.mail.sasl_client import Mechanism
from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA
from infrastructure.config.tables import DEFAULT_LISTEN

pytestmark = pytest.mark.needs("strace")

SECTIONS = sections()
PREPARATION = SECTIONS["README.md", "What all recipes start from"]
TRIED = [
    ("README.md", "What all recipes start from"),
    ("cron.md", ""),
    ("cron.md", "Scripts"),
    ("cron.md", "cron"),
    ("cron.md", "mailx"),
    ("curl.md", "Fetch by IMAP"),
    ("curl.md", "Fetch by POP3"),
    ("curl.md", "Send"),
    ("fetchmail.md", ""),
    ("getmail.md", ""),
    ("isync.md", ""),
    ("msmtp.md", ""),
    ("mutt.md", ""),
    ("mutt.md", "Without `mailtoken send`"),
    ("postfix.md", ""),
    ("postfix.md", "A queue for devices that never retry"),
    ("printer.md", ""),
    ("printer.md", "A printer that can't sign in"),
    ("printer.md", "A printer with a fixed sender or line ends"),
    ("printer.md", "A printer with old ciphers"),
    ("printer.md", "On the screen"),
]
REPORTS = "reports@contoso.com"
MESSAGES = 6
"""Messages that a device sends at once."""
MANY = 500
SMALL_OCTETS = 5_000_000
ONE_AT_A_TIME = """
smtp_destination_concurrency_limit = 1
service_throttle_time = 1s
"""
"""Postfix then starts what was killed again at once."""
LONG = 2500
"""Characters in an access token of Entra."""
RELAY_PORTS = ("2587", "2465", "2466", "2995", "2143")


@pytest.fixture(scope="module")
def server(dovecots: dict[Mechanism, Dovecot]) -> Dovecot:
    """Like Exchange, it knows XOAUTH2 only."""
    return dovecots[Mechanism.XOAUTH2]


@pytest.fixture(scope="module")
def places(server: Dovecot, ca: PracticeCA) -> dict[str, str]:
    """What stands here for what the recipes name."""
    return {
        **dict.fromkeys(("smtp.office365.com", "outlook.office365.com", "relay.contoso.com"), "localhost"),
        "587": str(server.ports["submission"]),
        "993": str(server.ports["imaps"]),
        "995": str(server.ports["pop3s"]),
        **{name: str(port) for name, port in free_ports(*RELAY_PORTS).items()},
        "0.0.0.0": "127.0.0.1",
        "192.168.7.0/24": "127.0.7.0/24",
        "192.168.7.1": "127.0.0.1",
        "192.168.7.20/32": "127.0.7.20/32",
        "/etc/ssl/certs/ca-certificates.crt": str(ca.ca_file),
    }


@pytest.fixture(scope="module")
def mailer(
    ca: PracticeCA, provider: FaultyProvider, places: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OfficeService]:
    """A service that is configured as all the recipes together say, with the relay beside it."""
    directory, certificate = tmp_path_factory.mktemp("mailer"), ca.issue()
    shutil.copy(certificate.cert_file, directory / "relay.crt")
    shutil.copy(certificate.key_file, directory / "relay.key")
    blocks = [block for section in SECTIONS.values() for block in section.blocks()]
    tables = [block.content for block in blocks if block.file == SERVICE_CONFIGURATION]
    with OfficeService(directory, provider, filled("\n".join(tables), places)) as service_process:
        usual, provider.rules.access_token_length = provider.rules.access_token_length, LONG
        prepare(service_process, Desk(service_process, directory, places))
        provider.rules.access_token_length = usual
        relay = service_process.begin("relay", log=service_process.directory / "relay.log")
        try:
            wait_until(lambda: all(answers(int(places[port])) for port in RELAY_PORTS), "the relay listens")
            yield service_process
        finally:
            relay.terminate()
            assert relay.wait(DEADLINE_SECONDS) == 0


def prepare(service_process: OfficeService, desk: Desk) -> None:
    """Do what all recipes start from; a person signs in whenever that is asked for."""
    commands, _ = PREPARATION.blocks()
    for command in commands.content.replace("\\\n", " ").splitlines():
        if not command.startswith("mailtoken token get"):
            desk.type(command)
            continue
        begun = json.loads(desk.type(f"{command} --yes --no-wait --json"))
        browser_user.approve(begun["verification_uri"], begun["user_code"], REPORTS, service_process.provider.ca_file)
        service_process.wait_for(RETRIEVED, begun["profile"])
    assert len(service_process.provider.live_access_tokens(REPORTS)[-1]) == LONG


@pytest.fixture
def you() -> str:
    """Who gets the mail of a test alone."""
    return f"{uuid4().hex}@example.com"


@pytest.fixture
def desk(mailer: OfficeService, places: dict[str, str], you: str) -> Iterator[Desk]:
    """A desk of a test alone, which users without rights may come to, as some programs want it."""
    with tempfile.TemporaryDirectory(prefix="mailtoken-desk-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        own = {"you@example.com": you, "/etc/postfix": f"{home}/postfix", "/usr/sbin/sendmail": f"{home}/sbin/sendmail"}
        desk = Desk(mailer, home, {**places, **own})
        yield desk
        assert_hidden(desk, *mailer.provider.issued_secrets)


@pytest.fixture
def mail(server: Dovecot) -> str:
    """The subject of a message that waits in the mailbox, the newest there."""
    subject = f"It waits {uuid4().hex}"
    server.deliver(REPORTS, f"Subject: {subject}\r\nFrom: {REPORTS}\r\n\r\nOne line.\r\n".encode())
    return subject


def assert_arrived(server: Dovecot, address: str) -> None:
    """The one message that came for somebody is the recipe's."""
    sent = server.exchanger.envelopes
    envelope = wait_until(lambda: next((one for one in sent if address in one.rcpt_tos), None), f"mail for {address}")
    assert envelope.mail_from == REPORTS
    (message,) = server.messages(address)
    assert b"Subject: It works\n" in message.replace(b"\r\n", b"\n")


def assert_hidden(desk: Desk, *secrets: str) -> None:
    assert [secret for secret in secrets if secret in desk.arguments] == []


def assert_fetched(maildir: Path, subject: str) -> None:
    messages = [path.read_text() for path in maildir.glob("*/*")]
    assert [message for message in messages if f"Subject: {subject}\n" in message], messages


def scan(desk: Desk, screen: dict[str, str], recipient: str, ca: PracticeCA, password: str = "") -> None:
    """Send as a printer does with this on its screen."""
    entered = {name: filled(value, desk.places) for name, value in screen.items()}
    place = entered["Primary Server"], int(entered["Port Number"])
    message = f"From: {entered['Sender Address']}\r\nTo: {recipient}\r\nSubject: It works\r\n\r\nPage one\r\n"
    with printers_connection(*place, ca, entered["Enable SSL/TLS"]) as printer:
        if entered["SMTP Authentication"] == "on":
            printer.login(entered["User Name"], password)
        assert printer.sendmail(entered["Sender Address"], [recipient], message) == {}


def printers_connection(server: str, port: int, ca: PracticeCA, tls: str) -> smtplib.SMTP:
    """How a printer of the lobby's network connects."""
    source = ("127.0.7.20", 0)
    if tls == "off":
        return smtplib.SMTP(server, port, timeout=DEADLINE_SECONDS, source_address=source)
    context = ssl.create_default_context(cafile=ca.ca_file)
    return smtplib.SMTP_SSL(server, port, timeout=DEADLINE_SECONDS, source_address=source, context=context)


def newest_at_printer(desk: Desk, screen: dict[str, str], ca: PracticeCA, password: str) -> list[bytes]:
    """The lines of the newest message, fetched as a printer does with this on its screen."""
    entered = {name: filled(value, desk.places) for name, value in screen.items()}
    assert entered["Enable SSL/TLS"] == "on"
    context = ssl.create_default_context(cafile=ca.ca_file)
    place = entered["POP3 Server"], int(entered["Port Number"])
    printer = poplib.POP3_SSL(*place, timeout=DEADLINE_SECONDS, context=context)
    printer.user(entered["User Name"])
    printer.pass_(password)
    count, _ = printer.stat()
    lines = printer.retr(count)[1]
    printer.quit()
    return lines


@pytest.mark.needs("msmtp")
def test_msmtp_sends(desk: Desk, server: Dovecot, you: str) -> None:
    desk.follow(SECTIONS["msmtp.md", ""])
    assert_arrived(server, you)


@pytest.mark.needs("script")
@pytest.mark.parametrize("program", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("mutt", "neomutt")])
def test_mutt_sends_and_reads(desk: Desk, server: Dovecot, you: str, mail: str, program: str) -> None:
    desk.places["mutt"] = program
    desk.follow(SECTIONS["mutt.md", ""])
    assert_arrived(server, you)
    keys = "<last-entry><copy-message><kill-line>~/copied<enter><exit>"
    desk.type(f"script --quiet --command \"{program} -e 'set confirmcreate=no' -e 'push {keys}'\" /dev/null")
    assert f"Subject: {mail}\n" in (desk.home / "copied").read_text()


@pytest.mark.needs("mutt")
def test_mutt_sends_by_itself(desk: Desk, server: Dovecot, you: str) -> None:
    desk.follow(SECTIONS["mutt.md", "Without `mailtoken send`"])
    assert_arrived(server, you)


@pytest.mark.needs("getmail")
def test_getmail_fetches(desk: Desk, mail: str) -> None:
    if os.geteuid() == 0:
        desk.places["# user = reports"] = "user = nobody"
        for name in ("", "cur", "new", "tmp"):
            (desk.home / "Mail" / name).mkdir()
            shutil.chown(desk.home / "Mail" / name, "nobody")
    desk.follow(SECTIONS["getmail.md", ""])
    assert_fetched(desk.home / "Mail", mail)


@pytest.mark.needs("fetchmail")
def test_fetchmail_fetches(desk: Desk, mail: str) -> None:
    desk.follow(SECTIONS["fetchmail.md", ""])
    assert_fetched(desk.home / "Mail", mail)
    password = re.search('password "([0-9a-f]{32})"', (desk.home / ".fetchmailrc").read_text())
    assert password is not None
    assert_hidden(desk, password[1])


@pytest.mark.needs("mbsync")
def test_mbsync_fetches(desk: Desk, mail: str) -> None:
    desk.follow(SECTIONS["isync.md", ""])
    assert_fetched(desk.home / "Mail/inbox", mail)


@pytest.mark.needs("curl")
def test_curl_sends(desk: Desk, server: Dovecot, you: str) -> None:
    desk.follow(SECTIONS["curl.md", "Send"])
    assert_arrived(server, you)


@pytest.mark.needs("curl")
@pytest.mark.parametrize("protocol", ["IMAP", "POP3"])
def test_curl_fetches(desk: Desk, server: Dovecot, mail: str, protocol: str) -> None:
    fetched = desk.follow(SECTIONS["curl.md", f"Fetch by {protocol}"])
    assert fetched in [message.decode().replace("\r\n", "\n") for message in server.messages(REPORTS)]
    assert protocol == "POP3" or f"Subject: {mail}\n" in fetched


def test_cron_sends(desk: Desk, server: Dovecot) -> None:
    (desk.home / "sbin").mkdir()
    desk.follow(SECTIONS["cron.md", "cron"])
    assert_arrived(server, "admin@contoso.com")


@pytest.mark.parametrize("section", [pytest.param("mailx", marks=pytest.mark.needs("mailx")), "Scripts"])
def test_mailx_and_scripts_send(desk: Desk, server: Dovecot, you: str, section: str) -> None:
    desk.follow(SECTIONS["cron.md", section])
    assert_arrived(server, you)


@pytest.mark.needs("postfix", "root or sudo")
def test_postfix_sends(desk: Desk, server: Dovecot, you: str) -> None:
    trying = set_up_smarthost(desk)
    with postfix(desk):
        desk.do(trying, as_root=True)
        assert_arrived(server, you)
    password = (desk.home / "postfix/relay_password").read_text().rpartition(":")[2].strip()
    assert len(password) == 32
    assert_hidden(desk, password)


@pytest.mark.thorough
@pytest.mark.needs("postfix", "root or sudo")
def test_postfix_sends_a_scan_that_another_users_mail_server_would_not_take(
    desk: Desk, mailer: OfficeService, server: Dovecot, you: str
) -> None:
    relay = OwnRelay(mailer, *free_ports("relay").values())
    desk.places.update({"smarthost": "scans", "2587": str(relay.port)})
    with small_mail_server() as (port, sessions):
        mailer.add_machine("small", smtp={"port": port, "tls": "none"})
        desk.type("echo secret-of-small | mailtoken relay user add small small/smtp")
        relay.start()
        wait_until(lambda: len(sessions) > 0, "the relay asks the other server for its extensions")
        set_up_smarthost(desk, f"message_size_limit = {SIZE_LIMIT_OCTETS}\n")
        password = (desk.home / "postfix/relay_password").read_text().rpartition(":")[2].strip()
        wait_until(lambda: sizes_offered(relay.port, "scans", password) == (SIZE_LIMIT_OCTETS,) * 2, "both are known")
        page = f"{'0123456789abcdef' * 4}\n" * (12 * 1024 * 1024 // 65)
        (desk.home / "scan").write_text(f"To: {you}\nSubject: It works\n\n{page}")
        with postfix(desk):
            desk.type("sendmail -t <~/scan", as_root=True)
            assert_arrived(server, you)
        relay.stop()
        desk.type("mailtoken relay user remove small && mailtoken machine remove small --yes")
    (message,) = server.messages(you)
    assert message.replace(b"\r\n", b"\n").endswith(page.encode())


def sizes_offered(port: int, user: str, password: str) -> tuple[int, int]:
    """The largest message that the relay offers to take: before this user has signed in, and after."""
    with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE_SECONDS) as client:
        client.ehlo()
        before = int(client.esmtp_features["size"])
        client.login(user, password)
        client.ehlo()
        return before, int(client.esmtp_features["size"])


@contextmanager
def small_mail_server() -> Iterator[tuple[int, list[Session]]]:
    """A server that takes small messages only: its port, and the sessions that began."""
    sessions: list[Session] = []

    class Noting:
        async def handle_EHLO(  # noqa: N802 - its name
            self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
        ) -> list[str]:
            session.host_name = hostname
            sessions.append(session)
            return responses

    controller = Controller(Noting(), "127.0.0.1", free_ports("small")["small"], data_size_limit=SMALL_OCTETS)
    controller.start()
    try:
        yield controller.port, sessions
    finally:
        controller.stop()


@pytest.mark.needs("postfix", "root or sudo")
def test_postfix_queues_for_devices_and_loses_nothing_when_it_is_killed(desk: Desk, server: Dovecot, you: str) -> None:
    desk.places.update({"2s": "1s", "60s": "1s", "smarthost": "queue", "admin@contoso.com": f"admin-{you}"})
    port = set_up_queue(desk)
    with postfix(desk, keeps_queue=True) as running:
        wait_until(lambda: answers(port), "Postfix listens")
        with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE_SECONDS, source_address=("127.0.7.20", 0)) as printer:
            for number in range(MESSAGES):
                message = f"From: device@printer.local\r\nSubject: scan {number}\r\n\r\nPage one\r\n"
                printer.sendmail("device@printer.local", [you], message)
            printer.sendmail("device@printer.local", ["nobody@example.com"], "Subject: refused\r\n\r\nPage one\r\n")
        wait_until(lambda: server.messages(you), "the first message arrives")
        running.kill()
    with postfix(desk):
        wait_until(lambda: len(subjects(server, you)) == MESSAGES, "every message arrives")
        wait_until(lambda: server.messages(f"admin-{you}"), "the administrator hears of the refusal")
    sent = [envelope for envelope in server.exchanger.envelopes if you in envelope.rcpt_tos]
    # The message under way at the kill may come twice: its acceptance was not yet in the queue.
    assert len(sent) <= MESSAGES + 1
    assert {envelope.mail_from for envelope in sent} == {REPORTS}
    assert [one for one in server.messages(you) if b"From: reports@contoso.com" not in one] == []
    assert any(b"nobody@example.com" in message for message in server.messages(f"admin-{you}"))
    notices = [envelope for envelope in server.exchanger.envelopes if f"admin-{you}" in envelope.rcpt_tos]
    assert {envelope.mail_from for envelope in notices} == {REPORTS}


@pytest.mark.torture
@pytest.mark.needs("postfix", "root or sudo")
def test_of_five_hundred_messages_at_once_none_is_lost_when_every_part_is_killed(
    desk: Desk, mailer: OfficeService, server: Dovecot, you: str
) -> None:
    """The limits are scaled: the server takes ten messages a second, and the queue tries as fast as it can."""
    relay = OwnRelay(mailer, *free_ports("relay").values())
    desk.places.update({"2s": "0s", "60s": "1s", "600s": "2s", "smarthost": "fleet", "2587": str(relay.port)})
    port = set_up_queue(desk, ONE_AT_A_TIME)
    server.exchanger.most_per_second = 10
    relay.start()
    before = len(server.exchanger.envelopes)

    def kill_all(name: str, parent: str) -> None:
        found = ["pkill", "-KILL", "-P", parent, "-x", name]
        wait_until(lambda: subprocess.run(found, check=False).returncode == 0, f"{name} is killed")

    def kill_service() -> None:
        mailer.kill()
        mailer.start()

    def kill_relay() -> None:
        relay.process.kill()
        relay.start()

    with postfix(desk, keeps_queue=True) as running:
        wait_until(lambda: answers(port), "Postfix listens")
        master = (desk.home / "postfix/queue/pid/master.pid").read_text().strip()
        devices = [in_background(partial(send_fifty, port, first, you)) for first in range(0, MANY, 50)]
        parts = [
            lambda: kill_all("qmgr", master),
            lambda: kill_all("smtp", master),
            kill_relay,
            kill_service,
            lambda: kill_all("submission", str(server.pid)),
            server.kill,
            running.kill,
        ]
        for number, kill in enumerate(parts, 1):
            wait_until(lambda: len(server.exchanger.envelopes) - before >= 50 * number, "messages arrive", 600)  # noqa: B023
            if kill == running.kill:
                for device in devices:
                    device.result(600)
            kill()
    with postfix(desk):
        wait_until(lambda: len(subjects(server, you)) == MANY, "every message arrives", 900)
    relay.stop()
    server.exchanger.most_per_second = None
    sent = [envelope for envelope in server.exchanger.envelopes if you in envelope.rcpt_tos]
    # The queue sends one message at a time, so each kill may cost the acceptance of one.
    assert len(sent) <= MANY + len(parts)


def send_fifty(port: int, first: int, recipient: str) -> None:
    """Send as a device that never retries."""
    with smtplib.SMTP("127.0.0.1", port, timeout=600, source_address=("127.0.7.20", 0)) as device:
        for number in range(first, first + 50):
            message = f"From: device@printer.local\r\nSubject: scan {number}\r\n\r\nPage one\r\n"
            device.sendmail("device@printer.local", [recipient], message)


def subjects(server: Dovecot, address: str) -> set[bytes]:
    return {
        line for message in server.messages(address) for line in message.splitlines() if line.startswith(b"Subject:")
    }


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(("msmtp.md", ""), marks=pytest.mark.needs("msmtp")),
        pytest.param(("mutt.md", "Without `mailtoken send`"), marks=pytest.mark.needs("mutt")),
        pytest.param(("getmail.md", ""), marks=pytest.mark.needs("getmail")),
        pytest.param(("isync.md", ""), marks=pytest.mark.needs("mbsync")),
        pytest.param(("curl.md", "Send"), marks=pytest.mark.needs("curl")),
        pytest.param(("curl.md", "Fetch by IMAP"), marks=pytest.mark.needs("curl")),
        pytest.param(("curl.md", "Fetch by POP3"), marks=pytest.mark.needs("curl")),
    ],
    ids=" ".join,
)
def test_no_token_goes_to_a_server_with_a_certificate_of_somebody_else(
    desk: Desk, server: Dovecot, you: str, tmp_path: Path, name: tuple[str, str]
) -> None:
    others = str(PracticeCA.create(tmp_path).ca_file)
    desk.places["/etc/ssl/certs/ca-certificates.crt"] = desk.variables["CURL_CA_BUNDLE"] = others
    with pytest.raises(AssertionError, match=r"(?i)certificate"):
        desk.follow(SECTIONS[name])
    assert server.messages(you) == []


def test_a_printer_with_old_ciphers_has_a_port_of_its_own(mailer: OfficeService, places: dict[str, str]) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(mailer.provider.ca_file)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    with smtplib.SMTP_SSL("localhost", int(places["2466"]), timeout=DEADLINE_SECONDS, context=old) as printer:
        assert printer.noop()[0] == 250
    with pytest.raises(ssl.SSLError, match=r"(?i)handshake failure"):
        smtplib.SMTP_SSL("localhost", int(places["2465"]), timeout=DEADLINE_SECONDS, context=old)


def test_a_printer_sends_and_receives(desk: Desk, server: Dovecot, ca: PracticeCA, you: str, mail: str) -> None:
    password = desk.follow(SECTIONS["printer.md", ""]).splitlines()[-1]
    sending, receiving = SECTIONS["printer.md", "On the screen"].screens()
    scan(desk, sending, you, ca, password)
    assert_arrived(server, you)
    assert f"Subject: {mail}".encode() in newest_at_printer(desk, receiving, ca, password)
    assert_hidden(desk, password)


def test_a_printer_that_cannot_sign_in_sends_and_its_sender_is_put_right(
    desk: Desk, server: Dovecot, ca: PracticeCA, you: str
) -> None:
    recipe = SECTIONS["printer.md", "A printer that can't sign in"]
    desk.follow(recipe)
    (screen,) = recipe.screens()
    scan(desk, screen, you, ca)
    assert_arrived(server, you)
    desk.follow(SECTIONS["printer.md", "A printer with a fixed sender or line ends"])

    def is_put_right() -> bool:
        scan(desk, {**screen, "Sender Address": "printer@local.invalid"}, f"fixed-{you}", ca)
        return b"From: reports@contoso.com" in server.messages(f"fixed-{you}")[-1]

    wait_until(is_put_right, "the relay has heard of the change")


def test_there_is_no_recipe_but_those_tried_here() -> None:
    assert sorted(SECTIONS) == TRIED


def test_the_relay_listens_where_the_recipes_say_if_it_is_not_told_otherwise() -> None:
    page = (PAGES / "README.md").read_text()
    assert [url for url in DEFAULT_LISTEN if f"`{url}`" not in page] == []


def test_a_secret_shows_in_the_arguments_of_a_program_but_not_of_a_builtin(desk: Desk) -> None:
    desk.type("tail=cret; echo se$tail")
    assert_hidden(desk, "secret")
    desk.type("tail=cret; env true se$tail")
    with pytest.raises(AssertionError):
        assert_hidden(desk, "secret")
