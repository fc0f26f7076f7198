"""The channels of `[notify]`: each takes a notice or raises what is in the way."""

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
from typing import Any

import requests
from requests.utils import get_environ_proxies

from adapters.texts import sentence
from domain.errors import Failed, Unreachable
from domain.notice import Notice, Occasion
from domain.outcomes import Fault
from infrastructure.clock import instant_text
from infrastructure.mail_service import MailService

_KEY_VARIABLE = "MAILTOKEN_KEY"
"""May hold the key of the store, which is nobody else's."""

# At the usual 78 characters a subject would be folded before its first word, which some readers show.
_POLICY = policy.SMTP.clone(max_line_length=900)

_SUBJECTS = {
    Occasion.NEEDS_PERSON: "needs somebody",
    Occasion.ABOUT_TO_END: "will stop working",
    Occasion.RECOVERED: "works again",
    Occasion.REMINDER: "still needs somebody",
}


def subject(notice: Notice) -> str:
    """One line: which token, and what about it."""
    others = f" and {len(notice.profiles) - 1} more" if len(notice.profiles) > 1 else ""
    return f"Mailtoken: the token of {notice.profiles[0]}{others} {_SUBJECTS[notice.occasion]}"


def as_json(notice: Notice) -> dict[str, Any]:
    """What a program is told."""
    return {
        "key": notice.key,
        "occasion": notice.occasion.value,
        "attention": notice.attention,
        "text": sentence(notice.attention) if notice.attention else subject(notice),
        "profiles": list(notice.profiles),
        "account": notice.account,
        "provider": notice.provider,
        "at": instant_text(notice.at),
    }


class Webhook:
    """POSTs the notice as JSON; the notice's key is the Idempotency-Key. Nobody sees the address: it may hold a key."""

    name = "webhook"

    def __init__(self, url: str, ca_file: Path | None = None, *, timeout_seconds: float = 30) -> None:
        self._url = url
        self._verify = str(ca_file) if ca_file else True
        self._timeout_seconds = timeout_seconds

    def tell(self, notice: Notice) -> None:
        """Deliver.

        Raises:
            Unreachable: no answer, or one that says to come back later.
            Failed: any other answer that is no success.
        """
        try:
            status = self._post(notice)
        except (OSError, ValueError) as error:
            # The kind alone: the text has the address in it.
            raise Unreachable(f"the webhook can't be reached ({type(error).__name__})") from None
        if status >= 500 or status in {408, 429}:
            raise Unreachable(f"the webhook answered {status}")
        if not 200 <= status < 300:
            raise Failed(f"the webhook answered {status}")

    def _post(self, notice: Notice) -> int:
        with requests.Session() as session:
            session.trust_env = False  # neither REQUESTS_CA_BUNDLE nor .netrc; the usual proxy variables are heeded
            with session.post(
                self._url,
                json=as_json(notice),
                headers={"Idempotency-Key": notice.key},
                timeout=self._timeout_seconds,
                allow_redirects=False,
                verify=self._verify,
                proxies=get_environ_proxies(self._url),
                stream=True,  # whatever it says, only the status is read
            ) as answer:
                return answer.status_code


class Command:
    """Runs a command with the notice as JSON on its standard input."""

    name = "command"

    def __init__(self, command: Sequence[str], *, timeout_seconds: float = 30) -> None:
        self._command = list(command)
        self._timeout_seconds = timeout_seconds

    def tell(self, notice: Notice) -> None:
        """Deliver.

        Raises:
            Unreachable: it can't be run, or does not end.
            Failed: it says that it failed.
        """
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own command
                self._command,
                input=json.dumps(as_json(notice)).encode(),
                timeout=self._timeout_seconds,
                check=False,
                env={name: value for name, value in os.environ.items() if name != _KEY_VARIABLE},
            )
        # Our own words: theirs have the whole command in them.
        except subprocess.TimeoutExpired:
            raise Unreachable(f"the command did not end within {self._timeout_seconds:g} seconds") from None
        except OSError as error:
            raise Unreachable(f"the command can't be run ({error.strerror})") from None
        if done.returncode:
            raise Failed(f"the command ended with {done.returncode}")


class Mail:
    """Sends the notice through one of our own SMTP settings."""

    name = "mail"

    def __init__(self, mail: MailService, profile: str, recipients: Sequence[str]) -> None:
        self._mail = mail
        self._profile = profile
        self._recipients = list(recipients)

    def tell(self, notice: Notice) -> None:
        """Deliver.

        Raises:
            Unreachable: the token can't be renewed now, or the mail server does not answer.
            MailtokenError: there is no token, or the server did not take it.
        """
        _, report = self._mail.send(self._profile, None, self._recipients, self._message(notice), "worker")
        if report.fault is Fault.NETWORK:
            raise Unreachable(report.verdict)
        if not report.ok:
            raise Failed(report.verdict)

    def _message(self, notice: Notice) -> bytes:
        message = EmailMessage(_POLICY)
        message["From"] = self._mail.sender_of(self._profile)
        message["To"] = ", ".join(self._recipients)
        message["Subject"] = subject(notice)
        message["Date"] = format_datetime(notice.at)
        message["Message-ID"] = f"<{sha256(notice.key.encode()).hexdigest()[:32]}@mailtoken.invalid>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation notice in answer to it
        facts = as_json(notice)
        lines = [facts["text"], "", *notice.profiles, ""]
        lines += [f"{field}: {facts[field]}" for field in ("account", "provider") if facts[field]]
        message.set_content("\n".join(lines) + "\n")
        return message.as_bytes()
