"""The mail protocols, and the mail settings of each machine model with their menu paths: data, not code.

Source of the models: the manual pages summarised in the project's domain facts (Sharp BP series, "OAuth 2.0
authentication").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from domain.errors import NotFound


class Protocol(StrEnum):
    """The protocol that a setting speaks to its mail server."""

    SMTP = "smtp"
    POP = "pop"
    IMAP = "imap"


TLS_MODES = ("starttls", "implicit", "none")
"""How a connection is secured; `none` is accepted only if the server is on this machine."""


@dataclass(frozen=True)
class ProtocolFacts:
    """The facts of a mail protocol. `scheme` names it in a URL; an `s` is appended for implicit TLS.

    `sends_mail`: a setting of the protocol sends mail and has a sender's fields; any other setting receives mail.
    """

    label: str
    scheme: str
    sends_mail: bool
    starttls_port: int
    implicit_tls_port: int

    def default_port(self, tls: str) -> int:
        """The protocol's standard port in this TLS mode; a connection without TLS uses the port of STARTTLS."""
        return self.implicit_tls_port if tls == "implicit" else self.starttls_port


# Ports: RFC 8314 section 7.3 (implicit TLS), RFC 6409 and RFC 2595 (STARTTLS).
PROTOCOLS: Mapping[Protocol, ProtocolFacts] = MappingProxyType(
    {
        Protocol.SMTP: ProtocolFacts(
            label="SMTP", scheme="smtp", sends_mail=True, starttls_port=587, implicit_tls_port=465
        ),
        Protocol.POP: ProtocolFacts(
            label="POP", scheme="pop3", sends_mail=False, starttls_port=110, implicit_tls_port=995
        ),
        Protocol.IMAP: ProtocolFacts(
            label="IMAP", scheme="imap", sends_mail=False, starttls_port=143, implicit_tls_port=993
        ),
    }
)


@dataclass(frozen=True)
class CatalogueSetting:
    """A menu of a machine that holds mail authentication. The linked settings share a token."""

    name: str
    protocol: Protocol
    menu_path: str
    linked: bool = False


@dataclass(frozen=True)
class Catalogue:
    """The mail settings of a machine model."""

    name: str
    settings: tuple[CatalogueSetting, ...]

    @property
    def has_linked_settings(self) -> bool:
        """Whether a new machine of this model has an SMTP group."""
        return any(setting.linked for setting in self.settings)

    def setting(self, name: str) -> CatalogueSetting:
        """The setting called `name`.

        Raises:
            NotFound: the catalogue has no such setting; the error lists the settings of the catalogue.
        """
        for setting in self.settings:
            if setting.name == name:
                return setting
        known = [setting.name for setting in self.settings]
        raise NotFound("catalogue_setting_unknown", catalogue=self.name, name=name, known=known)


_SHARP_BP = Catalogue(
    "sharp-bp",
    (
        CatalogueSetting(
            "smtp-service",
            Protocol.SMTP,
            "System Settings > Network Settings > Service Settings > SMTP",
            linked=True,
        ),
        CatalogueSetting(
            "smtp-alert",
            Protocol.SMTP,
            "System Settings > System Control > E-mail Alert and Status > SMTP Settings",
            linked=True,
        ),
        CatalogueSetting(
            "smtp-quick",
            Protocol.SMTP,
            "System Settings > Network Settings > Quick Settings",
            linked=True,
        ),
        CatalogueSetting(
            "smtp-initial",
            Protocol.SMTP,
            "System Settings > Initial Installation Settings > Network Quick Settings",
            linked=True,
        ),
        CatalogueSetting(
            "pop-internet-fax",
            Protocol.POP,
            "Image Send Settings > Internet Fax Settings > Server Settings",
        ),
        CatalogueSetting("pop-email-print", Protocol.POP, "Printer Settings > E-mail Print Settings"),
        CatalogueSetting(
            "pop-email-status",
            Protocol.POP,
            "System Settings > System Control > E-mail Alert and Status > E-mail Status",
        ),
    ),
)

_GENERIC = Catalogue(
    "generic",
    (
        CatalogueSetting("smtp", Protocol.SMTP, "Mail > Sending (SMTP)"),
        CatalogueSetting("pop", Protocol.POP, "Mail > Receiving (POP)"),
        CatalogueSetting("imap", Protocol.IMAP, "Mail > Receiving (IMAP)"),
    ),
)

CATALOGUES: Mapping[str, Catalogue] = MappingProxyType({c.name: c for c in (_SHARP_BP, _GENERIC)})


def catalogue(name: str) -> Catalogue:
    """The catalogue called `name`.

    Raises:
        NotFound: no such catalogue; the error lists the known catalogues.
    """
    try:
        return CATALOGUES[name]
    except KeyError:
        raise NotFound("catalogue_unknown", name=name, known=list(CATALOGUES)) from None
