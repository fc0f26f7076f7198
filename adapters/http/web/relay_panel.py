"""What to type at the panel of a printer that uses the relay, for each protocol and each place to connect to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from adapters.http.web.texts import text
from domain.catalogue import Protocol
from domain.profile import ProfileState
from domain.profile_fields import is_loopback
from domain.secret import Secret
from infrastructure.access.relay_users import ListedUser
from infrastructure.config.tables import RelayTable

_PROTOCOLS = {"smtp": Protocol.SMTP, "pop3": Protocol.POP, "imap": Protocol.IMAP}


@dataclass(frozen=True)
class Panel:
    """A part of the panel: its title, and the names of its fields with what to type there."""

    title: str
    lines: tuple[tuple[str, str], ...]
    only_here: bool
    """The relay listens there for clients on its own machine alone."""


def panels(
    user: ListedUser, profiles: Iterable[ProfileState], table: RelayTable, host_name: str, password: Secret | None
) -> list[Panel]:
    """The panels of a relay user; `host_name` is this machine's, and `password` is None if it can't be shown."""
    return [
        Panel(
            text("panel.title", protocol=profile.protocol.value.upper(), setting=profile.name),
            tuple(_lines(user, profile, url, table, host_name, password)),
            is_loopback(urlsplit(url).hostname or ""),
        )
        for profile in profiles
        for url in table.places
        if _PROTOCOLS[urlsplit(url).scheme.removesuffix("s")] == profile.protocol
    ]


def sheet_text(user: ListedUser, shown: Sequence[Panel]) -> str:
    """The sheet as a text, for a telephone that reads the QR code."""
    parts = [[panel.title, *(f"{name}: {value}" for name, value in panel.lines)] for panel in shown]
    return "\n\n".join("\n".join(lines) for lines in parts) or user.name


def _lines(
    user: ListedUser, profile: ProfileState, url: str, table: RelayTable, host_name: str, password: Secret | None
) -> Iterator[tuple[str, str]]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    yield text("panel.server"), host_name if _is_wildcard(host) else host
    yield text("panel.port"), str(parts.port)
    yield text("panel.security"), _security(parts.scheme, table)
    if user.has_password:
        yield text("panel.user"), user.name
        yield text("panel.password"), password.reveal() if password else text("panel.password.kept")
    else:
        yield text("panel.sign_in"), text("panel.sign_in.none", networks=", ".join(user.networks))
    sender = user.sender or profile.settings.sender_address or profile.settings.account
    if profile.protocol is Protocol.SMTP and sender:
        yield text("panel.sender"), sender


def _security(scheme: str, table: RelayTable) -> str:
    if scheme.endswith("s"):
        return text("panel.security.implicit")
    return text("panel.security.starttls" if table.certificate_file else "panel.security.none")


def _is_wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104 - compared, not listened at
