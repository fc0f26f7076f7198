"""Compares the wanted providers of a file with those in the store."""

from __future__ import annotations

from collections.abc import Iterator

from domain.errors import InvalidValue, InvalidValues, MailtokenError, Refused, facts
from domain.plan import AddProvider, Present, Refusal, SetProvider, Wanted, WantedProvider
from domain.provider_fields import KINDS, changed_provider_fields, read_provider_name, secrets_of_kind


def plan_providers(wanted: Wanted, present: Present) -> Iterator[AddProvider | SetProvider | Refusal]:
    """The changes that make the stored providers as the file says, and the refusals."""
    for name, provider in wanted.providers.items():
        place = ("providers", name)
        try:
            yield from _changes(name, provider, present)
        except InvalidValues as invalid:
            yield from (Refusal((*place, one.field), one.code, one.fields) for one in invalid.problems)
        except MailtokenError as error:
            yield Refusal(place, error.code, facts(error))


def _changes(name: str, wanted: WantedProvider, present: Present) -> Iterator[AddProvider | SetProvider]:
    there = present.stored_providers.get(name)
    if there is None:
        if read_provider_name(name) in present.providers:
            raise Refused("provider_in_file", provider=name)
        if wanted.kind not in KINDS:
            raise InvalidValue("kind", "not_a_choice", value=wanted.kind, choices=KINDS)
        _check_secrets(wanted)
        yield AddProvider(name, wanted.kind, changed_provider_fields(wanted.kind, {}, wanted.fields), wanted.secrets)
        return
    if wanted.kind != there.kind:
        raise Refused("other_kind", provider=name, kind=there.kind, wanted=wanted.kind)
    _check_secrets(wanted)
    changes = changed_provider_fields(there.kind, there.fields, wanted.fields)
    awaited = tuple(secret for secret in wanted.secrets if secret not in there.secrets)
    if changes or awaited:
        yield SetProvider(name, {one: there.fields.get(one, "") for one in changes}, changes, awaited)


def _check_secrets(wanted: WantedProvider) -> None:
    known = secrets_of_kind(wanted.kind)
    if unknown := [secret for secret in wanted.secrets if secret not in known]:
        raise InvalidValue(unknown[0], "not_a_provider_secret", kind=wanted.kind, known=known)
