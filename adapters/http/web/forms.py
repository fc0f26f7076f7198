"""The manual's form: the fields of a setting on the page, and what was typed into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.http.web.texts import text
from adapters.texts.profile_fields import CHOICE_TEXTS, FIELD_TEXTS, help_text, label
from domain.profile import ProfileState
from domain.profile_fields import (
    AUTHORIZATION_FIELDS,
    FIELDS,
    Choice,
    EmailAddress,
    FieldType,
    WholeNumber,
    accepted_fields,
    texts_of,
)


@dataclass(frozen=True)
class FormField:
    """A field of the form. `choices` are values with their texts; `problem` says why the value was not accepted.

    `kind` is the type of the HTML input; `fixed`: the value can't be changed now.
    """

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
) -> list[FormField]:
    """The fields of a setting in the manual's order, with their values or the texts that were `typed`.

    `problem` is the name of a field and what is wrong with it. Provider and account are fixed while they belong to a
    token.
    """
    accepted = accepted_fields(profile.protocol)
    values = texts_of(profile.settings)
    return [
        FormField(
            name=name,
            label=label(name, profile.protocol),
            value=(typed or {}).get(name, values[name]),
            kind=_kind(FIELDS[name].type),
            help=help_text(name, profile.default_port),
            choices=_choices(name, providers, values[name]),
            range=_range(FIELDS[name].type),
            fixed=name in AUTHORIZATION_FIELDS and not may_change_account,
            problem=problem[1] if problem and problem[0] == name else None,
        )
        for name in FIELD_TEXTS
        if name in accepted
    ]


def typed_in(profile: ProfileState, form: Mapping[str, str]) -> dict[str, str]:
    """The texts typed into the fields the setting has; fields that were not sent stay as they are."""
    return {name: form[name] for name in accepted_fields(profile.protocol) if name in form}


def _kind(type: FieldType) -> str:  # noqa: A002 - as the table of fields calls it
    match type:
        case WholeNumber():
            return "number"
        case EmailAddress():
            return "email"
    return "text"


def _range(type: FieldType) -> tuple[int, int] | None:  # noqa: A002 - as the table of fields calls it
    return (type.lowest, type.highest) if isinstance(type, WholeNumber) else None


def _choices(name: str, providers: Sequence[str], value: str) -> tuple[tuple[str, str], ...]:
    if name == "provider":
        # A setting may still hold a provider that the configuration no longer has.
        known = sorted({*providers, value} - {""})
        return (("", text("field.provider.none")), *((provider, provider) for provider in known))
    type_ = FIELDS[name].type
    return tuple((choice, CHOICE_TEXTS[choice]) for choice in type_.choices) if isinstance(type_, Choice) else ()
