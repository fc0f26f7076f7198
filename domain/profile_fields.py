"""The fields of a mail setting: the one table of their names, types, ranges, defaults and protocols.

The command line, the API, the pages, and the files of `apply` and `export` take the fields from `FIELDS`. A new field
is added to `Settings`, and its texts to `adapters.texts.profile_fields`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar

from domain.catalogue import PROTOCOLS, TLS_MODES, Protocol
from domain.errors import InvalidValue

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?", re.ASCII)
# RFC 5321 section 4.1.2 Mailbox without quoted strings and address literals, with UTF-8 local parts (RFC 6531).
_ADDRESS = re.compile(r"[^\s\x00-\x20\x7f\"(),:;<>@\[\\\]]{1,64}@(?P<domain>[^\s@]{1,253})")
# Controls (C0, DEL, C1), line and paragraph separator, and lone surrogates, which can't be encoded.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ZONE = re.compile(r"[A-Za-z0-9._~-]*", re.ASCII)
_PROVIDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_LONGEST_TEXT = 64


class FieldType(ABC):
    """The type of a field: the values it accepts and how they are read from text."""

    python_type: ClassVar[type[str] | type[int]] = str

    @abstractmethod
    def read(self, field: str, text: str) -> str | int:
        """Read the value from `text`, which is not empty.

        Raises:
            InvalidValue: the field does not accept it.
        """


class HostName(FieldType):
    """A host name (RFC 1123) or an IP address."""

    def read(self, field: str, text: str) -> str:
        """The host name in lower case, or the address as `ipaddress` writes it."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            address = None
        if address and _ZONE.fullmatch(getattr(address, "scope_id", None) or ""):
            return str(address)
        if len(text) > 253 or not _is_host(text):
            raise InvalidValue(field, "not_a_host", value=text)
        return text.lower()


class EmailAddress(FieldType):
    """An e-mail address."""

    def read(self, field: str, text: str) -> str:
        """The address as it is written."""
        match = _ADDRESS.fullmatch(text)
        if not match or _CONTROL.search(text) or not _is_domain(match["domain"]):
            raise InvalidValue(field, "not_an_email_address", value=text)
        return text


class Line(FieldType):
    """A short text that may stand in a header field: no line breaks, no control characters."""

    def read(self, field: str, text: str) -> str:
        """The text as it is written."""
        if _CONTROL.search(text) or len(text) > _LONGEST_TEXT:
            raise InvalidValue(field, "not_a_line", value=text, longest=_LONGEST_TEXT)
        return text


class ProviderName(FieldType):
    """The name of a provider. The caller checks that the configuration has this provider."""

    def read(self, field: str, text: str) -> str:
        """The name as it is written."""
        if not _PROVIDER_NAME.fullmatch(text):
            raise InvalidValue(field, "not_a_provider_name", value=text)
        return text


@dataclass(frozen=True)
class WholeNumber(FieldType):
    """A whole number within a range, in `unit` if the number has a unit."""

    python_type: ClassVar[type[str] | type[int]] = int

    lowest: int
    highest: int
    unit: str | None = None

    def read(self, field: str, text: str) -> int:
        """The number."""
        if not _NUMBER.fullmatch(text) or not self.lowest <= int(text) <= self.highest:
            accepted = {"lowest": self.lowest, "highest": self.highest}
            if self.unit is None:
                raise InvalidValue(field, "number_not_in_range", value=text, **accepted)
            raise InvalidValue(field, "duration_not_in_range", value=text, unit=self.unit, **accepted)
        return int(text)


@dataclass(frozen=True)
class Choice(FieldType):
    """A word from a list, in upper or lower case."""

    choices: tuple[str, ...]

    def read(self, field: str, text: str) -> str:
        """The word in lower case."""
        if text.lower() not in self.choices:
            raise InvalidValue(field, "not_a_choice", value=text, choices=self.choices)
        return text.lower()


_SENDING = frozenset(protocol for protocol, its in PROTOCOLS.items() if its.sends_mail)
_RECEIVING = frozenset(PROTOCOLS) - _SENDING


@dataclass(frozen=True)
class Field:
    """A field of a setting. `default` is the value of a field that is not filled in.

    `of_authorization`: the field names the provider or the account, so it can't change while there is a token.
    """

    name: str
    type: FieldType
    default: str | int | None
    protocols: frozenset[Protocol]
    of_authorization: bool


