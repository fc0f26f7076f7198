"""Where a provider is corrected: in the configuration file, or, for a stored one, on its page or with a command.

A sentence about a provider has slots for the place and for what a secret is called there.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from adapters.texts.wording import Surface

_OF_FILE: Mapping[str, str] = MappingProxyType(
    {
        "{there}": "in the configuration",
        "{away}": "out of the configuration",
        "{client_secret}": "client_secret_file",
        "{client_secret_value}": "the file that client_secret_file names",
        "{ca_file}": "ca_file",
        "{proxy}": "the proxy of {provider} in the configuration file",
        "{certificate}": "certificate_file",
        "{allow_private}": "the provider's allow_private in the configuration",
        "{errors}": "the provider's errors = { ... } in the configuration",
    }
)
_STORED: Mapping[str, str] = MappingProxyType(
    {
        "{away}": "away",
        "{client_secret}": "client_secret",
        "{client_secret_value}": "client_secret",
        "{ca_file}": "ca_file of [stored_providers] in the configuration",
        "{proxy}": "a proxy in the service's environment",
        "{certificate}": "certificate",
        "{allow_private}": "private_hosts of [stored_providers] in the configuration",
        "{errors}": "errors = { ... } of a provider in the configuration, which can take this one's place",
    }
)
_STORED_PLACE: Mapping[Surface, str] = MappingProxyType(
    {
        Surface.PAGE: "on its page",
        Surface.COMMAND: "with mailtoken provider set",
        Surface.API: "in the store",
    }
)
SLOTS = tuple(_OF_FILE)


def with_place(text: str, surface: Surface, *, is_stored: bool) -> str:
    """The text with its slots filled; a text without slots stays as it is, braces and all."""
    words = {**_STORED, "{there}": _STORED_PLACE[surface]} if is_stored else _OF_FILE
    for slot, word in words.items():
        text = text.replace(slot, word)
    return text
