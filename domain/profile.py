"""A profile: what one mail setting of a machine holds, under the name `machine/setting`.

Values are checked here, field by field as the manual names them, before anything is changed.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from eventsourcing.domain import Aggregate

from domain.catalogue import Protocol
from domain.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class Settings:
    """The fields of a setting. `timeout` is in seconds, `check_interval` in minutes; None is "not filled in".

    `mailbox` is the SASL user if it is not the account itself, as for a shared mailbox.
    """

    server: str | None = None
    port: int | None = None
    tls: str = "starttls"
    timeout: int = 20
    sender_name: str | None = None
    sender_address: str | None = None
    check_interval: int | None = None
    authentication: str = "oauth2"
    provider: str | None = None
    account: str | None = None
    mailbox: str | None = None


_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?", re.ASCII)
# RFC 5321 section 4.1.2 Mailbox without quoted strings and address literals, with UTF-8 local parts (RFC 6531).
_ADDRESS = re.compile(r"[^\s\x00-\x20\x7f\"(),:;<>@\[\\\]]{1,64}@(?P<domain>[^\s@]{1,253})")
# Controls (C0, DEL, C1), line and paragraph separator, and lone surrogates, which can't be encoded.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ZONE = re.compile(r"[A-Za-z0-9._~-]*", re.ASCII)


def is_loopback(server: str) -> bool:
    """Whether `server` names this machine by a loopback address or the name reserved for it (RFC 6761)."""
    try:
        return ipaddress.ip_address(server).is_loopback
    except ValueError:
        return server.rstrip(".").lower() == "localhost"


def _is_host(text: str) -> bool:
    """Whether `text` is a host name; its last label is never a number (RFC 1123 section 2.1)."""
    return bool(_HOST.fullmatch(text)) and not text.rstrip(".").rpartition(".")[2].isdigit()


def _server(field: str, text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address and _ZONE.fullmatch(getattr(address, "scope_id", None) or ""):
        return str(address)
    if len(text) > 253 or not _is_host(text):
        raise InvalidValue(field, f"{text!r} is not a host name or IP address")
    return text.lower()


def _is_domain(text: str) -> bool:
    try:
        return not text.endswith(".") and _is_host(text.encode("idna").decode("ascii"))
    except UnicodeError:
        return False


def _address(field: str, text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if not match or _CONTROL.search(text) or not _is_domain(match["domain"]):
        raise InvalidValue(field, f"{text!r} is not an e-mail address like scan@contoso.com")
    return text


def _text(field: str, text: str) -> str:
    if _CONTROL.search(text) or not 1 <= len(text) <= 64:
        raise InvalidValue(field, f"{text!r} is not 1 to 64 characters without line breaks or control characters")
    return text


def _name(field: str, text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", text, re.ASCII):
        raise InvalidValue(field, f"{text!r} is not the name of a provider in the configuration")
    return text


def _whole(low: int, high: int, unit: str) -> Callable[[str, str], int]:
    def read(field: str, text: str) -> int:
        accepted = f"a whole number from {low} to {high}{unit}"
        if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not low <= int(text) <= high:
            raise InvalidValue(field, f"{text!r} is not {accepted}")
        return int(text)

    return read


def _one_of(*choices: str) -> Callable[[str, str], str]:
    def read(field: str, text: str) -> str:
        if text.lower() not in choices:
            raise InvalidValue(field, f"{text!r} is not {' or '.join(choices)}")
        return text.lower()

    return read


_READERS: Mapping[str, Callable[[str, str], Any]] = MappingProxyType(
    {
        "server": _server,
        "port": _whole(1, 65535, ""),
        "tls": _one_of("starttls", "implicit", "none"),
        "timeout": _whole(1, 300, " seconds"),
        "sender_name": _text,
        "sender_address": _address,
        "check_interval": _whole(1, 1440, " minutes"),
        "authentication": _one_of("oauth2"),
        "provider": _name,
        "account": _address,
        "mailbox": _address,
    }
)
_SMTP_ONLY = {"sender_name", "sender_address"}
_RECEIVING_ONLY = {"check_interval"}

# RFC 8314 section 7.3 (implicit) and RFC 6409, 2595 (STARTTLS).
_PORTS = MappingProxyType(
    {
        (Protocol.SMTP, True): 465,
        (Protocol.SMTP, False): 587,
        (Protocol.POP, True): 995,
        (Protocol.POP, False): 110,
        (Protocol.IMAP, True): 993,
        (Protocol.IMAP, False): 143,
    }
)


def accepted_fields(protocol: Protocol) -> tuple[str, ...]:
    """The fields a setting of this protocol has, in the manual's order."""
    left_out = _RECEIVING_ONLY if protocol is Protocol.SMTP else _SMTP_ONLY
    return tuple(field.name for field in fields(Settings) if field.name not in left_out)


