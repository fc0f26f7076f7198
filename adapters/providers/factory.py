"""Makes the provider that a configuration describes."""

from __future__ import annotations

from collections.abc import Mapping

from adapters.http_client import PROXY_SCHEMES, HttpClient
from adapters.providers.client_authentication import ClientCredential, client_credentials, is_vschar
from adapters.providers.client_library import ClientLibrary
from adapters.providers.discovery import Discovery
from adapters.providers.kinds import preset_of
from adapters.providers.preset import address_rule
from adapters.providers.provider import OpenIDProvider
from adapters.providers.settings import ProviderSettings
from domain.ports import Clock

_LONGEST_TIMEOUT_SECONDS = 300


def build_provider(settings: ProviderSettings, clock: Clock) -> OpenIDProvider:
    """Make the provider, without a request over the network.

    Raises:
        InvalidValue: a setting can't be used; the error names it as `providers.NAME.FIELD`.
    """
    preset = preset_of(settings)
    preset.validate(settings)
    if not is_vschar(settings.client_id):
        raise settings.invalid("client_id", "not_printable_ascii")
    http = _http_client(settings, clock)
    credentials = client_credentials(settings)
    return OpenIDProvider(
        settings,
        http,
        Discovery(http, preset.authority(settings)),
        client_libraries(settings, credentials),
        flows=preset.flows(settings, has_credential=bool(credentials)),
        scopes=preset.scopes(settings),
        app_scopes=preset.app_scopes(settings),
    )


def client_libraries(
    settings: ProviderSettings, credentials: Mapping[str, ClientCredential]
) -> Mapping[str, ClientLibrary]:
    """A client library for each credential, by the credential's name; a public client has one, under an empty name."""
    preset = preset_of(settings)
    if not credentials:
        return {"": preset.library(settings, None)}
    return {name: preset.library(settings, credential) for name, credential in credentials.items()}


def _http_client(settings: ProviderSettings, clock: Clock) -> HttpClient:
    timeout = settings.timeout_seconds
    if not 0 < timeout <= _LONGEST_TIMEOUT_SECONDS:
        raise settings.invalid("timeout", "not_a_timeout", value=timeout, longest=_LONGEST_TIMEOUT_SECONDS)
    try:
        http = HttpClient(
            clock,
            timeout_seconds=timeout,
            ca_file=settings.ca_file,
            proxy=settings.proxy,
            address_rule=address_rule(settings, preset_of(settings).authority(settings)),
        )
    except OSError:  # ssl.SSLError is one
        raise settings.invalid("ca_file", "ca_file_unreadable", file=str(settings.ca_file)) from None
    proxies = http.proxies(preset_of(settings).authority(settings).url)
    for proxy in (proxies[kind] for kind in ("https", "all") if kind in proxies):
        # A URL without a scheme is that of an HTTP proxy.
        scheme = proxy.partition("://")[0].lower() if "://" in proxy else "http"
        if scheme not in PROXY_SCHEMES:
            raise settings.invalid("proxy", "proxy_not_supported", scheme=scheme)
    return http
