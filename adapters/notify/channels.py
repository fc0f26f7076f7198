"""The channels of `[notify]`: each channel delivers a notification, or raises the error that prevents the delivery."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, assert_never

from adapters.http_client import HttpClient, NoReply
from adapters.texts.reasons import reason_text
from adapters.texts.store_attention import certificate_text
from adapters.texts.wording import Surface
from domain.errors import Failed, Unreachable
from domain.mail_report import Fault
from domain.notification import Notification, Topic, Trigger
from domain.ports import Clock
from infrastructure.clock import instant_text
from infrastructure.mail import MailService

_KEY_VARIABLE = "MAILTOKEN_KEY"
"""The environment variable may hold the key of the store, so a notification command does not get it."""

# At the usual 78 characters a long subject is folded before its first word, and some mail programs display the fold.
_POLICY = policy.SMTP.clone(max_line_length=900)

_SUBJECTS = {
    Trigger.NEEDS_PERSON: "needs a person",
    Trigger.ABOUT_TO_END: "will stop working",
    Trigger.RECOVERED: "works again",
    Trigger.REMINDER: "still needs a person",
}


def subject(notification: Notification) -> str:
    """One line: the token's profile or the part of the installation, and the news about it."""
    return f"Mailtoken: {_about(notification)} {_SUBJECTS[notification.trigger]}"


def _about(notification: Notification) -> str:
    match notification.topic:
        case Topic.TOKENS:
            others = f" and {len(notification.profiles) - 1} more" if len(notification.profiles) > 1 else ""
            return f"the token of {notification.profiles[0]}{others}"
        case Topic.HOLD:
            return "the restored store"
        case Topic.BACKUPS:
            return "the backup of the store"
        case Topic.ROWS:
            return "the integrity of the store"
        case Topic.CERTIFICATE:
            return (
                f"the certificate of {notification.certificate.table}" if notification.certificate else "a certificate"
            )
        case _:
            assert_never(notification.topic)


def _text(notification: Notification) -> str:
    """The sentence of what needs a person; the subject where nothing does."""
    code, certificate = notification.attention, notification.certificate
    if code is None:
        return subject(notification)
    if certificate is not None:
        return certificate_text(code, certificate.table, instant_text(certificate.at), Surface.API)
    return reason_text(code, Surface.API)


def as_json(notification: Notification) -> dict[str, Any]:
    """The notification as the JSON that a webhook or a command receives."""
    return {
        "key": notification.key,
        "occasion": notification.trigger.value,
        "attention": notification.attention,
        "topic": notification.topic.value,
        "text": _text(notification),
        "profiles": list(notification.profiles),
        "account": notification.account,
        "provider": notification.provider,
        "at": instant_text(notification.at),
    }


class Webhook:
    """POSTs the notification as JSON; the Idempotency-Key is its key. The URL may hold a secret and is never shown."""

    name = "webhook"

    def __init__(self, url: str, clock: Clock, ca_file: Path | None = None, *, timeout_seconds: float = 30) -> None:
        self._url = url
        self._clock = clock
        self._ca_file = ca_file
        self._timeout_seconds = timeout_seconds

    def deliver(self, notification: Notification) -> None:
        """POST the notification.

        Raises:
            Unreachable: no answer came, or the status asks for another try later (5xx, 408 or 429).
            Failed: the answer has any other status than 2xx.
        """
        try:
            http = HttpClient(self._clock, timeout_seconds=self._timeout_seconds, ca_file=self._ca_file)
            headers = {"Idempotency-Key": notification.key}
            status = http.post_document(self._url, as_json(notification), headers)
        except NoReply as trouble:
            raise Unreachable("webhook_unreachable", why=trouble.why) from None
        except OSError:
            raise Unreachable("webhook_ca_file_unreadable", file=str(self._ca_file)) from None
        if status >= 500 or status in {408, 429}:
            raise Unreachable("webhook_answered", status=status)
        if not 200 <= status < 300:
            raise Failed("webhook_answered", status=status)


class Command:
    """Runs a command with the notification as JSON on its standard input."""

    name = "command"

    def __init__(self, command: Sequence[str], *, timeout_seconds: float = 30) -> None:
        self._command = list(command)
        self._timeout_seconds = timeout_seconds

    def deliver(self, notification: Notification) -> None:
        """Run the command.

        Raises:
            Unreachable: the command can't be run, or does not end in time.
            Failed: the command's exit code is not 0.
        """
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own command
                self._command,
                input=json.dumps(as_json(notification)).encode(),
                timeout=self._timeout_seconds,
                check=False,
                env={name: value for name, value in os.environ.items() if name != _KEY_VARIABLE},
            )
        # The exception's own text contains the whole command, so the errors below leave it out.
        except subprocess.TimeoutExpired:
            raise Unreachable("command_did_not_end", seconds=self._timeout_seconds) from None
        except OSError as error:
            raise Unreachable("command_not_run", reason=error.strerror) from None
        if done.returncode:
            raise Failed("command_failed", exit_code=done.returncode)


class Mail:
    """Sends the notification as mail through an SMTP profile of this service."""

    name = "mail"

    def __init__(self, mail: MailService, profile: str, recipients: Sequence[str]) -> None:
        self._mail = mail
        self._profile = profile
        self._recipients = list(recipients)

    def deliver(self, notification: Notification) -> None:
        """Send the mail.

        Raises:
            Unreachable: the token can't be renewed now, or the mail server does not answer.
            MailtokenError: the profile has no token, or the mail server refused the token or the mail.
        """
        _, report = self._mail.send(self._profile, None, self._recipients, self._message(notification), "worker")
        if report.fault is Fault.NETWORK:
            raise Unreachable("mail_server_unreachable", verdict=str(report.verdict))
        if not report.ok:
            raise Failed("mail_not_sent", verdict=str(report.verdict))

    def _message(self, notification: Notification) -> bytes:
        message = EmailMessage(_POLICY)
        message["From"] = self._mail.sender_of(self._profile)
        message["To"] = ", ".join(self._recipients)
        message["Subject"] = subject(notification)
        message["Date"] = format_datetime(notification.at)
        message["Message-ID"] = f"<{sha256(notification.key.encode()).hexdigest()[:32]}@mailtoken.invalid>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: prevents automatic replies
        facts = as_json(notification)
        lines = [facts["text"], "", *notification.profiles, ""]
        lines += [f"{field}: {facts[field]}" for field in ("account", "provider") if facts[field]]
        message.set_content("\n".join(lines) + "\n")
        return message.as_bytes()
