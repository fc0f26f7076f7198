"""Each recipe of docs/recipes, followed to the letter: the real program, a real mail server, the message arrives."""

from __future__ import annotations

import json
import os
import poplib
import shutil
import smtplib
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from dovecot import Dovecot
from office import DEADLINE_SECONDS, Office, environment, wait_until
from ports import answers, free_ports
from recipe_desk import SERVICE_CONFIGURATION, Desk, filled
from recipe_pages import PAGES, sections

from adapters.mail.sasl import Mechanism
from adapters.practice import person
from adapters.practice.ca import PracticeCA
from adapters.practice.provider import PracticeProvider
from adapters.relay.listener import DEFAULT_LISTEN

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
    ("getmail.md", ""),
    ("isync.md", ""),
    ("msmtp.md", ""),
    ("mutt.md", ""),
    ("mutt.md", "Without `mailtoken send`"),
    ("postfix.md", ""),
    ("printer.md", ""),
    ("printer.md", "A printer that can't sign in"),
    ("printer.md", "On the screen"),
]
REPORTS = "reports@contoso.com"
LONG = 2500
"""Characters in an access token of Entra."""
RELAY_PORTS = ("2587", "2465", "2995", "2143")
POSTFIX = """
compatibility_level = 3.6
queue_directory = ~/postfix/queue
data_directory = ~/postfix/data
maillog_file = ~/postfix/log
maillog_file_prefixes = ~
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = crm.example.com
mydestination =
alias_maps =
"""
"""One that is not the machine's own; it listens nowhere."""


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
        "192.168.7.20/32": "127.0.7.20/32",
        "/etc/ssl/certs/ca-certificates.crt": str(ca.ca_file),
    }


@pytest.fixture(scope="module")
def mailer(
    ca: PracticeCA, provider: PracticeProvider, places: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Office]:
    """A service that is configured as all the recipes together say, with the relay beside it."""
    directory, certificate = tmp_path_factory.mktemp("mailer"), ca.issue()
    shutil.copy(certificate.cert_file, directory / "relay.crt")
    shutil.copy(certificate.key_file, directory / "relay.key")
    blocks = [block for section in SECTIONS.values() for block in section.blocks()]
    tables = [block.content for block in blocks if block.file == SERVICE_CONFIGURATION]
    with Office(directory, provider, filled("\n".join(tables), places)) as office:
        usual, provider.rules.access_token_length = provider.rules.access_token_length, LONG
        prepare(office, Desk(office, directory, places))
        provider.rules.access_token_length = usual
        relay = office.begin("relay", log="relay.log")
        try:
            wait_until(lambda: all(answers(int(places[port])) for port in RELAY_PORTS), "the relay listens")
            yield office
        finally:
            relay.terminate()
            assert relay.wait(DEADLINE_SECONDS) == 0


def prepare(office: Office, desk: Desk) -> None:
    """Do what all recipes start from; a person signs in whenever that is asked for."""
    commands, _ = PREPARATION.blocks()
    for command in commands.content.replace("\\\n", " ").splitlines():
        if not command.startswith("mailtoken token get"):
            desk.type(command)
            continue
        begun = json.loads(desk.type(f"{command} --yes --no-wait --json"))
        person.approve(begun["verification_uri"], begun["user_code"], REPORTS, office.provider.ca_file)
        wait_until(lambda name=begun["profile"]: office.status(name)["token"] == "Retrieved", "the token is there")
    assert len(office.provider.live_access_tokens(REPORTS)[-1]) == LONG


@pytest.fixture
def you() -> str:
    """Who gets the mail of a test alone."""
    return f"{uuid4().hex}@example.com"


@pytest.fixture
def desk(mailer: Office, places: dict[str, str], you: str) -> Iterator[Desk]:
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


def test_msmtp_sends(desk: Desk, server: Dovecot, you: str) -> None:
    desk.follow(SECTIONS["msmtp.md", ""])
    assert_arrived(server, you)


@pytest.mark.parametrize("program", ["mutt", "neomutt"])
def test_mutt_sends_and_reads(desk: Desk, server: Dovecot, you: str, mail: str, program: str) -> None:
    desk.places["mutt"] = program
    desk.follow(SECTIONS["mutt.md", ""])
    assert_arrived(server, you)
    keys = "<last-entry><copy-message><kill-line>~/copied<enter><exit>"
    desk.type(f"script --quiet --command \"{program} -e 'set confirmcreate=no' -e 'push {keys}'\" /dev/null")
    assert f"Subject: {mail}\n" in (desk.home / "copied").read_text()


