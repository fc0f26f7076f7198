"""The texts of a setting's fields: the manual's labels and what each field accepts, for every surface."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple

from domain.catalogue import Protocol
from domain.profile_fields import FIELDS, Choice, WholeNumber


class FieldText(NamedTuple):
    """The label of a field, and the help below it, if it needs any."""

    label: str
    help: str | None = None


FIELD_TEXTS: Mapping[str, FieldText] = MappingProxyType(
    {
        "server": FieldText("Primary Server"),
        "port": FieldText("Port Number", help="Leave it empty for the usual port, {default_port}."),
        "check_interval": FieldText("Check Interval"),
        "timeout": FieldText("Timeout"),
        "sender_name": FieldText("Sender Name"),
        "sender_address": FieldText("Sender Address"),
        "tls": FieldText("Enable SSL/TLS"),
        "authentication": FieldText("Authentication Method"),
        "provider": FieldText("Provider"),
        "account": FieldText("Account Name"),
        "mailbox": FieldText(
            "Mailbox", help="Only if it is not the account's own mailbox, but a shared one for example."
        ),
    }
)
"""By the name of the field, in the order of the manual's form."""

_SERVER_LABELS = {Protocol.POP: "POP3 Server", Protocol.IMAP: "IMAP Server"}

CHOICE_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "starttls": "STARTTLS",
        "implicit": "SSL/TLS from the start",
        "none": "None, this machine only",
        "oauth2": "OAuth 2.0",
    }
)
"""Labels of the choices, by value."""


def label(name: str, protocol: Protocol) -> str:
    """The manual's label of a field in a setting of this protocol, with the unit."""
    own = _SERVER_LABELS.get(protocol) if name == "server" else None
    unit = unit_of(name)
    text = own or FIELD_TEXTS[name].label
    return f"{text} ({unit})" if unit else text


def missing_text(names: Collection[str]) -> str | None:
    """What a setting lacks to be of use beside its token, after the token's label; None if it lacks nothing."""
    return f"{' and '.join(names)} missing" if names else None


def help_text(name: str, default_port: int) -> str | None:
    """The help of a field; `default_port` is the port of a setting where none is filled in."""
    text = FIELD_TEXTS[name].help
    return text.format(default_port=default_port) if text else None


def unit_of(name: str) -> str | None:
    """The unit of a field's value."""
    kind = FIELDS[name].type
    return kind.unit if isinstance(kind, WholeNumber) else None


def accepted(name: str) -> str | None:
    """The range or the choices of a field, as the help of a command says them; None for a text."""
    match FIELDS[name].type:
        case WholeNumber(lowest, highest, unit):
            return f"{lowest} to {highest} {unit}" if unit else f"{lowest} to {highest}"
        case Choice(choices):
            return ", ".join(choices)
    return None
