"""The sentences of what needs a person about the installation as a whole, from the store's state in JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from adapters.texts.errors import filled
from adapters.texts.reasons import reason_text
from adapters.texts.wording import ErrorText, Surface
from domain.store_attention import StoreAttention

CERTIFICATES: Mapping[str, ErrorText] = MappingProxyType(
    {
        StoreAttention.CERTIFICATE_ENDS: ErrorText(
            "The certificate of {table} ends at {until}", "replace its file, which is read again without a restart"
        ),
        StoreAttention.CERTIFICATE_OVER: ErrorText(
            "The certificate of {table} has ended at {until}", "replace its file, which is read again without a restart"
        ),
    }
)
PROVIDERS: Mapping[str, ErrorText] = MappingProxyType(
    {
        StoreAttention.PROVIDER_CLASH: ErrorText(
            "The provider {name} is in the configuration file and in the store, and that of the file is used",
            "rename or remove one of them",
        ),
        StoreAttention.PROVIDER_SECRET_MISSING: ErrorText(
            "The provider {name} waits for its {secrets}",
            command="mailtoken provider set {name} uploads it",
            page="upload it on the page of the provider",
            api="upload it",
        ),
        StoreAttention.PROVIDER_UNUSABLE: ErrorText(
            "The provider {name} can't be used",
            "upload its secrets again, and compare its issuer with [stored_providers] of the configuration file",
        ),
    }
)
_SUBJECTS: Mapping[str, str] = MappingProxyType(
    {
        StoreAttention.BACKUP_OLD: "the backups",
        StoreAttention.ROW_ALTERED: "rows that were altered",
        StoreAttention.CERTIFICATE_ENDS: "a certificate",
        StoreAttention.CERTIFICATE_OVER: "a certificate",
        **dict.fromkeys(PROVIDERS, "a provider"),
    }
)


class StoreSentence(NamedTuple):
    """The code of what needs a person, and its sentence."""

    code: str
    text: str


def store_sentences(state: Mapping[str, Any], surface: Surface) -> list[StoreSentence]:
    """A sentence for each thing that needs a person, and for each such certificate and provider."""
    sentences = [StoreSentence(code, reason_text(code, surface)) for code in state["attention"] if not _is_named(code)]
    return (
        sentences
        + [
            StoreSentence(one["attention"], certificate_text(one["attention"], one["table"], one["ends_at"], surface))
            for one in state.get("certificates", ())
            if _is_named(one["attention"])
        ]
        + [provider_sentence(one, surface) for one in state.get("providers", ())]
    )


def certificate_text(code: str, table: str, ends_at: str, surface: Surface) -> str:
    """The sentence of a certificate that ends at this instant, in ISO 8601."""
    fields = {"table": table, "until": f"{ends_at[:16].replace('T', ' ')} UTC"}
    return f"{filled(CERTIFICATES[code], fields, surface)}."


def provider_sentence(need: Mapping[str, Any], surface: Surface) -> StoreSentence:
    """The sentence of a stored provider that needs a person."""
    fields = {"name": need["name"], "secrets": " and ".join(need["secrets"])}
    return StoreSentence(need["attention"], f"{filled(PROVIDERS[need['attention']], fields, surface)}.")


def subjects(codes: Collection[str]) -> str:
    """What these codes are about, such as "the store and a certificate"."""
    *rest, last = dict.fromkeys(_SUBJECTS.get(code, "the store") for code in codes)
    return f"{', '.join(rest)} and {last}" if rest else last


def _is_named(code: str | None) -> bool:
    return code in CERTIFICATES or code in PROVIDERS
