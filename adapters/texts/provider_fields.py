"""The texts of a stored provider's fields and secrets, for every surface."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from domain.profile_fields import Choice, WholeNumber
from domain.provider_fields import PROVIDER_FIELDS


class ProviderFieldText(NamedTuple):
    """The label of a field or a secret, and the help below it."""

    label: str
    help: str


PROVIDER_FIELD_TEXTS: Mapping[str, ProviderFieldText] = MappingProxyType(
    {
        "tenant": ProviderFieldText(
            "Directory (tenant)", "The name of your directory like contoso.com, or its id from the application's page."
        ),
        "issuer": ProviderFieldText(
            "Issuer", "The address of the provider, like https://login.example.com/realms/mail."
        ),
        "client_id": ProviderFieldText("Client ID", "The id that the provider gave this application."),
        "client_secret_expires": ProviderFieldText(
            "Client secret expires", "The day in UTC, like 2028-11-30: you are told a month before."
        ),
        "scopes": ProviderFieldText(
            "Scopes", "What a sign-in asks for, with spaces between. Leave it empty for what mail needs."
        ),
        "app_scopes": ProviderFieldText(
            "Scopes of the application", "What the application itself asks for. Leave it empty for what mail needs."
        ),
        "account_claims": ProviderFieldText(
            "Claims with the address",
            "Where the ID token has the account's address. Leave it empty for preferred_username, email and upn.",
        ),
        "inactivity_days": ProviderFieldText(
            "An unused grant ends after", "Leave it empty for what this kind of provider documents."
        ),
        "revokes_one_grant": ProviderFieldText(
            "Revocation ends one grant", "Whether a revocation at this provider leaves the account's other grants."
        ),
        "timeout": ProviderFieldText("Timeout", "For a whole request. Leave it empty for 30 seconds."),
    }
)
"""By the name of the field."""

PROVIDER_SECRET_TEXTS: Mapping[str, ProviderFieldText] = MappingProxyType(
    {
        "client_secret": ProviderFieldText("Client secret", "Its value, not its id."),
        "certificate": ProviderFieldText(
            "Certificate with its private key", "In PEM, both in one text: used in place of the secret."
        ),
        "service_account": ProviderFieldText("Service account", "The key of a service account, as Google's JSON."),
    }
)
"""By the name of the secret."""


def provider_label(name: str) -> str:
    """The label of a field, with the unit."""
    kind = PROVIDER_FIELDS[name].type
    unit = kind.unit if isinstance(kind, WholeNumber) else None
    return f"{PROVIDER_FIELD_TEXTS[name].label} ({unit})" if unit else PROVIDER_FIELD_TEXTS[name].label


def provider_accepted(name: str) -> str | None:
    """The range or the choices of a field, as the help of a command says them; None for a text."""
    match PROVIDER_FIELDS[name].type:
        case WholeNumber(lowest, highest, unit):
            return f"{lowest} to {highest} {unit}" if unit else f"{lowest} to {highest}"
        case Choice(choices):
            return ", ".join(choices)
    return None
