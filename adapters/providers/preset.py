"""The knowledge about one kind of provider: a `Preset` for each value of `kind` in the configuration."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

from adapters.private_addresses import AddressRule
from adapters.providers.client_authentication import ClientCredential
from adapters.providers.client_library import ClientLibrary
from adapters.providers.discovery import Authority
from adapters.providers.settings import ProviderSettings
from domain.errors import Fact

PROTOCOLS = ("smtp", "pop", "imap")


@dataclass(frozen=True)
class SetupStep:
    """A step for a person at the provider: a code of `adapters.texts.provider_check`, and the values in its text."""

    code: str
    fields: Mapping[str, Fact] = field(default_factory=dict)


class Preset(ABC):
    """One kind of provider. The defaults are those of any OpenID provider."""

    mail_hosts: Sequence[str] = ()
    """`host:port` of the mail servers that belong to the provider, for a firewall."""
    remedies: Mapping[str, str] = MappingProxyType({})
    """The remedy by the provider's error code, where it differs from the remedy for any provider."""
    sign_in_policy = "policy_unseen"
    """The code of the finding that sign-in policies can't be seen from outside."""
    device_flow_refusal: str | None = None
    """The code of the reason why the device flow does not work for mail, if it does not."""
    needs_secret = False
    """Whether every client has a secret and must send it."""

    def validate(self, settings: ProviderSettings) -> None:
        """Check that the settings name an authority.

        Raises:
            InvalidValue: a setting is missing or malformed.
        """
        check_issuer(settings, r"https://[^/?#\s]+(/[^?#\s]*)?", "https://login.example.com")

    @abstractmethod
    def authority(self, settings: ProviderSettings) -> Authority:
        """The authority that the settings name."""

    @abstractmethod
    def flows(self, settings: ProviderSettings, *, has_credential: bool) -> Sequence[str]:
        """The flows that can obtain a token, the default first."""

    @abstractmethod
    def scopes(self, settings: ProviderSettings) -> Mapping[str, Sequence[str]]:
        """The scopes to request when a person signs in, by protocol."""

    @abstractmethod
    def app_scopes(self, settings: ProviderSettings) -> Sequence[str]:
        """The scopes to request in the app-only flow."""

    @abstractmethod
    def library(self, settings: ProviderSettings, credential: ClientCredential | None) -> ClientLibrary:
        """The client library that composes the requests and authenticates with the credential."""

    @abstractmethod
    def setup_steps(
        self, settings: ProviderSettings, accounts: Sequence[str], redirect_uris: Sequence[str], *, is_public: bool
    ) -> Sequence[SetupStep]:
        """The steps to set the registration up; `accounts` are the addresses of mailboxes."""

    def unannounced(self, settings: ProviderSettings) -> Mapping[str, str]:
        """The fields that the discovery document may lack without harm, each with its finding."""
        return MappingProxyType({})

    def untestable_client(self, settings: ProviderSettings) -> bool:
        """Whether this authority has no app-only sign-in, so that the client's secret can't be tested."""
        return False

    def consent_link(self, settings: ProviderSettings) -> str | None:
        """The URL at which an administrator consents for all users, if the provider has such a page."""
        return None


def address_rule(settings: ProviderSettings, authority: Authority) -> AddressRule:
    """The addresses that requests to this provider may go to."""
    host = urlsplit(authority.url).hostname or ""
    return AddressRule(None if settings.is_stored else host, settings.allow_private)


def check_issuer(settings: ProviderSettings, pattern: str, example: str) -> None:
    """Check that the issuer matches the pattern.

    Raises:
        InvalidValue: the issuer does not match.
    """
    if settings.issuer is None:
        raise settings.invalid("issuer", "issuer_missing", example=example)
    if not re.fullmatch(pattern, settings.issuer):
        raise settings.invalid("issuer", "not_an_issuer", value=settings.issuer, example=example)
