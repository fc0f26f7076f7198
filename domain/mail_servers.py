"""The mail servers that belong to a kind of provider, for the settings that have such a provider.

A setting that gets a provider, and has neither server nor port, gets those of the provider's kind.

Sources: Microsoft's "POP, IMAP, and SMTP settings for Outlook.com" and Google's "Add Gmail to another email client".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from domain.catalogue import Protocol
from domain.profile_fields import Settings, texts_of


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


def with_server_of_provider(
    texts: Mapping[str, str], protocol: Protocol, settings: Settings, kinds: Mapping[str, str]
) -> Mapping[str, str]:
    """The texts of a change and, if it gives the setting another provider, the server that the setting lacks.

    `kinds` has the kind of each provider.
    """
    provider = texts.get("provider", "")
    if provider in ("", settings.provider):
        return texts
    return {**texts, **server_texts(kinds.get(provider), protocol, {**texts_of(settings), **texts}, texts.get("tls"))}


def server_texts(
    kind: str | None, protocol: Protocol, values: Mapping[str, str], tls: str | None = None
) -> Mapping[str, str]:
    """The server, port and TLS mode of the kind for a setting with these values; nothing where it has some.

    Nothing either if somebody has asked for another TLS mode, `tls`.
    """
    preset = MAIL_SERVERS.get(kind or "", {}).get(protocol)
    if preset is None or values["server"] or values["port"] or tls not in (None, preset.tls):
        return {}
    return preset.texts
