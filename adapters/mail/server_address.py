"""The address of a mail server, and the values to sign in to a mailbox there."""

from __future__ import annotations

from dataclasses import dataclass

from domain import catalogue
from domain.secret import Secret


@dataclass(frozen=True)
class MailServerAddress:
    """A mail server; `tls` is "starttls", "implicit" or "none"."""

    server: str
    port: int
    tls: str
    protocol: catalogue.Protocol

    @property
    def where(self) -> str:
        """Host and port, as a person reads them."""
        return f"[{self.server}]:{self.port}" if ":" in self.server else f"{self.server}:{self.port}"


@dataclass(frozen=True)
class MailboxLogin:
    """What a client needs to sign in to a mailbox: `mailbox` is the SASL user; each wait has `timeout_seconds`."""

    address: MailServerAddress
    mailbox: str
    access_token: Secret
    timeout_seconds: float