def _field(
    type: FieldType,  # noqa: A002 - as the table calls it
    *,
    default: str | int | None = None,
    protocols: frozenset[Protocol] = frozenset(PROTOCOLS),
    of_authorization: bool = False,
) -> Any:
    facts = {"type": type, "default": default, "protocols": protocols, "of_authorization": of_authorization}
    return dataclasses.field(default=default, metadata=facts)


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of a setting's fields; None means "not filled in". Stored events contain these names: rename none.

    `mailbox` is the SASL user if it differs from the account, as for a shared mailbox.
    """

    server: str | None = _field(HostName())
    port: int | None = _field(WholeNumber(1, 65535))
    tls: str = _field(Choice(TLS_MODES), default="starttls")
    timeout: int = _field(WholeNumber(1, 300, unit="seconds"), default=20)
    sender_name: str | None = _field(Line(), protocols=_SENDING)
    sender_address: str | None = _field(EmailAddress(), protocols=_SENDING)
    check_interval: int | None = _field(WholeNumber(1, 1440, unit="minutes"), protocols=_RECEIVING)
    authentication: str = _field(Choice(("oauth2",)), default="oauth2")
    provider: str | None = _field(ProviderName(), of_authorization=True)
    account: str | None = _field(EmailAddress(), of_authorization=True)
    mailbox: str | None = _field(EmailAddress())


FIELDS: Mapping[str, Field] = MappingProxyType(
    {one.name: Field(one.name, **one.metadata) for one in dataclasses.fields(Settings)}
)
"""Every field by its name."""

AUTHORIZATION_FIELDS = frozenset(name for name, field in FIELDS.items() if field.of_authorization)
"""The fields of the authorization (the provider and the account), which can't change while there is a token."""


def accepted_fields(protocol: Protocol) -> tuple[str, ...]:
    """The names of the fields that a setting of this protocol has."""
    return tuple(name for name, field in FIELDS.items() if protocol in field.protocols)


def texts_of(settings: Settings) -> dict[str, str]:
    """The text of each field, as a person would enter it; empty for a field that is not filled in."""
    values = {name: getattr(settings, name) for name in FIELDS}
    return {name: "" if value is None else str(value) for name, value in values.items()}


def read_settings(protocol: Protocol, texts: Mapping[str, str]) -> dict[str, Any]:
    """Check `texts` field by field and return their values; an empty text clears a field.

    Raises:
        InvalidValue: a field does not accept its text; the error names the field and the accepted values.
    """
    accepted = accepted_fields(protocol)
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in accepted:
            raise InvalidValue(name, "not_a_field", protocol=protocol, known=accepted)
        field = FIELDS[name]
        values[name] = field.type.read(name, text) if text else field.default
    return values


def wrong_fields(protocol: Protocol, settings: Settings, texts: Mapping[str, str]) -> list[InvalidValue]:
    """Everything that is wrong with `texts`, and not only what `changed_fields` finds first."""
    wrong, right = list[InvalidValue](), dict[str, str]()
    for name, text in texts.items():
        try:
            read_settings(protocol, {name: text})
        except InvalidValue as error:
            wrong.append(error)
        else:
            right[name] = text
    try:
        changed_fields(protocol, settings, right)
    except InvalidValue as error:
        wrong.append(error)
    return wrong


def changed_fields(protocol: Protocol, settings: Settings, texts: Mapping[str, str]) -> dict[str, Any]:
    """Check `texts` and return the values that differ from these `settings`.

    Raises:
        InvalidValue: a field does not accept its text; the error names the field and the accepted values.
    """
    values = read_settings(protocol, texts)
    after = replace(settings, **values)
    if after.tls == "none" and not (after.server and is_loopback(after.server)):
        raise InvalidValue("tls", "tls_needed")
    return {field: value for field, value in values.items() if value != getattr(settings, field)}


@lru_cache(maxsize=256)
def is_loopback(server: str) -> bool:
    """Whether `server` is a loopback address or the name `localhost` reserved for it (RFC 6761)."""
    try:
        return ipaddress.ip_address(server).is_loopback
    except ValueError:
        return server.rstrip(".").lower() == "localhost"


def _is_host(text: str) -> bool:
    """Whether `text` is a host name; its last label is never a number (RFC 1123 section 2.1)."""
    return bool(_HOST.fullmatch(text)) and not text.rstrip(".").rpartition(".")[2].isdigit()


def _is_domain(text: str) -> bool:
    try:
        return not text.endswith(".") and _is_host(text.encode("idna").decode("ascii"))
    except UnicodeError:
        return False