def read_settings(protocol: Protocol, texts: Mapping[str, str]) -> dict[str, Any]:
    """Check `texts` field by field and give the values they stand for; an empty text clears a field.

    Raises:
        InvalidValue: names the field and what is accepted.
    """
    accepted = accepted_fields(protocol)
    values: dict[str, Any] = {}
    blank = Settings()
    for field, text in texts.items():
        if field not in accepted:
            raise InvalidValue(field, f"not a field of a {protocol} setting; it has: {', '.join(accepted)}")
        values[field] = _READERS[field](field, text) if text else getattr(blank, field)
    return values


def changed_fields(protocol: Protocol, settings: Settings, texts: Mapping[str, str]) -> dict[str, Any]:
    """What `texts` would change in the `settings` of this protocol, checked; empty if nothing.

    Raises:
        InvalidValue: names the field and what is accepted.
    """
    values = read_settings(protocol, texts)
    after = replace(settings, **values)
    if after.tls == "none" and not (after.server and is_loopback(after.server)):
        raise InvalidValue("tls", "'none' is accepted only towards a loopback server; use starttls or implicit")
    return {field: value for field, value in values.items() if value != getattr(settings, field)}


@dataclass(frozen=True, slots=True)
class ProfileState:
    """What the events of a profile add up to. `token_id` is the token it uses, `group_id` its SMTP group."""

    machine_id: UUID
    machine: str
    setting: str
    protocol: Protocol
    token_id: UUID
    group_id: UUID | None
    settings: Settings
    removed: bool = False

    @property
    def name(self) -> str:
        """`machine/setting`."""
        return f"{self.machine}/{self.setting}"

    @property
    def mailbox(self) -> str | None:
        """The SASL user: the account unless another mailbox is set."""
        return self.settings.mailbox or self.settings.account

    @property
    def port(self) -> int:
        """The port, by default the protocol's own for this kind of TLS."""
        return self.settings.port or _PORTS[self.protocol, self.settings.tls == "implicit"]


