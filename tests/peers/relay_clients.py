"""Programs that know only passwords, as Python's own mail libraries make them, as clients of the relay."""

from __future__ import annotations

import imaplib
import poplib
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Clients:
    """Clients of the relay at `places`, which trust its certificate; `tls` is "starttls" or "implicit"."""

    places: dict[str, int]
    context: ssl.SSLContext

    @contextmanager
    def smtp(self, tls: str = "starttls") -> Iterator[smtplib.SMTP]:
        """A client that sends; it has not signed in."""
        if tls == "implicit":
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                "localhost", self.places["smtps"], timeout=PATIENCE_SECONDS, context=self.context
            )
        else:
            client = smtplib.SMTP("localhost", self.places["smtp"], timeout=PATIENCE_SECONDS)
            client.starttls(context=self.context)
        with client:
            yield client

    @contextmanager
    def pop(self, tls: str = "starttls") -> Iterator[poplib.POP3]:
        """A client that receives; it has not signed in."""
        if tls == "implicit":
            client: poplib.POP3 = poplib.POP3_SSL(
                "localhost", self.places["pop3s"], timeout=PATIENCE_SECONDS, context=self.context
            )
        else:
            client = poplib.POP3("localhost", self.places["pop3"], timeout=PATIENCE_SECONDS)
            client.stls(self.context)
        try:
            yield client
            client.quit()
        finally:
            client.close()

    @contextmanager
    def imap(self, tls: str = "starttls") -> Iterator[imaplib.IMAP4]:
        """A client that receives; it has not signed in."""
        if tls == "implicit":
            client: imaplib.IMAP4 = imaplib.IMAP4_SSL(
                "localhost", self.places["imaps"], ssl_context=self.context, timeout=PATIENCE_SECONDS
            )
        else:
            client = imaplib.IMAP4("localhost", self.places["imap"], timeout=PATIENCE_SECONDS)
            client.starttls(self.context)
        with client:
            yield client
