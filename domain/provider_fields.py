"""The fields of a stored provider: the one table of their names, types and kinds of provider.

The command line, the API, the pages, and the files of `apply` and `export` take the fields from `PROVIDER_FIELDS`, and
the secrets from `PROVIDER_SECRETS`. Their texts are in `adapters.texts.provider_fields`. What can be set in the
configuration file alone is not in the tables: commands, paths of files, proxies and private addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from domain.errors import InvalidValue, InvalidValues
from domain.profile_fields import Choice, FieldType, ProviderName, WholeNumber

KINDS = ("microsoft", "google", "oidc")
"""The kinds of provider."""

_LONGEST = 2000
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}", re.ASCII)
_ISSUER = re.compile(r"https://[A-Za-z0-9.:\[\]-]+(/[^?#\s]*)?", re.ASCII)
_WORD = re.compile(r"[\x21-\x7e]+")


class ClientId(FieldType):
    """The identifier of a client registration (RFC 6749 appendix A.1)."""

    def read(self, field: str, text: str) -> str:
        """The identifier as it is written."""
        if not (text.isascii() and text.isprintable() and len(text) <= _LONGEST):
            raise InvalidValue(field, "not_printable_ascii")
        return text


class Tenant(FieldType):
    """The name or id of a tenant of Entra, or one of its multi-tenant endpoints."""

    def read(self, field: str, text: str) -> str:
        """The tenant as it is written."""
        if not _TENANT.fullmatch(text):
            raise InvalidValue(field, "not_a_tenant", value=text[:_LONGEST])
        return text


class Issuer(FieldType):
    """The URL of an issuer (OpenID Connect Discovery section 2)."""

    def read(self, field: str, text: str) -> str:
        """The URL as it is written, since it is compared letter by letter."""
        if len(text) > _LONGEST or not _ISSUER.fullmatch(text):
            raise InvalidValue(field, "not_an_issuer", value=text[:_LONGEST], example="https://login.example.com")
        return text


class Words(FieldType):
    """Words with spaces between them, such as scopes (RFC 6749 appendix A.4)."""

    def read(self, field: str, text: str) -> str:
        """The words with one space between them."""
        words = text.split()
        if len(text) > _LONGEST or not words or not all(map(_WORD.fullmatch, words)):
            raise InvalidValue(field, "not_words", value=text[:_LONGEST])
        return " ".join(words)


class Day(FieldType):
    """A day in UTC, like 2028-11-30."""

    def read(self, field: str, text: str) -> str:
        """The day in ISO 8601."""
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError:
            raise InvalidValue(field, "not_a_day", value=text[:_LONGEST]) from None


@dataclass(frozen=True)
class ProviderField:
    """A field of a stored provider, the kinds that have it, and those of them that need it.

    `of_registration`: a sign-in under way ends if the field changes, as its code was issued to another registration.
    """

    name: str
    type: FieldType
    kinds: frozenset[str] = frozenset(KINDS)
    needed_by: frozenset[str] = frozenset()
    of_registration: bool = False


PROVIDER_FIELDS: Mapping[str, ProviderField] = MappingProxyType(
    {
        field.name: field
        for field in (
            ProviderField("tenant", Tenant(), frozenset({"microsoft"}), frozenset({"microsoft"}), of_registration=True),
            ProviderField("issuer", Issuer(), frozenset({"oidc"}), frozenset({"oidc"}), of_registration=True),
            ProviderField("client_id", ClientId(), needed_by=frozenset(KINDS), of_registration=True),
            ProviderField("client_secret_expires", Day()),
            ProviderField("scopes", Words()),
            ProviderField("app_scopes", Words()),
            ProviderField("account_claims", Words()),
            ProviderField("inactivity_days", WholeNumber(1, 3650, unit="days")),
            ProviderField("revokes_one_grant", Choice(("yes", "no"))),
            ProviderField("timeout", WholeNumber(1, 120, unit="seconds")),
        )
    }
)
"""Every field by its name, in the order of a form."""

PROVIDER_SECRETS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "client_secret": frozenset(KINDS),
        "certificate": frozenset({"microsoft", "oidc"}),
        "service_account": frozenset({"google"}),
    }
)
"""The kinds that may have each secret. A certificate comes with its private key, a service account as Google's JSON."""


def fields_of_kind(kind: str) -> tuple[str, ...]:
    """The names of the fields that a provider of this kind has."""
    return tuple(name for name, field in PROVIDER_FIELDS.items() if kind in field.kinds)


def secrets_of_kind(kind: str) -> tuple[str, ...]:
    """The names of the secrets that a provider of this kind may have."""
    return tuple(name for name, kinds in PROVIDER_SECRETS.items() if kind in kinds)


def read_provider_name(text: str) -> str:
    """The name of a provider.

    Raises:
        InvalidValue: `text` is not one.
    """
    try:
        return str(ProviderName().read("name", text))
    except InvalidValue:
        raise InvalidValue("name", "not_a_name", value=text[:_LONGEST]) from None


def changed_provider_fields(kind: str, fields: Mapping[str, str], texts: Mapping[str, str]) -> dict[str, str]:
    """Check `texts` and return the values that differ from `fields`; an empty text clears a field.

    Raises:
        InvalidValues: some texts are not acceptable, or a field that the kind needs is not filled in.
    """
    values: dict[str, str] = {}
    problems = list[InvalidValue]()
    for name, text in texts.items():
        try:
            values[name] = _read(kind, name, text)
        except InvalidValue as invalid:
            problems.append(invalid)
    after = {**fields, **values}
    problems += _missing(kind, after, {problem.field for problem in problems})
    if problems:
        raise InvalidValues(problems)
    return {name: value for name, value in values.items() if value != fields.get(name, "")}


def _read(kind: str, name: str, text: str) -> str:
    known = fields_of_kind(kind)
    if name not in known:
        raise InvalidValue(name, "not_a_provider_field", kind=kind, known=known)
    return str(PROVIDER_FIELDS[name].type.read(name, text)) if text else ""


def _missing(kind: str, fields: Mapping[str, str], faulty: set[str]) -> Iterator[InvalidValue]:
    for name, field in PROVIDER_FIELDS.items():
        if kind in field.needed_by and not fields.get(name) and name not in faulty:
            yield InvalidValue(name, "provider_field_missing", kind=kind)
