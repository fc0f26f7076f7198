"""The settings of a stored provider, and its object.

Whoever may add providers in the browser is not the operator of this host. So a stored provider reaches public addresses
only, but for the hosts that `[stored_providers]` of the configuration file names, and it names no file and no proxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from adapters.providers.factory import build_provider
from adapters.providers.kinds import KINDS
from adapters.providers.preset import address_rule
from adapters.providers.provider import OpenIDProvider
from adapters.providers.settings import ProviderSettings
from domain.errors import InvalidValue
from domain.ports import Clock
from domain.secret import Secret
from domain.stored_provider import StoredProviderState
from infrastructure.config.tables import Config
from infrastructure.providers.known_providers import Build

_DEFAULTS = ProviderSettings("", "oidc", "")
_SECRETS = MappingProxyType(
    {
        "client_secret_file": "client_secret",
        "certificate_file": "certificate",
        "service_account_file": "service_account",
    }
)
"""The secret of a stored provider that stands for each key of the configuration file."""


def stored_provider_settings(
    config: Config, state: StoredProviderState, secrets: Mapping[str, Secret]
) -> ProviderSettings:
    """The settings of a stored provider, with its secrets."""
    fields, table = state.fields, config.stored_providers

    def words(name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        return tuple(fields[name].split()) if name in fields else default

    def several(name: str) -> tuple[Secret, ...]:
        return (secrets[name],) if name in secrets else ()

    kind = next(kind for kind in KINDS if kind == state.kind)
    return ProviderSettings(
        name=state.name,
        kind=kind,
        client_id=fields["client_id"],
        tenant=fields.get("tenant"),
        issuer=fields.get("issuer"),
        scopes=words("scopes"),
        app_scopes=words("app_scopes"),
        account_claims=words("account_claims", _DEFAULTS.account_claims),
        revokes_one_grant=fields.get("revokes_one_grant") == "yes",
        timeout_seconds=float(fields.get("timeout") or _DEFAULTS.timeout_seconds),
        client_secrets=several("client_secret"),
        certificates=several("certificate"),
        service_account=secrets.get("service_account"),
        ca_file=config.path(table.ca_file) if table.ca_file else None,
        allow_private=table.private_hosts,
        is_stored=True,
    )


def stored_provider_builder(config: Config, clock: Clock) -> Build:
    """The function that makes stored providers."""

    def build(state: StoredProviderState, secrets: Mapping[str, Secret]) -> OpenIDProvider:
        settings = stored_provider_settings(config, state, secrets)
        try:
            _check_authority(settings)
            return build_provider(settings, clock)
        except InvalidValue as invalid:
            key = invalid.field.removeprefix(f"providers.{state.name}.")
            raise InvalidValue(_SECRETS.get(key, key), invalid.code, **invalid.fields) from None

    return build


def _check_authority(settings: ProviderSettings) -> None:
    """Check that the issuer is not itself a private address; the address of a name is judged at each connection."""
    authority = KINDS[settings.kind].authority(settings)
    host = urlsplit(authority.url).hostname or ""
    if not address_rule(settings, authority).permits_name(host):
        raise settings.invalid("issuer", "private_issuer", host=host)
