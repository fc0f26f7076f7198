"""The mail servers that belong to a kind of provider, for the settings that have such a provider.

Sources: Microsoft's "POP, IMAP, and SMTP settings for Outlook.com" and Google's "Add Gmail to another email client".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from domain.catalogue import Protocol


@dataclass(frozen=True)
class MailServerPreset:
    """The server of one protocol, the port it serves, and the TLS mode there."""

    server: str
    port: int
    tls: str

    @property
    def texts(self) -> Mapping[str, str]:
        """The fields of a setting."""
        return {"server": self.server, "port": str(self.port), "tls": self.tls}


MAIL_SERVERS: Mapping[str, Mapping[Protocol, MailServerPreset]] = MappingProxyType(
    {
        "microsoft": {
            Protocol.SMTP: MailServerPreset("smtp.office365.com", 587, "starttls"),
            Protocol.POP: MailServerPreset("outlook.office365.com", 995, "implicit"),
            Protocol.IMAP: MailServerPreset("outlook.office365.com", 993, "implicit"),
        },
        "google": {
            Protocol.SMTP: MailServerPreset("smtp.gmail.com", 587, "starttls"),
            Protocol.POP: MailServerPreset("pop.gmail.com", 995, "implicit"),
            Protocol.IMAP: MailServerPreset("imap.gmail.com", 993, "implicit"),
        },
    }
)
"""By the kind of provider and the protocol. An OpenID provider says nothing about mail servers."""
