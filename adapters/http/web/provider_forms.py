"""The form of a stored provider: its fields and secrets, what was typed, and every fault at its field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from adapters.http.web.texts import text
from adapters.texts.errors import text_at_field
from adapters.texts.provider_fields import PROVIDER_FIELD_TEXTS, PROVIDER_SECRET_TEXTS, provider_label
from adapters.texts.wording import Surface
from domain.errors import InvalidValue, InvalidValues, MailtokenError
from domain.profile_fields import Choice, FieldType, WholeNumber
from domain.provider_fields import PROVIDER_FIELDS, Day, fields_of_kind, secrets_of_kind
from domain.secret import Secret
from domain.stored_provider import StoredProviderState

NAME = "name"
_FIRST = ("tenant", "issuer", "client_id", "client_secret", "client_secret_expires")
"""The fields and secrets that a person fills in; the others are for special cases."""

_REFUSED: Mapping[str, str] = MappingProxyType({"issuer_has_tokens": "issuer", "issuer_has_secret": "issuer"})
"""The field that a refusal is about, by its code."""


@dataclass(frozen=True)
class ProviderFormField:
    """A field or a secret on the page. `kind` is the type of the HTML input, or `textarea`.

    `problem` says why its text was not accepted. `removable`: the secret is there, and may be removed.
    """

    name: str
    label: str
    value: str
    kind: str
    help: str
    choices: tuple[str, ...] = ()
    range: tuple[int, int] | None = None
    problem: str | None = None
    removable: bool = False


@dataclass(frozen=True)
class ProviderForm:
    """The form: `first` is shown at once, `more` on demand. `faults` is the number of faulty fields."""

    kind: str
    first: Sequence[ProviderFormField]
    more: Sequence[ProviderFormField]
    faults: int = 0
    edition: str | None = None

    @property
    def shows_more(self) -> bool:
        """Whether a field on demand has a fault."""
        return any(field.problem for field in self.more)


def provider_form(
    kind: str,
    typed: Mapping[str, str],
    *,
    state: StoredProviderState | None = None,
    error: MailtokenError | None = None,
    edition: str | None = None,
) -> ProviderForm:
    """The form of a new provider or, with its `state`, of one that is there. No secret is ever shown again."""
    problems = problems_of(error)
    values = {**(state.fields if state else {}), **typed}
    secrets = state.secrets if state else {}
    fields = {name: _field(name, values.get(name, ""), problems.get(name)) for name in fields_of_kind(kind)}
    for name in secrets_of_kind(kind):
        fields[name] = _secret(name, problems.get(name), is_there=name in secrets)
    if state is None:
        help_ = text("provider.name.help")
        fields[NAME] = ProviderFormField(
            NAME, text("provider.name"), values.get(NAME, ""), "text", help_, problem=problems.get(NAME)
        )
    first = [fields.pop(name) for name in (NAME, *_FIRST) if name in fields]
    return ProviderForm(kind, first, list(fields.values()), len(problems), edition)


def typed_fields(kind: str, posted: Mapping[str, str]) -> dict[str, str]:
    """The texts of the fields that were sent."""
    return {name: posted[name] for name in fields_of_kind(kind) if name in posted}


def typed_secrets(kind: str, posted: Mapping[str, str]) -> dict[str, Secret | None]:
    """The secrets to upload, and with None those to remove; an empty text leaves a secret as it is."""
    known = secrets_of_kind(kind)
    removed: dict[str, Secret | None] = {name: None for name in known if f"remove_{name}" in posted}
    return {**removed, **{name: Secret(posted[name]) for name in known if posted.get(name)}}


def problems_of(error: MailtokenError | None) -> dict[str, str]:
    """The sentence of each fault, by the name of its field; most refusals are about the name."""
    if error is None:
        return {}
    if isinstance(error, InvalidValues):
        return {one.field: text_at_field(one, Surface.PAGE) for one in error.problems}
    said = text_at_field(error, Surface.PAGE)
    return {error.field if isinstance(error, InvalidValue) else _REFUSED.get(error.code, NAME): said}


def _field(name: str, value: str, problem: str | None) -> ProviderFormField:
    field = PROVIDER_FIELDS[name].type
    number = (field.lowest, field.highest) if isinstance(field, WholeNumber) else None
    choices = ("", *field.choices) if isinstance(field, Choice) else ()
    help_ = PROVIDER_FIELD_TEXTS[name].help
    return ProviderFormField(name, provider_label(name), value, _kind(field), help_, choices, number, problem)


def _kind(field: FieldType) -> str:
    match field:
        case WholeNumber():
            return "number"
        case Day():
            return "date"
    return "text"


def _secret(name: str, problem: str | None, *, is_there: bool) -> ProviderFormField:
    label, help_ = PROVIDER_SECRET_TEXTS[name]
    kind = "password" if name == "client_secret" else "textarea"
    kept = f"{help_} {text('provider.secret.kept')}" if is_there else help_
    return ProviderFormField(name, label, "", kind, kept, problem=problem, removable=is_there)