class Profile(Aggregate):
    """One mail setting of a machine."""

    TOPIC = "mailtoken.Profile.v1"

    if TYPE_CHECKING:
        state: ProfileState

    class Event(Aggregate.Event):
        """Something that happened to a profile, and who did it."""

        by: str

        def evolve(self, state: ProfileState) -> ProfileState:
            """The state after this event."""
            raise NotImplementedError

        def apply(self, profile: Profile) -> None:
            """Fold this event into the aggregate."""
            profile.state = self.evolve(profile.state)

    class Created(Event, Aggregate.Created):
        """The machine has this setting."""

        TOPIC = "mailtoken.Profile.Created.v1"
        machine_id: UUID
        machine: str
        setting: str
        protocol: str
        token_id: UUID
        group_id: UUID | None

        def begin(self) -> ProfileState:
            """Nothing filled in."""
            return ProfileState(
                self.machine_id,
                self.machine,
                self.setting,
                Protocol(self.protocol),
                self.token_id,
                self.group_id,
                Settings(),
            )

        def apply(self, profile: Profile) -> None:
            """Begin."""
            profile.state = self.begin()

    class Configured(Event):
        """Fields were set or cleared."""

        TOPIC = "mailtoken.Profile.Configured.v1"
        changes: dict[str, Any]

        def evolve(self, state: ProfileState) -> ProfileState:
            """The new values."""
            return replace(state, settings=replace(state.settings, **self.changes))

    class TokenReceived(Event):
        """Its token was obtained, through this setting or a linked one."""

        TOPIC = "mailtoken.Profile.TokenReceived.v1"
        token_id: UUID
        generation: int
        provider: str
        account: str

        def evolve(self, state: ProfileState) -> ProfileState:
            """Provider and account in concert with the linked settings."""
            settings = replace(state.settings, provider=self.provider, account=self.account)
            return replace(state, token_id=self.token_id, settings=settings)

    class TokenDeleted(Event):
        """Its token was deleted, through this setting or a linked one."""

        TOPIC = "mailtoken.Profile.TokenDeleted.v1"
        token_id: UUID

        def evolve(self, state: ProfileState) -> ProfileState:
            """Provider and account stay filled in; they may be changed now."""
            return state

    class Linked(Event):
        """It joined an SMTP group and uses its token."""

        TOPIC = "mailtoken.Profile.Linked.v1"
        group_id: UUID
        token_id: UUID
        provider: str | None
        account: str | None

        def evolve(self, state: ProfileState) -> ProfileState:
            """In concert at once, if the group has received its authorization."""
            settings = state.settings
            if self.provider and self.account:
                settings = replace(settings, provider=self.provider, account=self.account)
            return replace(state, group_id=self.group_id, token_id=self.token_id, settings=settings)

    class Unlinked(Event):
        """It left its SMTP group and has a token of its own."""

        TOPIC = "mailtoken.Profile.Unlinked.v1"
        token_id: UUID

        def evolve(self, state: ProfileState) -> ProfileState:
            """On its own."""
            return replace(state, group_id=None, token_id=self.token_id)

    class Removed(Event):
        """It is gone; its name is free."""

        TOPIC = "mailtoken.Profile.Removed.v1"

        def evolve(self, state: ProfileState) -> ProfileState:
            """Removed."""
            return replace(state, removed=True)

    @classmethod
    def create(
        cls,
        id: UUID,
        *,
        machine_id: UUID,
        machine: str,
        setting: str,
        protocol: Protocol,
        token_id: UUID,
        group_id: UUID | None,
        by: str,
        now: datetime,
    ) -> Profile:
        """A setting with nothing filled in."""
        return cls._create(
            cls.Created,
            id=id,
            timestamp=now,
            machine_id=machine_id,
            machine=machine,
            setting=setting,
            protocol=protocol.value,
            token_id=token_id,
            group_id=group_id,
            by=by,
        )

    def changes(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """What `texts` would change, checked; empty if nothing.

        Raises:
            InvalidValue: names the field and what is accepted.
        """
        return changed_fields(self.state.protocol, self.state.settings, texts)

    def configure(self, changes: Mapping[str, Any], *, by: str, now: datetime) -> None:
        """Take checked `changes`."""
        self.trigger_event(self.Configured, changes=dict(changes), by=by, timestamp=now)

    def receive_token(self, generation: int, *, provider: str, account: str, by: str, now: datetime) -> None:
        """The token this setting uses was obtained."""
        self.trigger_event(
            self.TokenReceived,
            token_id=self.state.token_id,
            generation=generation,
            provider=provider,
            account=account,
            by=by,
            timestamp=now,
        )

    def lose_token(self, *, by: str, now: datetime) -> None:
        """The token this setting uses was deleted."""
        self.trigger_event(self.TokenDeleted, token_id=self.state.token_id, by=by, timestamp=now)

    def link(
        self,
        *,
        group_id: UUID,
        token_id: UUID,
        provider: str | None,
        account: str | None,
        by: str,
        now: datetime,
    ) -> None:
        """Join a group; `provider` and `account` are those of its authorization, if it has one."""
        self.trigger_event(
            self.Linked,
            group_id=group_id,
            token_id=token_id,
            provider=provider,
            account=account,
            by=by,
            timestamp=now,
        )

    def unlink(self, token_id: UUID, *, by: str, now: datetime) -> None:
        """Leave the group for a token of its own."""
        self.trigger_event(self.Unlinked, token_id=token_id, by=by, timestamp=now)

    def remove(self, *, by: str, now: datetime) -> None:
        """Go."""
        self.trigger_event(self.Removed, by=by, timestamp=now)


# Who signs in, and where: these belong to the authorization and can't change under a token.
AUTHORIZATION_FIELDS = frozenset({"provider", "account"})
