"""The settings a machine model has, with their menu paths, and which SMTP ones are linked: data, not code.

Source: the manual pages summarised in the project's domain facts (Sharp BP series, "OAuth 2.0 authentication").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from domain.errors import NotFound


class Protocol(StrEnum):
    """What a setting speaks to its mail server."""

    SMTP = "smtp"
    POP = "pop"
    IMAP = "imap"


@dataclass(frozen=True)
class CatalogueSetting:
    """One place in a machine's menus that holds mail authentication. Linked ones share one authorization."""

    name: str
    protocol: Protocol
    menu_path: str
    linked: bool = False


@dataclass(frozen=True)
class Catalogue:
    """The mail settings of a machine model."""

    name: str
    settings: tuple[CatalogueSetting, ...]

    def setting(self, name: str) -> CatalogueSetting:
        """The setting called `name`.

        Raises:
            NotFound: names the settings there are.
        """
        for setting in self.settings:
            if setting.name == name:
                return setting
        known = ", ".join(setting.name for setting in self.settings)
        raise NotFound(f"catalogue {self.name} has no setting {name!r}; it has: {known}")


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
        NotFound: names the catalogues there are.
    """
    try:
        return CATALOGUES[name]
    except KeyError:
        raise NotFound(f"no catalogue is called {name!r}; there are: {', '.join(CATALOGUES)}") from None