def test_mutt_sends_by_itself(desk: Desk, server: Dovecot, you: str) -> None:
    desk.follow(SECTIONS["mutt.md", "Without `mailtoken send`"])
    assert_arrived(server, you)


def test_getmail_fetches(desk: Desk, mail: str) -> None:
    if os.geteuid() == 0:
        desk.places["# user = reports"] = "user = nobody"
        for name in ("", "cur", "new", "tmp"):
            (desk.home / "Mail" / name).mkdir()
            shutil.chown(desk.home / "Mail" / name, "nobody")
    desk.follow(SECTIONS["getmail.md", ""])
    assert_fetched(desk.home / "Mail", mail)


def test_mbsync_fetches(desk: Desk, mail: str) -> None:
    desk.follow(SECTIONS["isync.md", ""])
    assert_fetched(desk.home / "Mail/inbox", mail)


def test_curl_sends(desk: Desk, server: Dovecot, you: str) -> None:
    desk.follow(SECTIONS["curl.md", "Send"])
    assert_arrived(server, you)


@pytest.mark.parametrize("protocol", ["IMAP", "POP3"])
def test_curl_fetches(desk: Desk, server: Dovecot, mail: str, protocol: str) -> None:
    fetched = desk.follow(SECTIONS["curl.md", f"Fetch by {protocol}"])
    assert fetched in [message.decode().replace("\r\n", "\n") for message in server.messages(REPORTS)]
    assert protocol == "POP3" or f"Subject: {mail}\n" in fetched


def test_cron_sends(desk: Desk, server: Dovecot) -> None:
    (desk.home / "sbin").mkdir()
    desk.follow(SECTIONS["cron.md", "cron"])
    assert_arrived(server, "admin@contoso.com")


@pytest.mark.parametrize("section", ["mailx", "Scripts"])
def test_mailx_and_scripts_send(desk: Desk, server: Dovecot, you: str, section: str) -> None:
    desk.follow(SECTIONS["cron.md", section])
    assert_arrived(server, you)


def test_postfix_sends(desk: Desk, server: Dovecot, you: str) -> None:
    desk.write("/etc/postfix/main.cf", POSTFIX)
    desk.write("/etc/postfix/master.cf", Path("/usr/share/postfix/master.cf.dist").read_text())
    *preparing, trying = SECTIONS["postfix.md", ""].blocks()
    for block in preparing:
        desk.do(block)
    desk.type("mkdir ~/postfix/queue ~/postfix/data && chown postfix ~/postfix/data", as_root=True)
    with postfix(desk):
        desk.do(trying, as_root=True)
        assert_arrived(server, you)
    password = (desk.home / "postfix/relay_password").read_text().rpartition(":")[2].strip()
    assert len(password) == 32
    assert_hidden(desk, password)


@contextmanager
def postfix(desk: Desk) -> Iterator[None]:
    """Postfix as this desk has set it up. It ends with the test, however that ends; `postfix start-fg` would not."""
    desk.type("postfix check", as_root=True)
    master = f"{desk.type('postconf -h daemon_directory').strip()}/master"
    running = subprocess.Popen(
        desk.command("setpriv", "--pdeathsig", "TERM", master, "-s", as_root=True),
        stdin=subprocess.DEVNULL,
        env=environment(),
    )
    try:
        yield
    finally:
        running.terminate()
        running.wait(DEADLINE_SECONDS)
        desk.type("rm -rf ~/postfix/queue ~/postfix/data", as_root=True)


@pytest.mark.parametrize(
    "name",
    [
        ("msmtp.md", ""),
        ("mutt.md", "Without `mailtoken send`"),
        ("getmail.md", ""),
        ("isync.md", ""),
        ("curl.md", "Send"),
        ("curl.md", "Fetch by IMAP"),
        ("curl.md", "Fetch by POP3"),
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


def test_a_printer_sends_and_receives(desk: Desk, server: Dovecot, ca: PracticeCA, you: str, mail: str) -> None:
    password = desk.follow(SECTIONS["printer.md", ""]).splitlines()[-1]
    sending, receiving = SECTIONS["printer.md", "On the screen"].screens()
    scan(desk, sending, you, ca, password)
    assert_arrived(server, you)
    assert f"Subject: {mail}".encode() in newest_at_printer(desk, receiving, ca, password)
    assert_hidden(desk, password)


def test_a_printer_that_cannot_sign_in_sends(desk: Desk, server: Dovecot, ca: PracticeCA, you: str) -> None:
    recipe = SECTIONS["printer.md", "A printer that can't sign in"]
    desk.follow(recipe)
    (screen,) = recipe.screens()
    scan(desk, screen, you, ca)
    assert_arrived(server, you)


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
