"""The channels against the real thing on loopback: an HTTPS webhook, a command, the practice mail server."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fakes import SCANNER, FakeClock, Services
from flask import Flask, Response, request
from practice_faults.mail_server import FaultyMailServer
from practice_faults.provider import FaultyProvider
from practice_faults.provider_faults import NoAnswer
from werkzeug.serving import make_server

from adapters.mail.mail_server import MailServerClient
from adapters.notify.channels import Command, Mail, Webhook, as_json, subject
from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA
from adapters.practice.http_server import HTTPSServer
from adapters.providers import ProviderSettings, build_provider
from domain.errors import Failed, MailtokenError, Refused, Unreachable
from domain.notification import LastNotification, Notification, Topic, Trigger
from domain.store_attention import CertificateExpiry
from infrastructure.clock import SystemClock
from infrastructure.encryption.envelope import Sealer
from infrastructure.mail import MailService
from infrastructure.store.open import create_store
from infrastructure.store.sqlite import SqliteStore

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TOKEN = UUID("6f1c0d5e-0b1a-4a57-9a3e-0c6f5a1d2b01")
ADMIN = "admin@contoso.com"
SECRET = "key-in-the-address"
NOTIFICATION = Notification(
    TOKEN,
    Trigger.NEEDS_PERSON,
    "invalid_grant",
    ("office-mfp/smtp-service", "office-mfp/smtp-alert"),
    "fax@contoso.com",
    "contoso",
    NOON,
)
RECOVERED = replace(
    NOTIFICATION, trigger=Trigger.RECOVERED, attention=None, previous=LastNotification("invalid_grant", NOON)
)


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PracticeCA:
    return PracticeCA.create(tmp_path_factory.mktemp("ca"))


HOLD = replace(NOTIFICATION, attention="on_hold", profiles=(), account=None, provider=None, topic=Topic.HOLD)
BACKUPS = replace(HOLD, attention="backup_old", trigger=Trigger.REMINDER, topic=Topic.BACKUPS)
CERTIFICATE = replace(
    HOLD,
    attention="certificate_ends",
    trigger=Trigger.ABOUT_TO_END,
    topic=Topic.CERTIFICATE,
    certificate=CertificateExpiry("[relay]", NOON),
)


@pytest.mark.parametrize(
    ("notification", "line", "text"),
    [
        (HOLD, "the restored store needs a person", "The store was restored from a backup and is on hold"),
        (BACKUPS, "the backup of the store still needs a person", "The last backup is old: make another one."),
        (CERTIFICATE, "the certificate of [relay] will stop working", "[relay] ends at 2026-03-02 12:00 UTC: replace"),
    ],
)
def test_what_is_about_the_installation_names_its_part_and_no_setting(
    notification: Notification, line: str, text: str
) -> None:
    assert subject(notification) == f"Mailtoken: {line}"
    body = as_json(notification)
    assert text in body["text"]
    assert (body["topic"], body["profiles"], body["account"]) == (notification.topic.value, [], None)
    over = replace(notification, trigger=Trigger.RECOVERED, attention=None)
    assert as_json(over)["text"] == subject(over)


# Webhook


@dataclass
class Hooks:
    """A place that takes webhooks; `answer` says what it answers."""

    url: str
    port: int
    answer: Callable[[], Response] = lambda: Response(status=204)
    received: list[tuple[dict[str, Any], dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def hooks(ca: PracticeCA) -> Iterator[Hooks]:
    app = Flask("hooks")

    @app.post(f"/{SECRET}")
    def take() -> Response:
        taken.received.append((request.get_json(), dict(request.headers)))
        return taken.answer()

    server = HTTPSServer(app, ca.issue().ssl_context())
    taken = Hooks(f"https://localhost:{server.port}/{SECRET}", server.port)
    server.start()
    yield taken
    server.close()


def test_a_webhook_gets_the_notification_as_json_under_its_key(ca: PracticeCA, hooks: Hooks) -> None:
    webhook = Webhook(hooks.url, SystemClock(), ca.ca_file)
    webhook.deliver(NOTIFICATION)
    webhook.deliver(RECOVERED)
    (body, headers), (recovered, _) = hooks.received
    assert headers["Idempotency-Key"] == NOTIFICATION.key
    assert body == {
        "key": NOTIFICATION.key,
        "occasion": "needs_person",
        "attention": "invalid_grant",
        "topic": "tokens",
        "text": "The provider does not accept this authorization any more: get the token again.",
        "profiles": ["office-mfp/smtp-service", "office-mfp/smtp-alert"],
        "account": "fax@contoso.com",
        "provider": "contoso",
        "at": "2026-03-02T12:00:00.000000+00:00",
    }
    assert (recovered["attention"], recovered["occasion"]) == (None, "recovered")
    assert recovered["text"] == "Mailtoken: the token of office-mfp/smtp-service and 1 more works again"


@pytest.mark.parametrize(
    ("status", "trouble"), [(400, Failed), (404, Failed), (429, Unreachable), (500, Unreachable), (503, Unreachable)]
)
def test_a_webhook_that_does_not_agree_has_not_been_told(
    ca: PracticeCA, hooks: Hooks, status: int, trouble: type[MailtokenError]
) -> None:
    hooks.answer = lambda: Response(f"no: {hooks.url}", status)
    with pytest.raises(trouble) as raised:
        Webhook(hooks.url, SystemClock(), ca.ca_file).deliver(NOTIFICATION)
    assert (raised.value.code, raised.value.fields) == ("webhook_answered", {"status": status})


def test_a_redirect_is_not_followed(ca: PracticeCA, hooks: Hooks) -> None:
    answers: tuple[tuple[int, dict[str, str]], ...] = ((302, {"Location": hooks.url}), (304, {}))
    for status, headers in answers:
        hooks.answer = partial(Response, status=status, headers=headers)
        with pytest.raises(Failed, match=f"webhook_answered status={status}"):
            Webhook(hooks.url, SystemClock(), ca.ca_file).deliver(NOTIFICATION)
    assert len(hooks.received) == 2


def answer_after(released: Future[None]) -> Response:
    released.result(30)
    return Response()


def refused_port() -> int:
    """A port nobody listens on."""

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("case", ["refused", "unknown host", "hangs", "drops", "untrusted", "no ca file", "no address"])
def test_a_webhook_that_can_not_be_reached_is_one_line_without_its_address(
    ca: PracticeCA, hooks: Hooks, tmp_path: Path, case: str
) -> None:
    released: Future[None] = Future()
    url, ca_file, timeout_seconds = hooks.url, ca.ca_file, 10.0
    match case:
        case "refused":
            url = f"https://localhost:{refused_port()}/{SECRET}"
        case "unknown host":
            url = f"https://hooks.invalid/{SECRET}"
        case "hangs":
            hooks.answer, timeout_seconds = partial(answer_after, released), 0.5
        case "drops":
            hooks.answer = NoAnswer
        case "untrusted":
            ca_file = PracticeCA.create(tmp_path / "other").ca_file
        case "no ca file":
            ca_file = tmp_path / "missing.pem"
        case "no address":
            url = f"https://[{SECRET}"
    try:
        with pytest.raises(Unreachable) as raised:
            Webhook(url, SystemClock(), ca_file, timeout_seconds=timeout_seconds).deliver(NOTIFICATION)
    finally:
        released.set_result(None)
    line = str(raised.value)
    assert raised.value.code == ("webhook_ca_file_unreadable" if case == "no ca file" else "webhook_unreachable")
    assert line.splitlines() == [line]
    assert SECRET not in line
    assert raised.value.__suppress_context__


def test_neither_netrc_nor_the_environment_s_certificates_have_a_say(
    ca: PracticeCA, hooks: Hooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login admin password hunter2\n")
    netrc.chmod(stat.S_IRUSR)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(PracticeCA.create(tmp_path / "other").ca_file))
    Webhook(hooks.url, SystemClock(), ca.ca_file).deliver(NOTIFICATION)
    assert "Authorization" not in hooks.received[0][1]


def test_the_usual_proxy_variables_are_heeded(ca: PracticeCA, hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{SECRET}@127.0.0.1:{refused_port()}")
    monkeypatch.setenv("NO_PROXY", "localhost")
    Webhook(hooks.url, SystemClock(), ca.ca_file).deliver(NOTIFICATION)
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(Unreachable, match="webhook_unreachable why='proxy_refused'"):
        Webhook(hooks.url, SystemClock(), ca.ca_file).deliver(NOTIFICATION)
    assert len(hooks.received) == 1


def test_a_webhook_without_tls_is_an_address_too() -> None:
    app = Flask("plain hooks")
    app.add_url_rule("/", "take", lambda: Response(status=204), methods=["POST"])
    server = make_server("127.0.0.1", 0, app)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        Webhook(f"http://127.0.0.1:{server.port}/", SystemClock()).deliver(NOTIFICATION)
    finally:
        server.shutdown()
        serving.join()


def test_an_answer_without_an_end_is_not_read(ca: PracticeCA, hooks: Hooks) -> None:
    go_on = threading.Event()

    def endless() -> Iterator[bytes]:
        while not go_on.wait(0.01):
            yield b"x" * 1000

    hooks.answer = lambda: Response(endless(), headers={"Content-Length": str(10**9)})
    try:
        Webhook(hooks.url, SystemClock(), ca.ca_file).deliver(NOTIFICATION)
    finally:
        go_on.set()


# Command


def script(directory: Path, text: str) -> list[str]:
    """A command that runs this shell script."""
    path = directory / "tell"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return [str(path), SECRET]


def test_a_command_gets_the_notification_as_json_on_its_standard_input(tmp_path: Path) -> None:
    Command(script(tmp_path, f'cat > "{tmp_path}/told"; echo "$1" > "{tmp_path}/argument"')).deliver(NOTIFICATION)
    assert json.loads((tmp_path / "told").read_bytes())["key"] == NOTIFICATION.key
    assert (tmp_path / "argument").read_text() == f"{SECRET}\n"


def test_a_command_that_does_not_read_what_it_is_told_is_fine(tmp_path: Path) -> None:
    many = tuple(f"machine-{number}/smtp" for number in range(20_000))
    Command(script(tmp_path, "exit 0")).deliver(replace(NOTIFICATION, profiles=many))


def test_the_key_of_the_store_is_not_handed_to_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILTOKEN_KEY", "the-key-in-clear")
    monkeypatch.setenv("PAGER_ACCOUNT", "contoso")
    Command(script(tmp_path, f'env > "{tmp_path}/environment"')).deliver(NOTIFICATION)
    environment = (tmp_path / "environment").read_text()
    assert "PAGER_ACCOUNT=contoso" in environment
    assert "the-key-in-clear" not in environment


def test_a_command_that_fails_has_not_told_anybody(tmp_path: Path) -> None:
    with pytest.raises(Failed) as raised:
        Command(script(tmp_path, "exit 3")).deliver(NOTIFICATION)
    assert str(raised.value) == "command_failed exit_code=3"


@pytest.mark.parametrize("case", ["missing", "not executable", "hangs"])
def test_a_command_that_can_not_be_run_is_one_line_without_what_it_was_given(tmp_path: Path, case: str) -> None:
    command = script(tmp_path, "exec tail -f /dev/null")
    match case:
        case "missing":
            os.unlink(command[0])
        case "not executable":
            os.chmod(command[0], 0o600)
    with pytest.raises(Unreachable) as raised:
        Command(command, timeout_seconds=0.3).deliver(NOTIFICATION)
    assert str(raised.value) in {
        "command_not_run reason='No such file or directory'",
        "command_not_run reason='Permission denied'",
        "command_did_not_end seconds=0.3",
    }
    assert raised.value.__suppress_context__


# Mail


@pytest.fixture
def practice(ca: PracticeCA) -> Iterator[FaultyProvider]:
    with FaultyProvider(ca) as practice:
        yield practice


@pytest.fixture
def mail_server(ca: PracticeCA, practice: FaultyProvider) -> Iterator[FaultyMailServer]:
    with FaultyMailServer(ca, practice) as server:
        yield server


@pytest.fixture
def installation(
    ca: PracticeCA, practice: FaultyProvider, mail_server: FaultyMailServer, tmp_path: Path, sealer: Sealer
) -> Iterator[Services]:
    """A service with a token for the scanner, and its SMTP setting at the practice mail server."""
    clock = FakeClock(datetime.now(UTC))
    settings = ProviderSettings(
        "contoso", "oidc", practice.client_id, issuer=practice.issuer, ca_file=ca.ca_file, timeout_seconds=20
    )
    store = SqliteStore(tmp_path / "mailtoken.db")
    store_id = create_store(store, sealer)
    installation = Services(store, sealer, store_id, tmp_path, clock, {"contoso": build_provider(settings, clock)})
    name = installation.add_machine("office", "generic")[0]
    where = {"server": "localhost", "port": str(mail_server.smtp_port), "tls": "starttls", "sender_address": SCANNER}
    installation.settings.set_profile(name, where, "administrator")
    yield installation
    store.close()


def get_token(installation: Services, ca: PracticeCA, name: str) -> None:
    started = installation.tokens.request(name, None, "administrator")
    assert started.verification_uri
    assert started.user_code
    browser_user.approve(started.verification_uri, started.user_code, SCANNER, ca.ca_file)
    installation.tokens.poll(installation.tokens.status(name).profile.token_id)
    assert installation.label(name) == "Retrieved"


def mail_channel(installation: Services, ca: PracticeCA) -> Mail:
    service = MailService(installation.tokens, MailServerClient(ca.ca_file), installation.clock)
    return Mail(service, "office/smtp", [ADMIN, "fax@contoso.com"])


def test_a_notification_is_mailed_through_another_of_our_settings(
    installation: Services, ca: PracticeCA, mail_server: FaultyMailServer
) -> None:
    get_token(installation, ca, "office/smtp")
    mail_channel(installation, ca).deliver(NOTIFICATION)
    (taken,) = mail_server.wait_for_messages(ADMIN)
    assert mail_server.wait_for_messages("fax@contoso.com") == [taken]
    message = message_from_bytes(taken, policy=policy.default)
    assert (message["From"], message["To"]) == (SCANNER, f"{ADMIN}, fax@contoso.com")
    assert message["Subject"] == subject(NOTIFICATION)
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content().splitlines() == [
        "The provider does not accept this authorization any more: get the token again.",
        "",
        "office-mfp/smtp-service",
        "office-mfp/smtp-alert",
        "",
        "account: fax@contoso.com",
        "provider: contoso",
    ]


def test_a_notification_that_is_mailed_again_has_the_same_message_id_and_another_one_has_not(
    installation: Services, ca: PracticeCA, mail_server: FaultyMailServer
) -> None:
    get_token(installation, ca, "office/smtp")
    channel = mail_channel(installation, ca)
    for notification in (
        NOTIFICATION,
        replace(NOTIFICATION, at=NOON + timedelta(hours=1)),
        replace(RECOVERED, account=None),
    ):
        channel.deliver(notification)
    messages = [message_from_bytes(one, policy=policy.default) for one in mail_server.wait_for_messages(ADMIN, 3)]
    ids = [message["Message-ID"] for message in messages]
    assert ids[0] == ids[1] != ids[2]
    assert "None" not in messages[2].get_content()


def test_without_a_token_of_its_own_a_notification_is_not_mailed(installation: Services, ca: PracticeCA) -> None:
    with pytest.raises(Refused):
        mail_channel(installation, ca).deliver(NOTIFICATION)


def test_a_mail_server_that_refuses_a_notification_is_not_one_that_does_not_answer(
    installation: Services, ca: PracticeCA, mail_server: FaultyMailServer
) -> None:
    get_token(installation, ca, "office/smtp")
    channel = mail_channel(installation, ca)
    mail_server.inject_fault("answer", protocol="smtp", command="MAIL", reply="554 5.2.2 mailbox full")
    with pytest.raises(Failed):
        channel.deliver(NOTIFICATION)
    mail_server.close()
    with pytest.raises(Unreachable):
        channel.deliver(NOTIFICATION)


# What is said


@pytest.mark.parametrize("trigger", Trigger)
@pytest.mark.parametrize("profiles", [("a/smtp",), ("a/smtp", "a/pop", "b/smtp")])
def test_every_trigger_has_a_subject(trigger: Trigger, profiles: tuple[str, ...]) -> None:
    line = subject(replace(NOTIFICATION, trigger=trigger, profiles=profiles))
    assert line.startswith("Mailtoken: the token of a/smtp")
    assert ("and 2 more" in line) is (len(profiles) > 1)
    assert line.splitlines() == [line]
