"""The manual's form: which fields a setting has on the page, under the manual's own names, and what is typed there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adapters.web.texts import text
from domain.catalogue import Protocol
from domain.profile import AUTHORIZATION_FIELDS, ProfileState, accepted_fields

# The manual's order.
_ORDER = (
    "server",
    "port",
    "check_interval",
    "timeout",
    "sender_name",
    "sender_address",
    "tls",
    "authentication",
    "provider",
    "account",
    "mailbox",
)
_RANGES = {"port": (1, 65535), "timeout": (1, 300), "check_interval": (1, 1440)}
_CHOICES = {"tls": ("starttls", "implicit", "none"), "authentication": ("oauth2",)}
_ADDRESSES = frozenset({"sender_address", "account", "mailbox"})


@dataclass(frozen=True)
class Field:
    """One field of the form. `choices` are values and what they are called; `problem` says why it was not taken."""

    name: str
    label: str
    value: str
    kind: str
    help: str | None
    choices: tuple[tuple[str, str], ...]
    range: tuple[int, int] | None
    fixed: bool
    problem: str | None


def fields_of(
    profile: ProfileState,
    providers: Sequence[str],
    *,
    may_change_account: bool,
    typed: Mapping[str, str] | None = None,
    problem: tuple[str, str] | None = None,
) -> list[Field]:
    """The fields of a setting, with what it holds or what was `typed`; `problem` is a field and what is wrong with it.

    Provider and account are fixed while they belong to a token.
    """
    names = sorted(accepted_fields(profile.protocol), key=_ORDER.index)
    held = {name: _text(getattr(profile.settings, name)) for name in names}
    return [
        Field(
            name,
            _label(name, profile.protocol),
            (typed or {}).get(name, value),
            "number" if name in _RANGES else "email" if name in _ADDRESSES else "text",
            _help(name, profile),
            _choices(name, providers, value),
            _RANGES.get(name),
            name in AUTHORIZATION_FIELDS and not may_change_account,
            problem[1] if problem and problem[0] == name else None,
        )
        for name, value in held.items()
    ]


def typed_in(profile: ProfileState, form: Mapping[str, str]) -> dict[str, str]:
    """What was typed into the fields the setting has; fields that were not sent stay as they are."""
    return {name: form[name] for name in accepted_fields(profile.protocol) if name in form}


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _label(name: str, protocol: Protocol) -> str:
    return text(f"field.server.{protocol}") if name == "server" else text(f"field.{name}")


def _help(name: str, profile: ProfileState) -> str | None:
    match name:
        case "port":
            return text("field.port.help", port=replace(profile, settings=replace(profile.settings, port=None)).port)
        case "mailbox":
            return text("field.mailbox.help")
    return None


def _choices(name: str, providers: Sequence[str], held: str) -> tuple[tuple[str, str], ...]:
    if name == "provider":
        # One that has left the configuration is still what the setting holds.
        known = sorted({*providers, held} - {""})
        return (("", text("field.provider.none")), *((one, one) for one in known))
    return tuple((value, text(f"choice.{value}")) for value in _CHOICES.get(name, ()))
