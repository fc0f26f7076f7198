"""The manual's form: the fields of a setting on the page, and what was typed into them; and what all forms share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.http.web.texts import text
from adapters.texts.profile_fields import CHOICE_TEXTS, FIELD_TEXTS, help_text, label
from domain.mail_servers import MAIL_SERVERS, server_texts
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


def words_in(form: Mapping[str, str], field: str) -> list[str]:
    """The words of a field, between which people type blanks, commas or both."""
    return form.get(field, "").replace(",", " ").split()


@dataclass(frozen=True)
class FormField:
    """A field of the form. `choices` are values with their texts; `problem` says why the value was not accepted.
    `theirs` says what somebody else has filled in meanwhile.

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
    theirs: str | None


def fields_of(
    profile: ProfileState,
    providers: Sequence[str],
    kinds: Mapping[str, str],
    *,
    may_change_account: bool,
    typed: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
    is_outdated: bool = False,
) -> list[FormField]:
    """The fields of a setting in the manual's order, with their values or the texts that were `typed`.

    `kinds` has the kind of each provider. `problems` are what is wrong, by the name of the field. `is_outdated`: what
    was typed was typed over older values, and the values that differ are told. Provider and account are fixed while
    they belong to a token.
    """
    accepted = accepted_fields(profile.protocol)
    values = texts_of(profile.settings)
    return [
        FormField(
            name=name,
            label=label(name, profile.protocol),
            value=(typed or {}).get(name, values[name]),
            kind=_kind(FIELDS[name].type),
            help=_preset_help(name, profile, kinds) or help_text(name, profile.default_port),
            choices=_choices(name, providers, values[name]),
            range=_range(FIELDS[name].type),
            fixed=name in AUTHORIZATION_FIELDS and not may_change_account,
            problem=(problems or {}).get(name),
            theirs=_theirs(values[name], (typed or {}).get(name)) if is_outdated else None,
        )
        for name in FIELD_TEXTS
        if name in accepted
    ]


def with_server_of_provider(
    typed: Mapping[str, str], profile: ProfileState, kinds: Mapping[str, str]
) -> Mapping[str, str]:
    """What was typed and, where server and port are empty, the server of the provider, which serves this protocol."""
    values = {**texts_of(profile.settings), **typed}
    return {**typed, **server_texts(kinds.get(values["provider"]), profile.protocol, values)} if typed else typed


def _preset_help(name: str, profile: ProfileState, kinds: Mapping[str, str]) -> str | None:
    kind = kinds.get(profile.settings.provider or "", "")
    preset = MAIL_SERVERS.get(kind, {}).get(profile.protocol)
    if name != "server" or preset is None or profile.settings.server:
        return None
    names = {"kind": text(f"provider.kind.{kind}"), "tls": CHOICE_TEXTS[preset.tls]}
    return text("field.server.preset", server=preset.server, port=preset.port, **names)


def _theirs(value: str, typed: str | None) -> str | None:
    if typed is None or typed == value:
        return None
    return text("setting.theirs", value=value) if value else text("setting.theirs.empty")


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
